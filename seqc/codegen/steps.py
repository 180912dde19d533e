"""A kernel's steps as C++ text, which CUDA shares but for its dialect, for templates to fill in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from seqc.codegen.names import Namer
from seqc.codegen.templates import environment
from seqc.ir.graph import Graph, reachable
from seqc.ir.kernel import Adjoint, Kernel

#: Words that generated C++ uses for itself, and that a spec's names must not take.
RESERVED = frozenset(
    """
    State Storage Place Extents Forward Backward Piece seqc std load store where min max abs
    sqrt floor sign pow exp expm1 sigmoid tanh log log1p softplus logaddexp sin cos normcdf
    begin end step channel chunk row rows block width threads extents data strides scalars
    place resets n c t d i int double float bool char short long signed unsigned void auto
    const static inline template class struct union enum namespace using return if else for
    while do switch case default break continue goto new delete this true false nullptr
    operator private public protected virtual friend typedef typename sizeof volatile register
    extern export explicit mutable asm try catch throw and or not xor bitand bitor compl
    constexpr decltype noexcept static_assert thread_local product local carry last start b
    row first flat plain at e from job task cut tables span edge edges cells place march
    finish rest piece products locals base batch time s p outer inner tasks blocks chunks
    steps extra fetch fetch_for_write strided Strided Tables Cut i64 kBlock kPiece kAhead
    kAheadBack kFlush kSave anew compose has_reset begins next found before count share
    forward stride
    line bytes past aligned stream settle kCanStream kStream kStreamBytes
    threadIdx blockIdx blockDim gridDim warpSize cells id narrow kTile kThreads inner chunk_steps
    when begins ended at live group groups ticket turn count computed now
    board_maps board_begins board_flags kScanThreads kMarchForward kMarchBackward
    kScanForward kScanBackward least
    """.split()
)
#: The template derives further names from a spec's by these endings.
SUFFIXES = (
    "_t", "_b", "_start", "_fresh", "_last", "_edges", "_total", "_totals", "_first", "_saved",
    "_before", "_out", "_piece", "_to", "_tile", "_at", "_value", "_products", "_locals", "_begins",
    "_sum", "_ahead", "_enters", "_ended",
)  # fmt: skip
_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
    "eq": "==", "ne": "!=",
}  # fmt: skip
_CONDITIONS = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "isset", "keep"})


@dataclass(frozen=True)
class Pointer:
    """Something that a march walks along or stays at.

    ``type`` of its elements; ``moves`` with time; ``wide``: has an element a
    channel (else one for the whole row); ``outer``: has strides for the outer
    axes of its own (else it is laid out plainly over batch and axes).
    """

    name: str
    type: str
    moves: bool
    wide: bool = True
    strided: bool = False
    const: bool = True
    comment: str = ""


@dataclass(frozen=True)
class Step:
    """One channel's step: its statements, what it reads and writes, and what it is for."""

    name: str
    lines: list[str]
    reads: list[Pointer]
    writes: list[Pointer]
    carries: list[str]
    comment: str


class Dialect:
    """How a step names the elements of channel ``c``: C++ walks along rows by pointers."""

    def load(self, name: str, wide: bool) -> str:
        """A stored element, widened to State."""
        return f"load({name} + c)" if wide else f"load({name})"

    def element(self, name: str, wide: bool = True) -> str:
        """An element that is held as it is used: of a carry, a constant, a mask."""
        return f"{name}[c]" if wide else f"{name}[0]"

    def write(self, pointer: Pointer, value: str) -> str:
        """The statement that hands a result out."""
        if pointer.type == "Storage":
            return f"store({pointer.name} + c, {value});"
        return f"{self.element(pointer.name)} = {value};"

    def literal(self, value: float) -> str:
        """An expression of type State that is exactly this number (rounded to State)."""
        if value != value:
            return "std::numeric_limits<State>::quiet_NaN()"
        if value in (float("inf"), float("-inf")):
            sign = "-" if value < 0 else ""
            return f"{sign}std::numeric_limits<State>::infinity()"
        return f"State({value!r})"


class _Body:
    """Prints nodes of a body as C++ statements on one channel ``c``."""

    def __init__(
        self, graph: Graph, leaves: dict[tuple[str, int], tuple[str, bool]], namer: Namer,
        stored: frozenset[str] = frozenset(), dialect: Dialect | None = None,
    ) -> None:  # fmt: skip
        self.dialect = dialect or Dialect()
        self.graph = graph
        self.leaves = leaves
        self.namer = namer
        self.stored = stored
        self.names: dict[int, str] = {}
        self.lines: list[str] = []
        self.used: dict[str, None] = {}
        self._line: int | None = None

    def visit(self, roots: Iterable[int]) -> None:
        """Print everything the roots need that is not printed yet."""
        seen: set[int] = set()
        stack = list(roots)
        while stack:
            n = stack.pop()
            if n not in seen:
                seen.add(n)
                stack.extend(self.needs(n))
        for n in sorted(seen):
            if n not in self.names:
                self.names[n] = self.node(n)

    def needs(self, n: int) -> tuple[int, ...]:
        """What a node's value is computed from: not what only its derivative is."""
        node = self.graph[n]
        return node.args[:1] if node.op == "graft" else node.args

    def node(self, n: int) -> str:
        """A name or literal for a node, with its statement if it needs one."""
        node = self.graph[n]
        args = [self.names[a] for a in self.needs(n)]
        if node.op in ("stop", "graft"):
            return args[0]
        if node.op == "const":
            return self.dialect.literal(float(node.attrs[0]))
        index = int(node.attrs[0]) if node.attrs else 0
        if node.op in ("load", "constant", "scalar", "keep", "prev", "grad", "adjoint"):
            name, wide = self.leaves[node.op, index]
            self.used[name] = None
            element = self.dialect.element(name, wide)
            match node.op:
                case "scalar":
                    return name
                case "keep":
                    return self.let(f"{element} != 0", "keep", "bool")
                case "load" | "grad":
                    return self.let(self.dialect.load(name, wide), f"{name}_c")
                case "prev" if name in self.stored:
                    return self.let(self.dialect.load(name, wide), f"{name}_c")
                case _:
                    return self.let(element, f"{name}_c")
        self.comment(n)
        if node.op in _INFIX:
            code = f"{args[0]} {_INFIX[node.op]} {args[1]}"
        elif node.op == "neg":
            code = f"-{args[0]}"
        elif node.op == "isset":
            code = f"{args[0]} != State(0)"
        elif node.op == "where":
            code = f"{args[0]} ? {args[1]} : {args[2]}"
        else:
            code = f"seqc::{node.op}({', '.join(args)})"
        return self.let(code, f"v{n}", "bool" if node.op in _CONDITIONS else "State")

    def let(self, code: str, wish: str, kind: str = "State") -> str:
        name = self.namer.fresh(wish)
        self.lines.append(f"const {kind} {name} = {code};")
        return name

    def comment(self, n: int) -> None:
        """The spec's line that a statement comes from, once."""
        span = self.graph[n].span
        if span is not None and span.line != self._line:
            self._line = span.line
            text = span.source.line(span.line).strip().replace("\\", "/")
            self.lines.append(f"// {span.source.name.rsplit('/', 1)[-1]}:{span.line}: {text}")


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
    forward_summaries: list[Step]
    backward: Step
    backward_summaries: list[Step]


class Printer:
    """Names everything a kernel touches, and prints its steps."""

    def __init__(self, kernel: Kernel, adjoint: Adjoint, dialect: Dialect) -> None:
        self.kernel, self.adjoint, self.dialect = kernel, adjoint, dialect
        namer = Namer(RESERVED)

        def own(name: str) -> str:
            """A name for something of the spec's, out of the way of derived names."""
            derived = name.isupper() and len(name) > 2  # a macro of the C library, perhaps
            derived |= name.endswith(SUFFIXES) or name.startswith(
                ("at_", "d_", "sum_d_", "adjoint_", "extent_", "M_", "__")
            )  # fmt: skip
            return namer.fresh(f"{name}_" if derived else name)

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

    def pointers(self, body: _Body, extra: Iterable[Pointer] = ()) -> list[Pointer]:
        """The pointers that a printed body reads, in a fixed order."""
        known = [*self.streams, *self.constants, *self.masks, *self.grads, *extra]
        return [p for p in known if p.name in body.used]

    def forward(self) -> Step:
        """The step of the forward march: every carry, output and saved state."""
        k = self.kernel
        body = _Body(k.body, self.leaves(False), Namer(self.taken), dialect=self.dialect)
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

    def forward_summary(self, s: int) -> Step:
        """The step that composes a chunk's affine maps for carry s, the earlier carries running."""
        k = self.kernel
        body = _Body(k.body, self.leaves(False), Namer(self.taken), dialect=self.dialect)
        carry = k.carries[s]
        roots = [carry.coefficient, carry.offset]
        earlier: list[int] = []
        for i in reversed(range(s)):
            if self.needed(k.body, roots, i):
                roots.append(k.carries[i].after)
                earlier.insert(0, i)
        body.visit([*(k.carries[i].after for i in earlier), carry.coefficient, carry.offset])
        a, b = body.names[carry.coefficient], body.names[carry.offset]
        at = self.dialect.element
        lines = [
            *body.lines,
            f"{at('product')} = {a} * {at('product')};",
            f"{at('local')} = {a} * {at('local')} + {b};",
        ]
        lines += [f"{at(self.carries[i])} = {body.names[k.carries[i].after]};" for i in earlier]
        return Step(
            f"summarise_{carry.name}", lines, self.pointers(body), [],
            [self.carries[i] for i in earlier],
            f"A chunk as one affine map of {carry.name}: compose (a, b) of channel c.",
        )  # fmt: skip

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
        body = _Body(a.body, self.leaves(True), Namer(self.taken), self.stored, self.dialect)
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

    def backward_summary(self, s: int) -> Step:
        """The reverse counterpart of ``forward_summary``: later carries' adjoints run."""
        a = self.adjoint
        body = _Body(a.body, self.leaves(True), Namer(self.taken), self.stored, self.dialect)
        count = len(self.carries)
        passed = a.carried[s]
        running = [
            i for i in range(s + 1, count) if a.carried[i] is not None and passed is not None
            and self.depends(passed, i)
        ]  # fmt: skip
        roots = [a.slopes[s], *([passed] if passed is not None else [])]
        body.visit([*roots, *(n for i in running if (n := a.carried[i]) is not None)])
        slope = body.names[a.slopes[s]]
        value = "State(0)" if passed is None else body.names[passed]
        at = self.dialect.element
        lines = [
            *body.lines,
            f"{at('product')} = {slope} * {at('product')};",
            f"{at(self.adjoints[s])} = {value};",
        ]
        for i in running:
            node = a.carried[i]
            assert node is not None
            lines.append(f"{at(self.adjoints[i])} = {body.names[node]};")
        return Step(
            f"summarise_{self.adjoints[s]}", lines, self.pointers(body, self.before.values()), [],
            [self.adjoints[i] for i in [s, *running]],
            f"A chunk, backwards, as one affine map of {self.adjoints[s]}.",
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


def render(template: str, kernel: Kernel, adjoint: Adjoint, dialect: Dialect) -> str:
    """A target's template, filled in with the kernel's steps as the dialect writes them."""
    p = Printer(kernel, adjoint, dialect)
    carries = range(len(p.carries))
    saved: list[tuple[str, str]] = [(p.before[i].name, p.carries[i]) for i in adjoint.saved]
    forward, forward_summaries = p.forward(), [p.forward_summary(s) for s in carries]
    backward, backward_summaries = p.backward(), [p.backward_summary(s) for s in carries]
    view = KernelView(
        name=kernel.name, axes=kernel.axes, streams=p.streams, constants=p.constants, masks=p.masks,
        scalars=p.scalars, carries=p.carries, outputs=p.outputs, extra=p.extra, grads=p.grads,
        saved=saved, stream_grads=p.stream_grads, constant_grads=p.constant_grads,
        forward_reads=_together([forward, *forward_summaries]),
        backward_reads=_together([backward, *backward_summaries]),
        forward=forward, forward_summaries=forward_summaries,
        backward=backward, backward_summaries=backward_summaries,
    )  # fmt: skip
    return (
        environment()
        .get_template(template)
        .render(k=view, adjoints=p.adjoints, saves=p.saves(), before=list(p.before.values()))
    )


def _together(steps: Iterable[Step]) -> list[Pointer]:
    """What any of the steps reads, each once."""
    return list({p.name: p for step in steps for p in step.reads}.values())
