"""Terms to nodes: names are looked up, axes inferred, `def`s written out.

A term that has an error comes to None, and so does all that is built of it, so
that one mistake is reported once.
"""

from __future__ import annotations

import math

from seqc.diagnostics import Span
from seqc.frontend.declarations.defs import NUMBERS
from seqc.frontend.declarations.functions import BUILTIN
from seqc.frontend.declarations.lags import read_lag
from seqc.frontend.declarations.scope import KINDS, SEQUENCES
from seqc.frontend.expressions.complexes import INSTEAD
from seqc.frontend.expressions.nodes import Budget, Call, Evaluation, NodeBuilder, Place, SizeName
from seqc.frontend.messages.problems import shorten
from seqc.frontend.text import syntax as s
from seqc.frontend.trampoline import run
from seqc.ir.ops import CONDITIONS, OF_SIGN

__all__ = ["Budget", "Builder", "Place", "TooLarge"]


class TooLarge(Exception):
    """The layer comes to more terms than any layer should."""


class Builder(NodeBuilder):
    """Builds the graph of one layer from its terms."""

    def expression(self, expr: s.Expr, place: Place) -> int | None:
        """The node of an expression; None where it has errors."""
        self.place = place
        return run(self.number(expr, None))

    def real(self, expr: s.Expr, call: Call | None, hint: str = INSTEAD) -> Evaluation:
        """The node of a term whose value is a real number."""
        position = yield self.number(expr, call)
        if position is not None and self.parts(position) is not None:
            self.error("E070", "this is complex", expr.span, call, hint=hint)
            return None
        return position

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
            return self.negative(operand, span, call)
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
            left = self.pointwise(OF_SIGN[op], left, right, span=span, term=operand.span, call=call)
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
                result = self.pointwise("pow", base, result, span=span, term=expr.span, call=call)
                sound = result is not None
            if sound and negative and result is not None:
                result = self.negative(result, span, call)
        return result if sound else None

    def negative(self, operand: int, span: Span, call: Call | None) -> int | None:
        """Minus a node; of a literal, the literal."""
        literal = self.graph.value(operand)
        if literal is not None:
            return self.const(-literal, span)
        return self.pointwise("neg", operand, span=span, term=span, call=call)

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
        op = OF_SIGN[expr.rest[0][0]]
        return self.pointwise(op, left, right, span=span, term=expr.span, call=call)

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
                return self.leaf("param", symbol, span, symbol.axes, ())
            if symbol.kind == "part":
                return self.add("symbol", axes=(), attrs=(name,), span=span)
            if symbol.kind == "constant":
                return self.built.get(name)
            if symbol.kind in SEQUENCES:
                self._untimed(expr, symbol.kind)
            if symbol.kind in ("map", "choice"):
                self.problems.error(
                    "E020",
                    f"`{name}` is {KINDS[symbol.kind]}",
                    expr.span,
                    hint=f"call it: `{name}(…)`",
                )
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
            symbol.complex = self.parts(position) is not None
        return self.leaf("read", symbol, expr.span, axes, (lag,))
