"""A kernel's body as C++ statements, which CUDA shares but for its dialect."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from seqc.codegen.names import Namer
from seqc.ir.graph import Graph, Node

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
    kInner kParts kFoldSteps kLanes kWarps kOwn kEven kFew kRecord kGroup kFold kWarpLanes
    kForwardBlocks kBackwardBlocks power_from across over_lanes summed tells late from part lane
    speaks sum record kept entering pieces survey kPiece kPieces saved staged warp
    anew_now anew_ahead place
    """.split()
)
#: The template derives further names from a spec's by these endings.
SUFFIXES = (
    "_t", "_b", "_start", "_fresh", "_last", "_edges", "_total", "_totals", "_first", "_saved",
    "_before", "_out", "_piece", "_to", "_tile", "_at", "_value", "_products", "_locals", "_begins",
    "_sum", "_ahead", "_enters", "_ended", "_now", "_own", "_lane", "_inner", "_given", "_stage",
    "_fold", "_warp", "_row", "_rows", "_record", "_lie", "_size", "_sums",
)  # fmt: skip
_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
    "eq": "==", "ne": "!=",
}  # fmt: skip
CONDITIONS_AND_KEEP = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "isset", "keep"})


def own_name(namer: Namer, name: str) -> str:
    """A name for something of the spec's, out of the way of names that templates derive."""
    derived = name.isupper() and len(name) > 2  # a macro of the C library, perhaps
    derived |= name.endswith(SUFFIXES) or name.startswith(
        ("at_", "d_", "sum_d_", "adjoint_", "extent_", "M_", "__")
    )
    return namer.fresh(f"{name}_" if derived else name)


def expression(node: Node, args: list[str]) -> str:
    """A pointwise operation on named values."""
    if node.op in _INFIX:
        return f"{args[0]} {_INFIX[node.op]} {args[1]}"
    if node.op == "neg":
        return f"-{args[0]}"
    if node.op == "isset":
        return f"{args[0]} != State(0)"
    if node.op == "where":
        return f"{args[0]} ? {args[1]} : {args[2]}"
    return f"seqc::{node.op}({', '.join(args)})"


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


class Body:
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
        #: nothing times a product that overflowed is still nothing
        self.careful = False
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
        if node.op in ("load", "constant", "scalar", "keep", "prev", "grad", "adjoint", "element"):
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
        if self.careful and node.op == "mul" and any(self.carried(a) for a in node.args):
            before = args if self.carried(node.args[0]) else args[::-1]
            code = f"seqc::times({', '.join(before)})"
        else:
            code = expression(node, args)
        return self.let(code, f"v{n}", "bool" if node.op in CONDITIONS_AND_KEEP else "State")

    def carried(self, n: int) -> bool:
        """Whether a node is a carry before the step."""
        return self.graph[n].op == "prev"

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


class Rows(Dialect):
    """Of a nested kernel: what spans the lanes lies in rows of them, along the inner axis too."""

    def leaf(self, op: str, name: str, lane: bool, inner: bool) -> str:
        """What a step reads, in the loop over the lanes, along the inner axis, or outside them."""
        if op == "scalar":
            return name
        if op in ("load", "grad", "keep") and lane:
            return f"{name}_row[c]"
        if op in ("load", "grad", "keep"):
            along = f" + s * at.{name}.inner" if inner else ""
            return f"widen(at.{name}.base + t * at.{name}.time{along})"
        if lane:
            return f"{name}[s * kLanes + c]" if inner else f"{name}[c]"
        return f"{name}[{'s' if inner else '0'}]"


class Values(Dialect):
    """Everything is a value at hand, under its name; numbers as another dialect writes them."""

    def __init__(self, literals: Dialect | None = None) -> None:
        self.literals = literals

    def literal(self, value: float) -> str:
        return super().literal(value) if self.literals is None else self.literals.literal(value)

    def load(self, name: str, wide: bool) -> str:
        return f"load({name})"

    def element(self, name: str, wide: bool = True) -> str:
        return name
