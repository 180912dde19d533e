"""Running toy kernels (``toys/*.cuh``) on the CUDA headers by themselves, emulated.

What a launcher does is done here by hand: addresses and strides of every entry of a kernel's
signature, and the places where chunks of time tell one another what they found.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from seqc.runtime.emulator import emulate_launch, emulated_library

TEMPLATES = Path(__file__).parents[2] / "templates"
HEADERS = (
    "cuda/math.cuh", "kernel/signature.h", "cuda/tensors.cuh", "cuda/cell.cuh", "cuda/step.cuh",
    "cuda/tiles.cuh", "cuda/march.cuh", "cuda/inner.cuh", "cuda/stretches.cuh", "cuda/scan.cuh",
)  # fmt: skip
TYPES = {
    torch.float32: ("float", "float"),
    torch.float64: ("double", "double"),
    torch.bfloat16: ("seqc::bfloat16", "float"),
    torch.float16: ("seqc::float16", "float"),
}
WARP, MARCH_LANES, FLAT_THREADS = 32, 64, 128


@cache
def source(toy: str) -> str:
    """The text of a toy with all that comes before and after it."""
    parts = [(TEMPLATES / name).read_text() for name in HEADERS]
    parts.append((Path(__file__).parent / "toys" / f"{toy}.cuh").read_text())
    return "\n".join([*parts, (TEMPLATES / "cuda/entries.cuh").read_text()])


@dataclass(frozen=True)
class Entry:
    """A tensor of a signature and its axes, a letter each.

    ``b`` batch, ``t`` time, ``k`` chunks of time in time's place, ``#`` blocks of lanes in theirs;
    others are the kernel's own axes, or, as ``?``, one that strides say nothing of.
    """

    tensor: Tensor | None
    axes: str = ""


@dataclass
class Launch:
    """One launch of a toy's kernel: what a launcher knows of it, and the macros.

    ``axes``: the kernel's own, a letter and an extent each; ``lane`` one of them; ``inner`` those
    of which a cell has all.  ``scans``: parts, states, and whether along the inner axes, of each.
    """

    toy: str
    kernel: str
    dtype: torch.dtype
    batch: int
    steps: int
    axes: dict[str, int]
    lane: str
    entries: Sequence[Entry]
    inner: str = ""
    scans: Sequence[tuple[int, int, bool]] = ()
    scalars: Sequence[float] = ()
    folds: bool = False
    again: int = 0
    every: int = 0
    parts: int = 1
    tile: int = 3
    warps: int = 3
    look: int = 4
    more: Sequence[str] = ()
    source: str | None = None
    seed: int = 0
    cut: bool = True
    blocks: int = field(default=0, init=False)

    @property
    def wide(self) -> torch.dtype:
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def defines(self) -> tuple[str, ...]:
        storage, state = TYPES[self.dtype]
        extents = [str(self.axes[a]) for a in self.axes if a in self.inner]
        return (
            f"SEQC_STORAGE={storage}", f"SEQC_STATE={state}", f"SEQC_KERNEL={self.kernel}",
            f"SEQC_INNER={','.join(extents) or 1}", f"SEQC_PARTS={self.parts}",
            f"SEQC_SCAN_PARTS={self.parts}", f"SEQC_MARCH_TILE={self.tile}",
            f"SEQC_SCAN_TILE={self.tile}", f"SEQC_WARPS={self.warps}", f"SEQC_LOOK={self.look}",
            f"SEQC_CUT={int(self.cut)}", *self.more,
        )  # fmt: skip

    def macro(self, name: str, default: int) -> int:
        found = [d.split("=")[1] for d in self.more if d.startswith(f"{name}=")]
        return int(found[0]) if found else default

    def strides(self) -> list[int]:
        found = []
        for e in self.entries:
            for a in ("b", "tk", *(f"{x}#" if x == self.lane else x for x in self.axes)):
                at = next((i for i, letter in enumerate(e.axes) if letter in a), None)
                found.append(0 if e.tensor is None or at is None else e.tensor.stride(at))
        return found

    @property
    def rows(self) -> int:
        outer = [n for a, n in self.axes.items() if a != self.lane and a not in self.inner]
        return self.batch * math.prod(outer)

    @property
    def own(self) -> int:
        """Elements of the inner axes that a thread has."""
        return -(-math.prod(self.axes[a] for a in self.inner) // self.parts)

    def chunks(self) -> int:
        return -(-self.steps // (self.tile * self.warps))

    def run(self, schedule: str) -> None:
        """March or scan."""
        library = emulated_library(self.source or source(self.toy), self.kernel, self.defines())
        lanes = self.axes[self.lane]
        numbers = begins = flags = torch.zeros(0)
        chunks = 1
        if schedule == "scan":
            chunks, groups = self.chunks(), -(-self.rows * lanes // WARP)
            if self.folds or self.inner:
                groups = self.rows * -(-lanes // (WARP // self.parts))
            room = chunks * groups * WARP
            scans = [(p, s, self.own if along else 1) for p, s, along in self.scans]
            numbers = torch.full((sum((p + s) * n for p, s, n in scans) * room,), torch.nan)
            numbers = numbers.to(self.wide)
            elements = sum(n for _, _, n in scans)
            begins = torch.full((elements * room,), 255, dtype=torch.uint8)
            flags = torch.zeros(1 + elements * chunks * groups, dtype=torch.int32)
            blocks, threads = chunks * groups, WARP * self.warps
        elif self.inner:
            threads = MARCH_LANES * self.parts
            blocks = self.rows * -(-lanes // MARCH_LANES)
            piece = self.macro("SEQC_PIECE", 8)
            if self.again:
                pieces = -(-self.every // piece)
                pieces += 0 if self.macro("SEQC_SHARED_RECORD", 0) else piece
                numbers = torch.full((blocks * pieces * self.again * threads,), torch.nan)
                numbers = numbers.to(self.wide)
        else:
            cells = self.rows * (-(-lanes // WARP) * WARP if self.folds else lanes)
            blocks, threads = -(-cells // FLAT_THREADS), FLAT_THREADS
        places = [t.data_ptr() if t.numel() else 0 for t in (numbers, begins, flags)]
        addresses = [0 if e.tensor is None else e.tensor.data_ptr() for e in self.entries]
        extents = [self.batch, self.steps, *self.axes.values(), self.every]
        integers = [*extents, *addresses, *self.strides()]
        words = struct.pack(
            f"<{len(integers)}q{len(self.scalars)}d4q", *integers, *self.scalars, *places, chunks
        )
        self.blocks = blocks
        emulate_launch(library, f"seqc_{schedule}", blocks, threads, words, self.seed)
