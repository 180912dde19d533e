"""Pointwise graphs in numbers: Python floats with IEEE 754 edges, or mpmath at any precision.

For constant folding, for counterexamples, and for tests.  The float table
never raises: an overflow is infinity, a division of zero by zero is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from seqc.ir.graph import Graph
from seqc.ir.ops import POINTWISE

INF, NAN = math.inf, math.nan

#: One function an operation; a condition returns a bool.
Arithmetic = Mapping[str, Callable[..., Any]]


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return INF


def _expm1(x: float) -> float:
    try:
        return math.expm1(x)
    except OverflowError:
        return INF


def _log(x: float) -> float:
    if x == 0:
        return -INF
    return math.log(x) if x > 0 else NAN


def _log1p(x: float) -> float:
    if x == -1:
        return -INF
    return math.log1p(x) if x > -1 else NAN


def _div(x: float, y: float) -> float:
    if y != 0:
        return x / y
    if x == 0 or math.isnan(x):
        return NAN
    return math.copysign(INF, x) * math.copysign(1.0, y)


def _pow(x: float, y: float) -> float:
    try:
        return math.pow(x, y)
    except OverflowError:
        odd = y == math.floor(y) and y % 2 == 1
        return -INF if x < 0 and odd else INF
    except ValueError:  # 0 to a negative power, or a negative number to a broken one
        return INF if x == 0 else NAN


def _sigmoid(x: float) -> float:
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    e = _exp(x)
    return e / (1 + e)


def _softplus(x: float) -> float:
    return _maximum(x, 0.0) + math.log1p(_exp(-abs(x)))


def _logaddexp(x: float, y: float) -> float:
    if x == y:  # covers both infinities
        return x + math.log(2)
    return _maximum(x, y) + math.log1p(_exp(-abs(x - y)))


def _minimum(x: float, y: float) -> float:
    if math.isnan(x) or math.isnan(y):
        return NAN
    return min(x, y)


def _maximum(x: float, y: float) -> float:
    if math.isnan(x) or math.isnan(y):
        return NAN
    return max(x, y)


def _sign(x: float) -> float:
    if math.isnan(x):
        return NAN
    return float((x > 0) - (x < 0))


def _floor(x: float) -> float:
    return float(math.floor(x)) if math.isfinite(x) else x


def _trigonometric(f: Callable[[float], float]) -> Callable[[float], float]:
    return lambda x: f(x) if math.isfinite(x) else NAN


def _mul(x: float, y: float) -> float:
    return x * y


FLOATS: Arithmetic = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": _mul,
    "div": _div,
    "neg": lambda x: -x,
    "pow": _pow,
    "exp": _exp,
    "expm1": _expm1,
    "log": _log,
    "log1p": _log1p,
    "logaddexp": _logaddexp,
    "sqrt": lambda x: math.sqrt(x) if x >= 0 else NAN,
    "abs": abs,
    "sign": _sign,
    "floor": _floor,
    "min": _minimum,
    "max": _maximum,
    "tanh": math.tanh,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "normcdf": lambda x: 0.5 * math.erfc(-x / math.sqrt(2)),
    "sin": _trigonometric(math.sin),
    "cos": _trigonometric(math.cos),
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
    "isset": lambda x: x != 0,
    "where": lambda c, x, y: x if c else y,
    "stop": lambda x: x,
    "graft": lambda value, x, slope: value,
}


def multiprecision(digits: int = 50) -> Arithmetic:
    """The operations as their definitions, in mpmath, with that many decimal digits.

    A definition such as 1 - sigmoid(x) cancels: ask for 0.44 * |x| digits more.
    """
    import mpmath

    mp = mpmath.MPContext()
    mp.dps = digits

    def number(f: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: f(*(mp.mpf(a) for a in args))

    def ratio(x: Any, y: Any) -> Any:
        if y == 0:
            return mp.nan if x == 0 else mp.sign(x) * mp.inf
        return x / y

    def logarithm(x: Any) -> Any:
        if x == 0:
            return -mp.inf
        return mp.log(x) if x > 0 else mp.nan

    def power(x: Any, y: Any) -> Any:
        if x == 0 and y < 0:
            return mp.inf
        if x < 0 and y != mp.floor(y):
            return mp.nan
        return mp.power(x, y)

    exact: dict[str, Callable[..., Any]] = {
        "div": ratio,
        "pow": power,
        "exp": mp.exp,
        "expm1": lambda x: mp.exp(x) - 1,
        "log": logarithm,
        "log1p": lambda x: logarithm(1 + x),
        "logaddexp": lambda x, y: (
            logarithm(mp.exp(x) + mp.exp(y)) if max(x, y) < mp.inf else mp.inf
        ),
        "sqrt": lambda x: mp.sqrt(x) if x >= 0 else mp.nan,
        "abs": abs,
        "sign": mp.sign,
        "floor": mp.floor,
        "min": min,
        "max": max,
        "tanh": mp.tanh,
        "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
        "softplus": lambda x: mp.log(1 + mp.exp(x)) if x < mp.inf else mp.inf,
        "normcdf": lambda x: mp.erfc(-x / mp.sqrt(2)) / 2,
        "sin": mp.sin,
        "cos": mp.cos,
    }
    table = {name: number(exact.get(name, FLOATS[name])) for name in POINTWISE if name != "where"}
    return {**table, "where": lambda c, x, y: x if c else y}


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
