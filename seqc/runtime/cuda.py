"""Launching a kernel's CUDA: on the tensors' own device and current stream.

The tables are those of the C++ side, as arguments of 8 bytes each.  Two
schedules, chosen by shape: where batch x channels fill the device, a thread
marches over time; else time is cut into chunks, and each looks back at those
before it (``templates/cuda/lookback.cuh``).  The choice and all orders of
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
from seqc.runtime.nested import cell_defines
from seqc.runtime.nested import cells as cell_layout
from seqc.runtime.nvrtc import load_function
from seqc.runtime.spec import KernelSpec
from seqc.runtime.tables import BLOCKS, STORAGE, Layout

THREADS = 128  # of a block that marches: the kernel's own kThreads
LANES = 32  # channels of a block that scans
WARPS = 8  # stretches of time of a block that scans
LOOK = 32  # chunks from one whose last state is published to the next
#: Bytes of a stretch's function that still fit a block's shared memory, a thread each.
SHARED_PARTS = 96
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

    ``head``: extents, ``strides``: packed as arguments; ``entries`` of maps, ``begins`` and
    ``flags`` of the board on which chunks tell one another what they found (``lookback.cuh``).
    A kernel that sums over an axis is compiled for its extent ``inner``; ``entries`` are those
    of the states that its march back keeps.
    """

    kind: str
    blocks: int
    threads: int
    entries: int
    begins: int
    flags: int
    head: bytes
    strides: bytes
    inner: int = 0


def tiles(spec: KernelSpec, dtype: torch.dtype) -> dict[str, int]:
    """Steps that a thread holds at once, by schedule and direction."""
    words = 2 if dtype == torch.float64 else 1
    forward = max(1, len(spec.streams) + len(spec.masks))
    backward = forward + len(spec.outputs) + len(spec.saved)
    found = {}
    for direction, streams in (("forward", forward), ("backward", backward)):
        fitting = [n for n in (16, 8, 4) if n * streams * words <= TILE_REGISTERS]
        found[f"scan_{direction}"] = max([*fitting, 2])
        # Two tiles are held there, one computed and one under way.
        found[f"march_{direction}"] = max(2, found[f"scan_{direction}"] // 2)
    return found


def defines(spec: KernelSpec, dtype: torch.dtype, inner: int = 0) -> tuple[str, ...]:
    """The macros that a kernel's source is compiled with.

    ``inner``: the extent of the axis that it sums over, if it does.
    """
    storage, state = STORAGE[dtype]
    types = (f"SEQC_STORAGE={storage}", f"SEQC_STATE={state}")
    if spec.inner is not None:
        return (*types, *cell_defines(spec, dtype, inner))
    sizes = (f"SEQC_{name.upper()}={n}" for name, n in tiles(spec, dtype).items())
    cut = int(cuts(spec, dtype))
    return (*types, *sizes, f"SEQC_WARPS={WARPS}", f"SEQC_LOOK={LOOK}", f"SEQC_CUT={cut}")


def words(spec: KernelSpec, direction: str) -> list[tuple[int, int]]:
    """For each scan, numbers of a stretch's function and of its carries; backward a matrix."""
    if direction == "forward":
        return list(spec.scans)
    return [(n * (n + 1), n) for _, n in spec.scans]


def cuts(spec: KernelSpec, dtype: torch.dtype) -> bool:
    """Whether time may be cut into chunks: every scan has an algebra, whose functions fit."""
    size = 8 if dtype == torch.float64 else 4
    largest = max(
        (parts for d in ("forward", "backward") for parts, _ in words(spec, d)), default=0
    )
    return spec.parallel and largest * size <= SHARED_PARTS


class CudaKernel(Launcher):
    """The CUDA side of one fused kernel."""

    def __init__(self, name: str, source: str) -> None:
        super().__init__(name, source)
        self._functions: dict[tuple[str, torch.dtype, int, int], Any] = {}
        #: The schedule of the last launch, by direction: for measurements and tests.
        self.last_kind: dict[str, str] = {}

    def forget(self) -> None:
        """Build and settle everything anew at the next launch."""
        super().forget()
        self._functions.clear()

    def chunk(self, spec: KernelSpec, inner: int, size: int) -> int:
        """The same for all, so far: more cost more memory, fewer time."""
        return cell_layout(spec, int(inner), size).chunk

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
        cells, steps = layout.cells, layout.extents[1]
        head = struct.pack(f"<{len(layout.extents)}q", *layout.extents)
        strides = struct.pack(f"<{len(layout.strides)}q", *layout.strides)
        if spec.inner is not None:
            inner = layout.by_axis[spec.inner]
            how = cell_layout(spec, inner, layout.wide.itemsize)
            rows = layout.extents[0] * math.prod(layout.shape(spec.outer))
            blocks = rows * layout.by_axis[BLOCKS]
            entries = blocks * how.scratch if direction == "backward" else 0
            return 1, Schedule(
                "march", blocks, how.threads, entries, 0, 0, head, strides, inner
            )  # fmt: skip
        tile = tiles(spec, layout.dtype)[f"scan_{direction}"]
        enough = self.resident_threads(layout.device) // MARCHING_SHARE
        if cells >= enough or steps <= 2 * tile or not cuts(spec, layout.dtype):
            blocks = math.ceil(cells / THREADS)
            return 1, Schedule("march", blocks, THREADS, 0, 0, 0, head, strides)
        chunks, groups = math.ceil(steps / (tile * WARPS)), math.ceil(cells / LANES)
        numbers = sum(parts + carries for parts, carries in words(spec, direction))
        entries, flags = numbers * chunks * cells, 1 + len(spec.scans) * chunks * groups
        begins = len(spec.scans) * chunks * cells
        blocks, threads = chunks * groups, WARPS * LANES
        return chunks, Schedule("scan", blocks, threads, entries, begins, flags, head, strides)

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
                self.scratch(how.entries, layout.wide, layout.device),
                self.scratch(how.begins, torch.uint8, layout.device),
                # Zeroed on the stream at each launch, so that a captured graph can be replayed.
                torch.zeros(how.flags, dtype=torch.int32, device=layout.device),
            )
            places = [t.data_ptr() for t in board]
        elif how.entries:
            board = (self.scratch(how.entries, layout.wide, layout.device),)
            places[0] = board[0].data_ptr()
        packed = struct.pack(f"<{len(pointers)}q", *pointers)
        tail = struct.pack(f"<{len(scalars)}d4q", *scalars, *places, plan.chunks)
        words = b"".join((how.head, packed, how.strides, tail))
        function = f"{how.kind}_{direction}"
        self.launch(
            function, spec, layout.dtype, layout.device, how.blocks, how.threads, words, how.inner
        )

    def launch(
        self, function: str, spec: KernelSpec, dtype: torch.dtype, device: torch.device,
        blocks: int, threads: int, words: bytes, inner: int = 0,
    ) -> None:  # fmt: skip
        """Launch one of the kernel's functions.

        A function is built once a dtype, device and ``inner`` extent that it sums over.
        """
        from cupy.cuda import driver

        index = device.index  # a tensor's device always has one
        if index != torch.cuda.current_device():
            with torch.cuda.device(index):
                self.launch(function, spec, dtype, device, blocks, threads, words, inner)
            return
        _ensure_context(index)
        found = self._functions.get((function, dtype, index, inner))
        if found is None:
            found = self._functions[function, dtype, index, inner] = load_function(
                self.source, name=self.name, function=function, device=index,
                defines=defines(spec, dtype, inner),
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
