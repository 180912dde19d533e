"""The strides of one shape: of each tensor of a kernel's signature, and how gradients lie.

Worked out once a shape; ``seqc/runtime/launcher.py`` keeps what it finds.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqc.runtime.maps import outer
from seqc.runtime.spec import KernelSpec, state_dtype
from seqc.runtime.tables import BLOCKS, LANES, Lie, Maker, Ready, Tables, maker


@dataclass(frozen=True)
class Later:
    """A stream's gradient that is summed over some axes into its place: ``offset`` in a pack.

    It is found over the axes ``over``, which its own are not all of.
    """

    operand: int
    offset: int | None
    axes: tuple[str, ...]
    over: tuple[str, ...]


@dataclass(frozen=True)
class Gradients:
    """How gradients of streams lie: ``whole``, every element of an operand's gets written;
    ``places``, a stream: (operand, bytes from its start), or (-1, which of ``later``).
    ``parts``: where among all gradients those end of operands, of later streams and of constants.
    """

    whole: list[bool]
    places: list[tuple[int, int]]
    later: list[Later]
    parts: tuple[int, int, int]


class Layout:
    """Works out the strides of one shape, of each tensor of a signature."""

    def __init__(
        self, spec: KernelSpec, extents: Sequence[int], dtype: torch.dtype, ready: Ready,
        every: int = 0,
    ) -> None:  # fmt: skip
        self.spec = spec
        sizes = [int(e) for e in extents]
        self.by_axis = dict(zip((*spec.axes, *spec.others), sizes[2:], strict=True))
        self.extents = sizes[: 2 + len(spec.axes)]
        lanes = self.by_axis[spec.lane] if spec.lane else 1
        self.by_axis[BLOCKS] = -(-lanes // LANES)
        #: of a kernel that sums over an axis: steps between those whose carries are stored
        self.every = every
        self.dtype = dtype
        self.wide = state_dtype(dtype)
        self.cells = self.extents[0] * math.prod(self.extents[2:])
        given = (*ready.operands, *ready.constants, *ready.starts, *ready.masks)
        self.device = next(t.device for t in given if t is not None)
        self._output_axes = [axes for role, _, axes in spec.backward if role == "output"]
        self.offsets = [self._offset(ready, *source) for source in spec.streams]
        self._check(ready)

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

    def shape(self, axes: Sequence[str]) -> list[int]:
        """The extents of some axes."""
        return [self.by_axis[a] for a in axes]

    def tables(self, lies: Sequence[Lie]) -> Tables:
        """The arrays for C."""
        extents = [*self.extents, self.every]
        strides = [n for lie in lies for n in lie]
        return Tables(
            (ctypes.c_int64 * len(extents))(*extents),
            (ctypes.c_int64 * max(len(strides), 1))(*strides),
            self.offsets,
        )

    # --- strides

    def plain(self, batch: int, time: int, axes: Sequence[str]) -> Lie:
        """Strides of something whose axes are laid out one after another."""
        own: dict[str | None, int] = {}
        step = 1
        for a in reversed(axes):
            own[self.spec.lane if a == BLOCKS else a] = step
            step *= self.by_axis[a]
        return [batch, time, *(own.get(a, 0) for a in self.spec.axes)]

    def as_it_is(self, tensor: Tensor, axes: Sequence[str]) -> Lie:
        """Strides of a tensor (B, T, *axes)."""
        own = {a: tensor.stride(2 + i) for i, a in enumerate(axes)}
        return [tensor.stride(0), tensor.stride(1), *(own.get(a, 0) for a in self.spec.axes)]

    def stepwise(self, axes: Sequence[str]) -> Lie:
        """Strides of something laid out plainly as (B, T, *axes)."""
        row = math.prod(self.shape(axes))
        return self.plain(self.extents[1] * row, row, axes)

    def carried(self, axes: Sequence[str]) -> Lie:
        """Strides of something laid out plainly as (B, *axes)."""
        return self.plain(math.prod(self.shape(axes)), 0, axes)

    def kept(self, axes: Sequence[str]) -> Lie:
        """Strides of the states kept for the way back: each step's, or (chunks, B, *axes)."""
        if not self.spec.inner:
            return self.stepwise(axes)
        row = math.prod(self.shape(axes))
        return self.plain(row, self.extents[0] * row, axes)

    def _offset(self, ready: Ready, operand: int, part: int) -> int:
        """Where in its operand a stream starts, in bytes."""
        packed, _ = self.spec.operands[operand]
        start, _ = self.part(operand, part)
        return start * ready.operands[operand].element_size() if packed else 0

    def part(self, operand: int, part: int) -> tuple[int, tuple[str, ...]]:
        """Where a part of a packed operand starts, and its axes."""
        parts = self.spec.operands[operand][1]
        return sum(math.prod(self.shape(p)) for p in parts[:part]), parts[part]

    def stream(self, ready: Ready, index: int) -> Lie:
        """Strides of what is read each step."""
        operand, part = self.spec.streams[index]
        tensor = ready.operands[operand]
        _, axes = self.part(operand, part)
        if self.spec.operands[operand][0]:
            return self.plain(tensor.stride(0), tensor.stride(1), axes)
        return self.as_it_is(tensor, axes)

    def cotangent(self, grad: Tensor | None, axes: Sequence[str]) -> Lie:
        """Strides of the cotangent of an output, over its axes; None is a row of zeros."""
        if grad is None:
            return [0, 0, *(int(a == self.spec.lane) for a in self.spec.axes)]
        return self.as_it_is(grad, axes)

    def read(self, ready: Ready, role: str, index: int, axes: tuple[str, ...]) -> Lie:
        """Strides of what forward and backward both read."""
        match role:
            case "stream":
                return self.stream(ready, index)
            case "constant":
                return self.plain(0, 0, axes)
            case "mask":
                return self.as_it_is(ready.masks[index], axes)
            case "resets":
                r = ready.resets
                rest = [0] * len(self.spec.axes)
                return [0, 0, *rest] if r is None else [r.stride(0), r.stride(1), *rest]
            case "kept_state" | "kept":
                return self.kept(axes)
            case "output" | "held" | "held_value" | "side":
                return self.stepwise(axes)
            case "total" | "start" | "fresh" | "last" | "first_state" | "fresh_state":
                return self.carried(axes)
        raise AssertionError(f"{self.spec.name}: a signature has no {role}")

    def forward(self, ready: Ready) -> list[Lie]:
        """The strides of the kernel's signature."""
        return [self.read(ready, *entry) for entry in self.spec.forward]

    def backward(
        self, ready: Ready, grads: Sequence[Tensor | None], gradients: Gradients
    ) -> list[Lie]:
        """The strides of the adjoint's signature."""
        own = len(self.spec.streams)
        lies = []
        for role, index, axes in self.spec.backward:
            if role == "stream" and index >= own:
                lies.append(self.cotangent(grads[index - own], axes))
            elif role == "output" and gradients.places[index][0] >= 0:
                operand, _ = gradients.places[index]
                parts = self.spec.operands[operand][1]
                row = sum(math.prod(self.shape(p)) for p in parts)
                lies.append(self.plain(self.extents[1] * row, row, axes))
            else:
                lies.append(self.read(ready, role, index, axes))
        return lies

    # --- outputs summed over lanes

    def folded(self) -> list[tuple[int, tuple[str, ...]]]:
        """The outputs that come an element a block of lanes, and the axes of each as it comes."""
        written = ((i, axes) for role, i, axes in self.spec.forward if role == "output")
        return [(i, axes) for i, axes in written if axes != self.spec.outputs[i]]

    def whole(self, axes: Sequence[str]) -> list[int]:
        """The shape of something laid out plainly as (B, T, *axes)."""
        return [*self.extents[:2], *self.shape(axes)]

    # --- gradients

    def stream_gradients(self, operands: Sequence[Tensor]) -> Gradients:
        """Where the gradient of each stream goes: in place into one packed gradient an operand.

        One that the kernel finds over other axes than its own is summed into its place afterwards.
        """
        spec = self.spec
        covered = {spec.streams[i] for i, moves in enumerate(spec.moving) if moves}
        whole = [
            all((i, p) in covered for p in range(len(spec.operands[i][1])))
            for i in range(len(operands))
        ]
        places: list[tuple[int, int]] = []
        later: list[Later] = []
        written = [axes for role, _, axes in spec.backward if role == "output"]
        sources = [s for s, moves in zip(spec.streams, spec.moving, strict=True) if moves]
        for (operand, part), over in zip(sources, written, strict=True):
            offset, axes = self.part(operand, part)
            packed = spec.operands[operand][0]
            if over == axes:
                places.append((operand, offset * self.dtype.itemsize if packed else 0))
            else:
                places.append((-1, len(later)))
                later.append(Later(operand, offset if packed else None, axes, over))
        a = len(operands)
        b = a + len(later)
        c = b + sum(role in ("total", "side") for role, _, _ in spec.backward)
        return Gradients(whole, places, later, (a, b, c))

    def gradients(self, plan: Gradients, ready: Ready, cut: tuple[int, ...]) -> list[Maker]:
        """Memory for the gradients: of operands, of later streams, sums over time (or over each
        chunk) of constants' in float64, of starting states, and with resets of fresh ones (or of
        each chunk).
        """
        batch, steps = self.extents[:2]
        device = self.device
        found = [
            maker(o.shape, self.dtype, device, zero=not whole)
            for o, whole in zip(ready.operands, plan.whole, strict=True)
        ]
        found += [maker((batch, steps, *self.shape(x.over)), self.wide, device) for x in plan.later]
        found += [
            maker((*cut, batch, *self.shape(axes)), torch.float64, device, zero=True)
            for role, _, axes in self.spec.backward if role == "total"
        ]  # fmt: skip
        found += [
            maker((batch, steps, *self.shape(axes)), self.wide, device)
            for role, _, axes in self.spec.backward if role == "side"
        ]  # fmt: skip
        states = [(batch, *self.shape(axes)) for axes in self.spec.carries]
        found += [maker(s, self.wide, device) for s in states]
        if ready.resets is None:
            return found
        # Zeros: of no steps at all the march writes nothing.
        return [*found, *(maker((*cut, *s), self.wide, device, zero=True) for s in states)]

    def zeros_row(self) -> Maker:
        """What stands for a cotangent that is zero throughout: one row, read again and again.

        Made at each launch that needs it: a captured graph replays its address, so the row must
        be of the capture's own memory.
        """
        lanes = self.by_axis[self.spec.lane] if self.spec.lane else 1
        return maker((max(lanes, 1),), self.dtype, self.device, zero=True)

    def sums(
        self, constants: Sequence[Tensor], found: Sequence[Tensor],
        plan: Gradients, operands: Sequence[Tensor],
    ) -> list[Tensor]:  # fmt: skip
        """The gradients of constants from their sums over time, (B, *axes) each, and of matrices
        from the sides of their outer products.
        """
        over = iter([axes for role, _, axes in self.spec.backward if role == "total"])
        totals = [role == "total" for role, _, _ in self.spec.backward].count(True)
        rest, sides = iter(found[:totals]), found[totals:]
        out = []
        matrices = self.matrices(sides, plan, operands) if self.spec.outers else {}
        for i, (c, axes, moves) in enumerate(
            zip(constants, self.spec.constants, self.spec.steady, strict=True)
        ):
            if i in matrices:
                out.append(matrices[i].reshape(c.shape))
                continue
            if not moves:
                out.append(c.new_zeros(c.shape))
                continue
            total = self.narrow(next(rest).sum(0), next(over), axes, 0)
            out.append(total.to(self.wide).reshape(c.shape))
        return out

    def matrices(
        self, sides: Sequence[Tensor], plan: Gradients, operands: Sequence[Tensor]
    ) -> dict[int, Tensor]:
        """The gradients of matrices: (shared, rows, columns), or (shared, columns, rows).

        ``operands`` are those of operands: a gradient of a stream may be a side too.  Sides that
        lie side by side in one of them, and meet the same other, are one product.
        """
        whole, apart = (
            [x.flatten(2) if x.dim() > 2 else x[..., None] for x in tensors]
            for tensors in (operands, sides)
        )
        found: dict[int, Tensor] = {}

        def add(constant: int, part: Tensor) -> None:
            found[constant] = found[constant] + part if constant in found else part

        def side(place: int) -> tuple[int, int, int]:
            """Which tensor it is in, from where to where."""
            if place >= 0:
                return -1 - place, 0, math.prod(sides[place].shape[2:])
            operand, offset = plan.places[-1 - place]
            start = offset // self.dtype.itemsize
            axes = self._output_axes[-1 - place]
            return operand, start, start + math.prod(self.shape(axes))

        def of(where: int, start: int, end: int) -> Tensor:
            """Its rows, (steps of all sequences, entries)."""
            tensor = apart[-1 - where] if where < 0 else whole[where]
            return tensor[..., start:end].to(self.wide).flatten(0, 1)

        together: dict[int, list[tuple[tuple[int, int, int], int, bool]]] = {}
        for constant, left, right, shared, turned in self.spec.outers:
            if not shared:
                together.setdefault(right, []).append((side(left), constant, turned))
                continue
            rows, columns = (of(*side(s)) for s in ((right, left) if turned else (left, right)))
            extents = self.shape(self.spec.constants[constant][:shared])
            rows, columns = (x.unflatten(1, (math.prod(extents), -1)) for x in (rows, columns))
            add(constant, torch.einsum("nsr,nsc->src", rows, columns))
        for right, lefts in together.items():
            lefts.sort(key=lambda x: x[0])
            columns = of(*side(right))
            runs: list[list[tuple[tuple[int, int, int], int, bool]]] = []
            for one in lefts:
                (where, start, _), last = one[0], runs[-1][-1][0] if runs else (0, 0, -1)
                if runs and where == last[0] >= 0 and start == last[2]:
                    runs[-1].append(one)
                else:
                    runs.append([one])
            for run in runs:
                first, end = run[0][0], run[-1][0][2]
                product = outer(of(first[0], first[1], end), columns)
                for (_, start, stop), constant, turned in run:
                    part = product if len(run) == 1 else product[start - first[1] : stop - first[1]]
                    part = part.t() if turned else part
                    # No views: whoever differentiates this again takes results for tensors of
                    # their own.
                    add(
                        constant,
                        part
                        if part is product
                        else part.clone(memory_format=torch.contiguous_format),
                    )
        return found

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
