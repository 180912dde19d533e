"""Linear recurrences in plain torch, blocks of time side by side: about 2 sqrt(T) operations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seqc.runtime.pages import empty


def decay_back(e: Tensor, a: Tensor, resets: Tensor | None) -> Tensor:
    """g[t] = e[t] + a g[t+1], backwards; nothing comes from a step that starts a sequence anew.

    e (B, T, D), a (D,), resets (B, T) or None.  Each block is taken as if nothing came from behind
    it; then what comes from behind, times the powers of ``a`` that lie between.
    """
    batch, steps, width = e.shape
    length = max(1, math.isqrt(steps))
    count = -(-steps // length)
    shape = (batch, count * length, width)
    flat = empty(shape, e.dtype) if e.device.type == "cpu" else e.new_empty(shape)
    flat[:, :steps] = e
    flat[:, steps:] = 0
    found = flat.reshape(batch, count, length, width)
    # Whether anything comes from the step after a step: from one that starts anew nothing does.
    passes = None
    if resets is not None:
        ahead = torch.nn.functional.pad(~resets[:, 1:], (0, 1 + count * length - steps), value=True)
        passes = ahead.to(e.dtype).reshape(batch, count, length, 1)
    for j in range(length - 2, -1, -1):
        after = found[:, :, j + 1]
        found[:, :, j].addcmul_(after if passes is None else after * passes[:, :, j], a)
    if count == 1:
        return flat[:, :steps]
    powers = a.expand(length, width).flip(0).cumprod(0).flip(0)
    through = None if passes is None else passes.flip(2).cumprod(2).flip(2)
    behind = [torch.zeros_like(found[:, 0, 0])]
    for c in range(count - 1, 0, -1):
        before = behind[-1] * powers[0]
        behind.append(found[:, c, 0] + (before if through is None else before * through[:, c, 0]))
    behind.reverse()
    carried = torch.stack(behind, 1)
    for j in range(length):
        came = carried if through is None else carried * through[:, :, j]
        found[:, :, j].addcmul_(came, powers[j])
    return flat[:, :steps]


def affine_scan(matrices: Tensor, v: Tensor) -> Tensor:
    """y[t] = M[t] y[t-1] + v[t] from zero: M (B, T, G, m, m), v and y (B, T, G, m)."""
    batch, steps, groups, m = v.shape
    length = _block(steps, m, v.device.type)
    count = -(-steps // length)
    short = count * length - steps
    y = torch.nn.functional.pad(v, (0, 0, 0, 0, 0, short))
    y = y.reshape(batch, count, length, groups, m)
    ahead = torch.nn.functional.pad(matrices, (0, 0, 0, 0, 0, 0, 0, short))
    ahead = ahead.reshape(batch, count, length, groups, m, m)
    through = ahead.clone() if count > 1 else ahead
    for j in range(1, length):
        y[:, :, j] += _applied(ahead[:, :, j], y[:, :, j - 1])
        if count > 1:
            through[:, :, j] = _composed(ahead[:, :, j], through[:, :, j - 1])
    if count > 1:
        before = [torch.zeros_like(y[:, 0, 0])]
        for c in range(count - 1):
            before.append(y[:, c, -1] + _applied(through[:, c, -1], before[-1]))
        y += _applied(through, torch.stack(before, 1).unsqueeze(2))
    return y.flatten(1, 2)[:, :steps]


def adjoint_scan(matrices: Tensor, e: Tensor) -> Tensor:
    """g[t] = e[t] + M[t+1]' g[t+1], backwards; shapes as of :func:`affine_scan`."""
    turned = matrices.transpose(-1, -2).flip(1)
    shifted = torch.cat((torch.zeros_like(turned[:, :1]), turned[:, :-1]), 1)
    return affine_scan(shifted, e.flip(1)).flip(1)


def _block(steps: int, m: int, device: str) -> int:
    """How many steps to take one after another; blocks of them run side by side.

    To compose matrices costs m times as much as to apply them: on a CPU only small ones are.
    """
    return steps if device == "cpu" and m >= 32 else max(1, math.isqrt(steps))


def _applied(matrix: Tensor, v: Tensor) -> Tensor:
    if v.shape[-1] == 1:
        return matrix[..., 0] * v
    found: Tensor = (matrix @ v.unsqueeze(-1)).squeeze(-1)
    return found


def _composed(second: Tensor, first: Tensor) -> Tensor:
    return second * first if first.shape[-1] == 1 else second @ first
