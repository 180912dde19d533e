"""Layers for the emulator's tests, and kernels of few steps a chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from seqc import zoo
from seqc.runtime.emulator import EmulatedKernel
from tests.layer.support import build
from tests.references import ZOO
from tests.runtime.test_kernels import NUMBER, POINTWISE, ROWS, STRATA

NAMES = tuple(n for n in zoo.names() if n in ZOO)  # the others are in tests/zoo
SPECS = {"STRATA": STRATA, "POINTWISE": POINTWISE, "ROWS": ROWS, "NUMBER": NUMBER}
SIZES: dict[str, dict[str, int]] = {"ROWS": {"slots": 3, "hidden": 5}, "NUMBER": {}}

Emulate = Callable[[Any], list[EmulatedKernel]]


def make(name: str, dtype: torch.dtype = torch.float64, hidden: int = 5, **more: int) -> Any:
    """A zoo layer or a spec of this file, on the backend of fused kernels."""
    if name in SPECS:
        return build(SPECS[name], "cpp", dtype, **(SIZES.get(name, {"hidden": hidden}) | more))
    sizes = {"input": 3, "hidden": hidden, "width": 3} | more
    if name == "SRU":
        sizes.pop("input")
    if not name.startswith("QRNN"):
        sizes.pop("width")
    return build(getattr(zoo, name), "cpp", dtype, **sizes)
