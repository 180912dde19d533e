"""How functions map intervals, rounded outwards where inexact: what the records put together."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from seqc.ir.operations import floats
from seqc.ir.verdict import Interval

INF = math.inf

ALL = Interval()  # the finite reals
EXTENDED = Interval(-INF, INF, False, False)  # infinities too: a division by zero
TRUTH = Interval(0.0, 1.0, False, False)

#: Relative error that the float functions may have made.
_SLACK = 1e-15


def _down(x: float) -> float:
    return math.nextafter(math.nextafter(x, -INF), -INF)


def _up(x: float) -> float:
    return math.nextafter(math.nextafter(x, INF), INF)


def hull(a: Interval, b: Interval) -> Interval:
    """The smallest interval that holds both."""
    lo, hi = min(a.lo, b.lo), max(a.hi, b.hi)
    lo_open = all(x.lo_open for x in (a, b) if x.lo == lo)
    hi_open = all(x.hi_open for x in (a, b) if x.hi == hi)
    return Interval(lo, hi, lo_open, hi_open)


def intersect(a: Interval, b: Interval) -> Interval | None:
    """What lies in both; None when nothing does."""
    lo, hi = max(a.lo, b.lo), min(a.hi, b.hi)
    lo_open = any(x.lo_open for x in (a, b) if x.lo == lo)
    hi_open = any(x.hi_open for x in (a, b) if x.hi == hi)
    if lo > hi or (lo == hi and (lo_open or hi_open)):
        return None
    return Interval(lo, hi, lo_open, hi_open)


def sum_of(x: Interval) -> Interval:
    """A sum of one or more values of the interval."""
    lo = x.lo if x.lo >= 0 else -INF
    hi = x.hi if x.hi <= 0 else INF
    return Interval(
        lo,
        hi,
        x.lo_open if x.lo >= 0 or x.lo == -INF else True,
        x.hi_open if x.hi <= 0 or x.hi == INF else True,
    )


def _ends(candidates: list[tuple[float, bool, bool]]) -> Interval:
    """The hull of (value, open, exact) ends."""
    lo = min(v if exact else _down(v) for v, _, exact in candidates)
    hi = max(v if exact else _up(v) for v, _, exact in candidates)
    lo_open = all(o for v, o, e in candidates if (v if e else _down(v)) == lo)
    hi_open = all(o for v, o, e in candidates if (v if e else _up(v)) == hi)
    return Interval(lo, hi, lo_open, hi_open)


def negate(x: Interval) -> Interval:
    return Interval(0.0 - x.hi, 0.0 - x.lo, x.hi_open, x.lo_open)


def _sum_end(a: float, a_open: bool, b: float, b_open: bool, side: float) -> tuple[float, bool]:
    """The end of a sum; ``side`` is the infinity on that side."""
    if math.isinf(a) or math.isinf(b):
        if a == side or b == side or (math.isinf(a) and math.isinf(b) and a != b):
            reached = (a == side and not a_open) or (b == side and not b_open)
            return side, not reached
        return (a, a_open) if math.isinf(a) else (b, b_open)
    s = a + b
    if math.isinf(s):
        return (s, True) if s == side else (math.nextafter(s, side), True)
    back = s - a
    if (a - (s - back)) + (b - back) != 0:  # the rounding error, exactly (Knuth's two-sum)
        s = math.nextafter(s, side)
    return s, a_open or b_open


def add(a: Interval, b: Interval) -> Interval:
    lo, lo_open = _sum_end(a.lo, a.lo_open, b.lo, b.lo_open, -INF)
    hi, hi_open = _sum_end(a.hi, a.hi_open, b.hi, b.hi_open, INF)
    return Interval(lo, hi, lo_open, hi_open)


def _product(a: float, a_open: bool, b: float, b_open: bool) -> tuple[float, bool, bool]:
    if a == 0 or b == 0:  # zero times an open infinity: the limit along the closed side
        return 0.0, not ((a == 0 and not a_open) or (b == 0 and not b_open)), True
    p = a * b
    if math.isinf(a) or math.isinf(b):
        reached = (math.isinf(a) and not a_open) or (math.isinf(b) and not b_open)
        return p, not reached, True
    if math.isinf(p) or p == 0:
        return p, True, False
    exact = abs(a) in (1.0, 2.0, 0.5) or abs(b) in (1.0, 2.0, 0.5)
    return p, a_open or b_open, exact or Fraction(a) * Fraction(b) == Fraction(p)


def mul(a: Interval, b: Interval) -> Interval:
    out = _ends(
        [
            _product(x, xo, y, yo)
            for x, xo in ((a.lo, a.lo_open), (a.hi, a.hi_open))
            for y, yo in ((b.lo, b.lo_open), (b.hi, b.hi_open))
        ]
    )
    # Rounding a tiny product outwards must not cross zero: signs are exact.
    if (a.nonnegative and b.nonnegative) or (a.hi <= 0 and b.hi <= 0):
        strict = (a.positive and b.positive) or (negate(a).positive and negate(b).positive)
        if out.lo < 0 or (out.lo == 0 and strict):
            return Interval(0.0, out.hi, strict, out.hi_open)
    elif (a.nonnegative and b.hi <= 0) or (a.hi <= 0 and b.nonnegative):
        return negate(mul(negate(a), b))
    return out


def _reciprocal(x: Interval) -> Interval:
    """1 / x for an x of one sign that is never zero."""
    if x.hi <= 0:
        return negate(_reciprocal(negate(x)))
    lo = 0.0 if x.hi == INF else 1 / x.hi
    hi = INF if x.lo == 0 else floats.div(1.0, x.lo)
    exact_lo = lo == 0 or (math.isfinite(lo) and Fraction(lo) * Fraction(x.hi) == 1)
    exact_hi = math.isinf(hi) or hi == 0 or Fraction(hi) * Fraction(x.lo) == 1
    if not exact_lo:
        lo = max(math.nextafter(lo, -INF), 0.0)
    if not exact_hi:
        hi = math.nextafter(hi, INF)
    lo_open = True if lo == 0 and x.hi < INF else x.hi_open
    hi_open = True if hi == INF else x.lo_open
    return Interval(lo, hi, lo_open, hi_open)


def div(a: Interval, b: Interval) -> Interval:
    if b.positive or negate(b).positive:
        return mul(a, _reciprocal(b))
    if (a.nonnegative and b.nonnegative) or (a.hi <= 0 and b.hi <= 0):
        return Interval(0.0, INF, False, False)
    return EXTENDED


def increasing(
    f: Callable[[float], float],
    low: float,
    high: float,
    exact: tuple[float, ...] = (),
    slack: float = _SLACK,
) -> Callable[[Interval], Interval]:
    """An increasing function with the open range (low, high); the ends only at infinity."""

    def transfer(x: Interval) -> Interval:
        lo, hi = f(x.lo), f(x.hi)
        if not (x.lo in exact or math.isinf(x.lo)):
            lo = _down(lo - slack * abs(lo))
        if not (x.hi in exact or math.isinf(x.hi)):
            hi = _up(hi + slack * abs(hi))
        lo_open, hi_open = x.lo_open, x.hi_open
        if lo <= low:
            lo, lo_open = low, x.lo_open or x.lo > -INF
        if hi >= high:
            hi, hi_open = high, x.hi_open or x.hi < INF
        if lo >= high and x.lo < INF:  # rounding has reached the end that the function does not
            lo = math.nextafter(high, -INF) if math.isfinite(high) else math.nextafter(INF, 0.0)
        if hi <= low and x.hi > -INF:
            hi = math.nextafter(low, INF)
        return Interval(lo, hi, lo_open, hi_open)

    return transfer


def logarithm(
    f: Callable[[float], float], pole: float, exact: float
) -> Callable[[Interval], Interval]:
    def transfer(x: Interval) -> Interval:
        if x.hi < pole or (x.hi == pole and x.hi_open):
            return EXTENDED  # defined nowhere
        if x.lo < pole or (x.lo == pole and not x.lo_open):
            lo, lo_open = -INF, False
        else:
            lo, lo_open = f(x.lo), x.lo_open
            lo = lo if x.lo == exact or math.isinf(lo) else _down(lo)
        hi = f(x.hi)
        hi = hi if x.hi == exact or math.isinf(hi) else _up(hi)
        return Interval(lo, hi, lo_open, x.hi_open)

    return transfer


def sqrt(x: Interval) -> Interval:
    if x.hi < 0:
        return EXTENDED
    lo = 0.0 if x.lo <= 0 else max(_down(math.sqrt(x.lo)), 0.0)
    lo_open = x.lo_open if x.lo >= 0 else False
    hi = x.hi if math.isinf(x.hi) or x.hi == 0 else _up(math.sqrt(x.hi))
    return Interval(lo, hi, lo_open, x.hi_open)


def absolute(x: Interval) -> Interval:
    if x.lo >= 0:
        return x
    if x.hi <= 0:
        return negate(x)
    hi = max(-x.lo, x.hi)
    hi_open = all(o for v, o in ((-x.lo, x.lo_open), (x.hi, x.hi_open)) if v == hi)
    return Interval(0.0, hi, False, hi_open)


def sign(x: Interval) -> Interval:
    lo = 1.0 if x.positive else 0.0 if x.nonnegative else -1.0
    hi = -1.0 if negate(x).positive else 0.0 if x.hi <= 0 else 1.0
    return Interval(lo, hi, False, False)


def floor(x: Interval) -> Interval:
    lo, hi = floats.floor(x.lo), floats.floor(x.hi)
    return Interval(lo, hi, math.isinf(lo) and x.lo_open, math.isinf(hi) and x.hi_open)


def maximum(a: Interval, b: Interval) -> Interval:
    lo, hi = max(a.lo, b.lo), max(a.hi, b.hi)
    lo_open = any(x.lo_open for x in (a, b) if x.lo == lo)
    hi_open = all(x.hi_open for x in (a, b) if x.hi == hi)
    return Interval(lo, hi, lo_open, hi_open)


def minimum(a: Interval, b: Interval) -> Interval:
    return negate(maximum(negate(a), negate(b)))


def logaddexp(a: Interval, b: Interval) -> Interval:
    f = floats.logaddexp
    lo, hi = f(a.lo, b.lo), f(a.hi, b.hi)
    lo_open = lo < INF and (a.lo_open or b.lo_open)
    hi_open = all(x.hi_open for x in (a, b) if x.hi == hi) if math.isinf(hi) else True
    if math.isfinite(lo):  # the rounding error is that of the larger argument
        lo = _down(lo - _SLACK * max(abs(x.lo) for x in (a, b) if math.isfinite(x.lo)))
    if math.isfinite(hi):
        hi = _up(hi + _SLACK * max(abs(x.hi) for x in (a, b) if math.isfinite(x.hi)))
    return Interval(lo, hi, lo_open, hi_open)


def _power_end(x: float, x_open: bool, n: int) -> tuple[float, bool, bool]:
    if x == 0 or math.isinf(x):
        return x**n, x_open, True
    p = floats.pow(x, n)
    if math.isinf(p) or p == 0:
        return p, True, False
    return p, x_open, Fraction(x) ** n == Fraction(p)


def power(x: Interval, y: Interval) -> Interval:
    n = y.lo
    if y.lo == y.hi and 0 < abs(n) <= 64 and n == math.floor(n):
        base, size = (absolute(x) if n % 2 == 0 else x), int(abs(n))
        power = _ends(
            [
                _power_end(base.lo, base.lo_open, size),  # increasing, so end by end
                _power_end(base.hi, base.hi_open, size),
            ]
        )
        if base.nonnegative and power.lo <= 0:
            power = Interval(0.0, power.hi, base.positive, power.hi_open)
        return power if n > 0 else div(Interval(1.0, 1.0, False, False), power)
    if x.positive:
        return EXP(mul(LOG(x), y))
    return Interval(0.0, INF, False, False) if x.nonnegative else EXTENDED


def bounded(lo: float, hi: float) -> Callable[..., Interval]:
    return lambda *_: Interval(lo, hi, False, False)


EXP = increasing(floats.exp, 0.0, INF, (0.0,))
LOG = logarithm(floats.log, 0.0, 1.0)
