"""Layers whose step mixes the channels of a state, shared by tests of both targets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: The forward pass of a hidden Markov model, with transitions that differ from head to head.
HEADS = """
layer Heads
size  heads, src = tags, tags
input e[t]: (heads, tags)
input w[t]: heads
param trans: (heads, src, tags) = normal(0, 1)
state alpha[t]: (heads, tags) = learned
alpha[t] = e[t] + logsumexp(rename(alpha[t-1], tags = src) + w[t] + trans, src)
y[t] = logsumexp(alpha[t], tags)
output y[t], alpha[t]
"""
#: The best path's score and its mean, with a delay: two carries, of which both are mixed.
VITERBI = """
layer Viterbi
size  src = tags, tags
input e[t]: tags
param trans: (src, tags) = normal(0, 1)
param late: (src, tags) = normal(0, 1)
state best[t]: tags = learned
a[t] = max(rename(best[t-1], tags = src) + trans, src)
b[t] = max(rename(best[t-2], tags = src) + late, src)
best[t] = e[t] + max(a[t], b[t])
top[t] = max(best[t], tags)
d[t] = best[t] - top[t]
m[t] = mean(best[t], tags)
output d[t], top[t], m[t]
"""
#: Costs, the least of which counts, over pairs of labels.
PAIRS = """
layer Pairs
size  src = left, left, right
input e[t]: (left, right)
param cost: (src, left) = normal(0, 1)
state best[t]: (left, right) = learned
best[t] = min(rename(best[t-1], left = src) + cost + e[t], src)
output best[t]
"""
#: Two axes that change places.
SWAP = """
layer Swap
size  row, col = row
input e[t]: (row, col)
param a: (row, col) = normal(0, 1)
state S[t]: (row, col) = learned
S[t] = max(rename(S[t-1], row = col, col = row) + a, S[t-1] + e[t])
output S[t]
"""
#: An automaton whose runs are as true as their least true step.
FUZZY = """
layer Fuzzy
size  src = tags, tags
input e[t]: tags
param edge: (src, tags) = normal(0, 1)
state truth[t]: tags = learned
truth[t] = min(e[t], max(min(rename(truth[t-1], tags = src), edge), src))
output truth[t]
"""
SPECS: dict[str, str] = {
    "HEADS": HEADS, "VITERBI": VITERBI, "PAIRS": PAIRS, "SWAP": SWAP, "FUZZY": FUZZY,
}  # fmt: skip


def sizes(name: str, tags: int = 5, lanes: int = 3) -> dict[str, Any]:
    """Extents of a spec's axes."""
    match name:
        case "HEADS":
            return {"tags": tags, "heads": lanes}
        case "PAIRS":
            return {"left": tags, "right": lanes}
        case "SWAP":
            return {"row": tags}
    return {"tags": tags}


def forbid(layer: Any) -> None:
    """Transitions that do not occur, of a state into which there are none besides one."""
    with torch.no_grad():
        for name, p in layer.named_parameters():
            if name == "trans" and p.shape[-1] > 1:
                p[..., 1:, 1] = -torch.inf


def inputs_with_gaps(inputs: list[Tensor]) -> list[Tensor]:
    """Observations that rule a state out, now and then all of them."""
    inputs = [x.clone() for x in inputs]
    inputs[0][:, 1::3, ..., 0] = -torch.inf
    return inputs
