"""Linear recurrences in plain torch, blocks of time side by side: about 2 sqrt(T) operations."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def decay_back(e: Tensor, a: Tensor, resets: Tensor | None) -> Tensor:
    """g[t] = e[t] + a g[t+1], backwards; nothing comes from a step that starts a sequence anew.

    e (B, T, D), a (D,), resets (B, T) or None.  Each block is taken as if nothing came from behind
    it; then what comes from behind, times the powers of ``a`` that lie between.
    """
    batch, steps, width = e.shape
    length = max(1, math.isqrt(steps))
    count = -(-steps // length)
    short = count * length - steps
    padded = torch.nn.functional.pad(e, (0, 0, 0, short))
    found = padded.reshape(batch, count, length, width)
    # Through which a[t] g[t+1] comes: one where a reset lies at t + 1.
    powers = (
        a.expand(batch, 1, length, width) if resets is None else _kept(a, resets, short, length)
    )
    for j in range(length - 2, -1, -1):
        found[:, :, j].addcmul_(found[:, :, j + 1], powers[:, :, j])
    if count == 1:
        return found.flatten(1, 2)[:, :steps]
    powers = powers.flip(2).cumprod(2).flip(2)
    first = powers[:, :, 0].expand(batch, count, width)
    behind = [torch.zeros_like(found[:, 0, 0])]
    for c in range(count - 1, 0, -1):
        behind.append(found[:, c, 0] + first[:, c] * behind[-1])
    behind.reverse()
    found.addcmul_(powers, torch.stack(behind, 1).unsqueeze(2))
    return found.flatten(1, 2)[:, :steps]


def _kept(a: Tensor, resets: Tensor, short: int, length: int) -> Tensor:
    """``a`` at each step, zero where the step after it starts anew."""
    goes_on = (~resets[:, 1:]).to(a.dtype)
    goes_on = torch.nn.functional.pad(goes_on, (0, 1 + short), value=1.0)
    return goes_on.reshape(len(resets), -1, length, 1) * a
