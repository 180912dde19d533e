"""Updates that are joins of carries plus what is free of them: linear over a semiring.

    h[t] = max(A11 + h[t-1], A12 + g[t-1], b1)      over (max, +); likewise (min, +)
    h[t] = log(exp(A11 + h[t-1]) + … + exp(b1))     over (logaddexp, +)
    h[t] = max(min(A11, h[t-1]), …, b1)             over (max, min); likewise (min, max)

First by structure: coefficients and offset are collected through products (+, min) with what is
free, joins, and choices by free conditions.  Then by proof: with every subterm that is free of the
carries an opaque symbol, the update and the join of its coefficients have one normal form
(monomials.py), each choice taken both ways; or, where that is large, by induction over the
operations.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from seqc.ir.verdict import Verdict
from seqc.symbolic.affine import Ring
from seqc.symbolic.base import RangeBuilder
from seqc.symbolic.follow import view
from seqc.symbolic.monomials import Polynomial, Semiring, constant, operate, symbol

#: The coefficient of each carry and the offset; None joins nothing.
Row = tuple[Any, ...]

#: Free conditions that a proof takes both ways.
_CONDITIONS = 4


def rows(
    b: RangeBuilder, reads: Sequence[int], past: Sequence[int], over: Semiring, ring: Ring
) -> dict[int, Row]:
    """The row of each node that is a join of the reads; ``ring`` makes coefficients of nodes."""
    return _follow(b, reads, past, over, ring, lambda n: n)


def _follow(
    b: RangeBuilder,
    reads: Sequence[int],
    past: Sequence[int],
    over: Semiring,
    ring: Ring,
    free: Callable[[int], Any],
) -> dict[int, Row]:
    inside, count = set(past), len(reads)
    one = ring.number(over.one)
    found: dict[int, Row] = {
        read: tuple(one if i == j else None for j in range(count + 1))
        for i, read in enumerate(reads)
    }
    for n in past:
        if n in found:
            continue
        op, args = view(b, n)
        held = [a in inside for a in args]
        if all(a in found or not h for a, h in zip(args, held, strict=True)):
            given = [
                (found[a], None) if h else (None, free(a)) for a, h in zip(args, held, strict=True)
            ]
            row = combine(op, given, over, ring, count)
            if row is not None:
                found[n] = row
    return found


def combine(
    op: str, args: Sequence[tuple[Row | None, Any]], over: Semiring, ring: Ring, count: int
) -> Row | None:
    """The row of an operation, from its arguments' rows (or values, where free of the reads)."""

    def spread(argument: tuple[Row | None, Any]) -> Row:
        row, value = argument
        return (*(None for _ in range(count)), value) if row is None else row

    if op == over.product or (op == "sub" and not over.lattice):
        (left, x), (right, y) = args
        if (left is None) == (right is None) or (op == "sub" and left is None):
            return None
        row, value = (left, y) if right is None else (right, x)
        assert row is not None
        return tuple(None if c is None else _scaled(op, c, value, over, ring) for c in row)
    if op == "clamp" and over.lattice:
        raised = combine("max", args[:2], over, ring, count)
        return (
            None if raised is None else combine("min", [(raised, None), args[2]], over, ring, count)
        )
    if op == "softplus" and over.join == "logaddexp":
        op, args = over.join, (args[0], (None, ring.number(0.0)))
    if op == "where":
        if args[0][0] is not None:
            return None
        out: list[Any] = []
        for x, y in zip(spread(args[1]), spread(args[2]), strict=True):
            if x is not None or y is not None:
                x, y = (ring.number(over.far) if c is None else c for c in (x, y))
                x = ring.op("where", args[0][1], x, y)
            out.append(x)
        return tuple(out)
    if op != over.join:
        return None
    return tuple(
        y if x is None else x if y is None else ring.op(over.join, x, y)
        for x, y in zip(spread(args[0]), spread(args[1]), strict=True)
    )


def _scaled(op: str, coefficient: Any, by: Any, over: Semiring, ring: Ring) -> Any:
    """The product, without the number that changes nothing (of sums the builder sees to it)."""
    if over.lattice and coefficient == ring.number(over.one):
        return by
    return ring.op(op, coefficient, by)


# --- proof

#: What an update is, by join and product.
_SAID = {
    ("max", "add"): "the largest of carries plus coefficients",
    ("min", "add"): "the least of carries plus coefficients",
    ("logaddexp", "add"): "the sum of exponentials of carries plus coefficients",
    ("max", "min"): "the largest of minima of carries and coefficients",
    ("min", "max"): "the least of maxima of carries and coefficients",
}


def prove_rows(
    b: RangeBuilder, reads: Sequence[int], roots: Sequence[int], past: Sequence[int], over: Semiring
) -> Verdict:
    """Whether each root is the join of the reads plus their coefficients, and of its offset."""
    inside = set(past)
    met = [(n, *view(b, n)) for n in past if n not in reads]
    conditions = list(dict.fromkeys(args[0] for _, op, args in met if op == "where"))
    if len(conditions) <= _CONDITIONS:
        same = [
            _same(b, reads, roots, past, over, dict(zip(conditions, truths, strict=True)))
            for truths in itertools.product((True, False), repeat=len(conditions))
        ]
        if all(s is True for s in same):
            why = f"the update is {_SAID[over.join, over.product]}, in one normal form"
            return Verdict("proved", why)
        if any(s is False for s in same):
            return Verdict("unknown", "the update and its form have no normal form in common")
    used = sorted({op for n, op, _ in met if n in inside})
    if all(_step_holds(op, over) for op in used):
        return Verdict("proved", f"by induction over the operations {', '.join(used)}")
    return Verdict("unknown", "a step of the induction has no normal form")


def _ring(over: Semiring, truths: Mapping[Any, bool]) -> Ring:
    """Coefficients as polynomials; a condition is its node, and taken as told."""

    def op(name: str, *args: Any) -> Any:
        if name == "where":
            return args[1] if truths[args[0]] else args[2]
        return operate(name, args, over)

    return Ring(op, lambda v: constant(v, over))


def _same(
    b: RangeBuilder,
    reads: Sequence[int],
    roots: Sequence[int],
    past: Sequence[int],
    over: Semiring,
    truths: Mapping[int, bool],
) -> bool | None:
    """Whether the roots are their rows; None where that is too large to write out."""
    ring = _ring(over, truths)

    def free(n: int) -> Any:
        if n in truths:
            return n
        value = b.value(n)
        return symbol(f"s{n}") if value is None else constant(value, over)

    found = _follow(b, reads, past, over, ring, free)
    states = [symbol(f"h{i}") for i in range(len(reads))]
    values: dict[int, Polynomial | None] = dict(zip(reads, states, strict=True))
    for n in past:
        if n not in values:
            op, args = view(b, n)
            values[n] = ring.op(op, *(values[a] if a in values else free(a) for a in args))
    for root in roots:
        claim = _value(found.get(root), states, over)
        if claim is None or values[root] is None:
            return None
        if claim != values[root]:
            return False
    return True


def _value(row: Row | None, states: Sequence[Polynomial], over: Semiring) -> Polynomial | None:
    """The join of the states plus their coefficients, and of the offset."""
    total: Polynomial | None = {}
    if row is None:
        return None
    *coefficients, offset = row
    for c, h in zip(coefficients, states, strict=True):
        if c is not None:
            total = operate(over.join, (total, operate(over.product, (c, h), over)), over)
    return total if offset is None else operate(over.join, (total, offset), over)


@cache
def _step_holds(op: str, over: Semiring) -> bool:
    """One operation of rows is the operation of what they stand for."""
    if op == "where":
        return True  # part by part, whichever way it goes
    ring = _ring(over, {})
    h, g = symbol("h"), symbol("g")
    first: tuple[Any, Any] = (symbol("a"), symbol("b"), symbol("c")), None
    second: tuple[Any, Any] = (symbol("d"), symbol("e"), symbol("f")), None
    free: tuple[Any, Any] = None, symbol("s")
    cases: dict[str, list[list[tuple[Any, Any]]]] = {
        over.product: [[first, free], [free, first]],
        "sub": [[first, free]],
        "softplus": [[first]],
        "clamp": [[first, free, free]],
        over.join: [[first, second], [first, free], [free, first]],
    }
    for case in cases.get(op, []):
        row = combine(op, case, over, ring, 2)
        values = [v if r is None else _value(r, (h, g), over) for r, v in case]
        if row is None or _value(row, (h, g), over) != operate(op, values, over):
            return False
    return op in cases
