"""Following one carry through an update: which shape it has, and the proof that it has it.

A choice that spells a maximum or minimum is read as one: where(x <= y, y, x) is
max(x, y), which is how relu and clamp are written in the prelude.

The proof follows the carry once more in sympy, where what is free of the carry is an
opaque symbol (>= 0 where interval analysis says so) and each choice by a free
condition is taken both ways; then apply's expression must equal the update's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from seqc.ir.algebra import Algebra
from seqc.ir.ops import POINTWISE
from seqc.ir.verdict import Verdict
from seqc.symbolic.actions import apply, expressions
from seqc.symbolic.affine import Pair, Ring, combine, constant, is_linear, terms_of, variable
from seqc.symbolic.base import RangeBuilder
from seqc.symbolic.normal import equal
from seqc.symbolic.shapes import Form, Shape
from seqc.symbolic.tosympy import number, operations

#: Free conditions that a proof takes both ways; nodes that it follows, and terms they come to.
_CONDITIONS = 4
_NODES = 120
_TERMS = 128
#: Joins of each kind that normal forms are written out for within about a second.
_JOINS = {"max": 24, "min": 24, "logaddexp": 8, "softplus": 8, "div": 8}
_MIXED = 8

_MAX = {"le": (1, 0), "lt": (1, 0), "ge": (0, 1), "gt": (0, 1)}


def view(b: RangeBuilder, n: int, depth: int = 3) -> tuple[str, tuple[int, ...]]:
    """Operation and arguments of a node; a choice of the larger or smaller of two as max or min.

    A choice between limits in either order is ``clamp(u, low, high)``: min(max(u, low), high).
    """
    node = b.nodes[n]
    if node.op != "where":
        return node.op, node.args
    condition, yes, no = node.args
    test = b.nodes[condition]
    if test.op not in _MAX:
        return node.op, node.args
    order = _MAX[test.op]
    larger, smaller = test.args[order[0]], test.args[order[1]]  # where the condition holds
    if (yes, no) == (larger, smaller):
        return "max", (yes, no)
    if (yes, no) == (smaller, larger):
        return "min", (yes, no)
    # where(u < low, low, min(u, high)) is max(low, min(u, high)) if low <= high; and mirrored.
    # As clamp has it, where(u < low, min(low, high), min(u, high)), it is min(max(u, low), high) in
    # either order.
    inner, parts = view(b, no, depth - 1) if depth else ("", ())
    if inner in ("min", "max") and len(parts) == 2:
        u, limit = (smaller, larger) if inner == "min" else (larger, smaller)
        if u in parts:
            other = parts[1] if parts[0] == u else parts[0]
            low, high = (limit, other) if inner == "min" else (other, limit)
            if yes == limit and b.ranges[low].hi <= b.ranges[high].lo:
                return ("max" if inner == "min" else "min"), (yes, no)
            if inner == "min" and view(b, yes, 0) in (("min", (low, high)), ("min", (high, low))):
                return "clamp", (u, low, high)
    return node.op, node.args


def follow(
    b: RangeBuilder,
    read: int,
    past: Sequence[int],
    shape: Shape,
    ring: Ring,
    free: Callable[[int], Any],
) -> dict[int, Form]:
    """The form of each node that has one."""
    inside = set(past)
    pairs: dict[int, Pair] = {read: variable(0, 1, ring)}
    forms: dict[int, Form] = {read: shape.start(ring)}
    for n in past:
        if n == read:
            continue
        op, args = view(b, n)
        if op not in POINTWISE and op != "clamp":
            continue
        held = [a in inside for a in args]
        values = [None if h else free(a) for a, h in zip(args, held, strict=True)]
        if op == b.nodes[n].op and is_linear(b.nodes[n], held):
            known = [
                pairs.get(a) if h else constant(v, 1)
                for a, h, v in zip(args, held, values, strict=True)
            ]
            if all(p is not None for p in known):
                pairs[n] = combine(op, [p for p in known if p is not None], ring)
        if any(h and a not in forms for a, h in zip(args, held, strict=True)):
            continue
        form = shape.lift(pairs[n], ring) if n in pairs else None
        if form is None:
            given = [(forms.get(a), v) for a, v in zip(args, values, strict=True)]
            form = shape.rule(op, given, ring)
        if form is not None:
            forms[n] = form
    return forms


def prove_shape(
    b: RangeBuilder, read: int, root: int, past: Sequence[int], shape: Shape, law: Algebra
) -> Verdict:
    """Whether law.apply of the form's parts is the root, whatever is free of the carry."""
    conditions = _conditions(b, past)
    terms = terms_of(b.graph, (read,), past)[root]
    large = len(past) > _NODES or terms > _TERMS or _too_deep(b, past)
    if len(conditions) > _CONDITIONS or large:
        return Verdict("unknown", "the update is too large to prove its form")
    for truths in itertools.product((True, False), repeat=len(conditions)):
        given = dict(zip(conditions, truths, strict=True))
        if not _holds_for_signs(b, read, root, past, shape, law, given):
            return Verdict("unknown", f"that the update is {law.title} is not proved")
    states = f"{', '.join(law.parts)} applied to the past"
    return Verdict("proved", f"update - ({states}) is zero in one normal form")


def _too_deep(b: RangeBuilder, past: Sequence[int]) -> bool:
    """Whether there are more joins on the way than a normal form is written out for."""
    met = [view(b, n)[0] for n in past]
    counts = {kind: met.count(kind) for kind in _JOINS}
    for kind in ("max", "min"):
        counts[kind] += met.count("clamp")
    mixed = counts["max"] and counts["min"] and counts["max"] + counts["min"] > _MIXED
    return bool(mixed) or any(counts[kind] > most for kind, most in _JOINS.items())


def _conditions(b: RangeBuilder, past: Sequence[int]) -> list[int]:
    """The free conditions of the choices on the way."""
    inside = set(past)
    found: list[int] = []
    for n in past:
        op, args = view(b, n)
        if op == "where" and args[0] not in inside:
            found.append(args[0])
    return list(dict.fromkeys(found))


class _Undecided(Exception):
    """The form turns on the sign of a node."""

    def __init__(self, node: int) -> None:
        self.node = node


def _holds_for_signs(
    b: RangeBuilder,
    read: int,
    root: int,
    past: Sequence[int],
    shape: Shape,
    law: Algebra,
    truths: Mapping[int, bool],
) -> bool:
    """Whether the form holds for either sign of the nodes on whose signs it turns."""
    waiting: list[dict[int, str]] = [{}]
    while waiting:
        signs = waiting.pop()
        try:
            if not _holds(b, read, root, past, shape, law, truths, signs):
                return False
        except _Undecided as found:
            if found.node < 0 or len(signs) == _CONDITIONS:
                return False
            waiting += [{**signs, found.node: sign} for sign in ("nonnegative", "negative")]
    return True


def _holds(
    b: RangeBuilder,
    read: int,
    root: int,
    past: Sequence[int],
    shape: Shape,
    law: Algebra,
    truths: Mapping[int, bool],
    signs: Mapping[int, str],
) -> bool:
    import sympy as sp

    table = operations()
    symbols: dict[int, Any] = {}

    def op(name: str, *args: Any) -> Any:
        if name == "where":
            return args[1] if args[0] else args[2]
        if name == "ge":
            return above(args[0])
        if name == "clamp":
            return sp.Min(sp.Max(args[0], args[1]), args[2])
        return table[name](*args)

    def above(value: Any) -> bool:
        if value.is_nonnegative is not None:
            return bool(value.is_nonnegative)
        free = [n for n, symbol in symbols.items() if value.has(symbol) and n not in signs]
        raise _Undecided(min(free, default=-1))

    def free(n: int) -> Any:
        if n in truths:
            return truths[n]
        if n not in symbols:
            literal = b.value(n)
            where = b.ranges[n]
            facts = {"positive": True} if where.positive else {"nonnegative": where.nonnegative}
            facts = facts if where.nonnegative else {signs.get(n, "real"): True}
            symbols[n] = sp.Symbol(f"s{n}", **facts) if literal is None else number(literal)
        return symbols[n]

    ring = Ring(op, number, lambda value: bool(value.is_nonnegative))
    form = follow(b, read, past, shape, ring, free).get(root)
    if form is None:
        return False
    h = sp.Symbol("h", real=True)
    values: dict[int, Any] = {read: h}
    for n in past:
        if n != read:
            name, args = view(b, n)
            values[n] = op(name, *(values[a] if a in values else free(a) for a in args))
    parts = tuple(number(e) if x is None else x for x, e in zip(form, shape.neutral, strict=True))
    (applied,) = apply(law, parts, (h,), expressions)
    return equal(values[root], applied) is True
