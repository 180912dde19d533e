"""Numbers that the frontend itself must know: defaults, starts of parameters, lags, widths."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

from seqc.frontend.declarations.functions import INITS
from seqc.frontend.declarations.scope import Scope
from seqc.frontend.messages.problems import Problems, a_number
from seqc.frontend.text import syntax as s
from seqc.frontend.trampoline import run
from seqc.ir.inits import Formula, Init, Quantity

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


#: What a formula of sizes and hypers may come to: more is a mistake, and hard to print.
MAX_OPERATIONS = 64


def quantity(expr: s.Expr, scope: Scope) -> Quantity | None:
    """The number that an expression of numbers, sizes and hypers is; None for any other."""
    value = fold(expr)
    if value is not None:
        return value if math.isfinite(value) else None
    left = [MAX_OPERATIONS]
    return run(_quantity(expr, scope, left)) if left[0] >= 0 else None


_Quantity = Generator[Any, "Quantity | None", "Quantity | None"]


def _quantity(expr: s.Expr, scope: Scope, left: list[int]) -> _Quantity:
    left[0] -= 1
    if left[0] < 0:
        return None
    value: Quantity | None = None
    if isinstance(expr, s.Number | s.Name):
        symbol = scope.symbols.get(expr.text) if isinstance(expr, s.Name) else None
        if symbol is None:
            return fold(expr)
        if symbol.kind in ("size", "hyper"):
            symbol.used = True
            value = symbol.name
    elif isinstance(expr, s.Signed):
        value = yield _quantity(expr.value, scope, left)
        value = Formula("neg", (value,)) if value is not None and expr.negative else value
    elif isinstance(expr, s.Chain):
        value = yield _quantity(expr.first, scope, left)
        for op, operand in expr.rest:
            right = yield _quantity(operand, scope, left)
            value = None if value is None or right is None else Formula(op, (value, right))
    elif isinstance(expr, s.Power):
        for i, (negative, base) in enumerate(reversed(expr.parts)):
            part = yield _quantity(base, scope, left)
            if part is None or (i and value is None):
                return None
            value = part if i == 0 or value is None else Formula("^", (part, value))
            value = Formula("neg", (value,)) if negative else value
    elif (
        isinstance(expr, s.Call)
        and isinstance(expr.function, s.Name)
        and expr.function.text in ("sqrt", "log", "exp")
        and len(expr.arguments) == 1
        and expr.arguments[0].keyword is None
    ):
        inner = yield _quantity(expr.arguments[0].value, scope, left)
        value = None if inner is None else Formula(expr.function.text, (inner,))
    return value if left[0] >= 0 else None


def read_init(expr: s.Expr, scope: Scope, problems: Problems) -> Init | None:
    """How a parameter starts: a number, or one of the kinds of :data:`INITS`."""
    known = "`0`, `normal(0, 0.02)`, `uniform(-0.1, 0.1)`, `orthogonal` or `xavier_uniform`"
    name: s.Expr = expr
    arguments: tuple[s.Argument, ...] = ()
    if isinstance(expr, s.Call):
        name, arguments = expr.function, expr.arguments
    if not isinstance(name, s.Name) or name.text not in INITS:
        number = fold(expr)
        if number is not None and not math.isfinite(number):
            problems.error("E088", "a parameter can't start at infinity", expr.span)
            return None
        value = quantity(expr, scope)
        if value is not None:
            return Init("number", (value,))
        hint = f"write {known}, or a number in terms of sizes and hypers: `1 / sqrt(hidden)`"
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
    values: list[Quantity] = []
    for argument in arguments:
        value = quantity(argument.value, scope)
        if value is None:
            problems.error(
                "E088",
                f"`{name.text}` takes numbers, which may be in terms of sizes and hypers",
                argument.value.span,
                hint="write such as `1 / sqrt(hidden)`: + - * / ^, sqrt, log and exp, "
                f"{MAX_OPERATIONS} terms at most",
            )
            return None
        values.append(value)
    if not values:
        # The gain of all that have one; the slope of He et al.'s, of a plain relu.
        values = [0.0 if name.text.startswith("kaiming") else 1.0]
    first, last = values[0], values[-1]
    if name.text == "normal" and isinstance(last, float) and last < 0:
        problems.error("E088", "a standard deviation is not negative", arguments[1].span)
        return None
    if name.text == "uniform" and isinstance(first, float) and isinstance(last, float):
        if first > last:
            problems.error(
                "E088", "the lower bound is above the upper one", expr.span, hint="swap the numbers"
            )
            return None
    return Init(name.text, tuple(values))


def read_weight(expr: s.Expr, scope: Scope, problems: Problems) -> Init | None:
    """How a map's weight starts: one start, or one for each of its arguments."""
    if not isinstance(expr, s.Tuple):
        return read_init(expr, scope, problems)
    parts = [read_init(part, scope, problems) for part in expr.parts]
    found = tuple(p for p in parts if p is not None)
    return Init("parts", (), found) if len(found) == len(parts) else None


def matrix_only(init: Init, expr: s.Expr, problems: Problems) -> None:
    """Say that a start by rows and columns is asked of what has none."""
    name = init.kind.replace("_", " ")
    problems.error(
        "E088",
        f"{'an' if name[0] in 'aeiou' else 'a'} {name} start needs two axes or more",
        expr.span,
        hint="use `normal(0, 1)`",
    )
