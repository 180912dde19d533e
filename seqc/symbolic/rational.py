"""Updates that are quotients of polynomials, and of affine functions once common factors go.

A Kalman filter's variance as textbooks have it is one: with v = a² p + q and g = v / (v + r), the
update (1 - g) v has the square of p in its numerator and, over one denominator, r v / (v + r).

The update is written over one denominator and cancelled (sympy), what is free of the carry being
opaque symbols; each choice by a free condition is taken both ways.  The form is then proved by
multiplying out.

Source: polynomial greatest common divisors as in Geddes, Czapor and Labahn, "Algorithms for
Computer Algebra" (1992), chapter 7.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from seqc.symbolic.base import RangeBuilder
from seqc.symbolic.follow import view
from seqc.symbolic.normal import equal
from seqc.symbolic.tosympy import number, operations

#: Beyond these an update is not written out: nodes on the way, symbols, choices, powers of the
#: carry above and below the fraction line, terms of a coefficient.
_NODES = 48
_SYMBOLS = 8
_CONDITIONS = 2
_POWERS = 6
_TERMS = 12

_ALLOWED = frozenset({"add", "sub", "mul", "div", "neg", "pow", "where"})


def quotient(
    b: RangeBuilder, read: int, root: int, past: Sequence[int]
) -> tuple[int, int, int, int] | None:
    """Nodes a, b, c, d with root = (a h + b) / (c h + d), h being the read; None where not."""
    if len(past) > _NODES or not _small(b, read, root, past):
        return None
    inside = set(past)
    conditions = dict.fromkeys(b.nodes[n].args[0] for n in past if b.nodes[n].op == "where")
    if len(conditions) > _CONDITIONS or any(c in inside for c in conditions):
        return None
    found: dict[tuple[bool, ...], tuple[int, ...]] = {}
    for truths in itertools.product((True, False), repeat=len(conditions)):
        form = _cancelled(b, read, root, past, dict(zip(conditions, truths, strict=True)))
        if form is None:
            return None
        found[truths] = form
    while len(found) > 1:
        # The last condition chooses between the forms that differ in it alone.
        condition = list(conditions)[len(next(iter(found))) - 1]
        found = {
            truths[:-1]: tuple(
                b.op("where", condition, yes, no)
                for yes, no in zip(form, found[truths[:-1] + (False,)], strict=True)
            )
            for truths, form in found.items()
            if truths[-1]
        }
    (parts,) = found.values()
    return parts[0], parts[1], parts[2], parts[3]


def _small(b: RangeBuilder, read: int, root: int, past: Sequence[int]) -> bool:
    """Whether the update is a quotient of polynomials of few powers, in few symbols."""
    powers: dict[int, tuple[int, int]] = {read: (1, 0)}
    free: set[int] = set()
    for n in past:
        if n == read:
            continue
        op, args = view(b, n)
        if op not in _ALLOWED:
            return False
        free |= {a for a in args if a not in powers and b.value(a) is None}
        above = [powers.get(a, (0, 0)) for a in args]
        match op:
            case "mul":
                (x, u), (y, v) = above
                powers[n] = x + y, u + v
            case "div":
                (x, u), (y, v) = above
                powers[n] = x + v, u + y
            case "pow":
                exponent = b.value(args[1])
                if exponent is None or exponent not in (1.0, 2.0, 3.0, 4.0):
                    return False
                powers[n] = above[0][0] * int(exponent), above[0][1] * int(exponent)
            case "add" | "sub":
                (x, u), (y, v) = above
                powers[n] = max(x + v, y + u), u + v
            case "where":
                powers[n] = max(x for x, _ in above), max(u for _, u in above)
            case _:
                powers[n] = above[0]
        if max(powers[n]) > _POWERS:
            return False
    return len(free) <= _SYMBOLS + _CONDITIONS


def _cancelled(
    b: RangeBuilder, read: int, root: int, past: Sequence[int], truths: Mapping[int, bool]
) -> tuple[int, ...] | None:
    """The four coefficients where the conditions are as told."""
    import sympy as sp

    table = operations()
    h = sp.Symbol("h", real=True)
    nodes: dict[Any, int] = {}

    def free(n: int) -> Any:
        literal = b.value(n)
        if literal is not None:
            return number(literal)
        symbol = sp.Symbol(f"s{n}", real=True)
        nodes[symbol] = n
        return symbol

    values: dict[int, Any] = {read: h}
    for n in past:
        if n == read:
            continue
        op, args = b.nodes[n].op, b.nodes[n].args
        if op == "where":
            chosen = args[1] if truths[args[0]] else args[2]
            values[n] = values[chosen] if chosen in values else free(chosen)
        else:
            values[n] = table[op](*(values[a] if a in values else free(a) for a in args))
    if values[root].has(sp.oo, sp.zoo, sp.nan):
        return None
    above, below = sp.fraction(sp.cancel(sp.together(values[root])))
    polynomials = [sp.Poly(p, h) for p in (above, below)]
    if any(p.degree() > 1 for p in polynomials):
        return None
    coefficients = [sp.expand(p.coeff_monomial(m)) for p in polynomials for m in (h, 1)]
    if any(len(c.args) > _TERMS for c in coefficients if c.is_Add):
        return None
    if (
        equal(
            values[root],
            (coefficients[0] * h + coefficients[1]) / (coefficients[2] * h + coefficients[3]),
        )
        is not True
    ):
        return None
    return tuple(_built(b, c, nodes) for c in coefficients)


def _built(b: RangeBuilder, expression: Any, nodes: Mapping[Any, int]) -> int:
    """The node of a polynomial in symbols that stand for nodes."""
    import sympy as sp

    if expression.is_Number:
        return b.const(float(expression))
    if expression in nodes:
        return nodes[expression]
    if expression.is_Pow:
        base, count = _built(b, expression.base, nodes), int(expression.exp)
        found = base
        for _ in range(count - 1):
            found = b.op("mul", found, base)
        return found
    parts = [_built(b, a, nodes) for a in sp.ordered(expression.args)]
    name = "add" if expression.is_Add else "mul"
    found = parts[0]
    for part in parts[1:]:
        found = b.op(name, found, part)
    return found
