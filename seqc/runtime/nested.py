"""How a kernel that sums over an axis is laid out on CUDA: threads of a cell, chunks, memory.

All of it follows from the kernel's tables, the extent of the axis and the
dtype, and is compiled into the kernel (``templates/cuda/nested.cu.jinja``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from seqc.runtime.spec import KernelSpec, state_dtype
from seqc.runtime.tables import LANES

#: Elements of the axis that a thread has, if as many threads as MOST_PARTS suffice: each takes some
#: ten registers on the way back.
OWN = 4
MOST_PARTS = 8
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


def cells(spec: KernelSpec, inner: int, size: int) -> Cells:
    """The layout for an axis of ``inner`` elements and numbers of ``size`` bytes.

    Raises:
        ValueError: sums over lanes along the axis do not fit a block's shared memory.
    """
    parts = 1
    while parts < MOST_PARTS and parts * OWN < inner:
        parts *= 2
    sums = folded(spec, inner) * size  # a warp and step
    while parts > 1 and sums * _warps(parts) > SHARED_BYTES:
        parts //= 2
    stage = sums * _warps(parts)
    if stage > SHARED_BYTES:
        raise ValueError(
            f"{spec.name}: axis {spec.inner} of {inner} is too long for the CUDA kernel that sums "
            'over it; use backend="reference"'
        )
    own = -(-inner // parts)
    record = sum(own if spec.inner in axes else 1 for axes in spec.carries)
    a_step = max(1, record * LANES * parts * size)
    fitting = min(RECORD_BYTES, SHARED_BYTES - stage) // a_step
    shared = fitting >= PIECES[-1]
    piece = next((n for n in PIECES if n <= fitting), PIECES[-1])
    room = min(STAGE_BYTES, SHARED_BYTES - shared * piece * a_step)
    steps = min(piece, max(1, room // stage)) if stage else 1
    return Cells(parts, CHUNK, piece, shared, record, steps)


def folded(spec: KernelSpec, inner: int) -> int:
    """How many sums over the lanes of a block a step back has."""
    found = 0
    for (operand, part), moves in zip(spec.streams, spec.moving, strict=True):
        axes = spec.operands[operand][1][part]
        if moves and spec.lane is not None and spec.lane not in axes:
            found += inner if spec.inner in axes else 1
    return found


def _warps(parts: int) -> int:
    return LANES * parts // WARP


def cell_defines(spec: KernelSpec, dtype: torch.dtype, inner: int) -> tuple[str, ...]:
    """The macros by which a kernel learns its layout."""
    c = cells(spec, inner, state_dtype(dtype).itemsize)
    return (
        f"SEQC_INNER={inner}", f"SEQC_PARTS={c.parts}", f"SEQC_CHUNK={c.chunk}",
        f"SEQC_PIECE={c.piece}", f"SEQC_SCRATCH={c.scratch}",
        f"SEQC_SHARED_RECORD={int(c.shared)}", f"SEQC_FOLD_STEPS={c.fold_steps}",
    )  # fmt: skip
