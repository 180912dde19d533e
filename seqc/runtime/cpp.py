"""Launching a kernel's C++: built on first use, a library a dtype, handed raw pointers and strides.

The C side trusts what it is given, so everything is settled here: dtypes,
devices and the unit stride of the innermost axis.  What depends on shapes alone
is worked out once a shape; a call then only collects addresses.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqc.runtime.build import build_library
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

#: Tables of this many shapes are kept a kernel: a run has few, and a stream of new ones forgets.
_TABLES_KEPT = 64


class CppKernel:
    """The C++ side of one fused kernel."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self._entries: dict[torch.dtype, tuple[Any, Any]] = {}
        self._tables: dict[Any, Tables] = {}

    def __deepcopy__(self, memo: Any) -> CppKernel:
        return self

    def entries(self, dtype: torch.dtype) -> tuple[Any, Any]:
        """The compiled forward and backward march for a storage dtype; built once."""
        found = self._entries.get(dtype)
        if found is None:
            storage, state = STORAGE[dtype]
            defines = (f"SEQC_STORAGE={storage}", f"SEQC_STATE={state}")
            library = build_library(self.source, name=self.name, defines=defines)
            for entry in (library.seqc_forward, library.seqc_backward):
                entry.restype = None
                entry.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int64]
            found = self._entries[dtype] = (library.seqc_forward, library.seqc_backward)
        return found

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
        validate(spec, inputs, fresh, resets, dtype)
        ready = prepare(spec, inputs, fresh, resets)
        key = (dtype, *extents, *layouts(ready))
        tables = self._tables.get(key) or self._remember(key, Layout(spec, extents, dtype, ready))
        pointers = [*addresses_of(spec, ready, tables), *(address(r) for r in results)]
        _launch(self.entries(dtype)[0], tables, pointers, scalars)

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
        validate(spec, inputs, fresh, resets, dtype)
        ready = prepare(spec, inputs, fresh, resets)
        layout = Layout(spec, extents, dtype, ready)
        moving = [layout.cotangent(g) for g in grads[: spec.outputs]]
        final = [
            None if g is None else g.to(layout.wide).contiguous() for g in grads[spec.outputs :]
        ]
        saved = [k.contiguous() for k in kept]
        d_operands, places, later = layout.stream_gradients(ready.operands)
        d_constants = layout.constant_gradients()
        tables = layout.tables()
        pointers = [
            *addresses_of(spec, ready, tables),
            *(g.data_ptr() for g in moving),
            *(address(g) for g in final),
            *(k.data_ptr() for k in saved),
            *places,
            *(g.data_ptr() for g in d_constants if g is not None),
            *(address(r) for r in results),
        ]
        _launch(self.entries(dtype)[1], tables, pointers, scalars)
        for gradient, axes, place in later:
            place.copy_(layout.narrow(gradient, axes, leading=2))
        return d_operands, layout.sums(inputs[1], d_constants)

    def _remember(self, key: Any, layout: Layout) -> Tables:
        """Work out a shape's tables, and keep them."""
        if len(self._tables) >= _TABLES_KEPT:
            self._tables.clear()
        tables = self._tables[key] = layout.tables()
        return tables


def _launch(entry: Any, tables: Tables, pointers: list[int], scalars: Sequence[float]) -> None:
    """Call into C: extents, pointers, strides, scalars, threads."""
    if any(e == 0 for i, e in enumerate(tables.extents) if i != 1):
        return
    addresses = (ctypes.c_void_p * len(pointers))(*pointers)
    numbers = (ctypes.c_double * max(len(scalars), 1))(*scalars)
    entry(tables.extents, addresses, tables.strides, numbers, torch.get_num_threads())
