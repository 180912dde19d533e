"""Graphs as sympy expressions, with functions of their own for sigmoid, softplus and the like.

Such a function's derivative is in terms of the function itself, which keeps
derivatives small (a GRU's gradient is a few dozen terms, not pages of
exponentials).  ``in_exponentials`` writes them out where a proof needs that.

sympy is imported inside: importing this module costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from seqc.ir.graph import Node


@cache
def functions() -> Mapping[str, Any]:
    """sympy Function classes: sigmoid, softplus, normcdf, logaddexp, expm1, log1p."""
    import sympy as sp

    class sigmoid(sp.Function):
        """1 / (1 + exp(-x)); sigmoid' = sigmoid(x) * sigmoid(-x)."""

        def fdiff(self, argindex: int = 1) -> Any:
            x = self.args[0]
            return sigmoid(x) * sigmoid(-x)

    class softplus(sp.Function):
        """log(1 + exp(x)); softplus' = sigmoid."""

        def fdiff(self, argindex: int = 1) -> Any:
            return sigmoid(self.args[0])

    class normcdf(sp.Function):
        """The normal distribution function; its derivative is the density."""

        def fdiff(self, argindex: int = 1) -> Any:
            return sp.exp(-(self.args[0] ** 2) / 2) / sp.sqrt(2 * sp.pi)

    class logaddexp(sp.Function):
        """log(exp(x) + exp(y))."""

        def fdiff(self, argindex: int = 1) -> Any:
            x, y = self.args
            return sigmoid(x - y) if argindex == 1 else sigmoid(y - x)

    class expm1(sp.Function):
        """exp(x) - 1."""

        def fdiff(self, argindex: int = 1) -> Any:
            return sp.exp(self.args[0])

    class log1p(sp.Function):
        """log(1 + x)."""

        def fdiff(self, argindex: int = 1) -> Any:
            return 1 / (1 + self.args[0])

    kinds = (sigmoid, softplus, normcdf, logaddexp, expm1, log1p)
    return {k.__name__: k for k in kinds}


@cache
def operations() -> Mapping[str, Callable[..., Any]]:
    """An operation of a graph -> the sympy expression of its arguments' expressions."""
    import sympy as sp

    return {
        **functions(),
        "add": lambda x, y: x + y,
        "sub": lambda x, y: x - y,
        "mul": lambda x, y: x * y,
        "div": lambda x, y: x / y,
        "neg": lambda x: -x,
        "pow": lambda x, y: x**y,
        "exp": sp.exp,
        "log": sp.log,
        "sqrt": sp.sqrt,
        "abs": sp.Abs,
        "sign": sp.sign,
        "floor": sp.floor,
        "stop": lambda x: x,
        "graft": lambda value, x, slope: value,
        "min": sp.Min,
        "max": sp.Max,
        "tanh": sp.tanh,
        "sin": sp.sin,
        "cos": sp.cos,
        "lt": sp.Lt,
        "le": sp.Le,
        "gt": sp.Gt,
        "ge": sp.Ge,
        "eq": sp.Eq,
        "ne": sp.Ne,
        "isset": lambda x: sp.Ne(x, 0),
        "where": lambda c, x, y: sp.Piecewise((x, c), (y, True)),
    }


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

    own = functions()
    meaning: dict[str, Callable[..., Any]] = {
        "sigmoid": lambda x: 1 / (1 + sp.exp(-x)),
        "softplus": lambda x: sp.log(1 + sp.exp(x)),
        "normcdf": lambda x: (1 + sp.erf(x / sp.sqrt(2))) / 2,
        "logaddexp": lambda x, y: sp.log(sp.exp(x) + sp.exp(y)),
        "expm1": lambda x: sp.exp(x) - 1,
        "log1p": lambda x: sp.log(1 + x),
    }
    for name, spelled in meaning.items():
        expression = expression.replace(own[name], spelled)
    return expression.replace(sp.tanh, lambda x: (sp.exp(2 * x) - 1) / (sp.exp(2 * x) + 1))
