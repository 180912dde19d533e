"""In what order a step is computed: where each value lives, and which loop computes it.

A cell has all of the inner axes; neighbouring cells lie along the lane.  What spans no inner axis
is computed once a step, the rest in a loop along them; a sum ends such a loop, so that what needs
it comes in the next *phase*.  Values that a loop along the inner axes needs again in a later phase
are computed again: they are cheaper than the memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from seqc.ir.graph import reachable
from seqc.ir.kernel import Kernel
from seqc.ir.ops import GATHERED
from seqc.ir.schedule import Step


@dataclass(frozen=True)
class Place:
    """Where a value lives: whether it has an element a lane, and its inner axes as a mask."""

    lane: bool
    inner: int


@dataclass(frozen=True)
class Sink:
    """Something that a step hands out: how (carry, total, store, fold), and its position there."""

    kind: str
    index: int
    name: str
    node: int
    place: Place


class StepOrder:
    """The values of a step in phases, what it hands out, and when.

    ``along`` is what is handed out along inner axes, ``handed_at`` the phase of that, by those axes
    as bits; ``shared`` are values in lanes that another loop reads than the one they are made in.
    """

    def __init__(self, step: Step, kernel: Kernel) -> None:
        self.step, self.kernel = step, kernel
        self.graph = step.body
        self._places: list[Place] = []
        for n in range(len(self.graph)):
            self._places.append(self._find_place(n))
        self.sinks = list(self._sinks())
        roots = [s.node for s in self.sinks]
        self.live = sorted(reachable(self.graph, roots, self.needs))
        self.phase: dict[int, int] = {}
        for n in self.live:
            node = self.graph[n]
            below = max((self.phase[a] for a in self.needs(n)), default=0)
            self.phase[n] = below + (node.op in GATHERED)
        self.sums = [n for n in self.live if self.graph[n].op in GATHERED]
        self.along = [s for s in self.sinks if s.place.inner]
        self.handed_at = self._handed(self.along, self.sums)
        self.shared = self._shared(self.handed_at)

    def mask(self, axes: tuple[str, ...]) -> int:
        """The inner axes among some, as bits."""
        return sum(1 << m for m, a in enumerate(self.kernel.inner) if a in axes)

    def placed(self, axes: tuple[str, ...]) -> Place:
        """Where something over some axes lives; without a lane axis there is one lane."""
        lane = self.kernel.lane
        return Place(lane is None or lane in axes, self.mask(axes))

    def place(self, n: int) -> Place:
        """Where a node's value lives."""
        return self._places[n]

    def _find_place(self, n: int) -> Place:
        node = self.graph[n]
        if node.op in ("prev", "before"):  # carries always lie in lanes
            return Place(True, self.mask(node.axes))
        if node.op in GATHERED:
            # What is left of a sum over some of several axes is kept in lanes.
            inner = self.mask(node.axes)
            return Place(self.place(node.args[0]).lane or bool(inner), inner)
        if node.args:
            found = [self.place(a) for a in self.needs(n)]
            return Place(any(p.lane for p in found), self.mask(node.axes))
        return self.placed(node.axes) if node.axes else Place(False, 0)

    def needs(self, n: int) -> tuple[int, ...]:
        """What a node's value is computed from: not what only its derivative is."""
        node = self.graph[n]
        return node.args[:1] if node.op in ("graft", "stop") else node.args

    def _sinks(self) -> Iterator[Sink]:
        lane = self.kernel.lane
        for i, c in enumerate(self.step.carries):
            yield Sink("carry", i, c.name, c.after, Place(True, self.mask(c.axes)))
        for i, o in enumerate(self.step.outputs):
            folds = bool(self.kernel.inner) and lane is not None and lane not in o.axes
            kind = "fold" if folds else "store"
            yield Sink(kind, i, f"{o.name}_out", o.node, Place(True, self.mask(o.axes)))
        for i, t in enumerate(self.step.totals):
            yield Sink("total", i, f"{t.name}_total", t.node, Place(True, self.mask(t.axes)))

    def _handed(self, along: list[Sink], sums: list[int]) -> dict[int, int]:
        """The phase in which what has some inner axes (a mask) is handed out.

        A carry is overwritten where nothing will read what it was before: in the last loop, or in
        an earlier one along its axes of which that is so.
        """
        graph, source = self.graph, {n: self.graph[n].args[0] for n in sums}
        phases = [self.phase[m] for m in source.values()] + [self.phase[s.node] for s in along]
        found: dict[int, int] = {}
        for mask in dict.fromkeys(s.place.inner for s in along):
            mine = [s for s in along if s.place.inner == mask]
            ready = max(self.phase[s.node] for s in mine)
            there = [self.phase[m] for m in source.values() if self.place(m).inner == mask]
            found[mask] = max(phases)
            if max(there, default=-1) < ready:
                continue
            phase = max(there)
            later = [m for m in source.values() if self.phase[m] > phase]
            later += [s.node for s in along if s not in mine]
            carries = {s.index for s in mine if s.kind == "carry"}
            read = {
                graph[n].attrs[0] for n in self.computed(later) if graph[n].op == "prev"
            }  # fmt: skip
            if not carries & read:
                found[mask] = phase
        return found

    def _shared(self, handed_at: dict[int, int]) -> set[int]:
        """Which values that lie in lanes are read by another loop than the one they are made in."""
        graph = self.graph
        last = max([0, *self.phase.values()])
        loops = {self.phase[graph[n].args[0]] for n in self.live if graph[n].op in GATHERED}
        loops.update(handed_at.values())
        readers: dict[int, set[object]] = {}
        for s in self.sinks:
            if s.place.inner:
                readers.setdefault(s.node, set()).add(("along", handed_at[s.place.inner]))
            else:
                own = ("lanes", last) if last not in loops else ("end", last)
                readers.setdefault(s.node, set()).add(own)
        for n in reversed(self.live):
            inside = self.place(n).inner or graph[n].op in GATHERED
            where: set[object]
            if graph[n].op in GATHERED and not self.place(graph[n].args[0]).inner:
                where = {("along", self.phase[graph[n].args[0]])}
            elif inside:
                # Computed again in every loop that needs it: any later one.
                where = {("along", p) for p in loops if p >= self.phase[n]} | (
                    {("along", self.phase[graph[n].args[0]])} if graph[n].op in GATHERED else set()
                )
            else:
                where = {("lanes", self.phase[n])}
            if graph[n].op in ("stop", "graft"):  # another name for what it is of
                where |= readers.get(n, set())
            for a in self.needs(n):
                readers.setdefault(a, set()).update(where)
        return {
            n
            for n, found in readers.items()
            if not self.place(n).inner
            and self.place(n).lane
            and graph[n].op not in GATHERED
            and found - {("lanes", self.phase[n])}
        }

    def computed(self, roots: list[int]) -> list[int]:
        """The values along inner axes that a loop computes itself: all but sums, found before."""
        found: set[int] = set()
        stack = list(roots)
        while stack:
            n = stack.pop()
            if n not in found and self.place(n).inner and self.graph[n].op not in GATHERED:
                found.add(n)
                stack.extend(self.needs(n))
        return sorted(found)
