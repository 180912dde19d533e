"""Launching a kernel's C++: built on first use, a library a dtype, handed raw pointers and strides.

The C side trusts what it is given, so everything is settled here: dtypes,
devices and the unit stride of the innermost axis.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from seqc.runtime.build import build_library

if TYPE_CHECKING:
    from seqc.runtime.kernels import KernelSpec

_STORAGE = {
    torch.float32: ("float", "float"),
    torch.float64: ("double", "double"),
    torch.bfloat16: ("seqc::bfloat16", "float"),
    torch.float16: ("seqc::float16", "float"),
}


class CppKernel:
    """The C++ side of one fused kernel."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self._libraries: dict[torch.dtype, ctypes.CDLL] = {}

    def library(self, dtype: torch.dtype) -> ctypes.CDLL:
        """The compiled library for a storage dtype; built once."""
        found = self._libraries.get(dtype)
        if found is None:
            storage, state = _STORAGE[dtype]
            defines = (f"SEQC_STORAGE={storage}", f"SEQC_STATE={state}")
            found = build_library(self.source, name=self.name, defines=defines)
            for entry in (found.seqc_forward, found.seqc_backward):
                entry.restype = None
                entry.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int64]
            self._libraries[dtype] = found
        return found

    def __deepcopy__(self, memo: Any) -> CppKernel:
        return self

    def forward(
        self,
        spec: KernelSpec,
        operands: Sequence[Tensor],
        constants: Sequence[Tensor],
        masks: Sequence[Tensor],
        starts: Sequence[Tensor],
        fresh: Sequence[Tensor | None],
        resets: Tensor | None,
        scalars: Sequence[float],
        extents: Sequence[int],
        dtype: torch.dtype,
        outputs: Sequence[Tensor],
        finals: Sequence[Tensor],
        extra: Sequence[Tensor | None],
    ) -> None:
        """March forward, filling ``outputs``, ``finals`` and ``extra`` (saved states)."""
        call = _Call(spec, extents, dtype)
        call.inputs(operands, constants, masks, starts, fresh, resets)
        for tensor in (*outputs, *finals, *extra):
            call.contiguous(tensor)
        call.launch(self.library(dtype).seqc_forward, scalars)

    def backward(
        self,
        spec: KernelSpec,
        grads: Sequence[Tensor | None],
        operands: Sequence[Tensor],
        constants: Sequence[Tensor],
        masks: Sequence[Tensor],
        starts: Sequence[Tensor],
        fresh: Sequence[Tensor | None],
        kept: Sequence[Tensor],
        resets: Tensor | None,
        scalars: Sequence[float],
        extents: Sequence[int],
        dtype: torch.dtype,
        d_starts: Sequence[Tensor],
        d_fresh: Sequence[Tensor],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """March back; the gradients of operands and constants."""
        call = _Call(spec, extents, dtype)
        call.inputs(operands, constants, masks, starts, fresh, resets)
        for g in grads[: spec.outputs]:
            call.sequence(g, dtype)
        for g in grads[spec.outputs :]:
            call.contiguous(None if g is None else g.to(call.wide))
        for k in kept:
            call.contiguous(k)
        d_operands, later = call.stream_gradients(operands)
        d_constants = call.constant_gradients()
        for d in (*d_starts, *d_fresh):
            call.contiguous(d)
        call.launch(self.library(dtype).seqc_backward, scalars)
        for gradient, axes, place in later:
            place.copy_(call.narrow(gradient, axes, leading=2))
        sums = [
            torch.empty(0) if g is None else call.narrow(g.sum(0), axes, leading=0).to(call.wide)
            for g, axes in zip(d_constants, spec.constants, strict=True)
        ]
        return d_operands, [
            c.new_zeros(c.shape) if g is None else s.reshape(c.shape)
            for c, g, s in zip(constants, d_constants, sums, strict=True)
        ]


class _Call:
    """Gathers the pointers and strides of one launch, in the order the kernel's source reads them."""

    def __init__(self, spec: KernelSpec, extents: Sequence[int], dtype: torch.dtype) -> None:
        self.spec = spec
        every = [int(e) for e in extents]
        self.by_axis = dict(zip((*spec.axes, *spec.others), every[2:], strict=True))
        self.extents = every[: 2 + len(spec.axes)]
        self.outer = spec.axes[:-1]
        self.dtype = dtype
        self.wide = torch.float64 if dtype == torch.float64 else torch.float32
        self.pointers: list[int] = []
        self.strides: list[int] = []
        self.alive: list[Tensor] = []

    def shape(self, axes: Sequence[str]) -> list[int]:
        """The extents of some axes."""
        return [self.by_axis[a] for a in axes]

    def point(self, tensor: Tensor, offset: int = 0) -> None:
        """Hand over a tensor's address, keeping it alive until the launch."""
        self.alive.append(tensor)
        self.pointers.append(tensor.data_ptr() + offset * tensor.element_size())

    def contiguous(self, tensor: Tensor | None) -> None:
        """A tensor laid out plainly, or a null pointer."""
        if tensor is None or tensor.numel() == 0:
            self.pointers.append(0)
        else:
            self.point(tensor.contiguous())

    def along(self, tensor: Tensor, axes: Sequence[str], first: int) -> list[int]:
        """The strides of the outer axes; 0 where the tensor does not have one."""
        own = {a: tensor.stride(first + i) for i, a in enumerate(axes)}
        return [own.get(a, 0) for a in self.outer]

    def ready(self, tensor: Tensor, axes: Sequence[str]) -> Tensor:
        """The tensor with unit stride along the innermost axis, if it spans that axis."""
        inner = self.spec.axes[-1:] if self.spec.axes else ()
        spans = bool(inner) and inner[0] in axes
        if spans and tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
            return tensor.contiguous()
        return tensor

    def inputs(
        self,
        operands: Sequence[Tensor],
        constants: Sequence[Tensor],
        masks: Sequence[Tensor],
        starts: Sequence[Tensor],
        fresh: Sequence[Tensor | None],
        resets: Tensor | None,
    ) -> None:
        """What forward and backward both read."""
        spec = self.spec
        for operand, part in spec.streams:
            self.stream(operands[operand], operand, part)
        for c, axes in zip(constants, spec.constants, strict=True):
            c = c.reshape(self.shape(axes)).contiguous()
            self.point(c)
            self.strides += self.along(c, axes, 0)
        for mask, axes in zip(masks, spec.masks, strict=True):
            m = self.ready(mask, axes)
            self.point(m)
            self.strides += [m.stride(0), m.stride(1), *self.along(m, axes, 2)]
        for s in starts:
            self.contiguous(s)
        for f in fresh:
            self.contiguous(f)
        if resets is None:
            self.pointers.append(0)
            self.strides += [0, 0]
        else:
            self.point(resets)
            self.strides += [resets.stride(0), resets.stride(1)]

    def part(self, operand: int, part: int) -> tuple[int, tuple[str, ...]]:
        """Where a part of a packed operand starts, and its axes."""
        parts = self.spec.operands[operand][1]
        return sum(math.prod(self.shape(p)) for p in parts[:part]), parts[part]

    def stream(self, tensor: Tensor, operand: int, part: int) -> None:
        """One stream: its address and the strides of batch, time and the outer axes."""
        packed = self.spec.operands[operand][0]
        offset, axes = self.part(operand, part)
        if packed:
            tensor = tensor if tensor.shape[2] <= 1 or tensor.stride(2) == 1 else tensor.contiguous()
            self.point(tensor, offset)
            self.strides += [tensor.stride(0), tensor.stride(1), *self.packed_strides(axes)]
        else:
            tensor = self.ready(tensor, axes)
            self.point(tensor)
            self.strides += [tensor.stride(0), tensor.stride(1), *self.along(tensor, axes, 2)]

    def packed_strides(self, axes: Sequence[str]) -> list[int]:
        """The strides of the outer axes within a packed part."""
        own: dict[str, int] = {}
        step = 1
        for a in reversed(axes):
            own[a] = step
            step *= self.by_axis[a]
        return [own.get(a, 0) for a in self.outer]

    def sequence(self, tensor: Tensor | None, dtype: torch.dtype) -> None:
        """A value (B, T, *axes) over all the kernel's axes; None reads as zeros."""
        if tensor is None:
            width = self.extents[-1] if self.spec.axes else 1
            self.point(torch.zeros(max(width, 1), dtype=dtype))
            self.strides += [0] * (2 + len(self.outer))
            return
        tensor = self.ready(tensor.to(dtype), self.spec.axes)
        self.point(tensor)
        self.strides += [
            tensor.stride(0), tensor.stride(1), *self.along(tensor, self.spec.axes, 2)
        ]  # fmt: skip

    def stream_gradients(
        self, operands: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[tuple[Tensor, tuple[str, ...], Tensor]]]:
        """One packed gradient an operand, written in place by the march.

        A stream that lacks some of the kernel's axes gets a gradient over all
        of them, to be summed into its place afterwards.
        """
        spec = self.spec
        covered = {
            spec.streams[i] for i, moves in enumerate(spec.moving) if moves
        }  # fmt: skip
        full: list[Tensor] = []
        for i, o in enumerate(operands):
            whole = all((i, p) in covered for p in range(len(spec.operands[i][1])))
            make = torch.empty if whole else torch.zeros
            full.append(make(o.shape, dtype=self.dtype))
        later: list[tuple[Tensor, tuple[str, ...], Tensor]] = []
        for (operand, part), moves in zip(spec.streams, spec.moving, strict=True):
            if not moves:
                continue
            offset, axes = self.part(operand, part)
            packed = spec.operands[operand][0]
            gradient = full[operand]
            if axes == spec.axes:
                self.point(gradient, offset if packed else 0)
                own = self.packed_strides(axes) if packed else self.along(gradient, axes, 2)
                self.strides += [gradient.stride(0), gradient.stride(1), *own]
                continue
            place = gradient
            if packed:
                width = math.prod(self.shape(axes))
                place = gradient[:, :, offset : offset + width].unflatten(2, self.shape(axes) or [1])
                place = place if axes else place[..., 0]
            wide = torch.empty(self.extents, dtype=self.wide)
            self.point(wide)
            self.strides += [wide.stride(0), wide.stride(1), *self.along(wide, spec.axes, 2)]
            later.append((wide, axes, place))
        return full, later

    def constant_gradients(self) -> list[Tensor | None]:
        """Sums over time, (B, *axes) in float64, a batch row each."""
        found: list[Tensor | None] = []
        for moves in self.spec.steady:
            if not moves:
                found.append(None)
                continue
            sums = torch.zeros([self.extents[0], *self.extents[2:]], dtype=torch.float64)
            self.point(sums)
            found.append(sums)
        return found

    def narrow(self, tensor: Tensor, axes: Sequence[str], leading: int) -> Tensor:
        """Sum over the kernel's axes that a value does not have."""
        gone = [leading + i for i, a in enumerate(self.spec.axes) if a not in axes]
        return tensor.sum(gone) if gone else tensor

    def launch(self, entry: Any, scalars: Sequence[float]) -> None:
        """Call into C: extents, pointers, strides, scalars, threads."""
        if any(e == 0 for i, e in enumerate(self.extents) if i != 1):
            return
        extents = (ctypes.c_int64 * len(self.extents))(*self.extents)
        pointers = (ctypes.c_void_p * max(len(self.pointers), 1))(*self.pointers)
        strides = (ctypes.c_int64 * max(len(self.strides), 1))(*self.strides)
        numbers = (ctypes.c_double * max(len(scalars), 1))(*scalars)
        entry(extents, pointers, strides, numbers, torch.get_num_threads())
