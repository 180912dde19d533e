"""Nodes of a layer's graph, real ones and pairs of them, while its terms are read."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from seqc.diagnostics import Label, Span
from seqc.frontend.declarations.defs import Function
from seqc.frontend.declarations.scope import Scope, Symbol, part_names
from seqc.frontend.expressions.complexes import ARITHMETIC, INSTEAD, Arithmetic, Parts, Value
from seqc.frontend.messages.limits import MAX_TERMS
from seqc.frontend.messages.problems import Problems
from seqc.frontend.text import syntax as s
from seqc.ir.graph import GraphBuilder
from seqc.ir.maps import LearnedMap
from seqc.ir.ops import CONDITIONS
from seqc.ir.recurrence import Application

Evaluation = Generator[Any, "int | None", "int | None"]


@dataclass(frozen=True)
class SizeName:
    """A size passed to a `def`: an axis where the body wants one, a number elsewhere."""

    name: str


@dataclass(frozen=True)
class Call:
    """The `def` that is being written out: what its parameters stand for, and the call's place."""

    bindings: Mapping[str, int | SizeName | None]
    span: Span
    function: str


@dataclass
class Place:
    """Where an expression stands: what may be used there, and how its learned maps are called."""

    name: str
    #: ``equation``; ``constant`` (an equation without time); ``start`` (a state's start)
    kind: str
    #: declared axes, which learned maps take; None where they are inferred
    axes: tuple[str, ...] | None
    span: Span
    #: how many learned maps the equation holds
    maps: int = 0
    #: the whole right side: an algebra is applied there and nowhere within
    whole: s.Expr | None = None
    masks: int = 0
    #: whether it is declared complex, as learned maps in it then are
    complex: bool = False
    #: the order in which those axes are declared, where it is not the layer's
    order: tuple[str, ...] = ()


@dataclass
class Shared:
    """A declared map: how many arguments it takes, its options, and what it is called with."""

    arity: int
    options: dict[str, Any]
    #: the extents of its arguments' axes, and where it was called with them first
    extents: tuple[tuple[str, ...], ...] | None = None
    place: Span | None = None
    #: arguments' axes and nodes -> its place among the layer's maps
    uses: dict[tuple[tuple[tuple[str, ...], ...], tuple[int, ...]], int] = field(
        default_factory=dict
    )


@dataclass
class Budget:
    """How many terms a file may still come to."""

    left: int = MAX_TERMS


@dataclass
class NodeBuilder:
    """The graph of one layer as it grows, and what is known of its nodes."""

    scope: Scope
    functions: dict[str, Function]
    problems: Problems
    budget: Budget
    #: what a call comes to (`calls.evaluate`: it needs `Builder`, so it is handed in)
    evaluate_call: Callable[..., Evaluation]
    graph: GraphBuilder = field(init=False)
    #: for each node, whether it changes from step to step
    varies: list[bool] = field(default_factory=list)
    maps: list[LearnedMap] = field(default_factory=list)
    #: the name of each learned map, and where it stands
    prefixes: dict[str, Span] = field(default_factory=dict)
    #: the node at t of each equation and state built so far; None where it has errors
    built: dict[str, int | None] = field(default_factory=dict)
    place: Place = field(init=False)
    #: the algebras that may be named (`applications.Algebras`), and where one is
    algebras: Any = None
    applied: dict[str, Application] = field(default_factory=dict)
    #: the layer's declared maps; None where one has errors
    shared: dict[str, Shared | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.graph = GraphBuilder(self.scope.axis_order)

    def add(
        self,
        op: str,
        *args: int,
        span: Span,
        axes: tuple[str, ...] | None = None,
        attrs: tuple[str | int | float | bool, ...] = (),
    ) -> int:
        """A node; notes whether it varies in time."""
        position = self.graph.add(op, *args, axes=axes, attrs=attrs, span=span)
        if position == len(self.varies):
            fresh = op in ("read", "keep", "map")
            self.varies.append(fresh or any(self.varies[a] for a in args))
        return position

    def const(self, value: float, span: Span) -> int:
        """The node of a number."""
        return self.add("const", axes=(), attrs=(float(value),), span=span)

    def parts(self, position: int) -> Parts | None:
        """The parts of a complex value; None of a real one."""
        node = self.graph.nodes[position]
        return (node.args[0], node.args[1]) if node.op == "complex" else None

    def named(self, name: str, position: int) -> tuple[tuple[str, int], ...]:
        """A name and its node; of a complex value, those of its parts."""
        parts = self.parts(position)
        if parts is None:
            return ((name, position),)
        return tuple(zip(part_names(name), parts, strict=True))

    def zero(self, symbol: Symbol, span: Span) -> int:
        """Zero, as what a name is declared to be."""
        zero = self.const(0.0, span)
        return self.joined((zero, zero), span) if symbol.complex else zero

    def joined(self, value: Value, span: Span) -> int:
        """The node of a value, complex where it is a pair."""
        return value if isinstance(value, int) else self.add("complex", *value, span=span)

    def arithmetic(self, span: Span) -> Arithmetic:
        """Complex arithmetic on this graph."""
        return Arithmetic(
            lambda op, *args: self.add(op, *args, span=span), lambda v: self.const(v, span)
        )

    def pointwise(
        self, op: str, *args: int, span: Span, term: Span, call: Call | None
    ) -> int | None:
        """A pointwise operation of real or complex values; None (and an error) of what has none."""
        values: list[Value] = [self.parts(a) or a for a in args]
        if all(isinstance(v, int) for v in values):
            return self.add(op, *args, span=span)
        power = self.graph.value(args[1]) if op == "pow" else None
        found = self.arithmetic(span).apply(op, values, power)
        if found is not None:
            return self.joined(found, span)
        compared = op in CONDITIONS or op in ("min", "max")
        message = "complex values have no order" if compared else f"no `{op}` of complex values"
        self.error("E070", message, term, call, hint=INSTEAD if compared else ARITHMETIC)
        return None

    def axes_of(self, position: int) -> tuple[str, ...]:
        """The axes of a node."""
        return self.graph.nodes[position].axes

    def spread(self, node: int, axes: tuple[str, ...], span: Span) -> int:
        """A real value over axes that it may not have."""
        # There is no node that only broadcasts: an index along the axis lends it.
        for axis in axes:
            if axis not in self.axes_of(node):
                index = self.add("index", axes=(axis,), attrs=(axis,), span=span)
                zero = self.const(0.0, span)
                everywhere = self.add("ge", index, zero, span=span)
                node = self.add("where", everywhere, node, zero, span=span)
        return node

    def error(
        self,
        code: str,
        message: str,
        span: Span,
        call: Call | None,
        *,
        hint: str = "",
        label: str = "",
    ) -> None:
        """Note an error of a term; inside a `def`, it is the call's."""
        if call is None:
            self.problems.error(code, message, span, hint=hint, label=label)
            return
        self.problems.error(
            code,
            message,
            call.span,
            label=f"in this call of `{call.function}`",
            hint=hint,
            related=[Label(span, label or "here")],
        )

    def leaf(
        self,
        op: str,
        symbol: Symbol,
        span: Span,
        axes: tuple[str, ...] | None,
        attrs: tuple[int | str, ...],
    ) -> int:
        """A parameter or a read of the past: two of a complex name, which has two parts."""
        if not symbol.complex:
            return self.add(op, axes=axes, attrs=(symbol.name, *attrs), span=span)
        re, im = (
            self.add(op, axes=axes, attrs=(part, *attrs), span=span)
            for part in part_names(symbol.name)
        )
        return self.joined((re, im), span)
