"""The smart constructor: a graph builder that keeps what it builds stable in floating point.

What it does is told in tables: the rules of :mod:`rules`, and the few in
:mod:`logarithms` and :mod:`quotients` that a pattern cannot say.  Here is only
how they are applied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from seqc.diagnostics import Span
from seqc.ir.graph import Attr, Graph, Node, rebuild
from seqc.ir.ops import COMMUTATIVE, CONDITIONS, POINTWISE
from seqc.ir.recurrence import Hyper
from seqc.symbolic.base import RangeBuilder
from seqc.symbolic.evaluate import FLOATS
from seqc.symbolic.logarithms import complement_rule, log_rule
from seqc.symbolic.patterns import Binding, build, match_args
from seqc.symbolic.quotients import share_rule
from seqc.symbolic.rules import rules_of

#: How far rules may call one another.  Beyond it a node is built as it is, which is always right:
#: no product of a thousand factors, nor a pair of rules that undo each other, exhausts the stack.
_DEPTH = 24


class StableBuilder(RangeBuilder):
    """A :class:`GraphBuilder` whose :meth:`op` folds constants and applies the rules.

    Arguments are positions in this builder; rules look through them.  A rule may
    leave nodes behind that nothing uses: :func:`prune` the finished graph.
    """

    def __init__(
        self,
        axis_order: Sequence[str] = (),
        nodes: Iterable[Node] = (),
        hypers: Iterable[Hyper] = (),
    ) -> None:
        super().__init__(axis_order, nodes, hypers)
        self._memo: dict[tuple[str, tuple[int, ...]], int] = {}
        self._depth = 0
        self._span: Span | None = None

    def add(
        self,
        op: str,
        *args: int,
        axes: tuple[str, ...] | None = None,
        attrs: tuple[Attr, ...] = (),
        span: Span | None = None,
    ) -> int:
        """As :meth:`GraphBuilder.add`; what a rule builds stands where the rewritten node stood."""
        return super().add(op, *args, axes=axes, attrs=attrs, span=span or self._span)

    def op(self, name: str, *args: int, span: Span | None = None) -> int:
        """The position of a node with the value of ``name(*args)`` in exact arithmetic.

        ``name`` is one of :data:`seqc.ir.ops.POINTWISE`.  The result may span fewer
        axes than the arguments do (``x * 0`` is the number 0).
        """
        if len(args) != POINTWISE[name]:
            raise ValueError(f"{name} takes {POINTWISE[name]} arguments, not {len(args)}")
        if name in COMMUTATIVE and args[0] > args[1]:
            args = (args[1], args[0])
        key = (name, args)
        found = self._memo.get(key)
        if found is None:
            outer, self._span = self._span, span or self._span
            self._depth += 1
            try:
                found = self._rewritten(name, args)
                if found is None:
                    found = self.add(name, *args)
            finally:
                self._depth -= 1
                self._span = outer
            self._memo[key] = found
        return found

    def _rewritten(self, name: str, args: tuple[int, ...]) -> int | None:
        folded = self._folded(name, args)
        if folded is not None or self._depth > _DEPTH:
            return folded
        for rule in rules_of(name):
            for bound in match_args(rule.pattern, args, self.nodes, {}):
                if self._allowed(rule.condition, bound):
                    return build(rule.result, bound, self.op, self.const)
        structured = _STRUCTURED.get(name)
        return None if structured is None else structured(self, *args)

    def _folded(self, name: str, args: tuple[int, ...]) -> int | None:
        """Constants computed; a NaN is left for the run to make."""
        if name == "where":
            truth = self._truth(args[0])
            return None if truth is None else args[1 if truth else 2]
        if name in CONDITIONS:
            return None
        values = [self.value(a) for a in args]
        if any(v is None for v in values):
            return None
        result = FLOATS[name](*values)
        return None if math.isnan(result) else self.const(result)

    def _truth(self, condition: int) -> bool | None:
        node = self.nodes[condition]
        if node.op not in CONDITIONS:
            return None
        values = [self.value(a) for a in node.args]
        return None if any(v is None for v in values) else bool(FLOATS[node.op](*values))

    def _allowed(self, condition: str, bound: Binding) -> bool:
        if not condition:
            return True
        name, variable = condition.rstrip(")").split("(")
        checks: dict[str, Callable[[int], bool]] = {
            "positive": self.positive,
            "nonnegative": self.nonnegative,
            "logarithmic": self.logarithmic,
        }
        return checks[name](bound[variable])


def _bound_rule(b: RangeBuilder, x: int, y: int, larger: bool) -> int | None:
    """max(x, n) -> x where x >= n always, min(x, n) -> x where x <= n always."""
    for value, limit in ((x, y), (y, x)):
        n = b.value(limit)
        if n is None:
            continue
        lo, hi = b.ranges[value]
        if (lo >= n) if larger else (hi <= n):
            return value
    return None


_STRUCTURED: dict[str, Callable[..., int | None]] = {
    "log": log_rule,
    "sub": complement_rule,
    "div": share_rule,
    "max": lambda b, x, y: _bound_rule(b, x, y, True),
    "min": lambda b, x, y: _bound_rule(b, x, y, False),
}


def restate(graph: Graph, builder: StableBuilder, roots: Iterable[int]) -> dict[int, int]:
    """Rebuild what the roots need through the rules; old position -> new position.

    A node keeps its axes: where a rule would drop one (``x * 0``), the node stays as it is, for
    a reduction or a learned map may count on them.
    """

    def visit(node: Node, args: tuple[int, ...]) -> int:
        if node.op in POINTWISE:
            found = builder.op(node.op, *args, span=node.span)
            if builder.nodes[found].axes == node.axes:
                return found
        return builder.add(node.op, *args, axes=node.axes, attrs=node.attrs, span=node.span)

    return rebuild(graph, builder, visit, roots)


def prune(
    graph: Graph, axis_order: Sequence[str], roots: Iterable[int]
) -> tuple[Graph, dict[int, int]]:
    """The nodes that the roots need, and where each has gone."""
    builder = RangeBuilder(axis_order)
    moved = rebuild(graph, builder, None, roots)
    return builder.graph, moved
