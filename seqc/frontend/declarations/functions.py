"""The functions of the language: what each one is called with, and where it leads.

The pointwise functions are the IR's own operations; sugar over them (relu, gelu,
softmax, …) is the prelude's business.
"""

from __future__ import annotations

from seqc.ir.maps import MAPS
from seqc.ir.operations import OPERATIONS

#: Pointwise functions: name -> number of arguments.
POINTWISE_FUNCTIONS = {o.name: o.arity for o in OPERATIONS.values() if o.called}

#: Reductions over a named axis; `max` and `min` are pointwise where the second argument is a value.
REDUCTIONS = frozenset({"sum", "mean", "max", "min"})

#: Functions that look along an axis or make a mask.
STRUCTURAL_FUNCTIONS = frozenset({"index", "cumsum", "shift", "rename", "drop", "prefix"})

#: Functions of complex values; `cis` makes one of an angle.
COMPLEX_FUNCTIONS = frozenset({"re", "im", "conj", "cis"})

#: How each built-in function is called, for messages.
USAGE: dict[str, str] = {
    "sum": "sum(e, axis)",
    "mean": "mean(e, axis)",
    "max": "max(e, axis) or max(a, b)",
    "min": "min(e, axis) or min(a, b)",
    "where": "where(condition, then, else)",
    "index": "index(axis)",
    "cumsum": "cumsum(e, axis)",
    "shift": "shift(e, axis, k)",
    "rename": "rename(e, old = new)",
    "drop": "drop(e, p)",
    "prefix": "prefix(share, sharpness, epsilon)",
    **{name: m.usage for name, m in MAPS.items()},
}

_ARITY: dict[str, int] = {
    **POINTWISE_FUNCTIONS,
    "sum": 2, "mean": 2, "index": 1, "cumsum": 2, "shift": 3, "drop": 2, "prefix": 3,
    **{name: m.arity + len(m.counts) for name, m in MAPS.items() if m.arity},
    **dict.fromkeys(sorted(COMPLEX_FUNCTIONS), 1),
}  # fmt: skip

#: Functions that are promised: name -> (code, what to do instead).
LATER_FUNCTIONS: dict[str, tuple[str, str]] = {
    "conv2d": ("E101", "flatten the space into an axis and use `linear`, or map outside the layer"),
}

#: Every name that a `def` cannot take, because the language has it.
BUILTIN = frozenset(
    {
        *POINTWISE_FUNCTIONS,
        *REDUCTIONS,
        *MAPS,
        *STRUCTURAL_FUNCTIONS,
        *COMPLEX_FUNCTIONS,
        *LATER_FUNCTIONS,
    }
)

#: Starts of a parameter: name -> (numbers it takes at least, at most).
INITS: dict[str, tuple[int, int]] = {
    "normal": (2, 2),
    "uniform": (2, 2),
    "orthogonal": (0, 1),
    "xavier_uniform": (0, 1),
    "xavier_normal": (0, 1),
    "kaiming_uniform": (0, 1),
    "kaiming_normal": (0, 1),
}


def arity(function: str) -> int | None:
    """How many positional arguments a built-in takes; None where any number will do."""
    return _ARITY.get(function)


def usage(function: str) -> str:
    """How a built-in is called."""
    if function in USAGE:
        return USAGE[function]
    count = _ARITY.get(function, 1)
    return f"{function}({', '.join('abc'[:count])})"
