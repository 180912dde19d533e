"""Helpers of one generated step: learned maps, dropout masks, fields of the state."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from seqc.runtime.shell import Shell
from seqc.runtime.spec import state_dtype


def linear(
    sources: Sequence[Tensor], weight: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """A learned map of concatenated sources, in the weight's own dtype, widened to ``dtype``."""
    parts = [s.to(weight.dtype) for s in sources]
    joined = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
    return torch.nn.functional.linear(joined, weight, bias).to(dtype)


def keep_mask(p: float | Tensor, shape: tuple[int, ...], training: bool, like: Tensor) -> Tensor:
    """Where dropout keeps: true with probability 1 - p while training, true everywhere in eval."""
    if not training or (not isinstance(p, Tensor) and p <= 0):
        # One row of ones, seen from everywhere.
        return torch.ones(shape[-1:], dtype=torch.bool, device=like.device).expand(shape)
    return torch.rand(shape, device=like.device) >= p


def begin(layer: Shell, index: int, value: float | Tensor, batch: int, like: Tensor) -> Tensor:
    """A field of the state before the first step, from its init."""
    shape = (batch, *layer._rest_of(index))
    wide = state_dtype(like.dtype)
    if isinstance(value, Tensor):
        return value.to(wide).expand(shape)
    if value == 0:  # the most usual, and quicker
        return torch.zeros(shape, dtype=wide, device=like.device)
    return torch.full(shape, value, dtype=wide, device=like.device)


def spread_to(value: float | Tensor, like: Tensor) -> Tensor:
    """A step's value with the shape and dtype of a state's field."""
    if not isinstance(value, Tensor):
        return torch.full_like(like, value)
    return value.to(like.dtype).expand(like.shape)


def spread_axes(value: float | Tensor, like: Tensor, axes: tuple[int, ...]) -> Tensor:
    """A step's value over a batch and its axes."""
    shape = (like.shape[0], *axes)
    if not isinstance(value, Tensor):
        return torch.full(shape, value, dtype=state_dtype(like.dtype), device=like.device)
    return value.expand(shape)


def select(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """``yes`` where a (B,) mask is set, else ``no``."""
    return torch.where(mask.reshape(mask.shape + (1,) * (no.dim() - 1)), yes, no)


def multiplied(
    values: Tensor, matrix: Tensor, shared: tuple[int, ...], rows: tuple[int, ...],
    columns: tuple[int, ...], turned: bool,
) -> Tensor:  # fmt: skip
    """A matrix times values (B, *shared, *columns), a block of it for each place along the shared
    axes: (B, *shared, *rows).

    ``matrix`` lies as (*shared, *rows, *columns), ``turned`` as (*shared, *columns, *rows), some of
    these axes perhaps flattened into one.
    """
    blocks, height, width = math.prod(shared), math.prod(rows), math.prod(columns)
    lead = values.shape[0]
    given = values.expand(lead, *shared, *columns).reshape(lead, blocks, width)
    if turned:
        found = torch.einsum("bsc,scr->bsr", given, matrix.reshape(blocks, width, height))
    else:
        found = torch.einsum("bsc,src->bsr", given, matrix.reshape(blocks, height, width))
    return found.reshape(lead, *shared, *rows)
