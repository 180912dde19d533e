"""The view of a flat kernel that the targets' templates fill in: its names, steps and scans.

A flat kernel has a channel a cell: nothing is summed over an axis.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from seqc.codegen.names import Namer
from seqc.codegen.steps import RESERVED, Body, Dialect, Pointer, Step, Values, own_name
from seqc.codegen.templates import environment
from seqc.ir.algebra import Algebra, substitute
from seqc.ir.graph import Graph, GraphBuilder, reachable
from seqc.ir.kernel import Adjoint, Kernel


@dataclass(frozen=True)
class Words:
    """What a scan's chunks tell one another: words ``before`` it (earlier scans'), and parts."""

    before: int
    parts: int


@dataclass(frozen=True)
class ScanView:
    """A stratum with a law, as time is cut up: a stretch of it is one function of its carries.

    Forward, ``elements`` are the parts of that function and ``identity`` where they start;
    ``summary`` takes one more step into it, ``running`` being the carries of earlier scans that it
    reads, which run along; ``enter`` applies it.  ``compose`` is a stretch after another.
    Backward the function is a matrix (``entries``, by rows) and what is passed on from zero;
    ``back_running`` are the adjoints of later scans.
    """

    index: int
    carries: list[str]
    adjoints: list[str]
    elements: list[str]
    identity: list[str]
    summary: Step
    running: list[str]
    enter: Step
    compose: Step
    back_summary: Step
    back_running: list[str]
    entries: list[list[str]]
    words: Words
    back_words: Words


@dataclass(frozen=True)
class KernelView:
    """What a target's kernel template reads as ``k``."""

    name: str
    axes: tuple[str, ...]
    streams: list[Pointer]
    constants: list[Pointer]
    masks: list[Pointer]
    scalars: list[str]
    carries: list[str]
    outputs: list[Pointer]
    extra: list[Pointer]
    grads: list[Pointer]
    saved: list[tuple[str, str]]
    stream_grads: list[Pointer]
    constant_grads: list[Pointer]
    forward_reads: list[Pointer]
    backward_reads: list[Pointer]
    forward: Step
    backward: Step
    scans: list[ScanView]
    parallel: bool


class Printer:
    """Names everything a kernel touches, and prints its steps."""

    def __init__(self, kernel: Kernel, adjoint: Adjoint, dialect: Dialect) -> None:
        self.kernel, self.adjoint, self.dialect = kernel, adjoint, dialect
        self.values = Values(dialect)
        namer = Namer(RESERVED)

        def own(name: str) -> str:
            return own_name(namer, name)

        inner = kernel.axes[-1] if kernel.axes else None

        def wide(axes: tuple[str, ...]) -> bool:
            return inner is not None and inner in axes

        self.streams = [
            Pointer(own(s.name), "Storage", True, wide(s.axes), True) for s in kernel.streams
        ]
        self.constants = [
            Pointer(own(c.name), "State", False, wide(c.axes), True) for c in kernel.constants
        ]
        mask_axes = {int(n.attrs[0]): n.axes for n in kernel.body if n.op == "keep"}
        self.masks = [
            Pointer(own(m), "std::uint8_t", True, wide(mask_axes[i]), True)
            for i, m in enumerate(kernel.masks)
        ]
        self.scalars = [own(s) for s in kernel.scalars]
        self.carries = [own(c.name) for c in kernel.carries]
        self.outputs = [
            Pointer(namer.fresh(f"{o.name}_out"), "Storage", True, True, False, False)
            for o in kernel.outputs
        ]
        held = {o.node for o in kernel.outputs}
        self.extra = [
            Pointer(namer.fresh(f"{self.carries[i]}_saved"), "Storage", True, True, False, False)
            for i in adjoint.saved
            if kernel.carries[i].after not in held
        ]
        self.extra_carries = [i for i in adjoint.saved if kernel.carries[i].after not in held]
        self.grads = [
            Pointer(namer.fresh(f"d_{o.name}"), "Storage", True, True, True) for o in kernel.outputs
        ]
        self.before = {
            i: Pointer(namer.fresh(f"{self.carries[i]}_before"), "Storage", True)
            for i in adjoint.saved
        }
        self.adjoints = [namer.fresh(f"adjoint_{c}") for c in self.carries]
        self.stream_grads: list[Pointer] = []
        for s, node in zip(kernel.streams, adjoint.streams, strict=True):
            if node is not None:
                kind = "Storage" if s.axes == kernel.axes else "State"
                name = namer.fresh(f"d_{s.name}_out")
                self.stream_grads.append(Pointer(name, kind, True, True, True, False))
        self.constant_grads = [
            Pointer(namer.fresh(f"sum_d_{c.name}"), "State", False, True, False, False)
            for c, node in zip(kernel.constants, adjoint.constants, strict=True)
            if node is not None
        ]
        self.stored = frozenset(p.name for p in self.before.values())
        self.taken = RESERVED | frozenset(namer._taken)

    def leaves(self, backward: bool) -> dict[tuple[str, int], tuple[str, bool]]:
        """The variable behind each leaf of a body, and whether it has an element a channel."""
        found: dict[tuple[str, int], tuple[str, bool]] = {}
        for op, pointers in (
            ("load", self.streams), ("constant", self.constants), ("keep", self.masks),
            ("grad", self.grads),
        ):  # fmt: skip
            for i, p in enumerate(pointers):
                found[op, i] = (p.name, p.wide)
        for i, s in enumerate(self.scalars):
            found["scalar", i] = (s, False)
        for i, name in enumerate(self.carries):
            found["prev", i] = (
                (self.before[i].name, True) if backward and i in self.before else (name, True)
            )
            found["adjoint", i] = (self.adjoints[i], True)
        return found

    def pointers(self, body: Body, extra: Iterable[Pointer] = ()) -> list[Pointer]:
        """The pointers that a printed body reads, in a fixed order."""
        known = [*self.streams, *self.constants, *self.masks, *self.grads, *extra]
        return [p for p in known if p.name in body.used]

    def forward(self) -> Step:
        """The step of the forward march: every carry, output and saved state."""
        k = self.kernel
        body = Body(k.body, self.leaves(False), Namer(self.taken), dialect=self.dialect)
        body.visit([*(c.after for c in k.carries), *(o.node for o in k.outputs)])
        at = self.dialect.element
        stores = [
            f"{at(name)} = {body.names[c.after]};"
            for name, c in zip(self.carries, k.carries, strict=True)
        ]
        for p, o in zip(self.outputs, k.outputs, strict=True):
            stores.append(self.dialect.write(p, body.names[o.node]))
        lines = [*body.lines, *stores]
        return Step(
            "forward_step", lines, self.pointers(body), self.outputs, self.carries,
            "One step: gates, scans and outputs of channel c.",
        )  # fmt: skip

    def saves(self) -> list[tuple[str, str]]:
        """(where, carry) of the states stored for the backward march alone."""
        return [
            (p.name, self.carries[i]) for p, i in zip(self.extra, self.extra_carries, strict=True)
        ]

    def scan(self, s: int) -> ScanView:
        """A scan's view; its law is there."""
        k = self.kernel
        scan = k.scans[s]
        law = scan.law
        assert law is not None
        namer = Namer(self.taken)
        carries = [self.carries[i] for i in scan.carries]
        elements = [namer.fresh(f"{carries[0]}_{p}_part") for p in law.parts]
        running = self.running(s)
        summary = self.forward_summary(s, elements, running)
        count = len(carries)
        entries = [
            [namer.fresh(f"{self.adjoints[scan.carries[0]]}_{i}{j}") for j in range(count)]
            for i in range(count)
        ]
        back_running = self.back_running(s)
        return ScanView(
            s, carries, [self.adjoints[i] for i in scan.carries], elements, self.identity(s),
            summary, [self.carries[i] for i in running], self.enter(s, elements),
            self.compose(s, elements), self.backward_summary(s, entries, back_running),
            [self.adjoints[i] for i in back_running], entries,
            Words(sum(p + n for p, n in k.shapes[:s]), len(elements)),
            Words(sum(n * (n + 2) for _, n in k.shapes[:s]), count * (count + 1)),
        )  # fmt: skip

    def identity(self, s: int) -> list[str]:
        """The parts of the identity, as literals."""
        law = self.kernel.scans[s].law
        assert law is not None
        builder = GraphBuilder()
        roots = substitute(law, law.identity, {}, builder)
        body = Body(builder.graph, {}, Namer(self.taken), dialect=self.dialect)
        body.visit(roots)
        if body.lines:
            raise AssertionError(f"{law.name}: the identity is not a number")
        return [body.names[r] for r in roots]

    def running(self, s: int) -> list[int]:
        """The carries of earlier scans that a scan's parts depend on."""
        k = self.kernel
        roots = list(k.scans[s].parts)
        found: list[int] = []
        for e in reversed(range(s)):
            mine = k.scans[e].carries
            if any(self.needed(k.body, roots, i) for i in mine):
                roots += [k.carries[i].after for i in mine]
                found = [*mine, *found]
        return found

    def forward_summary(self, s: int, elements: list[str], running: list[int]) -> Step:
        """The step that takes one more step of scan s into a stretch's function."""
        k = self.kernel
        scan = k.scans[s]
        law = scan.law
        assert law is not None
        builder = GraphBuilder(k.axes, k.body)
        symbols = dict(zip(law.later, scan.parts, strict=True))
        for i, name in enumerate(law.earlier):
            symbols[name] = builder.add("element", axes=k.axes, attrs=(i,))
        composed = scaled(law, substitute(law, law.compose, symbols, builder), builder)
        leaves = self.leaves(False)
        leaves |= {("element", i): (name, True) for i, name in enumerate(elements)}
        body = Body(builder.graph, leaves, Namer(self.taken | set(elements)), dialect=self.dialect)
        body.visit([*(k.carries[i].after for i in running), *composed])
        at = self.dialect.element
        held = [body.let(body.names[n], f"next{i}") for i, n in enumerate(composed)]
        lines = body.lines
        lines += [f"{at(e)} = {value};" for e, value in zip(elements, held, strict=True)]
        lines += [f"{at(self.carries[i])} = {body.names[k.carries[i].after]};" for i in running]
        names = ", ".join(k.carries[i].name for i in scan.carries)
        return Step(
            f"summarise_{s}", lines, self.pointers(body), [],
            [*(self.carries[i] for i in running), *elements],
            f"One more step of {names} after those of a stretch: compose in {law.name}.",
        )  # fmt: skip

    def enter(self, s: int, elements: list[str]) -> Step:
        """What leaves a stretch: its function, applied to the carries that enter it."""
        scan = self.kernel.scans[s]
        law = scan.law
        assert law is not None
        builder = GraphBuilder()
        symbols = {p: builder.add("element", attrs=(i,)) for i, p in enumerate(law.parts)}
        for j, name in enumerate(law.arguments):
            symbols[name] = builder.add("prev", attrs=(j,))
        roots = substitute(law, law.applied, symbols, builder)
        names = [self.carries[i] for i in scan.carries]
        leaves: dict[tuple[str, int], tuple[str, bool]] = {}
        leaves |= {("element", i): (name, False) for i, name in enumerate(elements)}
        leaves |= {("prev", j): (name, False) for j, name in enumerate(names)}
        taken = self.taken | set(elements)
        body = Body(builder.graph, leaves, Namer(taken), dialect=self.values)
        body.careful = True
        body.visit(roots)
        outs = [f"{n}_last" for n in names]
        lines = [
            *body.lines,
            *(f"{o} = {body.names[r]};" for o, r in zip(outs, roots, strict=True)),
        ]
        return Step(
            f"enter_{s}", lines, [], [], names, "What leaves a stretch, from what enters it."
        )

    def compose(self, s: int, elements: list[str]) -> Step:
        """A stretch after another, as one function: ``elements`` the later, ``_first`` earlier."""
        scan = self.kernel.scans[s]
        law = scan.law
        assert law is not None
        builder = GraphBuilder()
        symbols = {p: builder.add("element", attrs=(i,)) for i, p in enumerate(law.later)}
        count = len(elements)
        for i, p in enumerate(law.earlier):
            symbols[p] = builder.add("element", attrs=(count + i,))
        roots = scaled(law, substitute(law, law.compose, symbols, builder), builder)
        first = [f"{e}_first" for e in elements]
        leaves = {("element", i): (e, False) for i, e in enumerate([*elements, *first])}
        taken = self.taken | set(elements)
        body = Body(builder.graph, leaves, Namer(taken), dialect=self.values)
        body.visit(roots)
        outs = [f"{e}_last" for e in elements]
        lines = [
            *body.lines,
            *(f"{o} = {body.names[r]};" for o, r in zip(outs, roots, strict=True)),
        ]
        return Step(f"compose_{s}", lines, [], [], elements, "A stretch after another.")

    def needed(self, graph: Graph, roots: list[int], carry: int) -> bool:
        """Whether a value depends on a carry: before the step, or after it."""
        after = self.kernel.carries[carry].after if graph is self.kernel.body else -1
        return any(
            n == after or (graph[n].op == "prev" and graph[n].attrs[0] == carry)
            for n in reachable(graph, roots)
        )

    def backward(self) -> Step:
        """The step of the reverse march: gradients of streams and constants, adjoints passed on."""
        a = self.adjoint
        body = Body(a.body, self.leaves(True), Namer(self.taken), self.stored, self.dialect)
        roots = [n for n in (*a.streams, *a.constants, *a.carried) if n is not None]
        body.visit(roots)
        at = self.dialect.element
        lines = list(body.lines)
        sinks = iter(self.stream_grads)
        for node in a.streams:
            if node is not None:
                p = next(sinks)
                lines.append(self.dialect.write(p, body.names[node]))
        sums = iter(self.constant_grads)
        for node in a.constants:
            if node is not None:
                lines.append(f"{at(next(sums).name)} += {body.names[node]};")
        for name, node in zip(self.adjoints, a.carried, strict=True):
            lines.append(f"{at(name)} = {'State(0)' if node is None else body.names[node]};")
        return Step(
            "backward_step", lines, self.pointers(body, self.before.values()),
            [*self.stream_grads, *self.constant_grads], self.adjoints,
            "One step back: the adjoint of channel c, and the gradients that leave here.",
        )  # fmt: skip

    def back_running(self, s: int) -> list[int]:
        """The adjoints of later scans that what scan s passes on depends on."""
        a, k = self.adjoint, self.kernel
        passed = [n for i in k.scans[s].carries if (n := a.carried[i]) is not None]
        found: list[int] = []
        for later in range(s + 1, len(k.scans)):
            mine = k.scans[later].carries
            if any(self.depends(n, i) for n in passed for i in mine):
                found += mine
        return found

    def backward_summary(self, s: int, entries: list[list[str]], running: list[int]) -> Step:
        """The reverse counterpart: one more step back of scan s, as a matrix and an offset."""
        a, scan = self.adjoint, self.kernel.scans[s]
        body = Body(a.body, self.leaves(True), Namer(self.taken), self.stored, self.dialect)
        body.namer = Namer(self.taken | {e for row in entries for e in row})
        slopes = a.slopes[s]
        carries = [*scan.carries, *running]
        roots = [n for row in slopes for n in row if n is not None]
        roots += [n for i in carries if (n := a.carried[i]) is not None]
        body.visit(roots)
        at = self.dialect.element
        count = len(scan.carries)
        held: list[tuple[str, str]] = []
        for j in range(count):
            for m in range(count):
                terms = []
                for i in range(count):
                    n = slopes[i][j]
                    if n is None:
                        continue
                    name = body.names[n]
                    one = a.body[n].op == "const" and float(a.body[n].attrs[0]) == 1.0
                    entry = at(entries[i][m])
                    terms.append(entry if one else f"{name} * {entry}")
                value = " + ".join(terms) or self.dialect.literal(0.0)
                held.append((entries[j][m], body.let(value, "next")))
        lines = list(body.lines)
        lines += [f"{at(entry)} = {value};" for entry, value in held]
        for i in carries:
            node = a.carried[i]
            value = "State(0)" if node is None else body.names[node]
            lines.append(f"{at(self.adjoints[i])} = {value};")
        names = ", ".join(self.adjoints[i] for i in scan.carries)
        return Step(
            f"summarise_back_{s}", lines, self.pointers(body, self.before.values()), [],
            [*(self.adjoints[i] for i in carries), *(e for row in entries for e in row)],
            f"One more step back of {names}, after those of a stretch.",
        )  # fmt: skip

    def depends(self, root: int, carry: int) -> bool:
        """Whether a cotangent depends on a carry's adjoint, directly or through others'."""
        graph = self.adjoint.body
        seen: set[int] = set()
        stack = [root]
        while stack:
            for n in reachable(graph, [stack.pop()]):
                if graph[n].op == "adjoint":
                    i = int(graph[n].attrs[0])
                    if i == carry:
                        return True
                    inner = self.adjoint.carried[i]
                    if i not in seen and inner is not None:
                        seen.add(i)
                        stack.append(inner)
        return False


def scaled(law: Algebra, parts: list[int], builder: GraphBuilder) -> list[int]:
    """The parts of a projective algebra divided by their size, for products of many overflow."""
    if law.projective is None:
        return parts
    (size,) = substitute(law, [law.projective], dict(zip(law.parts, parts, strict=True)), builder)
    one = builder.const(1.0)
    there = builder.add("gt", size, builder.const(0.0))
    share = builder.add("where", there, builder.add("div", one, size), one)
    return [builder.add("mul", p, share) for p in parts]


def render(template: str, kernel: Kernel, adjoint: Adjoint, dialect: Dialect) -> str:
    """A target's template, filled in with the kernel's steps as the dialect writes them."""
    p = Printer(kernel, adjoint, dialect)
    saved: list[tuple[str, str]] = [(p.before[i].name, p.carries[i]) for i in adjoint.saved]
    forward, backward = p.forward(), p.backward()
    scans = [p.scan(s) for s in range(len(kernel.scans))] if kernel.parallel else []
    view = KernelView(
        name=kernel.name, axes=kernel.axes, streams=p.streams, constants=p.constants, masks=p.masks,
        scalars=p.scalars, carries=p.carries, outputs=p.outputs, extra=p.extra, grads=p.grads,
        saved=saved, stream_grads=p.stream_grads, constant_grads=p.constant_grads,
        forward_reads=_together([forward, *(s.summary for s in scans)]),
        backward_reads=_together([backward, *(s.back_summary for s in scans)]),
        forward=forward, backward=backward, scans=scans, parallel=kernel.parallel,
    )  # fmt: skip
    return (
        environment()
        .get_template(template)
        .render(k=view, adjoints=p.adjoints, saves=p.saves(), before=list(p.before.values()))
    )


def _together(steps: Iterable[Step]) -> list[Pointer]:
    """What any of the steps reads, each once."""
    return list({p.name: p for step in steps for p in step.reads}.values())
