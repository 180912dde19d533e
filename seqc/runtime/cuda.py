"""Launching a kernel's CUDA: on the tensors' own device and current stream.

The tables are those of the C++ side, as arguments of 8 bytes each.  Where there
are too few channels to fill the device, time is cut into chunks: each becomes
one affine map (a launch for each carry), and then all of them march at once.
The number of chunks depends on shapes and device alone, so that a result does
not change from run to run.  Nothing here waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqc.runtime.nvrtc import load_function
from seqc.runtime.spec import KernelSpec
from seqc.runtime.tables import STORAGE, Layout, address, addresses_of, prepare, validate

THREADS = 128  # of a block: the kernel's own kThreads
MOST_CHUNKS = 128  # what enters a chunk is folded from all before it, which grows as the square
LEAST_STEPS = 32  # of a chunk


class CudaKernel:
    """The CUDA side of one fused kernel."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source

    def __deepcopy__(self, memo: Any) -> CudaKernel:
        return self

    def resident_threads(self, device: torch.device) -> int:
        """How many threads the device holds at once."""
        properties = torch.cuda.get_device_properties(device)
        threads = properties.max_threads_per_multi_processor
        return int(properties.multi_processor_count * threads)

    def launch(
        self, function: str, dtype: torch.dtype, device: torch.device, grid: tuple[int, int],
        arguments: Sequence[int | float],
    ) -> None:  # fmt: skip
        """Launch one of the kernel's functions; a function is built once a dtype and device."""
        import cupy
        import numpy

        storage, state = STORAGE[dtype]
        defines = (f"SEQC_STORAGE={storage}", f"SEQC_STATE={state}")
        with torch.cuda.device(device):
            index = torch.cuda.current_device()
            f = load_function(
                self.source, name=self.name, function=function, device=index, defines=defines
            )
            packed = [
                numpy.float64(a) if isinstance(a, float) else numpy.int64(a) for a in arguments
            ]
            stream = cupy.cuda.Stream.from_external(torch.cuda.current_stream(device))
            f((*grid, 1), (THREADS, 1, 1), packed, stream=stream)

    def chunks(self, cells: int, steps: int, device: torch.device) -> tuple[int, int]:
        """(steps of a chunk, how many chunks) for so many channels over the batch."""
        wanted = self.resident_threads(device) // max(cells, 1)
        count = max(1, min(wanted, MOST_CHUNKS, steps // LEAST_STEPS))
        length = max(1, math.ceil(steps / count))
        return length, max(1, math.ceil(steps / length))

    def _run(
        self, direction: str, order: Sequence[int], spec: KernelSpec, layout: Layout,
        pointers: Sequence[int], scalars: Sequence[float], length: int, chunks: int,
    ) -> None:  # fmt: skip
        """Summaries of each carry, in the order in which they depend on one another; the march."""
        cells = layout.extents[0] * math.prod(layout.extents[2:])
        if cells == 0:
            return
        scratch: list[Tensor] = []
        for _ in range(spec.carries):
            shape = (chunks - 1, cells)
            scratch += [
                torch.empty(shape, dtype=layout.wide, device=layout.device),
                torch.empty(shape, dtype=layout.wide, device=layout.device),
                torch.empty(shape, dtype=torch.uint8, device=layout.device),
            ]
        arguments: list[int | float] = [*layout.extents, *pointers, *layout.strides]
        arguments += [float(s) for s in scalars]
        arguments += [s.data_ptr() for s in scratch]
        arguments += [length, chunks]
        blocks = math.ceil(cells / THREADS)
        if chunks > 1:
            for carry in order:
                name = f"summary_{direction}_{carry}"
                self.launch(name, layout.dtype, layout.device, (blocks, chunks - 1), arguments)
        name = f"march_{direction}"
        self.launch(name, layout.dtype, layout.device, (blocks, chunks), arguments)

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
        layout = Layout(spec, extents, dtype, ready)
        pointers = [*addresses_of(spec, ready, layout.tables()), *(address(r) for r in results)]
        cells = layout.extents[0] * math.prod(layout.extents[2:])
        length, chunks = self.chunks(cells, layout.extents[1], layout.device)
        order = range(spec.carries)
        self._run("forward", order, spec, layout, pointers, scalars, length, chunks)

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
        cells = layout.extents[0] * math.prod(layout.extents[2:])
        length, chunks = self.chunks(cells, layout.extents[1], layout.device)
        d_constants = layout.constant_gradients(chunks)
        starts, d_fresh = results[: spec.carries], results[spec.carries :]
        # What each chunk adds is gathered apart and summed in order: the same from run to run.
        d_anew = [g.new_zeros((chunks, *g.shape)) for g in d_fresh]
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
        order = range(spec.carries - 1, -1, -1)
        self._run("backward", order, spec, layout, pointers, scalars, length, chunks)
        for whole, parts in zip(d_fresh, d_anew, strict=True):
            torch.sum(parts, 0, out=whole)
        for gradient, axes, place in later:
            place.copy_(layout.narrow(gradient, axes, leading=2))
        totals = [None if g is None else g.sum(0) for g in d_constants]
        return d_operands, layout.sums(inputs[1], totals)
