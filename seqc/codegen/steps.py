"""A step as text: loops over lanes and along the inner axes, in an order, and no layout.

``phases.py`` says which loop computes what.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from seqc.codegen.expressions import TRUTHS, Names, expression, literal
from seqc.codegen.phases import Place, Sink, StepOrder
from seqc.ir.graph import Node
from seqc.ir.kernel import Kernel
from seqc.ir.ops import GATHERED
from seqc.ir.schedule import Step

_INDENT = "  "


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


class StepPrinter(StepOrder):
    """Prints one step.

    ``slots`` gives the position in the signature of (role, index); ``inner`` the bit of an axis.
    """

    def __init__(self, step: Step, kernel: Kernel, slots: dict[tuple[str, int], int]) -> None:
        super().__init__(step, kernel)
        self.slots, self.names = slots, Names()
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

    # --- the text

    def lines(self) -> list[str]:
        """The body of the step's function."""
        graph = self.graph
        last = max([0, *self.phase.values()])
        out: list[str] = []
        for p in range(last + 1):
            head = Loop()
            for n in self.live:
                if self.phase[n] == p and not self.place(n).inner and graph[n].op not in GATHERED:
                    self._print(n, head, head)
            mine = {n: graph[n].args[0] for n in self.sums if self.phase[graph[n].args[0]] == p}
            handed = [s for s in self.along if self.handed_at[s.place.inner] == p]
            done = [s for s in self.sinks if not s.place.inner] if p == last else []
            if mine or handed:
                out += self._declare(p)
                out += head.lines()
                # A loop for each set of axes, larger sets first: none reads a carry that one
                # before it has overwritten.
                masks = {self.place(source).inner for source in mine.values()}
                masks |= {s.place.inner for s in handed}
                for mask in sorted(masks, key=lambda m: (-m.bit_count(), m)):
                    sums_here = {n: x for n, x in mine.items() if self.place(x).inner == mask}
                    out += self._along(
                        mask, sums_here, [s for s in handed if s.place.inner == mask]
                    )
                head = Loop()
                for s in done:
                    self._sink(s, head)
                out += head.lines()
            else:
                out += self._declare(p)
                for s in done:
                    self._sink(s, head)
                out += head.lines()
        return out

    def _declare(self, p: int) -> list[str]:
        """The values of a phase that later loops read."""
        out = []
        for n in self.live:
            if n in self.arrays and self.phase[n] == p:
                kind = "Truths" if self.graph[n].op in TRUTHS else "Lanes"
                out.append(f"typename R::{kind} {self.arrays[n]};")
        return out

    def _along(self, mask: int, sums: dict[int, int], sinks: list[Sink]) -> list[str]:
        """A loop along some of the inner axes."""
        every = (1 << len(self.kernel.inner)) - 1
        which_axes = "" if mask == every else f"Index<{mask}>{{}}, "
        graph, out = self.graph, list[str]()
        kept, rows = dict(self.values), dict(self.rows)
        totals: dict[int, str] = {}
        for n, source in sums.items():
            kind = self.kind(n)
            name = self.names.fresh(f"v{n}_{kind}")
            totals[n] = name
            neutral = {"max": literal(float("-inf")), "min": literal(float("inf"))}.get(kind)
            if self.place(n).inner:
                which = self.first_partial + len(self.masks)
                self.masks.append(self.mask(graph[source if kind == "rename" else n].axes))
                more = f", {neutral}" if neutral else ""
                out.append(f"auto {name} = r.partial(Index<{which}>{{}}{more});")
            elif self.place(source).lane:
                out.append(f"typename R::Lanes {name}{{}};")
                if neutral:
                    fill = f"{name}[c] = {neutral};"
                    out.append(f"r.lanes([&](const auto c) SEQC_LAMBDA {{ {fill} }});")
            else:
                out.append(f"State {name} = {neutral or 'State(0)'};")
        loop = Loop()
        for n in self.computed([*sums.values(), *(s.node for s in sinks)]):
            self._print(n, loop, loop)
        for n, source in sums.items():
            value = self._operand(source, loop)
            if self.place(n).inner:
                row = self.names.fresh(f"{totals[n]}_row")
                loop.before.append(f"auto {row} = {totals[n]}.at(s);")
                loop.lanes.append(self._joined(n, f"{row}[c]", value))
            elif self.place(source).lane:
                loop.lanes.append(self._joined(n, f"{totals[n]}[c]", value))
            else:
                loop.before.append(self._joined(n, totals[n], value))
        for s in sinks:
            self._sink(s, loop)
        out.append(f"r.inner({which_axes}[&](const auto& s) SEQC_LAMBDA {{")
        out += [_INDENT + line for line in loop.lines()]
        out.append("});")
        # What is along the inner axes is computed again where it is needed.
        self.values, self.rows = kept, rows
        for n, name in totals.items():
            if self.kind(n) == "sum":
                out.append(f"r.across({which_axes}{name});")
            if self.place(n).inner:  # read, along the axes left, through a row
                self.rows["partial", n] = name
            else:
                self.values[n] = f"{name}[c]" if self.place(sums[n]).lane else name
        return out

    def kind(self, n: int) -> str:
        """What becomes of terms along inner axes: their sum, max, min; rename: they stay apart."""
        node = self.graph[n]
        return "rename" if node.op == "rename" else str(node.attrs[0])

    def _joined(self, n: int, name: str, value: str) -> str:
        """The statement that takes one more term in."""
        match self.kind(n):
            case "sum":
                return f"{name} += {value};"
            case "rename":
                return f"{name} = {value};"
            case kind:
                return f"{name} = seqc::{kind}({name}, {value});"

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
            self.values[n] = self._operand(node.args[0], rows)
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
            code = f"{self.rows['partial', a]}.at(s{self._renamed(a)})"
            row = self._row(("partial row", a), f"v{a}", code, loop)
            return f"{row}[c]"
        return self.values[a]

    def _renamed(self, n: int) -> str:
        """Along which inner axis each axis of terms is read that are called otherwise."""
        node = self.graph[n]
        if node.op != "rename":
            return ""
        names = dict(zip(map(str, node.attrs[::2]), map(str, node.attrs[1::2]), strict=True))
        own = [a for a in self.kernel.inner if a in self.graph[node.args[0]].axes]
        return "".join(f", Index<{self.kernel.inner.index(names.get(a, a))}>{{}}" for a in own)

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

    def _sink(self, s: Sink, loop: Loop) -> None:
        """Hand a value out."""
        value = self._operand(s.node, loop)
        here = ", s" if s.place.inner else ""
        match s.kind:
            case "carry":
                row = self._carry(s.index, s.place, loop)
                loop.lanes.append(f"{row}[c] = {value};")
            case "total":
                code = f"r.sum(Index<{s.index}>{{}}{here})"
                row = self._row(("total", s.index), s.name, code, loop, mutable=True)
                loop.lanes.append(f"{row}[c] += {value};")
            case _:
                code = f"r.out(Index<{self.slots['output', s.index]}>{{}}{here})"
                row = self._row(("output", s.index), s.name, code, loop, mutable=True)
                loop.lanes.append(f"{row}.set(c, {value});")
                loop.after.append(f"{row}.put();")

    def _comment(self, node: Node, lines: list[str]) -> None:
        """The spec's line that a statement comes from, once."""
        span = node.span
        if span is not None and span.line != self._line:
            self._line = span.line
            text = span.source.line(span.line).strip().replace("\\", "/")
            lines.append(f"// {span.source.name.rsplit('/', 1)[-1]}:{span.line}: {text}")
