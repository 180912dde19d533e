"""A kernel that steps as one struct: what it touches, and the passes of its step."""

from __future__ import annotations

from dataclasses import dataclass, field

from seqc.codegen.expressions import TRUTHS, Names, expression, literal
from seqc.codegen.kernel import KINDS, StructPrinter, TensorView
from seqc.codegen.passes import ACROSS, Axes, Pass, Passes, Sink
from seqc.codegen.templates import environment
from seqc.ir.graph import Node
from seqc.ir.schedule import Scheduled
from seqc.ir.signature import Parameter


@dataclass(frozen=True)
class PassView:
    """A pass: its tables' lines, and its function's body."""

    purpose: str
    axes: int
    lane: int
    first: int
    meets: bool
    products: list[str]
    reductions: list[str]
    lines: list[str]


@dataclass(frozen=True)
class SteppedView:
    """What the template of a struct reads as ``k``."""

    struct: str
    title: str
    axes: Axes
    tensors: list[TensorView]
    numbers: dict[str, int]
    scalars: list[str]
    back: bool
    meets: bool
    befores: list[str]
    vectors: list[int]
    carries: list[str]
    passes: list[PassView]


def print_stepped(scheduled: Scheduled, struct: str, kept_by: Scheduled | None = None) -> str:
    """The struct of a kernel that steps; ``kept_by`` is the one whose states it reads."""
    view = _Printer(scheduled, struct, kept_by).view()
    return environment().get_template("kernel/stepped.h.jinja").render(k=view)


class _Printer(StructPrinter):
    def __init__(self, scheduled: Scheduled, struct: str, kept_by: Scheduled | None) -> None:
        super().__init__(scheduled, struct, kept_by)
        self.order = Passes(scheduled)

    def view(self) -> SteppedView:
        k, order = self.kernel, self.order
        passes: list[PassView] = []
        first = 0
        for i, p in enumerate(order.passes):
            meets = i > 0 and order.passes[i - 1].phase != p.phase
            passes.append(self.passed(p, first, meets))
            first += len(p.products)
        direction = "backwards over time" if k.backward else "over time"
        return SteppedView(
            struct=self.struct,
            title=f"{k.name}: over (batch), {direction}, stepping over {', '.join(k.axes) or 1}.",
            axes=k.axes,
            tensors=[TensorView(p.name, self.fields(p)) for p in self.parameters],
            numbers={
                "kCount": len(self.parameters), "kScalars": len(k.scalars),
                "kResets": self.slot("resets", 0), "kBefores": len(k.befores),
                "kVectors": len(order.axes), "kProducts": first, "kPasses": len(passes),
            },
            scalars=list(k.scalars),
            back=k.backward,
            meets=order.meets(),
            befores=self.befores(),
            vectors=[self.mask(axes) for axes in order.axes],
            carries=[self.carry(i, c.axes, c.name) for i, c in enumerate(k.carries)],
            passes=passes,
        )  # fmt: skip

    def fields(self, p: Parameter) -> str:
        moves = str(p.moves or p.role in ("kept", "kept_state")).lower()
        return f"Kind::{KINDS[p.kind]}, {moves}, false, false, false, {self.mask(p.axes)}u"

    def carry(self, i: int, axes: Axes, name: str) -> str:
        numbers = ", ".join(str(self.slot(r, i)) for r in ("start", "fresh", "last", "kept"))
        return f"{{{numbers}, {self.mask(axes)}u}},  // {name}"

    # --- a pass

    def passed(self, p: Pass, first: int, meets: bool) -> PassView:
        lane = self.kernel.axes.index(p.axes[-1]) if p.axes else -1
        over = ", ".join(p.axes) or "one entry"
        return PassView(
            purpose=f"Over {over}{', once all before is there' if meets else ''}.",
            axes=self.mask(p.axes), lane=lane, first=first, meets=meets,
            products=[self.product(n) for n in p.products],
            reductions=[self.reduction(n) for n in p.reductions],
            lines=_PassLines(self, p).lines(),
        )  # fmt: skip

    def source(self, n: int) -> str:
        """The carry or vector that a product or sum is of."""
        argument, taken = self.order.argument(n)
        carry = self.order.carry(argument, taken)
        return f"{carry}, {-1 if carry >= 0 else self.order.vectors[argument]}"

    def product(self, n: int) -> str:
        node = self.kernel.body[n]
        index = int(self.kernel.body[node.args[1]].attrs[0])
        matrix, transposed = self.kernel.constants[index], bool(node.attrs[0])
        shared, rows = matrix.axes[: matrix.shared], matrix.axes[matrix.shared :]
        columns = matrix.columns or ()
        if transposed:
            rows, columns = columns, rows
        masks = ", ".join(f"{self.mask(axes)}u" for axes in (shared, rows, columns))
        turned = str(transposed != matrix.turned).lower()
        slot = self.slot("constant", index)
        name = f"{matrix.name}{', transposed' if transposed else ''}"
        return f"{{{slot}, {self.source(n)}, {masks}, {turned}}},  // {name}"

    def reduction(self, n: int) -> str:
        kind, axis = map(str, self.kernel.body[n].attrs)
        place = self.kernel.axes.index(axis)
        return f"{{Over::k{kind.title()}, {self.source(n)}, {place}}},  // over {axis}"


@dataclass
class _PassLines:
    """The body of a pass's function: rows, then a loop over entries, then what is finished."""

    printer: _Printer
    p: Pass
    before: list[str] = field(default_factory=list)
    lanes: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    values: dict[int, str] = field(default_factory=dict)
    rows: dict[object, str] = field(default_factory=dict)
    names: Names = field(default_factory=Names)
    line: int | None = None

    def lines(self) -> list[str]:
        order = self.printer.order
        for n in order.computed(self.p):
            self._print(n)
        for s in self.p.sinks:
            self._sink(s)
        loop = ["r.lanes([&](const auto c) SEQC_LAMBDA {", *(f"  {x}" for x in self.lanes), "});"]
        return [*self.before, *loop, *self.after]

    @property
    def lane(self) -> str | None:
        return self.p.axes[-1] if self.p.axes else None

    def _row(self, key: object, name: str, code: str, mutable: bool = False) -> str:
        found = self.rows.get(key)
        if found is None:
            found = self.rows[key] = self.names.of_spec(name)
            self.before.append(f"{'' if mutable else 'const '}auto {found} = {code};")
        return found

    def _entry(self, axes: Axes) -> str:
        """Where in a row taken at this place a value's own entry is."""
        return "[c]" if self.lane is None or self.lane in axes else "[0]"

    def _print(self, n: int) -> None:
        """A node: the statement that computes it, or what stands for it."""
        node = self.printer.kernel.body[n]
        if node.op == "const":
            self.values[n] = literal(float(node.attrs[0]))
            return
        code = self._leaf(n, node)
        if code is None:
            args = [self.values[a] for a in self.printer.order.needs(n)]
            if node.op in ("stop", "graft"):
                self.values[n] = args[0]
                return
            self._comment(node)
            code = expression(node, args)
        kind = "bool" if node.op in TRUTHS else "State"
        name = self.names.fresh(f"v{n}")
        self.lanes.append(f"const {kind} {name} = {code};")
        self.values[n] = name

    def _leaf(self, n: int, node: Node) -> str | None:
        k, p, order = self.printer.kernel, self.p, self.printer.order
        if order.laid_down(n, p):
            v = order.vectors[n]
            row = self._row(("vector", v), f"vector{v}", f"r.vector(Index<{v}>{{}})")
            return f"{row}{self._entry(order.axes[v])}"
        if node.op in ACROSS:
            mine, call = (p.products, "product") if node.op == "product" else (
                p.reductions, "reduced")  # fmt: skip
            q = mine.index(n)
            return f"{self._row((call, q), f'{call}{q}', f'r.{call}(Index<{q}>{{}})')}[c]"
        i = int(node.attrs[0]) if node.attrs and isinstance(node.attrs[0], int) else -1
        match node.op:
            case "load" | "constant" | "keep" | "held":
                role = {"load": "stream", "keep": "mask", "held": "held_value"}.get(
                    node.op, "constant"
                )
                slot = self.printer.slot(role, i)
                name = self.printer.parameters[slot].name
                if self.lane is not None and self.lane in node.axes:
                    return f"{self._row((role, i), name, f'r.row(Index<{slot}>{{}})')}[c]"
                return self._row((role, i), name, f"r.value(Index<{slot}>{{}})")
            case "before":
                row = self._row(("before", i), k.befores[i].name, f"r.before(Index<{i}>{{}})")
                return f"{row}{self._entry(k.befores[i].axes)}"
            case "prev":
                row = self._row(("prev", i), k.carries[i].name, f"r.carry(Index<{i}>{{}})")
                return f"{row}{self._entry(k.carries[i].axes)}"
            case "scalar":
                return self._row(("scalar", i), k.scalars[i], f"r.scalar({i})")
            case "size":
                return f"r.extent({k.axes.index(str(node.attrs[0]))})"
            case "index":
                axis = str(node.attrs[0])
                return "r.lane(c)" if axis == self.lane else f"r.along({k.axes.index(axis)})"
        return None

    def _sink(self, s: Sink) -> None:
        """Hand a value out."""
        value, printer = self.values[s.node], self.printer
        key = (s.kind, s.index)
        match s.kind:
            case "carry":
                name = printer.kernel.carries[s.index].name
                code = f"r.next(Index<{s.index}>{{}})"
                self.lanes.append(f"{self._row(key, f'{name}_next', code, True)}[c] = {value};")
                slot = printer.slot("kept", s.index)
                if slot >= 0:
                    self._store(("kept", s.index), f"{name}_kept", f"r.keep(Index<{slot}>{{}})",
                                value)  # fmt: skip
            case "vector":
                row = self._row(key, f"vector{s.index}", f"r.vector(Index<{s.index}>{{}})", True)
                self.lanes.append(f"{row}[c] = {value};")
            case "total":
                slot = printer.slot("total", s.index)
                row = self._row(key, printer.parameters[slot].name,
                                f"r.total(Index<{slot}>{{}})", True)  # fmt: skip
                self.lanes.append(f"{row}[c] += {value};")
            case _:
                slot = printer.slot(s.kind, s.index)
                call = "keep" if s.kind == "held" else "out"
                self._store(key, printer.parameters[slot].name, f"r.{call}(Index<{slot}>{{}})",
                            value)  # fmt: skip

    def _store(self, key: object, name: str, code: str, value: str) -> None:
        row = self._row(key, name, code, mutable=True)
        self.lanes.append(f"{row}.set(c, {value});")

    def _comment(self, node: Node) -> None:
        """The spec's line that a statement comes from, once."""
        span = node.span
        if span is not None and span.line != self.line:
            self.line = span.line
            text = span.source.line(span.line).strip().replace("\\", "/")
            self.lanes.append(f"// {span.source.name.rsplit('/', 1)[-1]}:{span.line}: {text}")
