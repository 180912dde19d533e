"""A step as text: loops over lanes and along the inner axes, in an order, and no layout.

A cell has all of the inner axes; neighbouring cells lie along the lane.  What spans no inner axis
is computed once a step, the rest in a loop along them; a sum ends such a loop, so that what needs
it comes in the next *phase*.  Values that a loop along the inner axes needs again in a later phase
are computed again: they are cheaper than the memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from seqc.codegen.expressions import TRUTHS, Names, expression, literal
from seqc.ir.graph import Node
from seqc.ir.kernel import Kernel
from seqc.ir.schedule import Step

_INDENT = "  "


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


@dataclass
class Loop:
    """The lines before a loop over lanes, those in it, and those after it."""

    before: list[str] = field(default_factory=list)
    lanes: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """As text."""
        yield from self.before
        if self.lanes:
            yield "r.lanes([&](const auto c) SEQC_LAMBDA {"
            yield from (_INDENT + line for line in self.lanes)
            yield "});"
        yield from self.after


class StepPrinter:
    """Prints one step.

    ``slots`` gives the position in the signature of (role, index); ``inner`` the bit of an axis.
    """

    def __init__(self, step: Step, kernel: Kernel, slots: dict[tuple[str, int], int]) -> None:
        self.step, self.kernel, self.slots = step, kernel, slots
        self.graph = step.body
        self.names = Names()
        self._places: list[Place] = []
        for n in range(len(self.graph)):
            self._places.append(self._find_place(n))
        self.sinks = list(self._sinks())
        roots = [s.node for s in self.sinks]
        self.live = sorted(self._reachable(roots))
        self.phase: dict[int, int] = {}
        for n in self.live:
            node = self.graph[n]
            below = max((self.phase[a] for a in self.needs(n)), default=0)
            self.phase[n] = below + (node.op == "reduce")
        #: how a value is read in the loop at hand
        self.values: dict[int, str] = {}
        #: rows of lanes that have been taken, by the node of a leaf or the sink
        self.rows: dict[object, str] = {}
        #: sums over some of several inner axes: how many steps before this one had, the masks of
        #: the axes left, and which of them a node is
        self.first_partial = 0
        self.masks: list[int] = []
        #: values that lie in lanes between loops
        self.arrays: dict[int, str] = {}
        self.reads_states = any(self.graph[n].op == "before" for n in self.live)
        self._line: int | None = None

    # --- what there is

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
        if node.op == "reduce":
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

    def _reachable(self, roots: list[int]) -> set[int]:
        seen: set[int] = set()
        stack = list(roots)
        while stack:
            n = stack.pop()
            if n not in seen:
                seen.add(n)
                stack.extend(self.needs(n))
        return seen

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

    # --- the text

    def lines(self) -> list[str]:
        """The body of the step's function."""
        graph = self.graph
        every = (1 << len(self.kernel.inner)) - 1
        along = [s for s in self.sinks if s.place.inner]
        sums = [n for n in self.live if graph[n].op == "reduce"]
        last = max([0, *self.phase.values()])
        # A carry is overwritten where nothing will read what it was before: in the last loop.
        loops = [self.phase[graph[n].args[0]] for n in sums] + [self.phase[s.node] for s in along]
        final = max(loops, default=-1)
        self._share(final)
        out: list[str] = []
        for p in range(last + 1):
            head = Loop()
            for n in self.live:
                if self.phase[n] == p and not self.place(n).inner and graph[n].op != "reduce":
                    self._print(n, head, head)
            mine = {n: graph[n].args[0] for n in sums if self.phase[graph[n].args[0]] == p}
            handed = along if p == final else []
            done = [s for s in self.sinks if not s.place.inner] if p == last else []
            if mine or handed:
                out += self._declare(p)
                out += head.lines()
                out += self._along(p, mine, handed, every)
                head = Loop()
                for s in done:
                    self._sink(s, head, every)
                out += head.lines()
            else:
                out += self._declare(p)
                for s in done:
                    self._sink(s, head, every)
                out += head.lines()
        return out

    def _share(self, final: int) -> None:
        """Which values that lie in lanes are read by another loop than the one they are made in."""
        graph = self.graph
        last = max([0, *self.phase.values()])
        loops = {self.phase[graph[n].args[0]] for n in self.live if graph[n].op == "reduce"}
        if final >= 0:
            loops.add(final)
        readers: dict[int, set[object]] = {}
        for s in self.sinks:
            if s.place.inner:
                readers.setdefault(s.node, set()).add(("along", final))
            else:
                own = ("lanes", last) if last not in loops else ("end", last)
                readers.setdefault(s.node, set()).add(own)
        for n in reversed(self.live):
            inside = self.place(n).inner or graph[n].op == "reduce"
            where: set[object]
            if graph[n].op == "reduce" and not self.place(graph[n].args[0]).inner:
                where = {("along", self.phase[graph[n].args[0]])}
            elif inside:
                # Computed again in every loop that needs it: any later one.
                where = {("along", p) for p in loops if p >= self.phase[n]} | (
                    {("along", self.phase[graph[n].args[0]])} if graph[n].op == "reduce" else set()
                )
            else:
                where = {("lanes", self.phase[n])}
            if graph[n].op in ("stop", "graft"):  # another name for what it is of
                where |= readers.get(n, set())
            for a in self.needs(n):
                readers.setdefault(a, set()).update(where)
        self.shared = {
            n
            for n, found in readers.items()
            if not self.place(n).inner
            and self.place(n).lane
            and graph[n].op != "reduce"
            and found - {("lanes", self.phase[n])}
        }

    def _declare(self, p: int) -> list[str]:
        """The values of a phase that later loops read."""
        out = []
        for n in self.live:
            if n in self.arrays and self.phase[n] == p:
                kind = "Truths" if self.graph[n].op in TRUTHS else "Lanes"
                out.append(f"typename R::{kind} {self.arrays[n]};")
        return out

    def _along(self, p: int, sums: dict[int, int], sinks: list[Sink], every: int) -> list[str]:
        """A loop along the inner axes."""
        graph = self.graph
        out: list[str] = []
        kept, rows = dict(self.values), dict(self.rows)
        totals: dict[int, str] = {}
        for n, source in sums.items():
            name = self.names.fresh(f"v{n}_sum")
            totals[n] = name
            if self.place(n).inner:
                which = self.first_partial + len(self.masks)
                self.masks.append(self.place(n).inner)
                out.append(f"auto {name} = r.partial(Index<{which}>{{}});")
            elif self.place(source).lane:
                out.append(f"typename R::Lanes {name}{{}};")
            else:
                out.append(f"State {name} = State(0);")
        loop = Loop()
        wanted = self._reachable([*sums.values(), *(s.node for s in sinks)])
        for n in sorted(wanted):
            if self.place(n).inner and graph[n].op != "reduce":
                self._print(n, loop, loop)
        for n, source in sums.items():
            value = self._operand(source, loop)
            if self.place(n).inner:
                row = self.names.fresh(f"{totals[n]}_row")
                loop.before.append(f"auto {row} = {totals[n]}.at(s);")
                loop.lanes.append(f"{row}[c] += {value};")
            elif self.place(source).lane:
                loop.lanes.append(f"{totals[n]}[c] += {value};")
            else:
                loop.before.append(f"{totals[n]} += {value};")
        for s in sinks:
            self._sink(s, loop, every)
        out.append("r.inner([&](const auto& s) SEQC_LAMBDA {")
        out += [_INDENT + line for line in loop.lines()]
        out.append("});")
        # What is along the inner axes is computed again where it is needed.
        self.values, self.rows = kept, rows
        for n, name in totals.items():
            out.append(f"r.across({name});")
            if self.place(n).inner:  # read, along the axes left, through a row
                self.rows["partial", n] = name
            else:
                self.values[n] = f"{name}[c]" if self.place(sums[n]).lane else name
        return out

    def _row(self, key: object, name: str, code: str, loop: Loop, mutable: bool = False) -> str:
        """The name of a row of lanes, taken before the loop over them."""
        found = self.rows.get(key)
        if found is None:
            found = self.rows[key] = self.names.of_spec(name)
            loop.before.append(f"{'' if mutable else 'const '}auto {found} = {code};")
        return found

    def _print(self, n: int, rows: Loop, loop: Loop) -> None:
        """A node: the statement that computes it, or what stands for it."""
        node = self.graph[n]
        if node.op == "const":
            self.values[n] = literal(float(node.attrs[0]))
            return
        if node.op in ("stop", "graft"):
            self.values[n] = self.values[node.args[0]]
            return
        place = self.place(n)
        lines = loop.lanes if place.lane else loop.before
        code = self._leaf(n, node, place, rows)
        if code is None:
            args = [self._operand(a, rows) for a in self.needs(n)]
            self._comment(node, lines)
            code = expression(node, args)
            wish = f"v{n}"
        else:
            if not place.lane and code.startswith("s_"):
                self.values[n] = code  # already a value at hand
                return
            if n in self.shared and node.op != "prev":
                self.values[n] = (
                    code  # read anew in each loop; what a carry was may be gone by then
                )
                return
            wish = f"{code.removesuffix('[c]')}_c" if place.lane else f"v{n}"
        kind = "bool" if node.op in TRUTHS else "State"
        name = self.names.fresh(wish)
        if n in self.shared:
            self.arrays[n] = name
            self.values[n] = f"{name}[c]"
            lines.append(f"{name}[c] = {code};")
        else:
            self.values[n] = name
            lines.append(f"const {kind} {name} = {code};")

    def _operand(self, a: int, loop: Loop) -> str:
        if a not in self.values and ("partial", a) in self.rows:
            row = self._row(("partial row", a), f"v{a}", f"{self.rows['partial', a]}.at(s)", loop)
            return f"{row}[c]"
        return self.values[a]

    def _leaf(self, n: int, node: Node, place: Place, rows: Loop) -> str | None:
        """How a leaf is read; None for an operation."""
        k = self.kernel
        here = ", s" if place.inner else ""
        match node.op:
            case "load" | "constant" | "keep":
                role = {"load": "stream", "constant": "constant", "keep": "mask"}[node.op]
                i = int(node.attrs[0])
                entries = {"stream": k.streams, "constant": k.constants, "mask": k.masks}
                spec_name = entries[role][i].name  # type: ignore[attr-defined]
                slot = f"Index<{self.slots[role, i]}>{{}}"
                if place.lane:
                    return f"{self._row((role, i), spec_name, f'r.row({slot}{here})', rows)}[c]"
                return self._row((role, i), spec_name, f"r.value({slot}{here})", rows)
            case "before":
                i = int(node.attrs[0])
                code = f"r.before(Index<{i}>{{}}{here})"
                return f"{self._row(('before', i), k.befores[i].name, code, rows)}[c]"
            case "prev":
                i = int(node.attrs[0])
                return f"{self._carry(i, place, rows)}[c]"
            case "scalar":
                i = int(node.attrs[0])
                return self._row(("scalar", i), k.scalars[i], f"r.scalar({i})", rows)
            case "size":
                return f"r.extent({k.axes.index(str(node.attrs[0]))})"
            case "index":
                axis = str(node.attrs[0])
                if axis in k.inner:
                    return f"r.along(s, {k.inner.index(axis)})"
                return "r.lane(c)" if axis == k.lane else f"r.outer({k.axes.index(axis)})"
        return None

    def _carry(self, i: int, place: Place, loop: Loop) -> str:
        here = ", s" if place.inner else ""
        code = f"r.carry(Index<{i}>{{}}{here})"
        return self._row(("carry", i), self.step.carries[i].name, code, loop, mutable=True)

    def _sink(self, s: Sink, loop: Loop, every: int) -> None:
        """Hand a value out."""
        value = self._operand(s.node, loop)
        here = ", s" if s.place.inner else ""
        # Along some of several inner axes: the last round there has the value that counts.
        once = s.place.inner not in (0, every)
        guard = ""
        if once:
            guard = self._row(("last", s.place.inner), "last", f"r.last(s, {s.place.inner}u)", loop)
        match s.kind:
            case "carry":
                row = self._carry(s.index, s.place, loop)
                loop.lanes.append(f"{f'if ({guard}) ' if guard else ''}{row}[c] = {value};")
            case "total":
                code = f"r.sum(Index<{s.index}>{{}}{here})"
                row = self._row(("total", s.index), s.name, code, loop, mutable=True)
                loop.lanes.append(f"{f'if ({guard}) ' if guard else ''}{row}[c] += {value};")
            case _:
                code = f"r.out(Index<{self.slots['output', s.index]}>{{}}{here})"
                row = self._row(("output", s.index), s.name, code, loop, mutable=True)
                loop.lanes.append(f"{row}.set(c, {value});")
                loop.after.append(f"{f'if ({guard}) ' if guard else ''}{row}.put();")

    def _comment(self, node: Node, lines: list[str]) -> None:
        """The spec's line that a statement comes from, once."""
        span = node.span
        if span is not None and span.line != self._line:
            self._line = span.line
            text = span.source.line(span.line).strip().replace("\\", "/")
            lines.append(f"// {span.source.name.rsplit('/', 1)[-1]}:{span.line}: {text}")
