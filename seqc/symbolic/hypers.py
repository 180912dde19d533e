"""What the domains of hypers say of their values: an interval each, and which is the larger."""

from __future__ import annotations

from collections.abc import Iterable

from seqc.ir.operations.ranges import ALL, intersect
from seqc.ir.recurrence import Hyper
from seqc.ir.verdict import Interval

_INF = float("inf")


class HyperDomains:
    """The domains of a layer's hypers; a hyper without one is any finite real."""

    def __init__(self, hypers: Iterable[Hyper] = ()) -> None:
        self._lies: dict[str, Interval] = {}
        #: (larger, smaller) -> whether strictly
        self._above: dict[tuple[str, str], bool] = {}
        hypers = tuple(hypers)
        for h in hypers:
            for bound in h.domain:
                strict = bound.sign in ("<", ">")
                if isinstance(bound.to, str):
                    pair = (h.name, bound.to) if bound.sign[0] == ">" else (bound.to, h.name)
                    self._above[pair] = self._above.get(pair, False) or strict
                elif bound.sign[0] == ">":
                    self._narrow(h.name, Interval(bound.to, _INF, strict, True))
                else:
                    self._narrow(h.name, Interval(-_INF, bound.to, True, strict))
        # What bounds the smaller from below bounds the larger too, however far they are apart.
        for _ in hypers:
            known = list(self._above.items())
            for (a, b), strict in known:
                lower, upper = self[b], self[a]
                self._narrow(a, Interval(lower.lo, _INF, lower.lo_open or strict, True))
                self._narrow(b, Interval(-_INF, upper.hi, True, upper.hi_open or strict))
                for (c, d), other in known:
                    if b == c:
                        self._above[a, d] = self._above.get((a, d), False) or strict or other

    def _narrow(self, name: str, to: Interval) -> None:
        found = intersect(self[name], to)
        # An empty domain holds no default, so its layer is refused; here it says nothing.
        self._lies[name] = self[name] if found is None else found

    def __getitem__(self, name: str) -> Interval:
        return self._lies.get(name, ALL)

    def difference(self, a: str, b: str) -> Interval:
        """Where a - b lies, by what the domains say of the two together."""
        if (a, b) in self._above:
            return Interval(0.0, _INF, self._above[a, b], True)
        if (b, a) in self._above:
            return Interval(-_INF, 0.0, True, self._above[b, a])
        return ALL
