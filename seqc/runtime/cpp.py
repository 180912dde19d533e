"""A kernel's C++ side: built on first use, a library a dtype, called with pointers and strides."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from seqc.runtime.build import NoCompilerError, build_library, ship_library
from seqc.runtime.launcher import Launcher, Plan
from seqc.runtime.layout import Layout
from seqc.runtime.spec import KernelSpec
from seqc.runtime.tables import LANES, STORAGE


class CppKernel(Launcher):
    """The C++ side of one fused kernel."""

    def __init__(self, name: str, source: str) -> None:
        super().__init__(name, source)
        self._entries: dict[torch.dtype, tuple[Any, Any]] = {}
        #: Where compiled libraries lie that came with the module.
        self.shipped: Path | None = None

    def loaded(self, dtype: torch.dtype) -> bool:
        """Whether the march for a storage dtype is loaded."""
        return dtype in self._entries

    def have(self, dtype: torch.dtype) -> bool:
        """Whether the march for a storage dtype is loaded, or can be without a compiler."""
        try:
            self.entries(dtype)
        except NoCompilerError:
            return False
        return True

    def ship(self, folder: Path) -> None:
        """Put libraries for every storage dtype into a folder."""
        for dtype in STORAGE:
            ship_library(self.source, folder, name=self.name, defines=_defines(dtype))

    def entries(self, dtype: torch.dtype) -> tuple[Any, Any]:
        """The kernel and its adjoint compiled for a storage dtype; built once."""
        found = self._entries.get(dtype)
        if found is None:
            library = build_library(
                self.source, name=self.name, defines=_defines(dtype), shipped=self.shipped
            )
            for entry in (library.seqc_forward, library.seqc_backward):
                entry.restype = None
                pointer, packed = ctypes.c_void_p, ctypes.c_char_p
                entry.argtypes = [pointer, packed, pointer, packed, ctypes.c_int64]
            found = self._entries[dtype] = (library.seqc_forward, library.seqc_backward)
        return found

    def chunk(self, spec: KernelSpec, inner: int, size: int) -> int:
        """As many as a block of lanes can hold in a core's own cache."""
        across = max(1, inner * LANES * size * len(spec.carries))
        return max(8, min(64, (1 << 19) // across))

    def _schedule(self, spec: KernelSpec, direction: str, layout: Layout) -> tuple[int, Any]:
        """One: the C++ cuts time up by itself, and sums what its threads found."""
        signature = spec.forward if direction == "forward" else spec.backward
        entry = self.entries(layout.dtype)[0 if direction == "forward" else 1]
        return 1, (entry, struct.Struct(f"{len(signature)}q").pack)

    def _launch(
        self, direction: str, spec: KernelSpec, plan: Plan, pointers: Sequence[int],
        scalars: Sequence[float],
    ) -> None:  # fmt: skip
        """Call into C: extents, pointers, strides, scalars, threads.

        What changes from call to call is packed into bytes: arrays of ctypes take twice as long.
        """
        entry, pack = plan.detail
        numbers = struct.pack(f"{len(scalars)}d", *scalars) if scalars else None
        sizes, strides = plan.tables.places
        entry(sizes, pack(*pointers), strides, numbers, torch.get_num_threads())


def _defines(dtype: torch.dtype) -> tuple[str, ...]:
    """The macros that a library for a storage dtype is compiled with."""
    storage, state = STORAGE[dtype]
    return (f"SEQC_STORAGE={storage}", f"SEQC_STATE={state}")
