"""Cells to be solved, and their gradients by explicit loops over steps and Jacobians."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

import seqc
from tests.layer.support import build

CELLS = {
    "elman": """
h[t] = tanh(linear(x[t]) + linear(h[t-1]))
output h[t]
""",
    "gru": """
r[t]: hidden = sigmoid(linear(x[t]) + linear(h[t-1]))
u[t]: hidden = sigmoid(linear(x[t], h[t-1]))
n[t]: hidden = tanh(linear(x[t]) + r[t] * linear(h[t-1]))
h[t] = (1 - u[t]) * n[t] + u[t] * h[t-1]
output h[t]
""",
    "lstm": """
state c[t]: hidden = learned
i[t]: hidden = sigmoid(linear(x[t]) + linear(h[t-1]))
f[t]: hidden = sigmoid(linear(x[t], h[t-1]))
g[t]: hidden = tanh(linear(x[t]) + linear(h[t-1]))
c[t] = f[t] * c[t-1] + i[t] * g[t]
h[t] = sigmoid(c[t]) * tanh(c[t])
output h[t], c[t]
""",
    "diagonal": """
param w: hidden = normal(0, 1)
h[t] = tanh(linear(x[t]) + w * h[t-1])
output h[t]
""",
    "pair": """
param w: hidden = normal(0, 1)
state c[t]: hidden = learned
c[t] = tanh(linear(x[t]) + w * c[t-1] - h[t-1])
h[t] = 0.5 * h[t-1] + sigmoid(h[t-1] * c[t-1])
output h[t], c[t]
""",
    "scan": """
a[t]: hidden = sigmoid(linear(x[t]))
h[t] = a[t] * h[t-1] + (1 - a[t]) * tanh(linear(x[t]))
output h[t]
""",
}  # fmt: skip
#: Loops of tests/passes/test_loops.py, for all that a step may read and be.
LOOPS = [
    "the cell of a loop read outside",
    "maps of several sources",
    "lags",
    "a lag that is a size",
    "sums and products in a loop",
    "choices in a loop",
    "a state that is another's past",
    "numbers without axes",
    "axes in another order",
    "complex states",
    "names",
]
#: Two strata, each of one state.
TWO = """
layer Two
size hidden
input x[t]: hidden
state h[t]: hidden
state s[t]: hidden
h[t] = tanh(linear(h[t-1]) + x[t])
s[t] = tanh(linear(s[t-1]) + h[t])
output s[t]
"""
HEAD = """
layer Cell
size input, hidden
input x[t]: input
state h[t]: hidden = learned
"""


@cache
def compiled(text: str) -> Any:
    """The layer of a spec, what it says of itself being known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", seqc.SeqcWarning)
        return seqc.compile(text)


def cell(name: str, statement: str = "", **more: Any) -> Any:
    """A cell with a statement that says how it is solved, its parameters drawn."""
    sizes = {"input": 2, "hidden": 3} | {k: more.pop(k) for k in ("input", "hidden") if k in more}
    return build(compiled(f"{HEAD}{CELLS[name]}{statement}\n"), more.pop("backend", "auto"),
                 **sizes, **more)  # fmt: skip


class Unrolled:
    """A cell's steps, each by itself, from the states before it; its outputs are its states."""

    def __init__(self, name: str, layer: Any, x: Tensor, state: Any, resets: Tensor | None) -> None:
        self.layer = cell(name, backend="reference", input=layer.input, hidden=layer.hidden)
        self.layer.load_state_dict(layer.state_dict())
        self.x, self.steps, self.resets = x, x.shape[1], resets
        self.fresh = self._start(x)
        self.past = [f.detach().clone().requires_grad_() for f in (state or self.fresh)]
        self.values: list[list[Tensor]] = []
        self.before: list[list[Tensor]] = []
        self.own: list[list[Tensor]] = []
        current = [f.detach() for f in self.past]
        for t in range(self.steps):
            mark = None if resets is None else resets[:, t, None]
            before = [
                c if mark is None else torch.where(mark, f.detach(), c)
                for c, f in zip(current, self.fresh, strict=True)
            ]
            before = [b.detach().requires_grad_() for b in before]
            _, after = self.layer.step(x[:, t], self.layer.State(*before))
            self.before.append(before)
            self.own.append(list(after))
            current = [v.detach() for v in after]
            self.values.append(current)

    def _start(self, x: Tensor) -> list[Tensor]:
        _, state = self.layer(x[:, :0])
        return list(state)

    def sequences(self) -> list[Tensor]:
        """The states (B, T, hidden)."""
        return [torch.stack(v, 1) for v in zip(*self.values, strict=True)]

    def through(self, t: int, grads: Sequence[Tensor]) -> list[Tensor]:
        """J[t]' g: what comes to the states before step t, a reset or not."""
        found = torch.autograd.grad(
            self.own[t], self.before[t], grads, retain_graph=True, allow_unused=True
        )
        return [torch.zeros_like(b) if d is None else d
                for d, b in zip(found, self.before[t], strict=True)]  # fmt: skip

    def gradients(
        self, total: list[list[Tensor]], earlier: list[list[Tensor]], given: bool
    ) -> dict[str, Tensor]:
        """Gradients by g[t] (``total``) and what goes from step t to the states before it.

        ``given``: whether the states before the first step were passed in.
        """
        names = dict(self.layer.named_parameters())
        leaves = [self.x, *names.values()]
        outputs = [v for t in range(self.steps) for v in self.own[t]]
        grads = [g for t in range(self.steps) for g in total[t]]
        past = [torch.zeros_like(p) for p in self.past]
        for t in range(self.steps):
            for i, d in enumerate(earlier[t]):
                anew = torch.zeros(d.shape[0], 1, dtype=torch.bool)
                if self.resets is not None:
                    anew = self.resets[:, t, None]
                outputs.append(self.fresh[i])
                grads.append(d * anew)
                if t == 0:
                    past[i] = d * ~anew
        if not given:
            outputs += self.fresh
            grads += past
        there = [(o, g) for o, g in zip(outputs, grads, strict=True) if o.requires_grad]
        found = torch.autograd.grad(
            [o for o, _ in there], leaves, [g for _, g in there], allow_unused=True
        )
        named = dict(zip(("x", *names), found, strict=True))
        result = {n: torch.zeros_like(v) if d is None else d
                  for (n, d), v in zip(named.items(), leaves, strict=True)}  # fmt: skip
        return result | ({f"past {i}": p for i, p in enumerate(past)} if given else {})


def stationary(u: Unrolled, e: list[list[Tensor]], low: float, high: float) -> tuple[Any, Any]:
    """g[t] = e[t] + A g[t+1], step by step, in float64."""
    widths = [v.shape[1] for v in e[0]]
    share = torch.linspace(low, high, sum(widths), dtype=torch.float64).split(widths)
    total = [list(v) for v in e]
    earlier: list[list[Tensor]] = [[] for _ in e]
    for t in reversed(range(len(e))):
        earlier[t] = [a * g for a, g in zip(share, total[t], strict=True)]
        if t:
            stays = 1.0 if u.resets is None else (~u.resets[:, t, None]).double()
            total[t - 1] = [
                g + d * stays for g, d in zip(total[t - 1], earlier[t], strict=True)
            ]  # fmt: skip
    return total, earlier


def truncated(u: Unrolled, e: list[list[Tensor]], count: int) -> tuple[Any, Any]:
    """Each e[t] by itself, through at most ``count`` - 1 Jacobians."""
    total = [list(v) for v in e]
    earlier = [[torch.zeros_like(x) for x in v] for v in e]
    for s in range(len(e)):
        moving = e[s]
        for t in range(s, max(s - count + 1, -1), -1):
            moving = u.through(t, moving)
            earlier[t] = [a + b for a, b in zip(earlier[t], moving, strict=True)]
            stays = 1.0 if u.resets is None else (~u.resets[:, t, None]).double()
            moving = [m * stays for m in moving]
            if t:
                total[t - 1] = [a + b for a, b in zip(total[t - 1], moving, strict=True)]
    return total, earlier
