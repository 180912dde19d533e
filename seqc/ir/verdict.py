"""What a proof may come to, and the intervals that ranges are reported in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


class Verdict(str):
    """``proved``, ``refuted`` or ``unknown``: a string, never a truth value.

    A refuted verdict carries ``counterexample``: values of the free symbols at
    which the law fails.  ``reason`` says how the verdict was reached.
    """

    counterexample: Mapping[str, float] | None
    reason: str

    def __new__(
        cls, kind: str, reason: str = "", counterexample: Mapping[str, float] | None = None
    ) -> Verdict:
        if kind not in ("proved", "refuted", "unknown"):
            raise ValueError(f"a verdict is proved, refuted or unknown, not {kind!r}")
        self = super().__new__(cls, kind)
        self.reason = reason
        self.counterexample = counterexample
        return self

    def __bool__(self) -> bool:
        raise TypeError("a verdict has three values: compare it, e.g. verdict == 'proved'")


@dataclass(frozen=True)
class Interval:
    """Where a value lies in exact arithmetic; unpacks as (lo, hi).

    An open end is never reached by exact arithmetic (a sigmoid is in the open
    (0, 1)); floating-point rounding may still reach it.
    """

    lo: float = -math.inf
    hi: float = math.inf
    lo_open: bool = True
    hi_open: bool = True

    def __iter__(self) -> Iterator[float]:
        return iter((self.lo, self.hi))

    def __getitem__(self, i: int) -> float:
        return (self.lo, self.hi)[i]

    @property
    def positive(self) -> bool:
        """Every value is > 0."""
        return self.lo > 0 or (self.lo == 0 and self.lo_open)

    @property
    def nonnegative(self) -> bool:
        """Every value is >= 0."""
        return self.lo >= 0

    def inside(self, lo: float, hi: float) -> bool:
        """Whether the interval lies within the open (lo, hi)."""
        above = self.lo > lo or (self.lo == lo and self.lo_open)
        below = self.hi < hi or (self.hi == hi and self.hi_open)
        return above and below

    def beyond(self, size: float) -> bool:
        """Every value is larger than ``size`` in absolute value, and all are of one sign."""
        above = self.lo > size or (self.lo == size and self.lo_open)
        below = self.hi < -size or (self.hi == -size and self.hi_open)
        return above or below

    def __str__(self) -> str:
        left, right = ("(" if self.lo_open else "["), (")" if self.hi_open else "]")
        return f"{left}{self.lo:g}, {self.hi:g}{right}"
