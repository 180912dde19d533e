"""Interval analysis: where each value of a graph lies in exact arithmetic.

Sound (an interval is never too narrow: inexact ends are rounded outwards) and
tight enough to prove what a scan asks for: a sigmoid lies in (0, 1), so does
``1 - sigmoid``, and ``where(u >= 0, u + 0.5, sigmoid(u))`` is positive, because
a branch is analysed under its condition.

Source: Moore, Kearfott, Cloud, "Introduction to Interval Analysis" (2009).
Inputs, parameters and states are finite reals.  A value that is not defined
(the logarithm of a negative number) lies in no interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from seqc.ir.graph import Graph, Node
from seqc.ir.operations import OPERATIONS, ranges
from seqc.ir.operations.ranges import ALL, TRUTH, hull, intersect, sum_of
from seqc.ir.recurrence import Hyper
from seqc.ir.verdict import Interval
from seqc.symbolic.hypers import HyperDomains

#: How large a branch may be, and how many conditions deep, to be analysed under its condition.
_BRANCH_NODES = 64
_BRANCH_DEPTH = 2
#: How many nodes may be looked at again for one node, in all its branches.
_FUEL = 256

_NEGATION = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}


class Ranges:
    """Intervals of a growing list of nodes, computed on demand, each once."""

    def __init__(self, nodes: Sequence[Node], hypers: HyperDomains | None = None) -> None:
        self._nodes = nodes
        self.hypers = hypers or HyperDomains()
        self._known: list[Interval] = []
        self._fuel = 0

    def __getitem__(self, position: int) -> Interval:
        while len(self._known) <= position:
            i = len(self._known)
            self._fuel = _FUEL
            self._known.append(self._compute(i, {}, 0))
        return self._known[position]

    def under(self, position: int, condition: int, holds: bool) -> Interval | None:
        """Where the value lies when the condition holds (or fails); None when it never does."""
        facts = self._facts(condition, holds, {})
        if facts is None:
            return None
        self._fuel = _FUEL
        return self._under(position, facts, 0) if facts else self[position]

    def _value(self, position: int, local: Mapping[int, Interval]) -> Interval:
        found = local.get(position)
        return self[position] if found is None else found

    def _compute(self, position: int, local: Mapping[int, Interval], depth: int) -> Interval:
        node = self._nodes[position]
        if node.op == "where":
            return self._where(node, local, depth)
        if node.op == "hyper":
            return self.hypers[str(node.attrs[0])]
        if node.op == "sub" and all(self._nodes[a].op == "hyper" for a in node.args):
            return self._difference(node, local)
        if node.op in ("add", "sub", "mul", "div") and node.args[0] == node.args[1]:
            return _twice(node.op, self._value(node.args[0], local))
        operation = OPERATIONS.get(node.op)
        if operation is not None and operation.range is not None:
            return operation.range(*(self._value(a, local) for a in node.args))
        return _leaf(node, [self._value(a, local) for a in node.args])

    def _difference(self, node: Node, local: Mapping[int, Interval]) -> Interval:
        """One hyper less another: what each may be, and which is the larger by its domain."""
        a, b = node.args
        names = [str(self._nodes[n].attrs[0]) for n in node.args]
        if a == b:
            return _twice("sub", self._value(a, local))
        found = ranges.add(self._value(a, local), ranges.negate(self._value(b, local)))
        return intersect(found, self.hypers.difference(*names)) or found

    def _where(self, node: Node, local: Mapping[int, Interval], depth: int) -> Interval:
        condition, yes, no = node.args
        found: list[Interval] = []
        for branch, holds in ((yes, True), (no, False)):
            facts = self._facts(condition, holds, local) if depth < _BRANCH_DEPTH else {}
            if facts is None:
                continue  # this branch is never taken
            if facts:
                found.append(self._under(branch, {**local, **facts}, depth + 1))
            else:
                found.append(self._value(branch, local))
        if not found:
            return ALL
        return found[0] if len(found) == 1 else hull(found[0], found[1])

    def _facts(
        self, condition: int, holds: bool, local: Mapping[int, Interval]
    ) -> dict[int, Interval] | None:
        """What a comparison says of its two sides; None when it cannot come out that way."""
        node = self._nodes[condition]
        if node.op not in _NEGATION:
            return {}
        left, right = node.args
        a, b = self._value(left, local), self._value(right, local)
        op = node.op if holds else _NEGATION[node.op]
        if op in ("gt", "ge"):
            left, right, a, b, op = right, left, b, a, {"gt": "lt", "ge": "le"}[op]
        if op == "ne":
            return {}
        if op == "eq":
            small = large = intersect(a, b)
        else:  # a < b or a <= b
            strict = op == "lt"
            small = intersect(a, Interval(-float("inf"), b.hi, False, b.hi_open or strict))
            large = intersect(b, Interval(a.lo, float("inf"), a.lo_open or strict, False))
        if small is None or large is None:
            return None
        return {left: small, right: large}

    def _under(self, root: int, facts: dict[int, Interval], depth: int) -> Interval:
        """The interval of a branch, given some of its nodes' intervals."""
        region: set[int] = set()
        stack = [root]
        while stack:
            n = stack.pop()
            if n in region or n in facts:
                continue
            region.add(n)
            self._fuel -= 1
            if len(region) > _BRANCH_NODES or self._fuel < 0:
                return self._value(root, facts)
            stack.extend(self._nodes[n].args)
        known = dict(facts)
        for n in sorted(region):
            if any(a in known for a in self._nodes[n].args):
                # Both hold, so the value lies in both: dependence between arguments can make
                # either of them the wider.
                refined = intersect(self._compute(n, known, depth), self[n])
                known[n] = self[n] if refined is None else refined
        return self._value(root, known)


def intervals(graph: Graph, hypers: Iterable[Hyper] = ()) -> tuple[Interval, ...]:
    """The interval of every node."""
    ranges = Ranges(graph, HyperDomains(hypers))
    return tuple(ranges[i] for i in range(len(graph)))


def _twice(op: str, x: Interval) -> Interval:
    """An operation on one value twice."""
    if op == "sub":
        return Interval(0.0, 0.0, False, False)
    if op == "mul":
        size = ranges.absolute(x)
        return ranges.mul(size, size)
    if op == "div":
        return Interval(1.0, 1.0, False, False)
    return ranges.add(x, x)


def _leaf(node: Node, args: list[Interval]) -> Interval:
    if node.op == "const":
        value = float(node.attrs[0])
        return Interval(value, value, False, False) if value == value else ALL
    if node.op == "size":
        return Interval(1.0, float("inf"), False, True)
    if node.op == "index":
        return Interval(0.0, float("inf"), False, True)
    if node.op == "keep":
        return TRUTH
    if node.op == "reduce":
        return sum_of(args[0]) if node.attrs[0] == "sum" else args[0]
    if node.op == "cumsum":
        return sum_of(args[0])
    if node.op == "rename":
        return args[0]
    if node.op == "shift":
        return hull(args[0], Interval(0.0, 0.0, False, False))
    return ALL
