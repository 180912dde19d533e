"""Launching a kernel's CUDA: on the tensors' own device and current stream.

The tables are those of the C++ side, as arguments of 8 bytes each.  Two
schedules, chosen by shape: where batch x channels fill the device, a thread
marches over time; else time is cut into chunks, and each looks back at those
before it (``templates/cuda/scan.cuh``).  The choice and all orders of
summation depend on shapes and device alone, so that a result does not change
from run to run.  Nothing here waits for the device.
"""

from __future__ import annotations

import ctypes
import math
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqc.runtime.launcher import Launcher, Plan
from seqc.runtime.layout import Layout
from seqc.runtime.nested import SHARED_BYTES, cell_defines, steps_apart
from seqc.runtime.nested import cells as cell_layout
from seqc.runtime.nested import own as own_elements
from seqc.runtime.nvrtc import load_function
from seqc.runtime.spec import KernelSpec, state_dtype
from seqc.runtime.tables import BLOCKS, STORAGE

THREADS = 128  # of a block that marches: the kernel's own kThreads
LANES = 32  # channels of a block that scans
WARPS = 8  # stretches of time of a block that scans
LOOK = 32  # chunks from one whose last state is published to the next
SCAN_OWN = 8  # elements of the inner axes that a thread which scans has at most
MARCH_LANES = 64  # lanes of a block that marches along inner axes
#: 4-byte registers that a tile of steps may take, as it was read.
TILE_REGISTERS = 32
#: Marching fills a device with this share of the threads it holds: each has a tile under way.
MARCHING_SHARE = 5
_LAUNCH_BUFFER, _LAUNCH_SIZE = 1, 2  # CU_LAUNCH_PARAM_BUFFER_POINTER, CU_LAUNCH_PARAM_BUFFER_SIZE

_resident: dict[int, int] = {}
_thread = threading.local()


@dataclass(frozen=True)
class Schedule:
    """How a launch is laid out: which function, blocks, threads of one, and what chunks need.

    ``head``: extents, packed as arguments; ``numbers``, ``begins`` and ``flags`` of the
    board on which chunks tell one another what they found (``stretches.cuh``), or ``numbers`` of
    the states that a march back keeps (``inner.cuh``).  ``defines``: what it is compiled with.
    """

    kind: str
    blocks: int
    threads: int
    head: bytes
    defines: tuple[str, ...]
    numbers: int = 0
    begins: int = 0
    flags: int = 0


def tiles(spec: KernelSpec, dtype: torch.dtype, direction: str) -> tuple[int, int]:
    """Steps that a thread holds at once, scanning and marching."""
    words = 2 if dtype == torch.float64 else 1
    streams = max(1, len(spec.streams) + len(spec.masks))
    if direction == "backward":
        streams += len(spec.outputs) + len(spec.saved)
    fitting = [n for n in (16, 8, 4) if n * streams * words <= TILE_REGISTERS]
    tile = max([*fitting, 2])
    # A march holds two tiles, one computed and one under way.
    return tile, max(2, tile // 2)


@dataclass(frozen=True)
class Cut:
    """How time is cut: ``parts`` threads share a cell, whose elements of the inner axes are
    ``own`` each; ``elements`` and ``numbers`` that a thread's functions have on the board.
    """

    parts: int
    own: int
    elements: int
    numbers: int


def cut_of(
    spec: KernelSpec, dtype: torch.dtype, direction: str, inner: Sequence[int]
) -> Cut | None:
    """How time may be cut into chunks; None where a scan has no algebra, or its functions do not
    fit a block's shared memory or a thread's registers (``can_scan`` of ``scan.cuh``).
    """
    if not spec.parallel:
        return None
    size = state_dtype(dtype).itemsize
    shapes = list(spec.scans)
    if direction == "backward":
        shapes = [(n * (n + 1), n) for _, n in spec.scans]
    if any(arena_bytes(parts, states, size) > SHARED_BYTES - 64 for parts, states in shapes):
        return None
    every, longest = math.prod(inner), max(inner, default=1)
    parts = 1
    while parts < min(LANES, longest) and parts * SCAN_OWN < every:
        parts *= 2
    each = own_elements(inner, spec.inner, spec, parts) if inner else 1
    if each > SCAN_OWN:
        return None
    first, found, numbers = 0, 0, 0
    for (_, count), (p, n) in zip(spec.scans, shapes, strict=True):
        mine = own_elements(inner, spec.carries[first], spec, parts) if inner else 1
        found += mine
        numbers += mine * (p + n)
        first += count
    return Cut(parts, each, found, numbers)


def arena_bytes(parts: int, states: int, size: int) -> int:
    """Shared memory that a scan's functions take in a block (``Arena`` of ``stretches.cuh``)."""
    seen = LOOK if parts <= 2 else max(1, 2 * LOOK // parts)
    threads = WARPS * LANES
    numbers = parts * threads + parts * seen * LANES + 2 * states * LANES
    return numbers * size + threads + seen * LANES


def defines(
    spec: KernelSpec, dtype: torch.dtype, direction: str, inner: Sequence[int] = ()
) -> tuple[str, ...]:
    """The macros that a kernel's source is compiled with; ``inner``: extents of its inner axes."""
    storage, state = STORAGE[dtype]
    scan, march = tiles(spec, dtype, direction)
    cut = cut_of(spec, dtype, direction, inner)
    found: tuple[str, ...] = (
        f"SEQC_STORAGE={storage}", f"SEQC_STATE={state}", f"SEQC_KERNEL={direction.title()}",
        f"SEQC_MARCH_TILE={march}", f"SEQC_SCAN_TILE={scan}", f"SEQC_WARPS={WARPS}",
        f"SEQC_LOOK={LOOK}", f"SEQC_CUT={int(cut is not None)}",
    )  # fmt: skip
    if spec.inner:
        found += cell_defines(spec, dtype, inner)
        found += (f"SEQC_SCAN_PARTS={cut.parts if cut else 1}",)
    return found


class CudaKernel(Launcher):
    """The CUDA side of one fused kernel."""

    def __init__(self, name: str, source: str) -> None:
        super().__init__(name, source)
        self._functions: dict[tuple[str, tuple[str, ...], int], Any] = {}
        #: The schedule of the last launch, by direction: for measurements and tests.
        self.last_kind: dict[str, str] = {}

    def forget(self) -> None:
        """Build and settle everything anew at the next launch."""
        super().forget()
        self._functions.clear()

    def chunk(self, spec: KernelSpec, inner: int, size: int) -> int:
        """The same for all, so far."""
        return steps_apart()

    def resident_threads(self, device: torch.device) -> int:
        """How many threads the device holds at once."""
        index = device.index
        if index not in _resident:
            p = torch.cuda.get_device_properties(device)
            _resident[index] = p.multi_processor_count * p.max_threads_per_multi_processor
        return _resident[index]

    def scratch(self, entries: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Memory of one launch, holding anything."""
        return torch.empty(entries, dtype=dtype, device=device)

    def _schedule(self, spec: KernelSpec, direction: str, layout: Layout) -> tuple[int, Schedule]:
        """March, or cut time into chunks: from shapes, dtype and device alone."""
        steps, inner = layout.extents[1], layout.shape(spec.inner)
        head = struct.pack(f"<{len(layout.extents) + 1}q", *layout.extents, layout.every)
        macros = defines(spec, layout.dtype, direction, inner)
        lanes = layout.by_axis[spec.lane] if spec.lane else 1
        rows = layout.cells // max(1, lanes * math.prod(inner))
        tile, _ = tiles(spec, layout.dtype, direction)
        cut = cut_of(spec, layout.dtype, direction, inner)
        enough = self.resident_threads(layout.device) // MARCHING_SHARE
        if cut is None or steps <= 2 * tile or layout.cells >= enough:
            layout.by_axis[BLOCKS] = -(-lanes // MARCH_LANES)
            if not spec.inner:
                blocks = math.ceil(layout.cells / THREADS)
                return 1, Schedule("march", blocks, THREADS, head, macros)
            how = cell_layout(spec, inner, layout.wide.itemsize)
            blocks = rows * layout.by_axis[BLOCKS]
            numbers = blocks * how.scratch if direction == "backward" else 0
            return 1, Schedule("march", blocks, how.threads, head, macros, numbers)
        across = LANES // cut.parts
        layout.by_axis[BLOCKS] = -(-lanes // across)
        groups = rows * -(-lanes // across) if spec.inner else -(-rows * lanes // LANES)
        chunks = math.ceil(steps / (tile * WARPS))
        room = chunks * groups * LANES
        return chunks, Schedule(
            "scan", chunks * groups, WARPS * LANES, head, macros, cut.numbers * room,
            cut.elements * room, 1 + cut.elements * chunks * groups,
        )  # fmt: skip

    def _launch(
        self, direction: str, spec: KernelSpec, plan: Plan, pointers: Sequence[int],
        scalars: Sequence[float],
    ) -> None:  # fmt: skip
        """Pack the arguments, lay out the board and launch."""
        how: Schedule = plan.detail
        layout = plan.layout
        self.last_kind[direction] = how.kind
        board: tuple[Tensor, ...] = ()
        places = [0, 0, 0]
        if how.kind == "scan":
            board = (
                self.scratch(how.numbers, layout.wide, layout.device),
                self.scratch(how.begins, torch.uint8, layout.device),
                # Zeroed on the stream at each launch, so that a captured graph can be replayed.
                torch.zeros(how.flags, dtype=torch.int32, device=layout.device),
            )
            places = [t.data_ptr() for t in board]
        elif how.numbers:
            board = (self.scratch(how.numbers, layout.wide, layout.device),)
            places[0] = board[0].data_ptr()
        packed = struct.pack(f"<{len(pointers)}q", *pointers)
        tail = struct.pack(f"<{len(scalars)}d4q", *scalars, *places, plan.chunks)
        words = b"".join((how.head, packed, plan.tables.packed, tail))
        self.launch(f"seqc_{how.kind}", how.defines, layout.device, how.blocks, how.threads, words)

    def launch(
        self, function: str, macros: tuple[str, ...], device: torch.device, blocks: int,
        threads: int, words: bytes,
    ) -> None:  # fmt: skip
        """Launch one of the kernel's functions, built once a device and its macros."""
        from cupy.cuda import driver

        index = device.index  # a tensor's device always has one
        if index != torch.cuda.current_device():
            with torch.cuda.device(index):
                self.launch(function, macros, device, blocks, threads, words)
            return
        _ensure_context(index)
        found = self._functions.get((function, macros, index))
        if found is None:
            found = self._functions[function, macros, index] = load_function(
                self.source, name=self.name, function=function, device=index, defines=macros,
            )  # fmt: skip
        size = ctypes.c_size_t(len(words))
        buffer = ctypes.c_char_p(words)
        extra = (ctypes.c_void_p * 5)(
            _LAUNCH_BUFFER, ctypes.cast(buffer, ctypes.c_void_p), _LAUNCH_SIZE,
            ctypes.addressof(size), None,
        )  # fmt: skip
        stream = torch.cuda.current_stream(index).cuda_stream
        driver.launchKernel(
            found.ptr, blocks, 1, 1, threads, 1, 1, 0, stream, 0, ctypes.addressof(extra)
        )


def _ensure_context(index: int) -> None:
    """Bind the current device's context to this thread: launches need one, autograd has its own."""
    bound: set[int] | None = getattr(_thread, "bound", None)
    if bound is None:
        bound = _thread.bound = set()
    if index in bound:
        return
    from cupy.cuda import driver, runtime

    if driver.ctxGetCurrent() == 0:
        runtime.memGetInfo()  # any call of the runtime does it
    bound.add(index)
