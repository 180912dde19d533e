"""Packed sequences: laid end to end in one batch row, run as a few batches of equal length.

Nothing is padded and no step is computed twice.  The sequences are cut into
rectangles, a batch of rows of one length each, in which every sequence goes on
where its last one ended: either a rectangle for each length that occurs, or one
for each power of two, of the sequences whose length has that bit.  Of the two
the one with fewer rectangles is taken, so N sequences of at most L steps are
min(N, log2 L + 1) calls or fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rectangle:
    """A batch of stretches of one length: of which sequences, and where in time each begins."""

    rows: tuple[int, ...]
    starts: tuple[int, ...]
    length: int


def read_edges(kind: str, cu_seqlens: Any, batch: int, steps: int) -> list[int]:
    """Where the sequences begin and end, N + 1 numbers from 0 to T.  Waits for the device.

    Raises:
        TypeError: ``cu_seqlens`` is no tensor of int32 or int64.
        ValueError: it does not rise from 0 to T, or there is another than one batch row.
    """
    want = f"{kind}: cu_seqlens must be int32 or int64, (N + 1,)"
    if not isinstance(cu_seqlens, Tensor):
        raise TypeError(f"{want}, not {type(cu_seqlens).__name__}; e.g. torch.tensor([0, 3, 7])")
    if cu_seqlens.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"{want}, not {cu_seqlens.dtype}")
    if cu_seqlens.dim() != 1 or cu_seqlens.shape[0] < 2:
        raise ValueError(f"{want} for N >= 1 sequences, not {tuple(cu_seqlens.shape)}")
    if batch != 1:
        raise ValueError(
            f"{kind}: cu_seqlens packs sequences into one batch row (1, T, …), not {batch} rows"
        )
    edges: list[int] = cu_seqlens.tolist()
    fault = ""
    if edges[0] != 0:
        fault = f"it begins with {edges[0]}"
    elif edges[-1] != steps:
        fault = f"it ends with {edges[-1]}"
    for i, (a, b) in enumerate(pairwise(edges)):
        if b < a:
            fault = f"cu_seqlens[{i + 1}] = {b} comes after {a}"
            break
    if fault:
        raise ValueError(f"{kind}: cu_seqlens must rise from 0 to T = {steps}, but {fault}")
    return edges


def rectangles(edges: Sequence[int], cut: bool) -> list[Rectangle]:
    """Cut sequences into rectangles; those of one sequence come in its own order.

    Without ``cut`` each sequence stays whole: what a layer needs that sees later steps.
    """
    lengths = [b - a for a, b in pairwise(edges)]
    whole = sorted({n for n in lengths if n}, reverse=True)
    joint = 0
    for n in lengths:
        joint |= n
    bits = [1 << k for k in reversed(range(joint.bit_length())) if joint >> k & 1]
    found = []
    if not cut or len(whole) <= len(bits):
        for length in whole:
            rows = tuple(i for i, n in enumerate(lengths) if n == length)
            found.append(Rectangle(rows, tuple(edges[i] for i in rows), length))
        return found
    for bit in bits:
        rows = tuple(i for i, n in enumerate(lengths) if n & bit)
        # What comes before: the bits above this one.
        starts = tuple(edges[i] + (lengths[i] & -bit) - bit for i in rows)
        found.append(Rectangle(rows, starts, bit))
    return found


def order_of(found: Sequence[Rectangle]) -> Tensor:
    """Every step's place in time, (T,), rectangle by rectangle."""
    parts = [
        (torch.tensor(r.starts).unsqueeze(1) + torch.arange(r.length)).flatten() for r in found
    ]
    return torch.cat(parts)


def take(value: Tensor, order: Tensor | None) -> Tensor:
    """Steps (T, …) in another order; None leaves them."""
    return value if order is None else value.index_select(0, order)
