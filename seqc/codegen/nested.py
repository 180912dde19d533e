"""A kernel that sums over an axis, as phases of loops for the targets' templates to lay out.

A cell has all of one axis, ``inner``; neighbouring cells lie along ``lane``.  What does not span
the inner axis is computed once a step, the rest in a loop over it; a sum over it ends such a
loop, so that what needs the sum comes in the next *phase*.  Values that an inner loop needs
again in a later phase are computed again: they are cheaper than the memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from seqc.codegen.names import Namer
from seqc.codegen.steps import CONDITIONS_AND_KEEP, Rows, expression
from seqc.diagnostics import Span
from seqc.ir.graph import Graph, reachable


@dataclass(frozen=True)
class Place:
    """Where a value lives: has it an element a lane, an element along the inner axis, both."""

    lane: bool
    inner: bool


def placed(axes: tuple[str, ...], inner: str, lane: str | None) -> Place:
    """Where a value over some axes lives; without a lane axis there is one lane."""
    return Place(lane is None or lane in axes, inner in axes)


@dataclass(frozen=True)
class Leaf:
    """How a step names something it reads, where that lives, and whether it moves with time."""

    name: str
    place: Place
    moves: bool = False


@dataclass(frozen=True)
class Sink:
    """Something a step hands out: ``kind`` says how (store, add, carry), ``name`` where to.

    ``folds``: the value is summed over the lanes on the way.
    """

    kind: str
    name: str
    node: int
    place: Place
    folds: bool = False


@dataclass
class Phase:
    """One round: once a row, once a lane, then along the inner axis once a row and once a lane.

    ``kept`` are the lane values, with their types, that later loops may read; ``lane_reads`` and
    ``inner_reads`` what is read a row of lanes at a time; ``sums`` the totals of the inner loop,
    each with whether it has an element a lane; ``sinks`` by the loop that they stand in.
    """

    row: list[str] = field(default_factory=list)
    lane: list[str] = field(default_factory=list)
    inner_row: list[str] = field(default_factory=list)
    inner_lane: list[str] = field(default_factory=list)
    kept: list[tuple[str, str]] = field(default_factory=list)
    sums: list[tuple[str, bool]] = field(default_factory=list)
    lane_reads: list[Leaf] = field(default_factory=list)
    inner_reads: list[Leaf] = field(default_factory=list)
    lane_sinks: list[tuple[Sink, str]] = field(default_factory=list)
    inner_sinks: list[tuple[Sink, str]] = field(default_factory=list)
    loops: bool = False


class Phases:
    """Sorts a body's nodes into phases and prints them."""

    def __init__(
        self, graph: Graph, inner: str, lane: str | None, leaves: dict[tuple[str, int], Leaf],
        sinks: list[Sink], taken: Iterable[str], dialect: Rows,
    ) -> None:  # fmt: skip
        self.graph = graph
        self.inner, self.lane = inner, lane
        self.leaves = leaves
        self.sinks = sinks
        self.namer = Namer(frozenset(taken))
        self.dialect = dialect
        roots = [s.node for s in sinks]
        self.live = sorted(reachable(graph, roots))
        self.phase = self._number()
        self.names: dict[int, str] = {}
        #: what each name needs to be read as: a value at hand, or an element a lane
        self.arrays: set[str] = set()
        self.used: dict[str, None] = {}
        self._line: int | None = None

    def place(self, n: int) -> Place:
        """Where a node's value lives."""
        return placed(self.graph[n].axes, self.inner, self.lane)

    def _number(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for n in self.live:
            node = self.graph[n]
            found[n] = max((found[a] for a in node.args), default=0) + (node.op == "reduce")
        return found

    def build(self) -> list[Phase]:
        """The phases, in order."""
        graph = self.graph
        inner_sinks = [s for s in self.sinks if s.place.inner]
        sums = [n for n in self.live if graph[n].op == "reduce"]
        last = max([0, *(self.phase[n] for n in self.live)])
        # A carry is overwritten where nothing will read what it was before: in the last loop.
        loops = [self.phase[graph[n].args[0]] for n in sums]
        loops += [self.phase[s.node] for s in inner_sinks]
        final = max(loops, default=-1)
        phases = []
        for p in range(last + 1):
            roots = {n: graph[n].args[0] for n in sums if self.phase[graph[n].args[0]] == p}
            mine = inner_sinks if p == final else []
            phases.append(self._phase(p, roots, mine))
        done = [s for s in self.sinks if s not in inner_sinks]
        phases[-1].lane_sinks = [(s, self.value(s.node)) for s in done]
        self._keep(phases)
        return phases

    def _phase(self, p: int, sums: dict[int, int], sinks: list[Sink]) -> Phase:
        phase = Phase()
        cells = [n for n in self.live if self.phase[n] == p and not self.place(n).inner]
        for n in cells:
            if self.graph[n].op != "reduce":
                self._print(n, phase.lane if self.place(n).lane else phase.row, phase.lane_reads)
        wanted = reachable(self.graph, [*sums.values(), *(s.node for s in sinks)])
        inside = [n for n in sorted(wanted) if self.place(n).inner]
        phase.loops = bool(sums or sinks)
        for n in inside:
            where = phase.inner_lane if self.place(n).lane else phase.inner_row
            self._print(n, where, phase.inner_reads)
        for n, source in sums.items():
            lane = self.place(source).lane
            total = self.namer.fresh(f"v{n}_sum")
            phase.sums.append((total, lane))
            element = self.dialect.element(total) if lane else total
            where = phase.inner_lane if lane else phase.inner_row
            where.append(f"{element} += {self.value(source)};")
            self.names[n] = total
            if lane:
                self.arrays.add(total)
        phase.inner_sinks = [(s, self.value(s.node)) for s in sinks]
        for n in inside:  # what a later loop needs, it computes again
            self.names.pop(n)
        return phase

    def _keep(self, phases: list[Phase]) -> None:
        """Declare the lane values, which other loops may read."""
        # A node that stands for another has its name, and comes after it.
        declared = {total for phase in phases for total, _ in phase.sums}
        for n in self.live:
            name = self.names.get(n, "")
            if name in self.arrays and name not in declared:
                declared.add(name)
                kind = "bool" if self.graph[n].op in CONDITIONS_AND_KEEP else "State"
                phases[self.phase[n]].kept.append((name, kind))

    def value(self, n: int) -> str:
        """A node's value as a statement reads it."""
        name = self.names[n]
        return self.dialect.element(name) if name in self.arrays else name

    def _print(self, n: int, lines: list[str], reads: list[Leaf]) -> None:
        node = self.graph[n]
        if node.op == "const":
            self.names[n] = self.dialect.literal(float(node.attrs[0]))
            return
        if node.op in ("stop", "graft"):
            self.names[n] = self.names[node.args[0]]
            return
        place = self.place(n)
        index = node.attrs[0] if node.attrs else 0
        leaf = self.leaves.get((node.op, int(index))) if isinstance(index, int) else None
        if node.op == "size":
            self.names[n] = f"State(extent_{node.attrs[0]})"
            return
        if leaf is not None:
            self.used[leaf.name] = None
            if leaf not in reads and leaf.moves and leaf.place.lane:
                reads.append(leaf)
            code = self.dialect.leaf(node.op, leaf.name, leaf.place.lane, leaf.place.inner)
            if node.op == "scalar":
                self.names[n] = code
                return
            if node.op == "keep":
                code = f"{code} != 0"
            name = self.namer.fresh(f"{leaf.name}_c")
        else:
            self._comment(node.span, lines)
            code = expression(node, [self.value(a) for a in node.args])
            name = self.namer.fresh(f"v{n}")
        kind = "bool" if node.op in CONDITIONS_AND_KEEP else "State"
        if place.lane and not place.inner:
            self.names[n] = name
            self.arrays.add(name)
            lines.append(f"{self.dialect.element(name)} = {code};")
        else:
            self.names[n] = name
            lines.append(f"const {kind} {name} = {code};")

    def _comment(self, span: Span | None, lines: list[str]) -> None:
        if span is not None and span.line != self._line:
            self._line = span.line
            text = span.source.line(span.line).strip().replace("\\", "/")
            lines.append(f"// {span.source.name.rsplit('/', 1)[-1]}:{span.line}: {text}")
