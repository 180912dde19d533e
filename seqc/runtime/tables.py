"""What a kernel's launcher hands over: addresses, strides and extents, settled and checked.

Both targets read the same tables: of every tensor of a kernel's signature, in its order, the
address and the strides of batch, time and each axis (0 along what it has not).  What depends on
shapes alone is worked out once a shape; a call then only collects addresses.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqc.runtime.pages import LEAST_BYTES
from seqc.runtime.pages import empty as empty_pages
from seqc.runtime.spec import KernelSpec, state_dtype

#: What a kernel stores and what it computes in, as both targets write it.
STORAGE = {
    torch.float32: ("float", "float"),
    torch.float64: ("double", "double"),
    torch.bfloat16: ("seqc::bfloat16", "float"),
    torch.float16: ("seqc::float16", "float"),
}

#: Stands for an axis of blocks of LANES lanes, each summed by itself.
BLOCKS = "#"
LANES = 64

#: The role, position there and axes of each tensor of a signature.
Signature = Sequence[tuple[str, int, tuple[str, ...]]]
#: Strides of batch, time and each axis.
Lie = list[int]


@dataclass(frozen=True)
class Ready:
    """What forward and backward both read, ready for the compiled side."""

    spec: KernelSpec
    operands: Sequence[Tensor]
    constants: Sequence[Tensor]
    masks: Sequence[Tensor]
    starts: Sequence[Tensor]
    fresh: Sequence[Tensor | None]
    resets: Tensor | None

    def tensors(self) -> tuple[Tensor | None, ...]:
        """All of them."""
        return (
            *self.operands, *self.constants, *self.masks, *self.starts, *self.fresh, self.resets,
        )  # fmt: skip

    def places(self, offsets: Sequence[int]) -> dict[str, Any]:
        """Where each role's are among all of them: (which, bytes from its start)."""
        all_of_them = self.tensors()

        def those(first: int, count: int) -> list[Place]:
            found = range(first, first + count)
            return [NOTHING if all_of_them[i] is None else (i, 0) for i in found]

        kinds = (self.operands, self.constants, self.masks, self.starts, self.fresh, (None,))
        names = ("operand", "constant", "mask", "start", "fresh", "resets")
        found: dict[str, Any] = {}
        first = 0
        for name, kind in zip(names, kinds, strict=True):
            found[name] = those(first, len(kind))
            first += len(kind)
        found["stream"] = [
            (o, offset) for (o, _), offset in zip(self.spec.streams, offsets, strict=True)
        ]
        return found


#: Which of a launch's tensors, and how many bytes from its start.
Place = tuple[int, int]
#: The place of a tensor that is not there: the address that stands last is 0.
NOTHING: Place = (-1, 0)


@dataclass(frozen=True)
class Made:
    """Memory that a launch makes: as it is, or zeros; a large one on the CPU from kept pages."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    zero: bool
    kept: bool

    @classmethod
    def of(
        cls, shape: Sequence[int], dtype: torch.dtype, device: torch.device, zero: bool = False
    ) -> Made:
        """Memory for a shape on a device."""
        whole = tuple(int(n) for n in shape)
        nbytes = math.prod(whole) * dtype.itemsize
        return cls(whole, dtype, zero, device.type == "cpu" and nbytes >= LEAST_BYTES)

    def make(self, device: torch.device) -> Tensor:
        """The tensor."""
        if self.kept:
            found = empty_pages(self.shape, self.dtype)
            return found.zero_() if self.zero else found
        if self.zero:
            return torch.zeros(self.shape, dtype=self.dtype, device=device)
        return torch.empty(self.shape, dtype=self.dtype, device=device)


@dataclass(frozen=True)
class Tables:
    """What a shape settles: arrays for C, and where in its operand each stream starts (bytes)."""

    extents: Any
    strides: Any
    offsets: list[int]

    @functools.cached_property
    def packed(self) -> bytes:
        """The strides as they are handed over in one piece."""
        return bytes(self.strides)

    @functools.cached_property
    def places(self) -> tuple[int, int]:
        """The addresses of the arrays."""
        return ctypes.addressof(self.extents), ctypes.addressof(self.strides)


def split(
    spec: KernelSpec, tensors: Sequence[Any]
) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any], Sequence[Any]]:
    """A kernel's tensors by kind: operands, constants, masks, starting states."""
    i = len(spec.operands)
    j = i + len(spec.constants)
    k = j + len(spec.masks)
    return tensors[:i], tensors[i:j], tensors[j:k], tensors[k : k + len(spec.carries)]


def results(
    spec: KernelSpec, extents: Sequence[int], dtype: torch.dtype, save: bool, every: int
) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Shapes and dtypes of a march's results: outputs, final carries, and what is saved.

    What a kernel that sums over axes saves are its carries once in ``every`` steps.
    """
    batch, steps = extents[:2]
    by_axis = dict(zip(spec.axes, extents[2:], strict=False))
    wide = state_dtype(dtype)

    def shape(axes: Sequence[str]) -> list[int]:
        return [by_axis[a] for a in axes]

    found = [((batch, steps, *shape(axes)), dtype) for axes in spec.outputs]
    found += [((batch, *shape(axes)), wide) for axes in spec.carries]
    for carry in spec.extra:
        axes = shape(spec.carries[carry])
        if not save:
            found.append(((0,), wide if spec.inner else dtype))
        elif spec.inner:
            found.append((((steps + every - 1) // every, batch, *axes), wide))
        else:
            found.append(((batch, steps, *axes), dtype))
    found += [((batch, steps, *shape(axes)) if save else (0,), dtype) for axes in spec.held]
    return found


def prepare(spec: KernelSpec, given: Sequence[Tensor | None]) -> Ready:
    """The tensors with unit stride along their last axis, small ones laid out plainly.

    ``given``: operands, constants, masks, starting states, fresh ones, resets, and no matter what.
    """
    operands, constants, masks, starts = split(spec, given)
    count = len(operands) + len(constants) + len(masks) + len(starts)
    fresh = given[count : count + len(starts)]
    return Ready(
        spec,
        [_unit(o) for o in operands],
        [c.contiguous() for c in constants],
        [_unit(m) for m in masks],
        [s.contiguous() for s in starts],
        [None if f is None else f.contiguous() for f in fresh],
        given[count + len(starts)],
    )


def validate(spec: KernelSpec, given: Sequence[Tensor | None], dtype: torch.dtype) -> None:
    """Refuse what C would misread: another dtype is another number of bytes."""
    operands, constants, masks, starts = split(spec, given)
    count = len(operands) + len(constants) + len(masks) + len(starts)
    resets = given[count + len(starts)]
    wide = state_dtype(dtype)
    truths = masks if resets is None else (*masks, resets)
    renewed = [f for f in given[count : count + len(starts)] if f is not None]
    for kind, tensors, want in (
        ("operand", operands, dtype), ("constant", constants, wide), ("mask", truths, torch.bool),
        ("state", (*starts, *renewed), wide),
    ):  # fmt: skip
        for t in tensors:
            if t.dtype != want:
                raise TypeError(f"{spec.name}: a {kind} is {t.dtype}, where {want} is expected")
    places = {str(t.device) for t in given if t is not None}
    if len(places) > 1:
        raise ValueError(f"{spec.name}: tensors on several devices: {', '.join(sorted(places))}")


def _unit(tensor: Tensor) -> Tensor:
    """The tensor itself where its last axis has unit stride, else a copy."""
    if tensor.dim() > 2 and tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
        return tensor.contiguous()
    return tensor


def layouts(tensors: Sequence[Tensor | None]) -> list[Any]:
    """What tables and launches depend on: dtypes, shapes, strides, and which device of its kind."""
    return [None if t is None else (t.dtype, t.shape, t.stride(), t.get_device()) for t in tensors]


def cotangents(
    spec: KernelSpec, grads: Sequence[Tensor | None], dtype: torch.dtype
) -> list[Tensor | None]:
    """Cotangents of outputs and final carries, as the kernel's source reads them."""
    wide = state_dtype(dtype)
    moving = [None if g is None else _unit(g.to(dtype)) for g in grads[: len(spec.outputs)]]
    final = [None if g is None else g.to(wide).contiguous() for g in grads[len(spec.outputs) :]]
    return [*moving, *final]
