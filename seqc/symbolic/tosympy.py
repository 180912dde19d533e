"""Graphs as sympy expressions, with functions of their own for sigmoid, softplus and the like.

A proof sees such a function by its name; ``in_exponentials`` writes it out where one needs that.

sympy is imported inside: importing this module costs nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

from seqc.ir.graph import Node
from seqc.ir.operations import OPERATIONS


class _Sympy:
    """sympy, as a definition is written in it (seqc/ir/operations/record.py)."""

    def __init__(self) -> None:
        import sympy as sp

        self.sp = sp
        self.min, self.max = sp.Min, sp.Max
        self.lt, self.le, self.gt, self.ge = sp.Lt, sp.Le, sp.Gt, sp.Ge
        self.eq, self.ne = sp.Eq, sp.Ne
        self.div, self.pow = operator.truediv, operator.pow

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sp, name)

    def where(self, c: Any, x: Any, y: Any) -> Any:
        return self.sp.Piecewise((x, c), (y, True))


@cache
def functions() -> Mapping[str, Any]:
    """sympy Function classes, of the operations that sympy itself has none for."""
    import sympy as sp

    return {o.name: type(o.name, (sp.Function,), {}) for o in OPERATIONS.values() if o.named}


@cache
def operations() -> Mapping[str, Callable[..., Any]]:
    """An operation of a graph -> the sympy expression of its arguments' expressions."""
    table = {o.name: partial(o.definition, _Sympy()) for o in OPERATIONS.values()}
    return {**table, **functions()}


def number(value: float) -> Any:
    """A literal as an exact number: a float holds a rational, and 0.1 is meant as 1/10."""
    import sympy as sp

    if value != value:
        return sp.nan
    if value in (float("inf"), float("-inf")):
        return sp.oo if value > 0 else -sp.oo
    return sp.Rational(str(value))


def to_sympy(nodes: Sequence[Node], leaves: Mapping[int, Any]) -> dict[int, Any]:
    """The expression of each node; those in ``leaves``, and other leaves, are symbols.

    A leaf without an expression becomes a real symbol named by its attributes,
    or ``n7`` for node 7.
    """
    import sympy as sp

    table = operations()
    out: dict[int, Any] = {}
    for i, node in enumerate(nodes):
        if i in leaves:
            out[i] = leaves[i]
        elif node.op == "const":
            out[i] = number(float(node.attrs[0]))
        elif node.op in table:
            out[i] = table[node.op](*(out[a] for a in node.args))
        elif node.op == "symbol":
            out[i] = sp.Symbol(str(node.attrs[0]), real=True)
        else:
            out[i] = sp.Symbol(f"n{i}", real=True)
    return out


def in_exponentials(expression: Any) -> Any:
    """The expression with sigmoid, softplus, … written out by exp and log."""
    import sympy as sp

    m = _Sympy()
    for name, own in functions().items():
        expression = expression.replace(own, partial(OPERATIONS[name].definition, m))
    return expression.replace(sp.tanh, lambda x: (sp.exp(2 * x) - 1) / (sp.exp(2 * x) + 1))
