"""Launching a kernel, on whatever target: tensors settled, tables kept, addresses collected.

The compiled side trusts what it is given, so everything is settled here: dtypes, devices and the
unit stride of the innermost axis.  What depends on dtypes, shapes, strides and the device alone is
worked out once for each, and holds no memory; a call then only collects addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqc.runtime.spec import KernelSpec, state_dtype
from seqc.runtime.tables import (
    Gradients,
    Layout,
    Ready,
    Tables,
    address,
    addresses_of,
    cotangents,
    layouts,
    prepare,
    validate,
    zeros_row,
)

#: Plans of this many shapes are kept a kernel: a run has few, and a stream of new ones forgets.
_PLANS_KEPT = 64


@dataclass(frozen=True)
class Plan:
    """What a call's dtypes, shapes, strides and device settle.

    ``ready``: the tensors were fit to be read as they came.  ``chunks`` of time whose gradients
    are summed afterwards; ``detail`` is the target's own.
    """

    layout: Layout
    tables: Tables
    ready: bool
    chunks: int
    detail: Any
    gradients: Gradients | None = None


class Launcher:
    """One target's side of a fused kernel."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self._plans: dict[Any, Plan] = {}

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def chunk(self, spec: KernelSpec, inner: int, size: int) -> int:
        """Of a kernel that sums over an axis of ``inner`` elements: steps from one whose carries
        (numbers of ``size`` bytes) are stored for the backward march to the next.
        """
        raise NotImplementedError

    def _chunk(self, spec: KernelSpec, extents: Sequence[int], dtype: torch.dtype) -> int:
        if spec.inner is None:
            return 0
        inner = int(extents[2 + spec.axes.index(spec.inner)])
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
        inputs: Sequence[Sequence[Tensor]],
        fresh: Sequence[Tensor | None],
        resets: Tensor | None,
        scalars: Sequence[float],
        extents: Sequence[int],
        dtype: torch.dtype,
        results: Sequence[Tensor | None],
    ) -> None:
        """March forward, filling ``results``: outputs, final carries, saved states (or None).

        ``inputs`` are operands, constants, masks and starting states.
        """
        operands, constants, masks, starts = inputs
        given = (*operands, *constants, *masks, *starts, *fresh, resets)
        key = ("forward", dtype, *extents, *layouts(given))
        plan = self._plans.get(key)
        if plan is None or not plan.ready:
            validate(spec, inputs, fresh, resets, dtype)
            ready = prepare(spec, inputs, fresh, resets)
        else:
            ready = Ready(operands, constants, masks, starts, fresh, resets)
        if plan is None:
            layout = Layout(spec, extents, dtype, ready, self._chunk(spec, extents, dtype))
            layout.outputs()
            chunks, detail = self._schedule(spec, "forward", layout)
            settled = _same(given, ready.tensors())
            plan = self._keep(key, Plan(layout, layout.tables(), settled, chunks, detail))
        if plan.layout.cells:
            pointers = [*addresses_of(spec, ready, plan.tables), *map(address, results)]
            self._launch("forward", spec, plan, pointers, scalars)

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

        ``grads`` are the cotangents of outputs and final carries, ``kept`` the saved
        states.  Returns the gradients of operands and of constants.
        """
        operands, constants, masks, starts = inputs
        given = (*operands, *constants, *masks, *starts, *fresh, resets, *grads, *kept)
        key = ("backward", dtype, *extents, *layouts(given))
        plan = self._plans.get(key)
        if plan is None or not plan.ready:
            validate(spec, inputs, fresh, resets, dtype)
            ready = prepare(spec, inputs, fresh, resets)
            grads, kept = cotangents(spec, grads, dtype), [k.contiguous() for k in kept]
        else:
            ready = Ready(operands, constants, masks, starts, fresh, resets)
        if plan is None:
            layout = Layout(spec, extents, dtype, ready, self._chunk(spec, extents, dtype))
            for g, axes in zip(grads[: len(spec.outputs)], spec.outputs, strict=True):
                layout.cotangent(g, axes)
            gradients = layout.stream_gradients(ready.operands)
            chunks, detail = self._schedule(spec, "backward", layout)
            settled = _same(given, (*ready.tensors(), *grads, *kept))
            plan = self._keep(
                key, Plan(layout, layout.tables(), settled, chunks, detail, gradients)
            )
        layout, moving = plan.layout, grads[: len(spec.outputs)]
        assert plan.gradients is not None
        d_operands, wide, places = layout.make_gradients(plan.gradients, ready.operands)
        d_constants = layout.constant_gradients(plan.chunks)
        d_fresh = results[len(spec.carries) :]
        # What each chunk adds is gathered apart and summed in order: the same from run to run.
        parts = d_fresh
        if plan.chunks > 1:
            parts = [g.new_zeros((plan.chunks, *g.shape)) for g in d_fresh]
        if layout.cells:
            zeros = zeros_row(spec, layout) if any(g is None for g in moving) else None
            pointers = [
                *addresses_of(spec, ready, plan.tables),
                *(address(zeros if g is None else g) for g in moving),
                *map(address, grads[len(spec.outputs) :]),
                *map(address, kept),
                *places,
                *(address(g) for g in d_constants if g is not None),
                *map(address, results[: len(spec.carries)]),
                *map(address, parts),
            ]
            self._launch("backward", spec, plan, pointers, scalars)
        if plan.chunks > 1:
            for whole, part in zip(d_fresh, parts, strict=True):
                torch.sum(part, 0, out=whole)
        layout.add_later(plan.gradients, d_operands, wide)
        totals = [None if g is None else g.sum(0) for g in d_constants]
        return d_operands, layout.sums(constants, totals)

    def _keep(self, key: Any, plan: Plan) -> Plan:
        if len(self._plans) >= _PLANS_KEPT:
            self._plans.clear()
        self._plans[key] = plan
        return plan


def _same(given: Sequence[Tensor | None], ready: Sequence[Tensor | None]) -> bool:
    """Whether nothing had to be copied or cast."""
    return all(g is r for g, r in zip(given, ready, strict=True))
