"""What a kernel's launcher hands over: addresses, strides and extents, settled and checked.

Both targets read the same tables in the same order.  What depends on shapes
alone is worked out once a shape; a call then only collects addresses.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqc.runtime.pages import empty as empty_pages
from seqc.runtime.spec import KernelSpec

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


@dataclass(frozen=True)
class Ready:
    """What forward and backward both read, ready for the compiled side."""

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


@dataclass(frozen=True)
class Tables:
    """What a shape settles: arrays for C, and where in its operand each stream starts (bytes)."""

    extents: Any
    strides: Any
    offsets: list[int]


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory for a result; on the CPU from kept pages."""
    if device.type == "cpu":
        return empty_pages(shape, dtype)
    return torch.empty(tuple(shape), dtype=dtype, device=device)


def prepare(
    spec: KernelSpec,
    inputs: Sequence[Sequence[Tensor]],
    fresh: Sequence[Tensor | None],
    resets: Tensor | None,
) -> Ready:
    """The tensors with unit stride along their last axis, small ones laid out plainly."""
    operands, constants, masks, starts = inputs
    return Ready(
        [_unit(o) for o in operands],
        [c.contiguous() for c in constants],
        [_unit(m) for m in masks],
        [s.contiguous() for s in starts],
        [None if f is None else f.contiguous() for f in fresh],
        resets,
    )


def validate(
    spec: KernelSpec,
    inputs: Sequence[Sequence[Tensor]],
    fresh: Sequence[Tensor | None],
    resets: Tensor | None,
    dtype: torch.dtype,
) -> None:
    """Refuse what C would misread: another dtype is another number of bytes."""
    operands, constants, masks, starts = inputs
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    truths = masks if resets is None else (*masks, resets)
    renewed = [f for f in fresh if f is not None]
    for kind, tensors, want in (
        ("operand", operands, dtype), ("constant", constants, wide), ("mask", truths, torch.bool),
        ("state", (*starts, *renewed), wide),
    ):  # fmt: skip
        for t in tensors:
            if t.dtype != want:
                raise TypeError(f"{spec.name}: a {kind} is {t.dtype}, where {want} is expected")
    places = {str(t.device) for t in (*operands, *constants, *starts, *truths, *renewed)}
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
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    moving = [None if g is None else _unit(g.to(dtype)) for g in grads[: len(spec.outputs)]]
    final = [None if g is None else g.to(wide).contiguous() for g in grads[len(spec.outputs) :]]
    return [*moving, *final]


def zeros_row(spec: KernelSpec, layout: Layout) -> Tensor:
    """What stands for a cotangent that is zero throughout: one row, read again and again.

    Made at each launch that needs it: a captured graph replays its address, so the row must be
    of the capture's own memory.
    """
    width = layout.extents[-1] if spec.axes else 1
    return torch.zeros(max(width, 1), dtype=layout.dtype, device=layout.device)


def address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def addresses_of(spec: KernelSpec, ready: Ready, tables: Tables) -> list[int]:
    """The addresses of what forward and backward both read, in the order of the C side."""
    bases = [o.data_ptr() for o in ready.operands]
    found = [
        bases[operand] + offset
        for (operand, _), offset in zip(spec.streams, tables.offsets, strict=True)
    ]
    for group in (ready.constants, ready.masks, ready.starts):
        found += [t.data_ptr() for t in group]
    found += [address(f) for f in ready.fresh]
    found.append(address(ready.resets))
    return found


@dataclass(frozen=True)
class Later:
    """A stream's gradient that is summed over some axes into its place: ``offset`` in a pack.

    It is found ``over`` more axes than its own.
    """

    operand: int
    offset: int | None
    axes: tuple[str, ...]
    over: tuple[str, ...]


@dataclass(frozen=True)
class Gradients:
    """How gradients of streams lie: ``whole``, every element of an operand's gets written;
    ``places``, a stream: (operand, bytes from its start), or (-1, which of ``later``).
    """

    whole: list[bool]
    places: list[tuple[int, int]]
    later: list[Later]


class Layout:
    """Works out the strides of one shape, in the order in which the kernel's source reads them."""

    def __init__(
        self, spec: KernelSpec, extents: Sequence[int], dtype: torch.dtype, ready: Ready,
        chunk: int = 0,
    ) -> None:  # fmt: skip
        self.spec = spec
        every = [int(e) for e in extents]
        self.by_axis = dict(zip((*spec.axes, *spec.others), every[2:], strict=True))
        self.extents = every[: 2 + len(spec.axes)]
        lanes = self.by_axis[spec.lane] if spec.lane else 1
        self.by_axis[BLOCKS] = -(-lanes // LANES)
        #: of a kernel that sums over an axis: steps between those whose carries are stored
        self.chunk = chunk
        self.outer = spec.walk
        self.dtype = dtype
        self.wide = torch.float64 if dtype == torch.float64 else torch.float32
        self.strides: list[int] = []
        self.offsets: list[int] = []
        self.cells = self.extents[0] * math.prod(self.extents[2:])
        self.device = (*ready.operands, *ready.constants, *ready.starts, *ready.masks)[0].device
        self._check(ready)
        self._inputs(ready)

    def _check(self, ready: Ready) -> None:
        """Refuse shapes that the extents do not cover: C would read past their ends."""
        lead = self.extents[:2]
        wanted: list[tuple[Tensor, list[int]]] = []
        for (packed, parts), o in zip(self.spec.operands, ready.operands, strict=True):
            width = sum(math.prod(self.shape(p)) for p in parts)
            wanted.append((o, [*lead, width] if packed else [*lead, *self.shape(parts[0])]))
        wanted += [
            (m, [*lead, *self.shape(a)]) for m, a in zip(ready.masks, self.spec.masks, strict=True)
        ]
        shapes = [[lead[0], *self.shape(a)] for a in self.spec.carries] * 2
        carried = zip((*ready.starts, *ready.fresh), shapes, strict=True)
        wanted += [(s, shape) for s, shape in carried if s is not None]
        if ready.resets is not None:
            wanted.append((ready.resets, lead))
        for tensor, shape in wanted:
            if list(tensor.shape) != shape:
                raise ValueError(
                    f"{self.spec.name}: a tensor is {tuple(tensor.shape)}, where {tuple(shape)} "
                    "is expected"
                )
        for c, axes in zip(ready.constants, self.spec.constants, strict=True):
            if c.numel() != math.prod(self.shape(axes)):
                raise ValueError(f"{self.spec.name}: a constant has {c.numel()} entries")

    def tables(self) -> Tables:
        """The arrays for C."""
        extents = [*self.extents, self.chunk] if self.spec.inner else self.extents
        return Tables(
            (ctypes.c_int64 * len(extents))(*extents),
            (ctypes.c_int64 * max(len(self.strides), 1))(*self.strides),
            self.offsets,
        )

    def shape(self, axes: Sequence[str]) -> list[int]:
        """The extents of some axes."""
        return [self.by_axis[a] for a in axes]

    def along(self, tensor: Tensor, axes: Sequence[str], first: int) -> list[int]:
        """The strides of the outer axes; 0 where the tensor does not have one."""
        own = {a: tensor.stride(first + i) for i, a in enumerate(axes)}
        return [own.get(a, 0) for a in self.outer]

    def plain(self, axes: Sequence[str], lane: str | None = None) -> list[int]:
        """The strides of the outer axes in something laid out plainly over ``axes``.

        Blocks of lanes, where it has those, stand for the ``lane``.
        """
        own: dict[str, int] = {}
        step = 1
        for a in reversed(axes):
            own[lane or "" if a == BLOCKS else a] = step
            step *= self.by_axis[a]
        return [own.get(a, 0) for a in self.outer]

    def part(self, operand: int, part: int) -> tuple[int, tuple[str, ...]]:
        """Where a part of a packed operand starts, and its axes."""
        parts = self.spec.operands[operand][1]
        return sum(math.prod(self.shape(p)) for p in parts[:part]), parts[part]

    def _inputs(self, ready: Ready) -> None:
        spec = self.spec
        for operand, part in spec.streams:
            tensor = ready.operands[operand]
            packed = spec.operands[operand][0]
            offset, axes = self.part(operand, part)
            self.offsets.append(offset * tensor.element_size() if packed else 0)
            own = self.plain(axes) if packed else self.along(tensor, axes, 2)
            self.strides += [tensor.stride(0), tensor.stride(1), *own]
        for axes in spec.constants:
            self.strides += self.plain(axes)
        for mask, axes in zip(ready.masks, spec.masks, strict=True):
            self.strides += [mask.stride(0), mask.stride(1), *self.along(mask, axes, 2)]
        r = ready.resets
        self.strides += [0, 0] if r is None else [r.stride(0), r.stride(1)]
        if spec.inner:
            for axes in spec.carries:
                self.strides += [math.prod(self.shape(axes)), *self.plain(axes)]

    def outputs(self) -> None:
        """Strides of the outputs of a kernel that sums over an axis: (B, T, *axes), plain."""
        for axes in self.spec.outputs if self.spec.inner else ():
            row = math.prod(self.shape(axes))
            self.strides += [self.extents[1] * row, row, *self.plain(axes)]

    def cotangent(self, grad: Tensor | None, axes: Sequence[str]) -> None:
        """Strides of the cotangent of an output, over its axes; None is zeros."""
        if grad is None:
            self.strides += [0] * (2 + len(self.outer))
        else:
            self.strides += [grad.stride(0), grad.stride(1), *self.along(grad, axes, 2)]

    def stream_gradients(self, operands: Sequence[Tensor]) -> Gradients:
        """Where the gradient of each stream goes: in place into one packed gradient an operand.

        A stream that lacks some of the kernel's axes gets a gradient over all of
        them, to be summed into its place afterwards.
        """
        spec = self.spec
        covered = {spec.streams[i] for i, moves in enumerate(spec.moving) if moves}
        whole = [
            all((i, p) in covered for p in range(len(spec.operands[i][1])))
            for i in range(len(operands))
        ]
        places: list[tuple[int, int]] = []
        later: list[Later] = []
        for (operand, part), moves in zip(spec.streams, spec.moving, strict=True):
            if not moves:
                continue
            offset, axes = self.part(operand, part)
            packed = spec.operands[operand][0]
            shape = operands[operand].shape
            if self.own(axes):
                start = offset * self.dtype.itemsize if packed else 0
                row = math.prod(shape[2:])
                self.strides += [shape[1] * row, row, *self.plain(axes)]
                places.append((operand, start))
                continue
            over = self.partial(axes)
            row = math.prod(self.shape(over))
            self.strides += [self.extents[1] * row, row, *self.plain(over, spec.lane)]
            places.append((-1, len(later)))
            later.append(Later(operand, offset if packed else None, axes, over))
        return Gradients(whole, places, later)

    def own(self, axes: tuple[str, ...]) -> bool:
        """Whether a stream's gradient is one cell's, so that it goes straight into its place."""
        if self.spec.inner is None:
            return axes == self.spec.axes
        return set(self.spec.axes) - {self.spec.inner} <= set(axes)

    def partial(self, axes: tuple[str, ...]) -> tuple[str, ...]:
        """The axes of a stream's gradient before it is summed over those that it has not.

        A kernel that sums over an axis does so itself, and over the lanes of a block.
        """
        spec = self.spec
        if spec.inner is None:
            return spec.axes
        lane = spec.lane if spec.lane in axes else BLOCKS
        return (*spec.outer, lane or BLOCKS, *([spec.inner] if spec.inner in axes else ()))

    def constant_gradients(self, *chunks: int) -> list[Tensor | None]:
        """Sums over time (or over each chunk), (*chunks, B, *axes) in float64, zeros as yet."""
        return [
            torch.zeros(
                [*chunks, self.extents[0], *self.shape(self.summed(axes))],
                dtype=torch.float64, device=self.device,
            ) if moves else None
            for moves, axes in zip(self.spec.steady, self.spec.constants, strict=True)
        ]  # fmt: skip

    def summed(self, axes: tuple[str, ...]) -> tuple[str, ...]:
        """The axes over which a constant's gradient is found, before it is narrowed to its own."""
        spec = self.spec
        if spec.inner is None:
            return spec.axes
        inner = [spec.inner] if spec.inner in axes else []
        return (*spec.outer, *inner, *([spec.lane] if spec.lane else []))

    def sums(self, constants: Sequence[Tensor], found: Sequence[Tensor | None]) -> list[Tensor]:
        """The gradients of constants from their sums over time, (B, *axes) each."""
        return [
            c.new_zeros(c.shape)
            if g is None
            else self.narrow(g.sum(0), self.summed(axes), axes, 0).to(self.wide).reshape(c.shape)
            for c, g, axes in zip(constants, found, self.spec.constants, strict=True)
        ]

    def make_gradients(
        self, plan: Gradients, operands: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[int]]:
        """Memory for the gradients of operands and of later streams, and streams' addresses."""
        full = []
        for o, whole in zip(operands, plan.whole, strict=True):
            made = empty(o.shape, self.dtype, o.device)
            full.append(made if whole else made.zero_())
        lead = self.extents[:2]
        wide = [empty([*lead, *self.shape(x.over)], self.wide, self.device) for x in plan.later]
        places = [
            wide[offset].data_ptr() if operand < 0 else full[operand].data_ptr() + offset
            for operand, offset in plan.places
        ]
        return full, wide, places

    def add_later(self, plan: Gradients, full: Sequence[Tensor], wide: Sequence[Tensor]) -> None:
        """Sum the gradients over all axes into the places of streams that lack some."""
        for stream, found in zip(plan.later, wide, strict=True):
            place = full[stream.operand]
            if stream.offset is not None:
                width = math.prod(self.shape(stream.axes))
                place = place[:, :, stream.offset : stream.offset + width]
                axes = stream.axes
                place = place.unflatten(2, self.shape(axes)) if axes else place[..., 0]
            place.copy_(self.narrow(found, stream.over, stream.axes, 2))

    def narrow(
        self, tensor: Tensor, have: Sequence[str], axes: Sequence[str], leading: int
    ) -> Tensor:
        """Sum over the axes of a tensor that a value does not have, and put them in its order."""
        gone = [leading + i for i, a in enumerate(have) if a not in axes]
        found = tensor.sum(gone) if gone else tensor
        left = [a for a in have if a in axes]
        order = [leading + left.index(a) for a in axes if a in left]
        return found.permute([*range(leading), *order])
