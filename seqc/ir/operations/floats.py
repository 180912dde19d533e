"""Elementary functions of Python floats with IEEE 754 edges, for the records.

None raises: an overflow is infinity, a division of zero by zero is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable

INF, NAN = math.inf, math.nan


def exp(x: float) -> float:
    """e ** x."""
    try:
        return math.exp(x)
    except OverflowError:
        return INF


def expm1(x: float) -> float:
    """e ** x - 1."""
    try:
        return math.expm1(x)
    except OverflowError:
        return INF


def log(x: float) -> float:
    """The logarithm; -inf at 0, NaN below."""
    if x == 0:
        return -INF
    return math.log(x) if x > 0 else NAN


def log1p(x: float) -> float:
    """log(1 + x)."""
    if x == -1:
        return -INF
    return math.log1p(x) if x > -1 else NAN


def div(x: float, y: float) -> float:
    """x / y."""
    if y != 0:
        return x / y
    if x == 0 or math.isnan(x):
        return NAN
    return math.copysign(INF, x) * math.copysign(1.0, y)


def pow(x: float, y: float) -> float:
    """x ** y."""
    try:
        return math.pow(x, y)
    except OverflowError:
        odd = y == math.floor(y) and y % 2 == 1
        return -INF if x < 0 and odd else INF
    except ValueError:  # 0 to a negative power, or a negative number to a broken one
        return INF if x == 0 else NAN


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x))."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    e = exp(x)
    return e / (1 + e)


def softplus(x: float) -> float:
    """log(1 + exp(x))."""
    return maximum(x, 0.0) + math.log1p(exp(-abs(x)))


def logaddexp(x: float, y: float) -> float:
    """log(exp(x) + exp(y))."""
    if x == y:  # covers both infinities
        return x + math.log(2)
    return maximum(x, y) + math.log1p(exp(-abs(x - y)))


def minimum(x: float, y: float) -> float:
    """The smaller; NaN wins."""
    if math.isnan(x) or math.isnan(y):
        return NAN
    return min(x, y)


def maximum(x: float, y: float) -> float:
    """The larger; NaN wins."""
    if math.isnan(x) or math.isnan(y):
        return NAN
    return max(x, y)


def sign(x: float) -> float:
    """-1, 0 or 1; NaN of NaN."""
    if math.isnan(x):
        return NAN
    return float((x > 0) - (x < 0))


def floor(x: float) -> float:
    """The largest whole number not above x."""
    return float(math.floor(x)) if math.isfinite(x) else x


def periodic(f: Callable[[float], float]) -> Callable[[float], float]:
    """A function of an angle, NaN at infinity."""
    return lambda x: f(x) if math.isfinite(x) else NAN


def sqrt(x: float) -> float:
    """The root; NaN below 0."""
    return math.sqrt(x) if x >= 0 else NAN


def normcdf(x: float) -> float:
    """The normal distribution function."""
    return 0.5 * math.erfc(-x / math.sqrt(2))
