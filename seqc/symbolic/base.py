"""A graph builder that knows where its values lie; the rewriting rules work on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from seqc.diagnostics import Span
from seqc.ir.graph import GraphBuilder, Node
from seqc.ir.recurrence import Hyper
from seqc.symbolic.hypers import HyperDomains
from seqc.symbolic.intervals import Ranges


class RangeBuilder(GraphBuilder):
    """A :class:`GraphBuilder` with the interval of each node, and ``op`` to be made smart."""

    def __init__(
        self,
        axis_order: Sequence[str] = (),
        nodes: Iterable[Node] = (),
        hypers: Iterable[Hyper] = (),
    ) -> None:
        super().__init__(axis_order, nodes)
        self.ranges = Ranges(self.nodes, HyperDomains(hypers))
        self._log_forms: dict[int, bool] = {}

    def op(self, name: str, *args: int, span: Span | None = None) -> int:
        """The pointwise operation, as it is."""
        return self.add(name, *args, span=span)

    def positive(self, position: int) -> bool:
        """Every value of the node is > 0."""
        return self.ranges[position].positive

    def nonnegative(self, position: int) -> bool:
        """Every value of the node is >= 0."""
        return self.ranges[position].nonnegative

    def logarithmic(self, position: int) -> bool:
        """Positive, and better kept as a logarithm: log(node) has a form that cannot under- or
        overflow, as a sigmoid's or an exponential's has.

        Products, quotients, sums, roots, choices, minima and maxima of positive values inherit it
        from any of their parts.
        """
        stack = [position]
        while stack:
            n = stack[-1]
            if n in self._log_forms:
                stack.pop()
                continue
            node = self.nodes[n]
            if node.op in ("sigmoid", "exp"):
                self._log_forms[n] = True
            elif node.op not in _INHERITED or not self.positive(n):
                self._log_forms[n] = False
            else:
                parts = node.args[1:] if node.op == "where" else node.args
                waiting = [a for a in parts if a not in self._log_forms]
                if waiting:
                    stack.extend(waiting)
                    continue
                known = [self._log_forms[a] for a in parts]
                # A choice may hold branches that are positive under their condition only.
                sound = node.op == "where" or all(self.positive(a) for a in parts)
                self._log_forms[n] = sound and any(known) and self._gains(n)
            stack.pop()
        return self._log_forms[position]

    def _gains(self, position: int) -> bool:
        """A sum that stays well away from zero and from infinity is as good as its logarithm."""
        if self.nodes[position].op != "add":
            return True
        lo, hi = self.ranges[position]
        return lo <= 0 or hi == float("inf")


_INHERITED = frozenset({"mul", "div", "add", "sqrt", "where", "min", "max"})
