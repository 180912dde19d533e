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

from seqc.runtime.spec import KernelSpec, state_dtype
from seqc.runtime.tables import (
    Gradients,
    Layout,
    Ready,
    Tables,
    address,
    addresses,
    cotangents,
    layouts,
    prepare,
    read_addresses,
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
        """Of a kernel that sums over axes: steps from one whose carries are kept to the next.

        ``inner``: elements of those axes in all; ``size``: bytes of a number.
        """
        raise NotImplementedError

    def _chunk(self, spec: KernelSpec, extents: Sequence[int], dtype: torch.dtype) -> int:
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
            chunks, detail = self._schedule(spec, "forward", layout)
            settled = _same(given, ready.tensors())
            tables = layout.tables(layout.forward(ready))
            plan = self._keep(key, Plan(layout, tables, settled, chunks, detail))
        if plan.layout.cells:
            n, m = len(spec.outputs), len(spec.carries)
            of = read_addresses(spec, ready, plan.tables.offsets)
            of["start"] = [t.data_ptr() for t in ready.starts]
            of["fresh"] = [address(f) for f in ready.fresh]
            places = [address(t) for t in results]
            of["output"], of["last"] = places[:n], places[n : n + m]
            of["kept"] = dict(zip(spec.extra, places[n + m :], strict=True))
            self._launch("forward", spec, plan, addresses(spec.forward, of), scalars)

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
            gradients = layout.stream_gradients(ready.operands)
            chunks, detail = self._schedule(spec, "backward", layout)
            settled = _same(given, (*ready.tensors(), *grads, *kept))
            tables = layout.tables(layout.backward(ready, grads, gradients))
            plan = self._keep(key, Plan(layout, tables, settled, chunks, detail, gradients))
        layout, moving = plan.layout, grads[: len(spec.outputs)]
        assert plan.gradients is not None
        d_operands, wide, places = layout.make_gradients(plan.gradients, ready.operands)
        # What each chunk adds is gathered apart and summed in order: the same from run to run.
        cut = (plan.chunks,) if plan.chunks > 1 else ()
        totals = layout.constant_gradients(*cut)
        d_fresh = results[len(spec.carries) :]
        parts = [g.new_zeros((*cut, *g.shape)) for g in d_fresh] if cut else d_fresh
        if layout.cells:
            zeros = zeros_row(spec, layout) if any(g is None for g in moving) else None
            of = read_addresses(spec, ready, plan.tables.offsets)
            of["stream"] += [address(zeros if g is None else g) for g in moving]
            of["start"] = [address(g) for g in grads[len(spec.outputs) :]]
            of["fresh"] = [0 if resets is None else address(p) for p in parts]
            of["output"] = places
            of["total"] = [address(t) for t in totals]
            of["last"] = [address(r) for r in results[: len(spec.carries)]]
            states = {c: address(k) for (c, _), k in zip(spec.saved, kept, strict=True)}
            of["kept_state"] = states
            of["first_state"] = [t.data_ptr() for t in ready.starts]
            of["fresh_state"] = [address(f) for f in ready.fresh]
            self._launch("backward", spec, plan, addresses(spec.backward, of), scalars)
        if plan.chunks > 1:
            for whole, part in zip(d_fresh, parts, strict=True):
                torch.sum(part, 0, out=whole)
        layout.add_later(plan.gradients, d_operands, wide)
        return d_operands, layout.sums(constants, [t.sum(0) for t in totals] if cut else totals)

    def _keep(self, key: Any, plan: Plan) -> Plan:
        if len(self._plans) >= _PLANS_KEPT:
            self._plans.clear()
        self._plans[key] = plan
        return plan


def _same(given: Sequence[Tensor | None], ready: Sequence[Tensor | None]) -> bool:
    """Whether nothing had to be copied or cast."""
    return all(g is r for g, r in zip(given, ready, strict=True))
