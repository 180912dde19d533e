"""How a measurement becomes a row: bounds, and what is a refusal rather than a failure."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch

from seqc.commands.verify_report import Check
from seqc.runtime.build import NoCompilerError

# What a backend raises for what it does not do; anything else that it raises is a failure.
REFUSALS = (NotImplementedError, NoCompilerError)

FLOAT64, FLOAT32, BFLOAT16 = torch.float64, torch.float32, torch.bfloat16

# Bounds are relative to the largest number of each tensor. A spec may be ill-conditioned: between
# floor and ceiling a bound is three times what plain PyTorch itself loses in that dtype. That is
# one draw of an error, so what goes beyond is held to ROUNDINGS times what the exact results move
# by, at most of some draws, when every input and parameter moves by a last bit of what is computed
# in. Above the ceiling nothing can be told.
DRAWS, ROUNDINGS = 8, 8
FLOOR = {FLOAT64: 1e-9, FLOAT32: 5e-6, BFLOAT16: 4e-3}
CEILING = {FLOAT64: 1e-9, FLOAT32: 2e-2, BFLOAT16: 0.5}
# A kernel's backward may read the states as the outputs hold them, rounded to half precision:
# where an equation takes two such numbers from one another, more than a rounding is lost.
GRADIENT_FLOOR = {**FLOOR, BFLOAT16: 5e-2}
NAMES = {FLOAT64: "float64", FLOAT32: "float32", BFLOAT16: "bfloat16"}

Make = Callable[[], Check]


def guard(name: str, backend: str, dtype: str, make: Make) -> Check:
    """The check; where it raises, a refusal is n/a and anything else a failure."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the table says it, once
            return make()
    except Exception as error:
        return fallen(name, backend, dtype, error)


def fallen(name: str, backend: str, dtype: str, error: Exception) -> Check:
    """The row of a check that raised."""
    if isinstance(error, REFUSALS):
        return Check(name, backend, dtype, "n/a", detail=f"refused: {_first_line(error)}")
    kind = type(error).__name__
    return Check(name, backend, dtype, "FAIL", detail=f"{kind}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__


def judge(
    name: str, backend: str, dtype: torch.dtype, measured: float, bound: float, detail: str = ""
) -> Check:
    """The row of a measurement; ``detail`` is shown where it is beyond its bound."""
    # "not >" would let a NaN through.
    good = measured <= bound
    return Check(
        name, backend, NAMES[dtype], "ok" if good else "FAIL", measured, bound,
        "" if good else detail,
    )  # fmt: skip
