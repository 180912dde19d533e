"""How a kernel that sums over axes is laid out on CUDA: threads of a cell, chunks, memory.

All of it follows from the kernel's tables, the extents of the axes and the
dtype, and is compiled into the kernel (``templates/cuda/inner.cuh``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from seqc.runtime.spec import KernelSpec, state_dtype
from seqc.runtime.tables import BLOCKS, LANES

#: Elements of the axis that a thread has, if as many threads as MOST_PARTS suffice: each takes some
#: ten registers on the way back.
OWN = 4
MOST_PARTS = 8
#: Elements of the axes that a thread has at most: of more its arrays, on the way back a dozen,
#: would not fit the memory that a thread has for itself (512 KB).
MOST_OWN = 4096
#: Bytes of a block's shared memory: all there is without asking for more, and what of it may hold
#: a chunk's states (if some steps fit there) and, of some steps, sums over lanes that wait for
#: those of the block's other warps.
SHARED_BYTES = 48 << 10
RECORD_BYTES = 32 << 10
STAGE_BYTES = 12 << 10
PIECES = (16, 8)  # steps whose states are kept at once
CHUNK = 64  # steps from one whose state is stored to the next
WARP = 32


@dataclass(frozen=True)
class Cells:
    """``parts``: threads that share a cell; ``chunk``: steps from one whose state is stored to the
    next; ``piece``: steps whose states the march back keeps at once, and whether in ``shared``
    memory, ``record`` numbers a step and thread; ``fold_steps``: steps whose sums over lanes wait
    for the block.
    """

    parts: int
    chunk: int
    piece: int
    shared: bool
    record: int
    fold_steps: int

    @property
    def threads(self) -> int:
        """Of a block."""
        return LANES * self.parts

    @property
    def kept(self) -> int:
        """Numbers that a block keeps in shared memory."""
        return self.piece * self.record * self.threads if self.shared else 0

    @property
    def scratch(self) -> int:
        """Numbers that a block keeps in memory."""
        rows = self.chunk // self.piece + (0 if self.shared else self.piece)
        return rows * self.record * self.threads


def steps_apart() -> int:
    """Steps from one whose state is stored to the next: more cost more memory, fewer time."""
    return CHUNK


def elements(inner: Sequence[int], axes: Sequence[str], spec: KernelSpec) -> int:
    """Elements along the inner axes among some; ``inner`` are the extents of all."""
    return math.prod(n for a, n in zip(spec.inner, inner, strict=True) if a in axes)


def shared_axis(inner: Sequence[int]) -> int:
    """The inner axis that the threads of a cell share: the first of the longest."""
    return max(range(len(inner)), key=lambda i: (inner[i], -i))


def own(inner: Sequence[int], axes: Sequence[str], spec: KernelSpec, parts: int) -> int:
    """Of :func:`elements` those that each of ``parts`` threads of a cell has."""
    shared = shared_axis(inner)
    extents = [-(-n // parts) if i == shared else n for i, n in enumerate(inner)]
    return elements(extents, axes, spec)


def cells(spec: KernelSpec, inner: Sequence[int], size: int) -> Cells:
    """The layout for inner axes of some extents and numbers of ``size`` bytes.

    Raises:
        ValueError: sums over lanes along the axes do not fit a block's shared memory, or a thread's
            elements its own.
    """
    parts, every, longest = 1, math.prod(inner), max(inner)
    # Across axes the threads of a cell can do nothing but sum.
    while not spec.mixes and parts < min(MOST_PARTS, longest) and parts * OWN < every:
        parts *= 2
    sums = folded(spec, inner) * size  # a warp and step
    while parts > 1 and sums * _warps(parts) > SHARED_BYTES:
        parts //= 2
    stage = sums * _warps(parts)
    if stage > SHARED_BYTES or own(inner, spec.inner, spec, parts) > MOST_OWN:
        one = len(inner) == 1
        raise ValueError(
            f"{spec.name}: {'axis' if one else 'axes'} {', '.join(spec.inner)} of "
            f"{' x '.join(map(str, inner))} {'is' if one else 'are'} too long for the CUDA kernel "
            f'that sums over {"it" if one else "them"}; use backend="reference"'
        )
    record = sum(own(inner, axes, spec, parts) for axes in spec.carries)
    a_step = max(1, record * LANES * parts * size)
    fitting = min(RECORD_BYTES, SHARED_BYTES - stage) // a_step
    shared = fitting >= PIECES[-1]
    piece = next((n for n in PIECES if n <= fitting), PIECES[-1])
    room = min(STAGE_BYTES, SHARED_BYTES - shared * piece * a_step)
    steps = min(piece, max(1, room // stage)) if stage else 1
    return Cells(parts, CHUNK, piece, shared, record, steps)


def too_long(spec: KernelSpec, inner: Sequence[int], dtype: torch.dtype) -> str:
    """Why no kernel can be laid out for axes of such extents, or nothing."""
    try:
        cells(spec, inner, state_dtype(dtype).itemsize)
    except ValueError as error:
        return str(error).partition("; ")[0]
    return ""


def folded(spec: KernelSpec, inner: Sequence[int]) -> int:
    """How many sums over the lanes of a block a step has: on, or back, where there are more."""
    return max(
        sum(
            elements(inner, axes, spec)
            for role, _, axes in signature if role == "output" and BLOCKS in axes
        )
        for signature in (spec.forward, spec.backward)
    )  # fmt: skip


def _warps(parts: int) -> int:
    return LANES * parts // WARP


def cell_defines(spec: KernelSpec, dtype: torch.dtype, inner: Sequence[int]) -> tuple[str, ...]:
    """The macros by which a kernel learns its layout."""
    c = cells(spec, inner, state_dtype(dtype).itemsize)
    return (
        f"SEQC_INNER={','.join(map(str, inner))}", f"SEQC_PARTS={c.parts}",
        f"SEQC_PIECE={c.piece}", f"SEQC_SHARED_RECORD={int(c.shared)}",
        f"SEQC_FOLD_STEPS={c.fold_steps}",
    )  # fmt: skip
