"""Graphs as PyTorch: statements over tensors (lead, *axes), whatever the leading dimensions are.

The same printer serves a step (lead = batch), a whole sequence (batch, time)
and values constant in time (no lead), since it only ever indexes from the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from seqc.codegen.names import Namer
from seqc.diagnostics import Span
from seqc.ir.graph import Graph, Node
from seqc.ir.guards import Guard, find_guards
from seqc.ir.maps import MAP_FUNCTIONS
from seqc.ir.operations import OPERATIONS
from seqc.ir.ops import INFIX, TORCH_HELPERS

_ATOM, _UNARY = 9, 7
#: Names that generated functions use for themselves.
RESERVED = (
    frozenset(
        """
    self torch Tensor state inputs keep wide stored dtype extents resets scalars batch steps
    math guard pick lagged windows remember push cls stacked started state_dtype storage_dtype
    NamedTuple like fresh shift arange numeric choose full split last_step centred_windows begin
    keep_mask spread_axes spread_to Field Layer FusedKernel KernelSpec contract turn_rows
    bias_of cast weight_of SolvedBySteps SolvedByNewton
    fed_exact fed_stationary fed_truncated
    t range len int float tuple list
    """.split()
    )
    | TORCH_HELPERS
    | MAP_FUNCTIONS.keys()
)


@dataclass(frozen=True)
class Text:
    """An expression: its text, how tightly it binds, its axes, and whether it is a plain number."""

    code: str
    binds: int = _ATOM
    axes: tuple[str, ...] = ()
    number: bool = False
    lead: bool = True


def align(value: Text, axes: tuple[str, ...]) -> Text:
    """The value with a dimension of extent 1 for each axis that it lacks."""
    if value.number or value.axes == axes or (not value.lead and not value.axes):
        return value
    pattern = [":" if a in value.axes else "None" for a in axes]
    while pattern and pattern[0] == ":":
        pattern.pop(0)
    if not value.lead and "None" in pattern:
        # Without leading dimensions, missing axes in front broadcast by themselves.
        while pattern and pattern[0] == "None" and not _leading_kept(value, axes, pattern):
            pattern.pop(0)
        if ":" not in pattern and "None" not in pattern:
            return value
    if all(p == ":" for p in pattern):
        return value
    code = f"{wrap(value, _ATOM)}[..., {', '.join(pattern)}]"
    return Text(code, _ATOM, axes, False, value.lead)


def _leading_kept(value: Text, axes: tuple[str, ...], pattern: list[str]) -> bool:
    """Whether an axis of the value stands before what is left of the pattern."""
    gone = len(axes) - len(pattern)
    return any(a in value.axes for a in axes[:gone])


def wrap(value: Text, binds: int) -> str:
    """The text, in brackets where it binds less tightly than its place needs."""
    return value.code if value.binds >= binds else f"({value.code})"


class TorchPrinter:
    """Prints nodes of a graph as statements.

    ``leaf`` gives the text of nodes that are not pointwise (reads, parameters,
    maps, …); ``names`` the variables that nodes the spec names are kept in.
    """

    def __init__(
        self,
        graph: Graph,
        leaf: Callable[[int, Node], Text | None],
        namer: Namer,
        names: dict[int, str],
    ) -> None:
        self.graph = graph
        self.leaf = leaf
        self.namer = namer
        self.names = names
        self.lines: list[str] = []
        self.values: dict[int, Text] = {}
        self.uses: dict[int, int] = {}
        self._line_said: int | None = None
        self.guards: dict[int, tuple[Guard, ...]] = {}

    def count_uses(self, roots: Iterable[int], arguments: Callable[[int], Iterable[int]]) -> None:
        """Learn how often each node is used below the roots, to know which need a variable."""
        seen: set[int] = set()
        stack = list(roots)
        for r in stack:
            self.uses[r] = self.uses.get(r, 0) + 1
        self.guards |= find_guards(self.graph, stack, arguments)
        while stack:
            n = stack.pop()
            if n in seen:
                continue
            seen.add(n)
            for a in arguments(n):
                self.uses[a] = self.uses.get(a, 0) + 1
                stack.append(a)

    def needs(self, n: int, arguments: Iterable[int]) -> list[int]:
        """What must be printed before a node: its arguments, and the conditions that guard it."""
        return [*arguments, *(g.condition for g in self.guards.get(n, ()))]

    def visit(self, root: int, arguments: Callable[[int], Iterable[int]]) -> Text:
        """Print a node, everything that it needs first."""
        stack = [root]
        while stack:
            n = stack[-1]
            if n in self.values:
                stack.pop()
                continue
            waiting = [a for a in self.needs(n, arguments(n)) if a not in self.values]
            if waiting:
                stack.extend(reversed(waiting))
                continue
            self.value(n)
            stack.pop()
        return self.values[root]

    def say(self, span: Span | None) -> None:
        """A comment with the spec's line that the next statements come from."""
        if span is not None and span.line != self._line_said:
            self._line_said = span.line
            text = span.source.line(span.line).strip()
            self.lines.append(f"# {text}")

    def keep(self, n: int, value: Text, name: str | None = None) -> Text:
        """Put a value into a variable."""
        variable = self.namer.fresh(name or self.names.get(n) or f"v{n}")
        self.lines.append(f"{variable} = {value.code}")
        return Text(variable, _ATOM, value.axes, value.number, value.lead)

    def value(self, n: int) -> Text:
        """The text of a node whose arguments have been printed."""
        found = self.values.get(n)
        if found is not None:
            return found
        node = self.graph[n]
        text = self.leaf(n, node)
        fresh = text is None
        if text is None:
            text = self.pointwise(n, node)
        named = n in self.names and not text.number
        if fresh and (named or self.uses.get(n, 0) > 1 or len(text.code) > 70) and not text.number:
            self.say(node.span)
            text = self.keep(n, text)
        self.values[n] = text
        return text

    def argument(self, n: int, a: int) -> Text:
        """An argument as its user sees it: guarded where the user is a branch of a ``where``."""
        value = self.values[a]
        for guard in self.guards.get(n, ()):
            if guard in self.guards.get(a, ()) or value.number:
                continue
            condition = self.values[guard.condition]
            if condition.number:
                code = f"guard({condition.code}, {value.code}, {guard.side})"
                value = Text(code, _ATOM, value.axes, False, value.lead)
            elif set(condition.axes) <= set(value.axes):
                seen = align(condition, value.axes)
                code = f"guard({seen.code}, {value.code}, {guard.side})"
                # A choice that each sequence makes gives each a value, of a constant too.
                value = Text(code, _ATOM, value.axes, False, value.lead or condition.lead)
        return value

    def pointwise(self, n: int, node: Node) -> Text:
        """One pointwise operation on printed arguments."""
        raw = [self.argument(n, a) for a in node.args]
        args = [align(a, node.axes) for a in raw]
        number = all(a.number for a in args)
        lead = any(a.lead and not a.number for a in args)

        def made(code: str, binds: int) -> Text:
            return Text(code, binds, node.axes, number, lead)

        if node.op in INFIX:
            sign, binds = INFIX[node.op]
            left, right = wrap(args[0], binds), wrap(args[1], binds + 1)
            return made(f"{left} {sign} {right}", binds)
        if node.op == "neg":
            return made(f"-{wrap(args[0], _UNARY)}", _UNARY)
        if node.op == "isset":
            return made(f"{wrap(args[0], 4)} != 0", 3)
        if node.op == "where":
            condition, yes, no = args
            if number:
                return made(f"({yes.code} if {condition.code} else {no.code})", _ATOM)
            if condition.number:
                return made(f"choose({condition.code}, {yes.code}, {no.code})", _ATOM)
            if yes.number and no.number:
                return made(f"pick({condition.code}, {yes.code}, {no.code}, wide)", _ATOM)
            return made(f"torch.where({condition.code}, {yes.code}, {no.code})", _ATOM)
        if node.op == "stop" and not number:
            return made(f"{wrap(args[0], _ATOM)}.detach()", _ATOM)
        if node.op in ("stop", "graft") and number:
            return made(args[0].code, args[0].binds)
        inner = ", ".join(a.code for a in args)
        if number:
            return made(f"numeric({OPERATIONS[node.op].torch}, {inner})", _ATOM)
        return made(f"{OPERATIONS[node.op].torch}({inner})", _ATOM)


def number_text(value: float) -> str:
    """A Python literal that reads back as exactly this number."""
    if value != value:
        return "math.nan"
    if value in (float("inf"), float("-inf")):
        return "math.inf" if value > 0 else "-math.inf"
    if value == int(value) and abs(value) < 1e15:
        return repr(int(value)) if value or str(value)[0] != "-" else "-0.0"
    return repr(value)
