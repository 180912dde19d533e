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

from seqc.runtime.nvrtc import load_function
from seqc.runtime.spec import KernelSpec
from seqc.runtime.tables import (
    STORAGE,
    Layout,
    Tables,
    address,
    addresses_of,
    layouts,
    prepare,
    validate,
)

THREADS = 128  # of a block that marches: the kernel's own kThreads
LANES = 32  # channels of a block that scans
WARPS = 8  # stretches of time of a block that scans
LOOK = 32  # chunks from one whose last state is published to the next
#: 4-byte registers that a tile of steps may take, as it was read.
TILE_REGISTERS = 32
#: Marching fills a device with this share of the threads it holds: each has a tile under way.
MARCHING_SHARE = 5
#: Tables of this many shapes are kept a kernel.
_TABLES_KEPT = 64
_LAUNCH_BUFFER, _LAUNCH_SIZE = 1, 2  # CU_LAUNCH_PARAM_BUFFER_POINTER, CU_LAUNCH_PARAM_BUFFER_SIZE

_resident: dict[int, int] = {}
_thread = threading.local()


@dataclass(frozen=True)
class Schedule:
    """How a launch is laid out: ``function``'s prefix, blocks, threads of one, chunks of time."""

    kind: str
    blocks: int
    threads: int
    chunks: int


def tiles(spec: KernelSpec, dtype: torch.dtype) -> dict[str, int]:
    """Steps that a thread holds at once, by schedule and direction."""
    words = 2 if dtype == torch.float64 else 1
    forward = max(1, len(spec.streams) + len(spec.masks))
    backward = forward + spec.outputs + len(spec.saved)
    found = {}
    for direction, streams in (("forward", forward), ("backward", backward)):
        fitting = [n for n in (16, 8, 4) if n * streams * words <= TILE_REGISTERS]
        found[f"scan_{direction}"] = max([*fitting, 2])
        # Two tiles are held there, one computed and one under way.
        found[f"march_{direction}"] = max(2, found[f"scan_{direction}"] // 2)
    return found


def defines(spec: KernelSpec, dtype: torch.dtype) -> tuple[str, ...]:
    """The macros that a kernel's source is compiled with."""
    storage, state = STORAGE[dtype]
    sizes = (f"SEQC_{name.upper()}={n}" for name, n in tiles(spec, dtype).items())
    types = (f"SEQC_STORAGE={storage}", f"SEQC_STATE={state}")
    return (*types, *sizes, f"SEQC_WARPS={WARPS}", f"SEQC_LOOK={LOOK}")


class CudaKernel:
    """The CUDA side of one fused kernel."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self._functions: dict[tuple[str, torch.dtype, int], Any] = {}
        self._tables: dict[Any, tuple[Layout, Tables]] = {}
        #: The schedule of the last launch, by direction: for measurements and tests.
        self.last_kind: dict[str, str] = {}

    def __deepcopy__(self, memo: Any) -> CudaKernel:
        return self

    def forget(self) -> None:
        """Build anew at the next launch: the numbers that kernels are built with have changed."""
        self._functions.clear()

    def resident_threads(self, device: torch.device) -> int:
        """How many threads the device holds at once."""
        index = device.index
        if index not in _resident:
            p = torch.cuda.get_device_properties(device)
            _resident[index] = p.multi_processor_count * p.max_threads_per_multi_processor
        return _resident[index]

    def launch(
        self, function: str, spec: KernelSpec, dtype: torch.dtype, device: torch.device,
        blocks: int, threads: int, words: bytes,
    ) -> None:  # fmt: skip
        """Launch one of the kernel's functions; a function is built once a dtype and device."""
        from cupy.cuda import driver

        index = device.index  # a tensor's device always has one
        if index != torch.cuda.current_device():
            with torch.cuda.device(index):
                self.launch(function, spec, dtype, device, blocks, threads, words)
            return
        _ensure_context()
        found = self._functions.get((function, dtype, index))
        if found is None:
            found = self._functions[function, dtype, index] = load_function(
                self.source, name=self.name, function=function, device=index,
                defines=defines(spec, dtype),
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

    def scratch(self, entries: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Memory of one launch, holding anything."""
        return torch.empty(entries, dtype=dtype, device=device)

    def schedule(self, spec: KernelSpec, direction: str, layout: Layout) -> Schedule:
        """March, or cut time into chunks: from shapes, dtype and device alone."""
        cells, steps = layout.extents[0] * math.prod(layout.extents[2:]), layout.extents[1]
        tile = tiles(spec, layout.dtype)[f"scan_{direction}"]
        enough = self.resident_threads(layout.device) // MARCHING_SHARE
        if cells >= enough or steps <= 2 * tile:
            return Schedule("march", math.ceil(cells / THREADS), THREADS, 1)
        chunks = math.ceil(steps / (tile * WARPS))
        return Schedule("scan", chunks * math.ceil(cells / LANES), WARPS * LANES, chunks)

    def _run(
        self, direction: str, spec: KernelSpec, layout: Layout, how: Schedule,
        pointers: Sequence[int], scalars: Sequence[float],
    ) -> None:  # fmt: skip
        cells = layout.extents[0] * math.prod(layout.extents[2:])
        if cells == 0:
            return
        self.last_kind[direction] = how.kind
        board: tuple[Tensor, ...] = ()
        if how.kind == "scan":
            entries = spec.carries * how.chunks * cells
            flags = 1 + spec.carries * how.chunks * math.ceil(cells / LANES)
            board = (
                self.scratch(3 * entries, layout.wide, layout.device),
                self.scratch(entries, torch.uint8, layout.device),
                # Zeroed on the stream at each launch, so that a captured graph can be replayed.
                torch.zeros(flags, dtype=torch.int32, device=layout.device),
            )
        places = [t.data_ptr() for t in board] or [0, 0, 0]
        whole = [*layout.extents, *pointers, *layout.strides]
        words = struct.pack(
            f"<{len(whole)}q{len(scalars)}d4q", *whole, *scalars, *places, how.chunks
        )
        self.launch(
            f"{how.kind}_{direction}", spec, layout.dtype, layout.device, how.blocks, how.threads,
            words,
        )  # fmt: skip

    def forward(
        self,
        spec: KernelSpec,
        inputs: Sequence[Sequence[Tensor]],
        fresh: Sequence[Tensor | None],
        resets: Tensor | None,
        scalars: Sequence[float],
        extents: Sequence[int],
        dtype: torch.dtype,
        results: Sequence[Tensor | None],
    ) -> None:
        """March forward, filling ``results``: outputs, final carries, saved states (or None)."""
        validate(spec, inputs, fresh, resets, dtype)
        ready = prepare(spec, inputs, fresh, resets)
        key = (dtype, *extents, *layouts(ready))
        layout, tables = self._tables.get(key) or self._remember(
            key, Layout(spec, extents, dtype, ready)
        )
        pointers = [*addresses_of(spec, ready, tables), *(address(r) for r in results)]
        how = self.schedule(spec, "forward", layout)
        self._run("forward", spec, layout, how, pointers, scalars)

    def backward(
        self,
        spec: KernelSpec,
        grads: Sequence[Tensor | None],
        inputs: Sequence[Sequence[Tensor]],
        fresh: Sequence[Tensor | None],
        kept: Sequence[Tensor],
        resets: Tensor | None,
        scalars: Sequence[float],
        extents: Sequence[int],
        dtype: torch.dtype,
        results: Sequence[Tensor],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """March back, filling ``results`` (gradients of starting and fresh states).

        Returns the gradients of operands and of constants.
        """
        validate(spec, inputs, fresh, resets, dtype)
        ready = prepare(spec, inputs, fresh, resets)
        layout = Layout(spec, extents, dtype, ready)
        moving = [layout.cotangent(g) for g in grads[: spec.outputs]]
        final = [
            None if g is None else g.to(layout.wide).contiguous() for g in grads[spec.outputs :]
        ]
        saved = [k.contiguous() for k in kept]
        d_operands, places, later = layout.stream_gradients(ready.operands)
        how = self.schedule(spec, "backward", layout)
        d_constants = layout.constant_gradients(how.chunks)
        starts, d_fresh = results[: spec.carries], results[spec.carries :]
        # What each chunk adds is gathered apart and summed in order: the same from run to run.
        d_anew = [g.new_zeros((how.chunks, *g.shape)) for g in d_fresh]
        pointers = [
            *addresses_of(spec, ready, layout.tables()),
            *(g.data_ptr() for g in moving),
            *(address(g) for g in final),
            *(k.data_ptr() for k in saved),
            *places,
            *(g.data_ptr() for g in d_constants if g is not None),
            *(r.data_ptr() for r in starts),
            *(g.data_ptr() for g in d_anew),
        ]
        self._run("backward", spec, layout, how, pointers, scalars)
        for whole, parts in zip(d_fresh, d_anew, strict=True):
            torch.sum(parts, 0, out=whole)
        for gradient, axes, place in later:
            place.copy_(layout.narrow(gradient, axes, leading=2))
        totals = [None if g is None else g.sum(0) for g in d_constants]
        return d_operands, layout.sums(inputs[1], totals)

    def _remember(self, key: Any, layout: Layout) -> tuple[Layout, Tables]:
        """Work out a shape's tables, and keep them."""
        if len(self._tables) >= _TABLES_KEPT:
            self._tables.clear()
        found = self._tables[key] = (layout, layout.tables())
        return found


def _ensure_context() -> None:
    """Bind the device's context to this thread: launches need one, and autograd has its own."""
    if getattr(_thread, "bound", False):
        return
    from cupy.cuda import driver, runtime

    if driver.ctxGetCurrent() == 0:
        runtime.memGetInfo()  # any call of the runtime does it
    _thread.bound = True
