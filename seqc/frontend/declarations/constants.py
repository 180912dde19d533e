"""Numbers that the frontend itself must know: defaults, starts of parameters, lags, widths."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

from seqc.frontend.declarations.functions import INITS
from seqc.frontend.messages.problems import Problems, a_number
from seqc.frontend.text import syntax as s
from seqc.frontend.trampoline import run
from seqc.ir.maps import Init

_Fold = Generator[Any, "float | None", "float | None"]


def fold(expr: s.Expr) -> float | None:
    """The number that literals, `pi` and `inf` come to; None for any other expression."""
    return run(_fold(expr))


def _fold(expr: s.Expr) -> _Fold:
    value: float | None = None
    if isinstance(expr, s.Number):
        value = expr.value
    elif isinstance(expr, s.Name):
        value = {"pi": math.pi, "inf": math.inf}.get(expr.text)
    elif isinstance(expr, s.Signed):
        inner = yield _fold(expr.value)
        value = None if inner is None else -inner if expr.negative else inner
    elif isinstance(expr, s.Chain):
        value = yield _fold(expr.first)
        for op, operand in expr.rest:
            right = yield _fold(operand)
            value = None if value is None or right is None else _apply(op, value, right)
    elif isinstance(expr, s.Power):
        last = len(expr.parts) - 1
        for i in range(last, -1, -1):
            negative, base = expr.parts[i]
            left = yield _fold(base)
            if i < last:
                left = None if left is None or value is None else _apply("^", left, value)
            value = -left if negative and left is not None else left
    elif (
        isinstance(expr, s.Call)
        and isinstance(expr.function, s.Name)
        and expr.function.text in ("sqrt", "log", "exp")
        and len(expr.arguments) == 1
        and expr.arguments[0].keyword is None
    ):
        inner = yield _fold(expr.arguments[0].value)
        value = None if inner is None else _apply(expr.function.text, inner, 0.0)
    return value


def _apply(op: str, a: float, b: float) -> float | None:
    try:
        if op == "+":
            return a + b
        if op == "-":
            return a - b
        if op == "*":
            return a * b
        if op == "/":
            return a / b
        if op == "^":
            return math.pow(a, b)
        return {"sqrt": math.sqrt, "log": math.log, "exp": math.exp}[op](a)
    except (ArithmeticError, ValueError):
        return None


def whole(expr: s.Expr) -> int | None:
    """The whole number that an expression is written as (a sign is allowed)."""
    if isinstance(expr, s.Signed):
        inner = whole(expr.value) if isinstance(expr.value, s.Number) else None
        return None if inner is None else -inner if expr.negative else inner
    return expr.whole if isinstance(expr, s.Number) else None


def finite(expr: s.Expr) -> float | None:
    """The finite number that an expression comes to, or None."""
    value = fold(expr)
    return value if value is not None and math.isfinite(value) else None


def read_init(expr: s.Expr, problems: Problems) -> Init | None:
    """How a parameter starts: a number, or one of the kinds of :data:`INITS`."""
    known = "`0`, `normal(0, 0.02)`, `uniform(-0.1, 0.1)` or `orthogonal`"
    number = fold(expr)
    if number is not None:
        if math.isfinite(number):
            return Init("number", (number,))
        problems.error("E088", "a parameter can't start at infinity", expr.span)
        return None
    name: s.Expr = expr
    arguments: tuple[s.Argument, ...] = ()
    if isinstance(expr, s.Call):
        name, arguments = expr.function, expr.arguments
    if not isinstance(name, s.Name) or name.text not in INITS:
        hint = f"write {known}"
        if isinstance(name, s.Name):
            hint = problems.guess(name.text, INITS, hint)
        problems.error("E088", "this is not a way to start a parameter", expr.span, hint=hint)
        return None
    least, most = INITS[name.text]
    keywords = [a.keyword for a in arguments if a.keyword is not None]
    if keywords:
        problems.error(
            "E061",
            f"`{name.text}` has no argument called `{keywords[0].text}`",
            keywords[0].span,
            hint=f"give its numbers in order: {known}",
        )
        return None
    if not least <= len(arguments) <= most:
        takes = a_number(most, "number") if least == most else "one number or none"
        problems.error(
            "E060",
            f"`{name.text}` takes {takes}, not {len(arguments)}",
            expr.span,
            hint="for example `normal(0, 0.02)`, `uniform(-0.1, 0.1)` and `orthogonal(1)`",
        )
        return None
    values = []
    for argument in arguments:
        value = finite(argument.value)
        if value is None:
            problems.error(
                "E088",
                f"`{name.text}` takes plain numbers",
                argument.value.span,
                hint="a size isn't known yet when the spec is compiled: start at unit scale and "
                "multiply by it in the equations",
            )
            return None
        values.append(value)
    if name.text == "orthogonal" and not values:
        values = [1.0]
    if name.text == "normal" and values[1] < 0:
        problems.error("E088", "a standard deviation is not negative", arguments[1].span)
        return None
    if name.text == "uniform" and values[0] > values[1]:
        problems.error(
            "E088", "the lower bound is above the upper one", expr.span, hint="swap the numbers"
        )
        return None
    return Init(name.text, tuple(values))
