"""Sequences and their past, in plain torch: lagged reads, windows, the scan written as a loop.

Everything here is differentiable to any order.  Shapes: a value is
(B, T, *axes), its past (B, K, *axes) with the oldest step first, ``resets`` is
(B, T), true where a sequence starts anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from seqc.runtime.maps import project


def unaffected(resets: Tensor, lag: int, steps: int) -> Tensor:
    """(B, T): whether step t can see step t - lag, no reset lying in (t - lag, t]."""
    count = resets.to(torch.int64).cumsum(1)
    before = torch.cat((count.new_zeros(count.shape[0], lag), count), 1)[:, :steps]
    return before == count


def spread(mask: Tensor, value: Tensor) -> Tensor:
    """A (B, T) mask with as many dimensions as the value."""
    return mask.reshape(mask.shape + (1,) * (value.dim() - mask.dim()))


def lagged(
    value: Tensor, past: Tensor, lag: int, resets: Tensor | None, before: Tensor | None
) -> Tensor:
    """The value ``lag`` steps ago, (B, T, *axes).

    ``past`` holds at least ``lag`` steps; where a reset lies between, the read
    sees ``before`` (B, *axes), or zero when that is None.
    """
    steps = value.shape[1]
    joined = torch.cat((past[:, past.shape[1] - lag :].to(value.dtype), value), 1)[:, :steps]
    if resets is None or lag == 0:
        return joined
    seen = spread(unaffected(resets, lag, steps), joined)
    other = joined.new_zeros(()) if before is None else before.to(value.dtype).unsqueeze(1)
    return torch.where(seen, joined, other)


def remember(value: Tensor, past: Tensor, resets: Tensor | None, before: Tensor | None) -> Tensor:
    """The past that the next call needs: the last K steps, (B, K, *axes)."""
    keep, steps = past.shape[1], value.shape[1]
    joined = torch.cat((past, value.to(past.dtype)), 1)[:, steps : steps + keep]
    if resets is None or steps == 0 or keep == 0:
        return joined
    # A step is forgotten when a reset lies after it, up to the last step of this call.
    after = resets.to(torch.int64).flip(1).cumsum(1).flip(1)
    after = torch.cat((after, after.new_zeros(after.shape[0], 1)), 1)
    older = after[:, :1].expand(-1, keep)
    count = torch.cat((older, after[:, 1:]), 1)[:, steps : steps + keep]
    other = joined.new_zeros(()) if before is None else before.to(past.dtype).unsqueeze(1)
    return torch.where(spread(count == 0, joined), joined, other)


def windows(
    value: Tensor, past: Tensor, width: int, resets: Tensor | None, before: Tensor | None = None
) -> Tensor:
    """The last ``width`` steps at every step, (B, T, width, C), the present step last.

    ``value`` is (B, T, C); ``past`` holds at least width - 1 steps.  Steps before
    a reset are ``before`` (B, C), or zero when that is None.
    """
    steps = value.shape[1]
    joined = torch.cat((past[:, past.shape[1] - (width - 1) :].to(value.dtype), value), 1)
    taps = [joined[:, j : j + steps] for j in range(width)]
    if resets is not None:
        other = joined.new_zeros(()) if before is None else before.to(joined.dtype).unsqueeze(1)
        for j in range(width - 1):
            seen = unaffected(resets, width - 1 - j, steps).unsqueeze(-1)
            taps[j] = torch.where(seen, taps[j], other)
    return torch.stack(taps, 2)


def centred_windows(value: Tensor, width: int, resets: Tensor | None) -> Tensor:
    """``width`` steps around every step, (B, T, width, C), (width - 1) // 2 of them before it."""
    steps, before = value.shape[1], (width - 1) // 2
    pad = value.new_zeros(value.shape[0], width - 1, value.shape[2])
    joined = torch.cat((pad[:, :before], value, pad[:, before:]), 1)
    taps = [joined[:, j : j + steps] for j in range(width)]
    if resets is not None:
        count = resets.to(torch.int64).cumsum(1)
        edge = count.new_full((count.shape[0], width - 1), -1)
        sides = torch.cat((edge[:, :before], count, edge[:, before:]), 1)
        for j in range(width):
            same = (sides[:, j : j + steps] == count).unsqueeze(-1)
            taps[j] = torch.where(same, taps[j], taps[j].new_zeros(()))
    return torch.stack(taps, 2)


def started(value: Tensor, fresh: Tensor | None, resets: Tensor | None, t: int) -> Tensor:
    """A carry before step t: ``fresh`` where a sequence starts anew there."""
    if resets is None or fresh is None:
        return value
    return torch.where(spread(resets[:, t], value), fresh.to(value.dtype), value)


def stacked(
    steps: list[Tensor], shape: tuple[int, ...], dtype: torch.dtype, like: Tensor
) -> Tensor:
    """Steps (B, *axes) as a sequence (B, T, *axes); ``shape`` is a step's, should there be none."""
    if steps:
        return torch.stack(steps, 1)
    return torch.zeros((shape[0], 0, *shape[1:]), dtype=dtype, device=like.device)


def push(past: Tensor, value: Tensor, keep: int) -> Tensor:
    """The last ``keep`` steps once ``value`` (B, *axes) has come: (B, keep, *axes)."""
    joined = torch.cat((past, value.to(past.dtype).unsqueeze(1)), 1)
    return joined[:, joined.shape[1] - keep :]


def convolve(
    window: Tensor, weight: Tensor, bias: Tensor | None, depthwise: bool, dtype: torch.dtype | None
) -> Tensor:
    """A convolution given its windows (…, width, C), weight as torch.nn.Conv1d has it.

    weight is (out, C, width), or (C, 1, width) when depthwise; the last tap
    meets the last step of the window.  The result has the weight's dtype, or
    ``dtype``.
    """
    window = window if torch.is_autocast_enabled(window.device.type) else window.to(weight.dtype)
    if depthwise:
        out = (window * weight[:, 0].t()).sum(-2)
        out = out if bias is None else out + bias
    else:
        flat = weight.transpose(1, 2).flatten(1)
        out = project(window.flatten(-2), flat, bias)
    return out if dtype is None else out.to(dtype)


def last_step(value: Tensor, start: Tensor) -> Tensor:
    """The last step of a sequence, or what it started from when it has none."""
    return value[:, -1].to(start.dtype) if value.shape[1] else start.clone()


def full(value: Tensor | float, extents: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A value (or number) over a batch and axes, in ``dtype``."""
    if not isinstance(value, Tensor):
        return torch.full(tuple(extents), value, dtype=dtype)
    return value.to(dtype).expand(tuple(extents))


def split(packed: Tensor, parts: tuple[tuple[int, ...], ...], position: int) -> Tensor:
    """One part (B, T, *axes) of a packed result (B, T, width)."""
    widths = [math.prod(p) for p in parts]
    piece = packed.narrow(-1, sum(widths[:position]), widths[position])
    return piece.reshape(*packed.shape[:-1], *parts[position])
