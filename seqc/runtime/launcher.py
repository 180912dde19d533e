"""Launching a kernel, on whatever target: tensors settled, tables kept, addresses collected.

The compiled side trusts what it is given, so everything is settled here: dtypes, devices and the
unit stride of the innermost axis.  What depends on dtypes, shapes, strides and the device alone is
worked out once for each, and holds no memory; a call then only collects addresses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqc.runtime.layout import Gradients, Layout
from seqc.runtime.spec import KernelSpec, state_dtype
from seqc.runtime.tables import (
    NOTHING,
    Maker,
    Tables,
    cotangents,
    layouts,
    maker,
    prepare,
    results,
    validate,
)

#: Plans of this many shapes are kept a kernel: a run has few, and a stream of new ones forgets.
_PLANS_KEPT = 64


@dataclass(frozen=True)
class Plan:
    """What a call's dtypes, shapes, strides and device settle.

    ``ready``: the tensors were fit to be read as they came.  ``made``: what the launch makes.
    ``places``: of each tensor of the signature, which it is of those given, those made and
    nothing, one after another, and how many bytes from its start.  ``chunks`` of time whose
    gradients are summed afterwards; ``detail`` is the target's own.  ``folds``: outputs that come
    an element a block of lanes, made over these axes after all results, and summed into theirs.
    """

    layout: Layout
    tables: Tables
    ready: bool
    made: tuple[Maker, ...]
    places: tuple[tuple[int, int], ...]
    chunks: int
    detail: Any
    gradients: Gradients | None = None
    folds: tuple[tuple[int, tuple[str, ...]], ...] = ()


class Launcher:
    """One target's side of a fused kernel."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self._plans: dict[Any, Plan] = {}

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def chunk(self, spec: KernelSpec, inner: int, size: int) -> int:
        """Of a kernel that sums over axes: steps from one whose carries are kept to the next.

        ``inner``: elements of those axes in all; ``size``: bytes of a number.
        """
        raise NotImplementedError

    def every(self, spec: KernelSpec, extents: Sequence[int], dtype: torch.dtype) -> int:
        """The same for extents (B, T, *axes), 0 where a kernel sums over no axis."""
        if not spec.inner:
            return 0
        inner = math.prod(int(extents[2 + spec.axes.index(a)]) for a in spec.inner)
        return self.chunk(spec, inner, state_dtype(dtype).itemsize)

    def _schedule(self, spec: KernelSpec, direction: str, layout: Layout) -> tuple[int, Any]:
        """Into how many chunks of time a launch is cut, and what the target settles beside it."""
        raise NotImplementedError

    def _launch(
        self, direction: str, spec: KernelSpec, plan: Plan, pointers: Sequence[int],
        scalars: Sequence[float],
    ) -> None:  # fmt: skip
        """Run one direction of the kernel; there is a batch and channels, perhaps no steps."""
        raise NotImplementedError

    def forget(self) -> None:
        """Settle everything anew: numbers that schedules depend on have changed."""
        self._plans.clear()

    def forward(
        self,
        spec: KernelSpec,
        tensors: Sequence[Tensor | None],
        fresh: Sequence[Tensor | None],
        resets: Tensor | None,
        scalars: Sequence[float],
        extents: Sequence[int],
        dtype: torch.dtype,
        save: bool,
    ) -> list[Tensor]:
        """March forward: outputs, final carries, and what is saved for the way back.

        ``tensors`` are operands, constants, masks and starting states (None: zeros).
        """
        given: Sequence[Tensor | None] = (*tensors, *fresh, resets)
        key = (save, dtype, *extents, *layouts(given))
        plan = self._plans.get(key)
        if plan is None:
            plan = self._keep(key, self._settle_forward(spec, given, extents, dtype, save))
        if not plan.ready:
            given = prepare(spec, given).tensors()
        made = [make() for make in plan.made]
        if plan.layout.cells:
            self._launch("forward", spec, plan, _addresses(plan, given, made), scalars)
        if not plan.folds:
            return made
        count = len(made) - len(plan.folds)
        for (i, axes), wide in zip(plan.folds, made[count:], strict=True):
            made[i].copy_(plan.layout.narrow(wide, axes, spec.outputs[i], 2))
        return made[:count]

    def _settle_forward(
        self, spec: KernelSpec, given: Sequence[Tensor | None], extents: Sequence[int],
        dtype: torch.dtype, save: bool,
    ) -> Plan:  # fmt: skip
        validate(spec, given, dtype)
        ready = prepare(spec, given)
        every = self.every(spec, extents, dtype)
        layout = Layout(spec, extents, dtype, ready, every)
        chunks, detail = self._schedule(spec, "forward", layout)
        tables = layout.tables(layout.forward(ready))
        made = [
            maker(shape, d, layout.device)
            for shape, d in results(spec, extents, dtype, save, every)
        ]
        count, n, m = len(given), len(spec.outputs), len(spec.carries)
        of = ready.places(tables.offsets)
        of["output"] = [(count + i, 0) for i in range(n)]
        folds = layout.folded()
        for i, axes in folds:
            of["output"][i] = (count + len(made), 0)
            made.append(maker(layout.whole(axes), layout.wide, layout.device))
        of["last"] = [(count + n + i, 0) for i in range(m)]
        stored = [(count + n + m + i, 0) if save else NOTHING for i in range(len(spec.extra))]
        of["kept"] = dict(zip(spec.extra, stored, strict=True))
        later = count + n + m + len(stored)
        of["held"] = [(later + i, 0) if save else NOTHING for i in range(len(spec.held))]
        places = tuple(of[role][index] for role, index, _ in spec.forward)
        settled = _same(given, ready.tensors())
        return Plan(
            layout, tables, settled, tuple(made), places, chunks, detail, folds=tuple(folds)
        )

    def backward(
        self,
        spec: KernelSpec,
        grads: Sequence[Tensor | None],
        tensors: Sequence[Tensor],
        fresh: Sequence[Tensor | None],
        kept: Sequence[Tensor],
        resets: Tensor | None,
        scalars: Sequence[float],
        extents: Sequence[int],
        dtype: torch.dtype,
    ) -> list[Tensor | None]:
        """March back: gradients of operands, constants, starting states and fresh ones (None
        without resets).

        ``grads`` are the cotangents of outputs and final carries, ``kept`` the saved states.
        """
        given: Sequence[Tensor | None] = (*tensors, *fresh, resets, *grads, *kept)
        key = (dtype, *extents, *layouts(given))
        plan = self._plans.get(key)
        if plan is None:
            plan = self._keep(key, self._settle_backward(spec, given, extents, dtype))
        if not plan.ready:
            given = _prepared(spec, given, dtype)
        layout, gradients = plan.layout, plan.gradients
        assert gradients is not None
        made = [make() for make in plan.made]
        if layout.cells:
            self._launch("backward", spec, plan, _addresses(plan, given, made), scalars)
        a, b, c = gradients.parts
        carries = len(spec.carries)
        d_operands, totals, d_starts = made[:a], made[b:c], made[c : c + carries]
        d_fresh: list[Tensor | None] = [None] * carries
        if resets is not None:
            d_fresh[:] = made[c + carries : c + 2 * carries]
        if plan.chunks > 1:
            # What each chunk adds was gathered apart and is summed in order: the same from run
            # to run.
            totals = [t.sum(0) for t in totals]
            d_fresh = [None if f is None else f.sum(0) for f in d_fresh]
        if gradients.later:
            layout.add_later(gradients, d_operands, made[a:b])
        place = len(spec.operands)
        constants = tensors[place : place + len(spec.constants)]
        d_constants = layout.sums(constants, totals, gradients, d_operands) if constants else []
        return [*d_operands, *d_constants, *d_starts, *d_fresh]

    def _settle_backward(
        self, spec: KernelSpec, given: Sequence[Tensor | None], extents: Sequence[int],
        dtype: torch.dtype,
    ) -> Plan:  # fmt: skip
        validate(spec, given, dtype)
        ready = prepare(spec, given)
        first, n, m = len(ready.tensors()), len(spec.outputs), len(spec.carries)
        settled = _prepared(spec, given, dtype)
        grads = settled[first : first + n + m]
        layout = Layout(spec, extents, dtype, ready, self.every(spec, extents, dtype))
        gradients = layout.stream_gradients(ready.operands)
        chunks, detail = self._schedule(spec, "backward", layout)
        tables = layout.tables(layout.backward(ready, grads, gradients))
        cut = (chunks,) if chunks > 1 else ()
        made = layout.gradients(gradients, ready, cut)
        a, b, c = gradients.parts
        count = len(given)
        row = NOTHING
        if any(g is None for g in grads[:n]):
            row = (count + len(made), 0)
            made.append(layout.zeros_row())
        resets = ready.resets is not None
        cotangent = [NOTHING if g is None else (first + i, 0) for i, g in enumerate(grads)]
        of = ready.places(tables.offsets)
        of["first_state"], of["fresh_state"] = of["start"], of["fresh"]
        of["stream"] += [row if place is NOTHING else place for place in cotangent[:n]]
        of["start"] = cotangent[n:]
        of["fresh"] = [(count + c + m + i, 0) if resets else NOTHING for i in range(m)]
        of["output"] = [
            (count + a + offset, 0) if operand < 0 else (count + operand, offset)
            for operand, offset in gradients.places
        ]
        sums = sum(role == "total" for role, _, _ in spec.backward)
        of["total"] = [(count + i, 0) for i in range(b, b + sums)]
        of["side"] = [(count + i, 0) for i in range(b + sums, c)]
        of["last"] = [(count + c + i, 0) for i in range(m)]
        of["kept_state"] = {
            carry: (first + n + m + i, 0) for i, (carry, _) in enumerate(spec.saved)
        }
        later = first + n + m + len(spec.saved)
        of["held_value"] = [(later + i, 0) for i in range(len(spec.held))]
        places = tuple(of[role][index] for role, index, _ in spec.backward)
        return Plan(
            layout, tables, _same(given, settled), tuple(made), places, chunks, detail, gradients
        )

    def _keep(self, key: Any, plan: Plan) -> Plan:
        if len(self._plans) >= _PLANS_KEPT:
            self._plans.clear()
        self._plans[key] = plan
        return plan


def _addresses(plan: Plan, given: Sequence[Tensor | None], made: Sequence[Tensor]) -> list[int]:
    """The address of each tensor of the signature."""
    starts = [0 if t is None else t.data_ptr() for t in (*given, *made)]
    starts.append(0)
    return [starts[i] + offset for i, offset in plan.places]


def _prepared(
    spec: KernelSpec, given: Sequence[Tensor | None], dtype: torch.dtype
) -> list[Tensor | None]:
    """The tensors of a march back as the compiled side reads them."""
    read = prepare(spec, given).tensors()
    rest = given[len(read) :]
    count = len(spec.outputs) + len(spec.carries)
    kept = [None if k is None else k.contiguous() for k in rest[count:]]
    return [*read, *cotangents(spec, rest[:count], dtype), *kept]


def _same(given: Sequence[Tensor | None], ready: Sequence[Tensor | None]) -> bool:
    """Whether nothing had to be copied or cast."""
    return all(g is r for g, r in zip(given, ready, strict=True))
