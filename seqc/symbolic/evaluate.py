"""Pointwise graphs in numbers: Python floats with IEEE 754 edges, or mpmath at any precision.

For constant folding, for counterexamples, and for tests.  In floats nothing
raises: an overflow is infinity, a division of zero by zero is NaN.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from seqc.ir.graph import Graph
from seqc.ir.operations import OPERATIONS

NAN = float("nan")

#: One function an operation; a condition returns a bool.
Arithmetic = Mapping[str, Callable[..., Any]]

FLOATS: Arithmetic = {o.name: o.value for o in OPERATIONS.values()}


class _Digits:
    """mpmath, total: what a definition is written in (seqc/ir/operations/record.py)."""

    def __init__(self, digits: int) -> None:
        import mpmath

        self.mp = mpmath.MPContext()
        self.mp.dps = digits
        self.min, self.max, self.where = min, max, lambda c, x, y: x if c else y
        for name in ("lt", "le", "gt", "ge", "eq", "ne"):
            setattr(self, name, getattr(operator, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.mp, name)

    def __call__(self, name: str, *args: Any) -> Any:
        """An operation of numbers of any kind; of truth values ``where`` alone."""
        numbers = args if name == "where" else [self.mp.mpf(a) for a in args]
        return OPERATIONS[name].definition(self, *numbers)

    def div(self, x: Any, y: Any) -> Any:
        if y == 0:
            return self.mp.nan if x == 0 else self.mp.sign(x) * self.mp.inf
        return x / y

    def log(self, x: Any) -> Any:
        if x == 0:
            return -self.mp.inf
        return self.mp.log(x) if x > 0 else self.mp.nan

    def sqrt(self, x: Any) -> Any:
        return self.mp.sqrt(x) if x >= 0 else self.mp.nan

    def pow(self, x: Any, y: Any) -> Any:
        if x == 0 and y < 0:
            return self.mp.inf
        if x < 0 and y != self.mp.floor(y):
            return self.mp.nan
        return self.mp.power(x, y)


def multiprecision(digits: int = 50) -> Arithmetic:
    """The operations as their definitions, in mpmath, with that many decimal digits.

    A definition such as 1 - sigmoid(x) cancels: ask for 0.44 * |x| digits more.
    """
    exact = _Digits(digits)
    return {name: partial(exact, name) for name in OPERATIONS}


def evaluate(graph: Graph, leaves: Mapping[int, Any], arithmetic: Arithmetic = FLOATS) -> list[Any]:
    """The value of every node; ``leaves`` holds those of the leaves (and of any node to override).

    A node that cannot be computed (a leaf without a value, a structural
    operation) is NaN.
    """
    out: list[Any] = []
    for i, node in enumerate(graph):
        if i in leaves:
            out.append(leaves[i])
        elif node.op == "const":
            out.append(float(node.attrs[0]))
        elif node.op in arithmetic:
            out.append(arithmetic[node.op](*(out[a] for a in node.args)))
        else:
            out.append(NAN)
    return out
