"""The adjoint of a kernel as equations, its values called what the spec calls them."""

from __future__ import annotations

from collections.abc import Iterable

from seqc.ir.graph import Graph, Node
from seqc.ir.kernel import Carry, Kernel
from seqc.ir.ops import COMMUTATIVE
from seqc.ir.plan import KernelStage, MapPart, MapStage, Plan
from seqc.report.formulas import Line, Printer, free
from seqc.report.mathml import Piece, atom, indexed, lagged, number, total, value, word

PARTIAL = "<mi>∂</mi>"


def adjoint_lines(
    plan: Plan, stage: KernelStage, states: Iterable[str], parts: dict[int, str], layer: Printer
) -> list[Line]:
    """What a kernel's reverse march computes: what it passes back, the gradients that leave it.

    λ is what arrives from later steps, ∂y the gradient of an output y or of anything that the
    kernel reads.  ``states`` are those whose λ to show, ``parts`` the names of the algebra's
    parts by the layer's nodes, ``layer`` the printer of the layer's own graph.
    """
    wanted = set(states)
    kernel, adjoint = stage.kernel, stage.adjoint
    known = _Names(plan, stage, layer.names, parts)
    printer = Printer(adjoint.body, known.leaves(adjoint.body).get, known.named(adjoint.body))

    left: list[tuple[str, int, bool]] = []
    for carry in adjoint.carries:
        if carry.state in wanted:
            left.append((_arriving(carry, 1), carry.after, False))
    streams = {f"d_{x.name}": i for i, x in enumerate(kernel.streams)}
    for o in adjoint.outputs:
        left.append((known.label(known.source(streams[o.name]), PARTIAL), o.node, False))
    constants = {f"d_{x.name}": n for x, n in zip(kernel.constants, stage.constants, strict=True)}
    for t in adjoint.totals:
        left.append((known.label(constants[t.name], PARTIAL), t.node, True))
    shared = printer.share([n for _, n, _ in left], free("δεη", known.r), 3, whole=True)
    lines = [Line(name, layer.definition(n)) for n, name in known.nameless.items()]
    lines += shared
    for name, node, summed in left:
        right = printer.shown(node)
        if summed:
            right = (f"{total('<mi>t</mi>')}<mrow>{''.join(right)}</mrow>",)
        lines.append(Line(name, right))
    for x in adjoint.outers:
        left_side, right_side = ("".join(printer.shown(n)) for n in (x.left, x.right))
        pair = f"<mrow>{left_side}</mrow><mo>⊗</mo><mrow>{right_side}</mrow>"
        lines.append(
            Line(
                known.label(constants[x.name], PARTIAL),
                (f"{total('<mi>t</mi>')}<mrow>{pair}</mrow>",),
            )
        )
    return lines


def _arriving(carry: Carry, back: int = 0) -> str:
    """λ of a carry: what its value gets from the steps after; a delay's has its lag beside it."""
    whose = word(carry.state)
    if carry.lag > 1:
        whose = f"<mrow>{whose}<mo>,</mo><mn>{carry.lag}</mn></mrow>"
    return f"<msubsup><mi>λ</mi>{lagged(back)}{whose}</msubsup>"


class _Names:
    """What a kernel's leaves are in the spec's terms, and which of its nodes the spec names.

    Two nodes are one value where they are the same operation of the same values, whatever their
    place; a kernel reads learned maps and what others computed as streams.
    """

    def __init__(
        self, plan: Plan, stage: KernelStage, spec: dict[int, str], parts: dict[int, str]
    ) -> None:
        self.plan = plan
        self.r = plan.recurrence
        self.stage = stage
        self.spec = spec | parts
        #: Values that kernels hand to one another without the spec naming them.
        self.nameless: dict[int, str] = {}
        leaves = ("read", "hyper", "size")
        self.reads = {node.attrs: n for n, node in enumerate(self.r.nodes) if node.op in leaves}
        self.table: dict[tuple[object, ...], int] = {}
        self.values = self.number(self.r.nodes, {}, None)
        self.names: dict[int, str] = {}
        for n, name in self.spec.items():
            self.names.setdefault(self.values[n], name)
        updates = {s.name: self.values[s.update] for s in self.r.states}
        # A kernel forms a carry's value from the algebra's parts: another shape of the same.
        self.number(
            stage.kernel.body,
            {c.after: updates[c.state] for c in stage.kernel.carries if c.lag == 1},
            stage.kernel,
        )

    def number(self, graph: Graph, given: dict[int, int], kernel: Kernel | None) -> list[int]:
        """A number for each node's value, equal for equal values; ``given`` some of them."""
        out: list[int] = []
        for n, node in enumerate(graph):
            args = [out[a] for a in node.args]
            if node.op in COMMUTATIVE:
                args.sort()
            key = (node.op, *args, repr(node.attrs), () if args else node.axes)
            behind = None if kernel is None else self.behind(node, kernel)
            if n in given:
                self.table[key] = given[n]
            elif behind is not None:
                self.table[key] = self.values[behind]
            out.append(self.table.setdefault(key, len(self.table)))
        return out

    def behind(self, node: Node, kernel: Kernel) -> int | None:
        """The layer's node that a leaf of a kernel reads; None for another operation."""
        if not node.attrs or node.args:
            return None
        match node.op:
            case "load" if int(node.attrs[0]) < len(self.stage.sources):
                return self.source(int(node.attrs[0]))
            case "constant":
                found = self.stage.constants[int(node.attrs[0])]
                return found if isinstance(found, int) else None
            case "keep":
                return self.stage.masks[int(node.attrs[0])]
            case "prev" if not kernel.backward:
                carry = kernel.carries[int(node.attrs[0])]
                return self.reads.get((carry.state, carry.lag))
            case "before":
                carry = self.stage.kernel.carries[kernel.befores[int(node.attrs[0])].carry]
                return self.reads.get((carry.state, carry.lag))
            case "scalar":
                return self.reads.get((self.stage.kernel.scalars[int(node.attrs[0])],))
        return None

    def source(self, index: int) -> int:
        """The layer's node behind a stream."""
        operand, part = self.stage.sources[index]
        key = self.stage.operands[operand].value
        if isinstance(key, int):
            return key
        maps = next(s for s in self.plan.stages if isinstance(s, MapStage) and s.name == key)
        return maps.nodes[part]

    def label(self, n: int | MapPart, before: str = "") -> str:
        """What to call a node or a map's part of the layer, with a ∂ before it where asked."""
        if isinstance(n, MapPart):
            name = value(n.called(self.r), None)
            return f"<mrow>{before}{name}</mrow>" if before else name
        node = self.r.nodes[n]
        if n in self.spec:
            return f"<mrow>{before}{self.spec[n]}</mrow>" if before else self.spec[n]
        match node.op:
            case "read":
                lag = node.attrs[1]
                assert isinstance(lag, int | str)
                name = value(str(node.attrs[0]), self.r.shown_lag(lag))
            case "map":
                name = value(self.r.map_of(node).label, 0, "^")
            case "param":
                name = value(str(node.attrs[0]), None)
            case _:
                constant = n in self.stage.constants
                if n not in self.nameless:
                    letter = free("κν" if constant else "pmr", self.r)
                    index = str(len(self.nameless) + 1)
                    self.nameless[n] = indexed(letter, index, None if constant else 0)
                name = self.nameless[n]
        return f"<mrow>{before}{name}</mrow>" if before else name

    def leaves(self, body: Graph) -> dict[int, Piece]:
        """The adjoint's leaves as they are printed."""
        kernel, own = self.stage.kernel, len(self.stage.sources)
        out: dict[int, Piece] = {}
        for n, node in enumerate(body):
            i = int(node.attrs[0]) if node.attrs and node.op != "const" and not node.args else 0
            match node.op:
                case "const":
                    out[n] = number(float(node.attrs[0]))
                case "load" if i < own:
                    out[n] = atom(self.label(self.source(i)))
                case "load":
                    out[n] = atom(self.label(self.stage.outputs[i - own], PARTIAL))
                case "constant" | "matrix":
                    out[n] = atom(self.label(self.stage.constants[i]))
                case "held":
                    out[n] = atom("".join(self.there.definition(self.stage.adjoint.held[i].node)))
                case "scalar":
                    out[n] = atom(word(kernel.scalars[i]))
                case "keep":
                    site = str(self.r.nodes[self.stage.masks[i]].attrs[0])
                    out[n] = atom(f"<msubsup><mi>keep</mi><mi>t</mi>{word(site)}</msubsup>")
                case "before":
                    carry = kernel.carries[self.stage.adjoint.befores[i].carry]
                    out[n] = atom(value(carry.state, carry.lag), "past")
                case "prev":
                    out[n] = atom(_arriving(kernel.carries[i]))
        return out

    @property
    def there(self) -> Printer:
        """The printer of the kernel's own body."""
        kernel = self.stage.kernel
        found = self.leaves(kernel.body)
        for n, node in enumerate(kernel.body):
            if node.op == "prev":
                carry = kernel.carries[int(node.attrs[0])]
                found[n] = atom(value(carry.state, carry.lag), "past")
        return Printer(kernel.body, found.get, {})

    def named(self, body: Graph) -> dict[int, str]:
        """The computed nodes of a body that the spec, or the algebra, has a name for."""
        values = self.number(body, {}, self.stage.adjoint)
        found = {n: self.names.get(v) for n, v in enumerate(values) if body[n].args}
        return {n: name for n, name in found.items() if name is not None}
