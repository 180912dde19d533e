"""A kernel as one struct: what it touches, its steps and laws; the same text for C++ and CUDA."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.codegen.expressions import Names, expression, literal
from seqc.codegen.steps import StepPrinter
from seqc.codegen.templates import environment
from seqc.ir.graph import Graph
from seqc.ir.kernel import Kernel
from seqc.ir.schedule import Function, Scheduled, Segment, Step
from seqc.ir.signature import BLOCKS, Parameter, signature, states_read

KINDS = {"storage": "kStorage", "state": "kState", "truth": "kTruth", "sum": "kSum"}


@dataclass(frozen=True)
class TensorView:
    """A line of the signature's table."""

    name: str
    fields: str


@dataclass(frozen=True)
class StepView:
    """A step: its carries as lines of a table, and its function's body."""

    name: str
    purpose: str
    carries: list[str]
    parts: int
    running: list[int]
    identity: list[str]
    flags: dict[str, bool]
    lines: list[str]


@dataclass(frozen=True)
class LawView:
    """What stretches of a scan are: the sizes, and two functions' bodies."""

    index: int
    name: str
    parts: int
    states: int
    identity: list[str]
    apply: list[str]
    compose: list[str]


@dataclass(frozen=True)
class KernelView:
    """What the template of a struct reads as ``k``."""

    struct: str
    title: str
    roles: list[str]
    lane: int
    inner: int
    tensors: list[TensorView]
    ranges: dict[str, int]
    scalars: list[str]
    sums: list[str]
    gathers: list[str]
    befores: list[str]
    partials: list[int]
    scans: list[int]
    flags: dict[str, bool]
    main: StepView
    again: StepView | None
    lifts: list[StepView]
    laws: list[LawView]


def print_kernel(scheduled: Scheduled, struct: str, kept_by: Scheduled | None = None) -> str:
    """The struct of a kernel; ``kept_by`` is the one whose states it reads."""
    printer = _Printer(scheduled, struct, kept_by)
    return environment().get_template("kernel/struct.h.jinja").render(k=printer.view())


class StructPrinter:
    """What the struct of any kernel says: where in its signature things stand.

    Axes are given as a mask, bit m being the m-th of ``inner``: of a kernel that steps, all axes.
    """

    def __init__(self, scheduled: Scheduled, struct: str, kept_by: Scheduled | None) -> None:
        self.scheduled, self.struct, self.kept_by = scheduled, struct, kept_by
        self.kernel: Kernel = scheduled.kernel
        self.parameters = signature(scheduled, kept_by)
        self.slots = {(p.role, p.index): i for i, p in enumerate(self.parameters)}

    def mask(self, axes: tuple[str, ...]) -> int:
        """Some axes as bits."""
        return sum(1 << m for m, a in enumerate(self.kernel.inner) if a in axes)

    def slot(self, role: str, index: int) -> int:
        """The position of an entry of the signature; -1: there is none."""
        return self.slots.get((role, index), -1)

    def befores(self) -> list[str]:
        """A line for each state of another kernel that this one reads."""
        if self.kept_by is None:
            return []
        found = []
        every = states_read(self.scheduled, self.kept_by)
        for b in self.kernel.befores:
            slots = (self.slot(f"{r}_state", b.carry) for r in ("kept", "first", "fresh"))
            numbers = ", ".join(str(i) for i in slots)
            found.append(
                f"{{{numbers}, {every.index(b.carry)}, {self.mask(b.axes)}u}},  // {b.name}"
            )
        return found


class _Printer(StructPrinter):
    def __init__(self, scheduled: Scheduled, struct: str, kept_by: Scheduled | None) -> None:
        super().__init__(scheduled, struct, kept_by)
        self.partials: list[int] = []

    def first(self, role: str) -> int:
        return next((i for i, p in enumerate(self.parameters) if p.role == role), 0)

    def view(self) -> KernelView:
        k, s = self.kernel, self.scheduled
        lane = k.axes.index(k.lane) if k.lane else -1
        role = dict.fromkeys(k.inner, "kInner") | ({k.lane: "kLane"} if k.lane else {})
        direction = "backwards over time" if k.backward else "over time"
        main = self.step(s.main)
        again = None if s.again is None else self.step(s.again)
        lifts = [self.step(x.lift, x) for x in s.segments]
        gathers = [
            f"{{{i}, {self.mask(p.axes)}u}},  // {p.name}"
            for i, p in enumerate(self.parameters)
            if p.role == "constant" and self.lanes(p) and not self.unit(p)
        ]
        summing = f", summing over {', '.join(k.inner)}" if k.inner else ""
        return KernelView(
            struct=self.struct,
            title=f"{k.name}: over ({', '.join(('batch', *k.axes))}), {direction}{summing}.",
            roles=[f"Role::{role.get(a, 'kOuter')}" for a in k.axes],
            lane=lane,
            inner=len(k.inner),
            tensors=[TensorView(p.name, self.fields(p)) for p in self.parameters],
            ranges={
                "kCount": len(self.parameters),
                "kFirstConstant": self.first("constant"), "kConstants": len(k.constants),
                "kResets": self.slot("resets", 0),
                "kFirstOut": self.first("output"), "kOuts": len(k.outputs),
                "kFirstKept": self.first("kept"),
            },
            scalars=list(k.scalars),
            sums=[
                f"{{{self.slot('total', i)}, {self.mask(t.axes)}u}},  // {t.name}"
                for i, t in enumerate(k.totals)
            ],
            gathers=gathers,
            befores=self.befores(),
            partials=self.partials,
            scans=[x.carries[0] for x in k.scans],
            flags={"kBack": k.backward, "kEvery": s.every, "kParallel": k.parallel},
            main=main, again=again, lifts=lifts,
            laws=[self.law(x) for x in s.segments],
        )  # fmt: skip

    def lanes(self, p: Parameter) -> bool:
        """Whether a tensor has an element a lane."""
        if BLOCKS in p.axes or p.role == "resets":
            return False
        if self.kernel.lane is None:
            return p.role not in ("stream", "constant", "mask")
        return self.kernel.lane in p.axes

    def unit(self, p: Parameter) -> bool:
        """Whether its lanes are known to lie side by side."""
        return self.kernel.lane is None or (bool(p.axes) and p.axes[-1] == self.kernel.lane)

    def fields(self, p: Parameter) -> str:
        gathered = p.role == "constant"  # a task gathers those that do not lie side by side
        truths = (
            p.moves,
            self.lanes(p),
            self.lanes(p) and (gathered or self.unit(p)),
            BLOCKS in p.axes,
        )
        told = ", ".join(str(t).lower() for t in truths)
        return f"Kind::{KINDS[p.kind]}, {told}, {self.mask(p.axes)}u"

    def step(self, step: Step, segment: Segment | None = None) -> StepView:
        printer = StepPrinter(step, self.kernel, self.slots)
        printer.first_partial = len(self.partials)
        lines = printer.lines()
        self.partials += printer.masks
        main = step.name == "Main"
        return StepView(
            name=step.name,
            purpose=step.purpose[0].upper() + step.purpose[1:] + ".",
            carries=[self.carry(step, c.source, c.axes, c.name) for c in step.carries],
            parts=step.parts,
            running=[-1 if c.source is None else c.source for c in step.carries],
            identity=[literal(v) for v in segment.identity] if segment else [],
            flags={
                "kBack": step.backward,
                "kSums": bool(step.totals),
                "kKeeps": main and bool(self.scheduled.kept),
                "kBefores": printer.reads_states,
                "kLeaves": main and step.backward,
            },
            lines=lines,
        )

    def carry(self, step: Step, source: int | None, axes: tuple[str, ...], name: str) -> str:
        roles = ("start", "fresh", "last", "kept")
        if step.name == "Again":
            assert source is not None
            fresh, kept = self.slot("fresh_state", source), self.slot("kept_state", source)
            numbers = [-1, fresh, -1, kept]
        else:
            numbers = [-1 if source is None else self.slot(r, source) for r in roles]
        return f"{{{', '.join(map(str, numbers))}, {self.mask(axes)}u}},  // {name}"

    def law(self, s: Segment) -> LawView:
        states = len(s.enter.arguments) - s.lift.parts
        parts = s.lift.parts
        enter = [f"map[{i}]" for i in range(parts)] + [f"before[{j}]" for j in range(states)]
        compose = [f"later[{i}]" for i in range(parts)] + [f"first[{i}]" for i in range(parts)]
        carried = frozenset(range(parts, parts + states))
        return LawView(
            index=s.scan, name=s.law, parts=parts, states=states,
            identity=[literal(v) for v in s.identity],
            apply=_function(s.enter, enter, "after", carried),
            compose=_function(s.compose, compose, "out"),
        )  # fmt: skip


def _function(
    function: Function, arguments: list[str], result: str, careful: frozenset[int] = frozenset()
) -> list[str]:
    """The lines of a function of arrays; products with ``careful`` arguments keep nothing nothing.

    (Nothing times a product that overflowed is still nothing.)
    """
    names, lines = Names(), []
    values: dict[int, str] = {}
    body: Graph = function.body
    seen: set[int] = set()
    stack = list(function.roots)
    while stack:
        n = stack.pop()
        if n not in seen:
            seen.add(n)
            stack.extend(body[n].args)
    for n in sorted(seen):
        node = body[n]
        if node.op == "const":
            values[n] = literal(float(node.attrs[0]))
        elif node.op == "element":
            i = int(node.attrs[0])
            name = names.of_spec(function.arguments[i])
            lines.append(f"const State {name} = {arguments[i]};")
            values[n] = name
        else:
            args = [values[a] for a in node.args]
            told = [a for a in node.args if _carried(body, a, careful)]
            if node.op == "mul" and told:
                args = args if node.args[0] == told[0] else args[::-1]
                code = f"seqc::times({', '.join(args)})"
            else:
                code = expression(node, args)
            truth = node.op in ("lt", "le", "gt", "ge", "eq", "ne", "isset")
            name = names.fresh(f"v{n}")
            lines.append(f"const {'bool' if truth else 'State'} {name} = {code};")
            values[n] = name
    return [*lines, *(f"{result}[{i}] = {values[r]};" for i, r in enumerate(function.roots))]


def _carried(body: Graph, n: int, careful: frozenset[int]) -> bool:
    return body[n].op == "element" and int(body[n].attrs[0]) in careful
