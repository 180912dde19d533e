"""Terms to nodes: names are looked up, axes inferred, `def`s written out.

A term that has an error comes to None, and so does all that is built of it, so
that one mistake is reported once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from seqc.diagnostics import Label, Span
from seqc.frontend import syntax as s
from seqc.frontend.defs import NUMBERS, Function
from seqc.frontend.functions import BUILTIN
from seqc.frontend.lags import read_lag
from seqc.frontend.limits import MAX_TERMS
from seqc.frontend.problems import Problems, shorten
from seqc.frontend.scope import KINDS, SEQUENCES, Scope
from seqc.frontend.trampoline import run
from seqc.ir.graph import GraphBuilder
from seqc.ir.ops import CONDITIONS
from seqc.ir.recurrence import Application, LearnedMap

Evaluation = Generator[Any, "int | None", "int | None"]

_CHAIN = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
_COMPARE = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}


class TooLarge(Exception):
    """The layer comes to more terms than any layer should."""


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


@dataclass
class Budget:
    """How many terms a file may still come to."""

    left: int = MAX_TERMS


@dataclass
class Builder:
    """Builds the graph of one layer."""

    scope: Scope
    functions: dict[str, Function]
    problems: Problems
    budget: Budget
    #: what a call comes to (`calls.evaluate`: it needs this class, so it is handed in)
    evaluate_call: Callable[[Builder, s.Call, Call | None], Evaluation]
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

    def __post_init__(self) -> None:
        self.graph = GraphBuilder(self.scope.axis_order)

    def expression(self, expr: s.Expr, place: Place) -> int | None:
        """The node of an expression; None where it has errors."""
        self.place = place
        return run(self.number(expr, None))

    # ---- nodes

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

    def axes_of(self, position: int) -> tuple[str, ...]:
        """The axes of a node."""
        return self.graph.nodes[position].axes

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

    # ---- terms

    def number(self, expr: s.Expr, call: Call | None) -> Evaluation:
        """The node of a term whose value is a number: a truth value is refused."""
        position = yield self.value(expr, call)
        if position is not None and self.graph.nodes[position].op in CONDITIONS:
            self.error(
                "E063",
                "a comparison is no number",
                expr.span,
                call,
                hint="choose numbers for it: `where(…, 1, 0)`",
            )
            return None
        return position

    def value(self, expr: s.Expr, call: Call | None) -> Evaluation:
        """The node of a term, which may be a truth value."""
        self.budget.left -= 1
        if self.budget.left < 0:
            raise TooLarge
        span = expr.span if call is None else call.span
        if isinstance(expr, s.Number):
            return self.const(expr.value, span)
        if isinstance(expr, s.Name):
            return self._name(expr, call, span)
        if isinstance(expr, s.Indexed):
            return self._read(expr)
        if isinstance(expr, s.Call):
            result = yield self.evaluate_call(self, expr, call)
            return result
        if isinstance(expr, s.Chain):
            result = yield self._chain(expr, call)
            return result
        if isinstance(expr, s.Signed):
            operand = yield self.number(expr.value, call)
            if operand is None or not expr.negative:
                return operand
            return self.negative(operand, span)
        if isinstance(expr, s.Power):
            result = yield self._power(expr, call)
            return result
        if isinstance(expr, s.Comparison):
            result = yield self._comparison(expr, call)
            return result
        for part in expr.parts:
            yield self.value(part, call)
        self.error(
            "E068",
            "a tuple stands only in an algebra",
            expr.span,
            call,
            hint="give each value an equation of its own",
        )
        return None

    def _chain(self, expr: s.Chain, call: Call | None) -> Evaluation:
        left = yield self.number(expr.first, call)
        for op, operand in expr.rest:
            right = yield self.number(operand, call)
            if left is None or right is None:
                left = None
                continue
            span = s.join(expr.span, operand.span) if call is None else call.span
            left = self.add(_CHAIN[op], left, right, span=span)
        return left

    def _power(self, expr: s.Power, call: Call | None) -> Evaluation:
        result: int | None = None
        sound = True
        for negative, part in reversed(expr.parts):
            base = yield self.number(part, call)
            span = s.join(part.span, expr.span) if call is None else call.span
            if base is None or not sound:
                sound = False
            elif result is None:
                result = base
            else:
                result = self.add("pow", base, result, span=span)
            if sound and negative and result is not None:
                result = self.negative(result, span)
        return result if sound else None

    def negative(self, operand: int, span: Span) -> int:
        """Minus a node; of a literal, the literal."""
        literal = self.graph.value(operand)
        if literal is not None:
            return self.const(-literal, span)
        return self.add("neg", operand, span=span)

    def _comparison(self, expr: s.Comparison, call: Call | None) -> Evaluation:
        operands = []
        for operand in (expr.first, *(e for _, e in expr.rest)):
            operands.append((yield self.number(operand, call)))
        if len(operands) > 2:
            self.error(
                "E067",
                "comparisons can't be chained",
                expr.span,
                call,
                hint="nest them: `where(a < b, where(b < c, 1, 0), 0)`",
            )
            return None
        left, right = operands
        if left is None or right is None:
            return None
        span = expr.span if call is None else call.span
        return self.add(_COMPARE[expr.rest[0][0]], left, right, span=span)

    def _name(self, expr: s.Name, call: Call | None, span: Span) -> int | None:
        name = expr.text
        if call is not None:
            # What a def's body may name was checked where it was declared.
            bound = call.bindings.get(name, SizeName(""))
            if not isinstance(bound, SizeName):
                return bound
            if bound.name:
                return self.add("size", axes=(), attrs=(bound.name,), span=span)
            return self.const(math.inf if name == "inf" else math.pi, span)
        symbol = self.scope.symbols.get(name)
        if symbol is not None:
            symbol.used = True
            if symbol.kind in ("size", "hyper"):
                return self.add(symbol.kind, axes=(), attrs=(name,), span=span)
            if symbol.kind == "param":
                return self.add("param", axes=symbol.axes, attrs=(name,), span=span)
            if symbol.kind == "part":
                return self.add("symbol", axes=(), attrs=(name,), span=span)
            if symbol.kind == "constant":
                return self.built.get(name)
            if symbol.kind in SEQUENCES:
                self._untimed(expr, symbol.kind)
            return None
        if name in NUMBERS:
            return self.const(math.inf if name == "inf" else math.pi, span)
        self._unknown(expr)
        return None

    def _untimed(self, expr: s.Name, kind: str) -> None:
        if self.place.kind == "equation":
            hint = f"write `{expr.text}[t]` or `{expr.text}[t-1]`"
        else:
            hint = "what is constant in time is made of params, hypers, sizes and numbers"
        self.problems.error(
            "E040", f"`{expr.text}` is {KINDS[kind]}, which has a time index", expr.span, hint=hint
        )

    def _unknown(self, expr: s.Name) -> None:
        name = expr.text
        if name == "t":
            message, hint = "time is no value", "carry a state that counts: `n[t] = n[t-1] + 1`"
        elif name.lower() in ("true", "false"):
            message = f"`{name}` is no value"
            hint = "it stands only after a keyword, as in `bias = false`; for numbers write 1 and 0"
        elif name in BUILTIN or name in self.functions:
            message, hint = f"`{name}` is a function", f"call it: `{name}(…)`"
        else:
            message = f"`{shorten(name)}` is not defined"
            hint = self.problems.guess(name, self.scope.symbols, "declare it, or write an equation")
        self.problems.error("E020", message, expr.span, hint=hint)

    def _read(self, expr: s.Indexed) -> int | None:
        if not isinstance(expr.base, s.Name):
            self.problems.error(
                "E043",
                "only a name has a time index",
                expr.span,
                hint="give the expression an equation, and index its name",
            )
            return None
        name = expr.base.text
        symbol = self.scope.symbols.get(name)
        lag = read_lag(expr, self.scope, self.problems)
        if symbol is None:
            hint = self.problems.guess(
                name, self.scope.named(*SEQUENCES), "declare it, or write an equation for it"
            )
            self.problems.error(
                "E020", f"`{shorten(name)}` is not defined", expr.base.span, hint=hint
            )
            return None
        symbol.used = True
        if symbol.kind not in SEQUENCES:
            if symbol.kind != "later":
                self.problems.error(
                    "E041",
                    f"`{name}` is {KINDS[symbol.kind]}, which has no time index",
                    expr.span,
                    hint=f"write `{name}`",
                )
            return None
        if self.place.kind != "equation":
            what = "the start of a state" if self.place.kind == "start" else f"`{self.place.name}`"
            self.problems.error(
                "E046",
                f"{what} is constant in time, so it can't read a sequence",
                expr.span,
                hint="make it of params, hypers, sizes and numbers"
                if self.place.kind == "start"
                else f"write `{self.place.name}[t] = …` if it has a value at every step",
            )
            return None
        if lag is None:
            return None
        if lag == 0 and symbol.kind != "input":
            return self.built.get(name)
        axes = symbol.axes
        if axes is None:
            position = self.built.get(name)
            if position is None:
                return None
            axes = self.axes_of(position)
        return self.add("read", axes=axes, attrs=(name, lag), span=expr.span)
