"""In what passes a step with products is computed, and which values lie in vectors between them.

A pass runs over the entries of some axes.  What is pointwise it computes from what lies there:
tensors, carries, products and sums that an earlier pass, or it itself, has taken.  A product or sum
needs all of its argument, so that this must have been written by a pass before (or be a carry).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from seqc.ir.graph import reachable
from seqc.ir.kernel import Kernel
from seqc.ir.ops import INFIX, POINTWISE
from seqc.ir.schedule import Scheduled

#: What a step across entries ends in, and another pass begins with.
ACROSS = frozenset({"product", "reduce"})
#: Computed again rather than laid down: they cost less than memory.
_CHEAP = frozenset(INFIX) | {"neg", "where", "min", "max", "abs", "isset", "stop", "graft"}

Axes = tuple[str, ...]


@dataclass(frozen=True)
class Sink:
    """Something that a pass hands out: ``kind`` (carry, output, total, side, held, vector), its
    position there, and the node."""

    kind: str
    index: int
    node: int
    axes: Axes


@dataclass
class Pass:
    """What is done over some axes in one phase of a step."""

    phase: int
    axes: Axes
    products: list[int] = field(default_factory=list)
    reductions: list[int] = field(default_factory=list)
    sinks: list[Sink] = field(default_factory=list)


class Passes:
    """The passes of a kernel's step, in order.

    ``vectors`` gives each node that lies in one between passes its position, ``axes`` the axes of
    each.
    """

    def __init__(self, scheduled: Scheduled) -> None:
        self.kernel: Kernel = scheduled.kernel
        self.graph = self.kernel.body
        self.vectors: dict[int, int] = {}
        self.axes: list[Axes] = []
        self._ready: dict[tuple[int, Axes], int] = {}
        self._passes: dict[tuple[int, Axes], Pass] = {}
        sinks = list(self._handed_out(scheduled))
        live = reachable(self.graph, [s.node for s in sinks], self.needs)
        for n in sorted(live):
            if self.graph[n].op in ACROSS:
                self._take(n)
        for s in sinks:
            self._pass(self.ready(s.node, s.axes), s.axes).sinks.append(s)
        self._lay_down()
        self.passes = sorted(self._passes.values(), key=lambda p: (p.phase, len(p.axes), p.axes))

    def needs(self, n: int) -> tuple[int, ...]:
        """What a node's value is computed from: not what only its derivative is."""
        node = self.graph[n]
        if node.op == "product":
            return node.args[:1]
        return node.args[:1] if node.op in ("graft", "stop") else node.args

    def _handed_out(self, scheduled: Scheduled) -> Iterator[Sink]:
        k = self.kernel
        yield from (Sink("carry", i, c.after, c.axes) for i, c in enumerate(k.carries))
        yield from (Sink("output", i, o.node, o.axes) for i, o in enumerate(k.outputs))
        yield from (Sink("total", i, t.node, t.axes) for i, t in enumerate(k.totals))
        yield from (Sink("side", i, n, axes) for i, (n, axes) in enumerate(k.sides))
        yield from (Sink("held", i, h.node, h.axes) for i, h in enumerate(scheduled.held))

    def _pass(self, phase: int, axes: Axes) -> Pass:
        return self._passes.setdefault((phase, axes), Pass(phase, axes))

    def ready(self, n: int, axes: Axes) -> int:
        """The phase from which on a node can be computed in a pass over some axes."""
        key = (n, axes)
        if key not in self._ready:
            node = self.graph[n]
            if node.op in ACROSS:  # where it was taken, or once that has laid it down
                own = self._own(n)
                self._ready[key] = own if node.axes == axes else own + 1
            else:
                self._ready[key] = max((self.ready(a, axes) for a in self.needs(n)), default=0)
        return self._ready[key]

    def _own(self, n: int) -> int:
        """The phase in which a product or sum is taken."""
        argument, taken = self.argument(n)
        carried = self.carry(argument, taken) >= 0
        return 0 if carried else self.ready(argument, taken) + 1

    def argument(self, n: int) -> tuple[int, Axes]:
        """What a product or sum is of, and over which axes it lies."""
        node = self.graph[n]
        if node.op == "product":
            return node.args[0], tuple(map(str, node.attrs[1:]))
        return node.args[0], self.graph[node.args[0]].axes

    def carry(self, n: int, axes: Axes) -> int:
        """The carry that a node is before the step, as it lies over some axes; -1: none."""
        node = self.graph[n]
        place = int(node.attrs[0]) if node.op == "prev" else -1
        return place if place >= 0 and self.kernel.carries[place].axes == axes else -1

    def vector(self, n: int, axes: Axes) -> int:
        """The vector of a node, laid down by the first pass that can."""
        if n not in self.vectors:
            self.vectors[n] = len(self.axes)
            self.axes.append(axes)
            sink = Sink("vector", self.vectors[n], n, axes)
            self._pass(self.ready(n, axes), axes).sinks.append(sink)
        return self.vectors[n]

    def _take(self, n: int) -> None:
        """Enter a product or sum into its pass."""
        argument, taken = self.argument(n)
        if self.carry(argument, taken) < 0:
            self.vector(argument, taken)
        mine = self._pass(self._own(n), self.graph[n].axes)
        (mine.products if self.graph[n].op == "product" else mine.reductions).append(n)

    def _lay_down(self) -> None:
        """Give vectors to what a later pass reads and does not take or compute itself."""
        while True:
            wanted: dict[int, Axes] = {}
            for p in self._passes.values():
                for n in self.computed(p):
                    node = self.graph[n]
                    if node.op in ACROSS and (self._own(n), node.axes) != (p.phase, p.axes):
                        wanted[n] = node.axes
                    dear = node.op in POINTWISE and node.op not in _CHEAP
                    if dear and node.axes == p.axes and self.ready(n, p.axes) < p.phase:
                        wanted[n] = node.axes
            new = [n for n in sorted(wanted) if n not in self.vectors]
            if not new:
                return
            # The last alone: with it there, what it is made of may not be wanted any more.
            self.vector(new[-1], wanted[new[-1]])

    def laid_down(self, n: int, p: Pass) -> bool:
        """Whether a pass reads a node from its vector."""
        if n not in self.vectors:
            return False
        axes = self.axes[self.vectors[n]]
        made = self.ready(n, axes)
        return (
            made < p.phase
            and set(axes) <= set(p.axes)
            and (
                # another thread's only after all have met: those of other axes
                axes == p.axes or self.graph[n].op in ACROSS
            )
        )

    def computed(self, p: Pass) -> list[int]:
        """The nodes that a pass reads or computes, in order."""

        def needs(n: int) -> tuple[int, ...]:
            there = self.graph[n].op in ACROSS or self.laid_down(n, p)
            return () if there else self.needs(n)

        return sorted(reachable(self.graph, [s.node for s in p.sinks], needs))

    def meets(self) -> bool:
        """Whether entries of a carry are read that another thread may have written."""
        for p in self.passes:
            for n in (*p.products, *p.reductions):
                argument, taken = self.argument(n)
                if self.carry(argument, taken) >= 0:
                    return True
            for n in self.computed(p):
                if self.graph[n].op == "prev" and self.graph[n].axes != p.axes:
                    return True
        return False
