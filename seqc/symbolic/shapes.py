"""The forms that a nonlinear update of one carry may have, found by following the carry.

Each shape says what the carry itself looks like in it (``start``), what an affine
term does (``lift``), and what an operation makes of its arguments' forms (``rule``).
An argument is its form, or None and its value where it is free of the carry.  Which
ring the values live in does not matter: a builder's nodes, or sympy expressions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from seqc.symbolic.affine import Pair, Ring

#: The parts of a form; None is the neutral value of that part.
Form: TypeAlias = tuple[Any, ...]
Argument: TypeAlias = tuple[Form | None, Any]


@dataclass(frozen=True)
class Shape:
    """One family of functions; ``neutral`` are the numbers that None stands for."""

    law: str
    neutral: tuple[float, ...]
    start: Callable[[Ring], Form]
    lift: Callable[[Pair, Ring], Form | None]
    rule: Callable[[str, Sequence[Argument], Ring], Form | None]


def each(op: Callable[[Any], Any], form: Sequence[Any]) -> Form:
    """The operation on each part that is there."""
    return tuple(None if x is None else op(x) for x in form)


def _chosen(neutral: tuple[float, ...], args: Sequence[Argument], ring: Ring) -> Form | None:
    """A choice by a condition that is free of the carry, part by part."""
    (held, condition), (yes, _), (no, _) = args
    return None if held is not None else _either(neutral, condition, yes, no, ring)


def _either(
    shape: tuple[float, ...], condition: Any, yes: Form | None, no: Form | None, ring: Ring
) -> Form | None:
    if yes is None or no is None:
        return None
    out: list[Any] = []
    for x, y, neutral in zip(yes, no, shape, strict=True):
        if x is None and y is None:
            out.append(None)
            continue
        x, y = (ring.number(neutral) if v is None else v for v in (x, y))
        out.append(ring.op("where", condition, x, y))
    return tuple(out)


# --- (a, b, low, high): min(max(a h + b, low), high)


def _clamped_rule(op: str, args: Sequence[Argument], ring: Ring) -> Form | None:
    if op == "where":
        plain = [((ring.number(0.0), v, None, None) if f is None else f, v) for f, v in args[1:]]
        return _chosen(_CLAMPED, [args[0], *plain], ring)
    if op == "neg":
        return (
            None if args[0][0] is None else _turned(args[0][0], lambda v: ring.op("neg", v), ring)
        )
    if op == "clamp":
        raised = _clamped_rule("max", args[:2], ring)
        return None if raised is None else _clamped_rule("min", ((raised, None), args[2]), ring)
    if op not in ("add", "sub", "mul", "div", "max", "min"):
        return None
    (left, x), (right, y) = args
    if op == "sub" and left is None and right is not None:
        op, left = "add", _turned(right, lambda v: ring.op("neg", v), ring)
        right, y = None, x
    if left is None and op in ("add", "mul", "max", "min"):
        left, right, y = right, left, x
    if left is None or right is not None:
        return None
    a, b, low, high = left
    if op in ("add", "sub"):
        return (a, *each(lambda v: ring.op(op, v, y), (b, low, high)))
    if op in ("mul", "div"):
        return _scaled(left, lambda v: ring.op(op, v, y), y, ring)
    high_ = None if high is None else ring.op(op, high, y)
    if op == "min":
        return a, b, low, y if high is None else high_
    return a, b, y if low is None else ring.op("max", low, y), high_


def _turned(form: Form, scale: Callable[[Any], Any], ring: Ring) -> Form:
    """The form scaled by what is not above zero, which swaps its limits."""
    a, b, low, high = form
    least = low if high is None or low is None else ring.op("min", low, high)
    return (*each(scale, (a, b)), *each(scale, (high, least)))


def _scaled(form: Form, scale: Callable[[Any], Any], by: Any, ring: Ring) -> Form | None:
    """The form scaled by what has a sign, known or not."""
    upright = each(scale, form)
    if ring.nonnegative(by) or (form[2] is None and form[3] is None):
        return upright
    positive = ring.op("ge", by, ring.number(0.0))
    return _either(_CLAMPED, positive, upright, _turned(form, scale, ring), ring)


_CLAMPED = (0.0, 0.0, -math.inf, math.inf)


# --- (a, b, c, d): (a h + b) / (c h + d)


def _mobius_rule(op: str, args: Sequence[Argument], ring: Ring) -> Form | None:
    one = ring.number(1.0)

    def times(x: Any, y: Any) -> Any:
        return None if x is None or y is None else ring.op("mul", x, y)

    def plus(x: Any, y: Any) -> Any:
        if x is None or y is None:
            return (ring.op("neg", y) if op == "sub" and y is not None else y) if x is None else x
        return ring.op(op, x, y)

    if op == "where":
        plain = [((None, v, None, one) if f is None else f, v) for f, v in args[1:]]
        return _chosen(_MOBIUS, [args[0], *plain], ring)
    if op == "neg" and args[0][0] is not None:
        a, b, c, d = args[0][0]
        return (*each(lambda v: ring.op("neg", v), (a, b)), c, d)
    if op not in ("add", "sub", "mul", "div"):
        return None
    (left, x), (right, y) = args
    if left is not None and right is not None:
        if left[2:] != right[2:]:
            return None
        if op == "div":
            return left[0], left[1], right[0], right[1]
        if op == "mul":
            return None
        return plus(left[0], right[0]), plus(left[1], right[1]), left[2], left[3]
    if left is None and right is not None:
        a, b, c, d = right
        if op == "div":
            return times(x, c), times(x, d), a, b
        if op == "mul":
            return times(x, a), times(x, b), c, d
        return plus(times(x, c), a), plus(times(x, d), b), c, d
    assert left is not None
    a, b, c, d = left
    if op in ("mul", "div"):
        return (*each(lambda v: ring.op(op, v, y), (a, b)), c, d)
    return plus(a, times(y, c)), plus(b, times(y, d)), c, d


_MOBIUS = (0.0, 0.0, 0.0, 0.0)

#: The cheapest first.
SHAPES = (
    Shape(
        "clamped_affine",
        _CLAMPED,
        lambda ring: (ring.number(1.0), ring.number(0.0), None, None),
        lambda pair, ring: (pair[0], ring.number(0.0) if pair[1] is None else pair[1], None, None),
        _clamped_rule,
    ),
    Shape(
        "mobius",
        _MOBIUS,
        lambda ring: (ring.number(1.0), None, None, ring.number(1.0)),
        lambda pair, ring: (pair[0], pair[1], None, ring.number(1.0)),
        _mobius_rule,
    ),
)
