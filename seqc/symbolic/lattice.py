"""A normal form of expressions in max, min, + and products with what is >= 0.

The minimum of some maxima of terms without max and min.  Sums, and factors that
are >= 0, are distributed over both (max(a, b) + c = max(a + c, b + c)), a factor
<= 0 swaps them; a maximum that holds all terms of another is redundant and goes.
In a distributive lattice two expressions with one such form are equal; the
converse need not hold, so a difference decides nothing.

Source: Birkhoff, "Lattice Theory" (3rd ed., 1967), on free distributive lattices.
"""

from __future__ import annotations

import itertools
from typing import Any, TypeAlias

#: The minimum of these maxima.
Form: TypeAlias = frozenset[frozenset[Any]]

#: Larger forms than this are not written out.
_CLAUSES = 64
#: Terms that one step may build.
_WORK = 4096


def lattice_form(expression: Any) -> Form | None:
    """The form; None where there is none, or a very large one."""
    import sympy as sp

    if isinstance(expression, sp.Max | sp.Min):
        found: Form | None = None
        for a in expression.args:
            part = lattice_form(a)
            if part is None:
                return None
            if found is None:
                found = part
            elif isinstance(expression, sp.Min):
                found = _reduced(found | part)
            else:
                found = _product(found, part, lambda x, y: x | y)
            if found is None:
                return None
        return found
    if not expression.has(sp.Max, sp.Min):
        return frozenset([frozenset([sp.expand(expression)])])
    if isinstance(expression, sp.Add):
        total: Form | None = frozenset([frozenset([sp.Integer(0)])])
        for a in expression.args:
            part = lattice_form(a)
            if part is None or total is None:
                return None
            total = _product(
                total,
                part,
                lambda x, y: frozenset(sp.expand(s + t) for s in x for t in y),
            )
        return total
    if isinstance(expression, sp.Mul):
        inner = [a for a in expression.args if a.has(sp.Max, sp.Min)]
        outer = sp.Mul(*(a for a in expression.args if not a.has(sp.Max, sp.Min)))
        part = lattice_form(inner[0]) if len(inner) == 1 else None
        if part is None:
            return None
        if outer.is_nonnegative:
            return _scaled(part, outer)
        return _swapped(part, outer) if outer.is_nonpositive else None
    return None


def _scaled(form: Form, factor: Any) -> Form | None:
    return _reduced(frozenset(frozenset((factor * x).expand() for x in c) for c in form))


def _swapped(form: Form, factor: Any) -> Form | None:
    """A factor <= 0 makes a maximum of minima, which is written as a minimum of maxima again."""
    size = 1
    for clause in form:
        size *= len(clause)
        if size > _CLAUSES:
            return None
    picked = itertools.product(*(sorted(c, key=str) for c in form))
    return _reduced(
        frozenset(frozenset((factor * x).expand() for x in choice) for choice in picked)
    )


def _product(a: Form, b: Form, join: Any) -> Form | None:
    if sum(len(x) for x in a) * sum(len(y) for y in b) > _WORK:
        return None
    return _reduced(frozenset(join(x, y) for x in a for y in b))


def _reduced(form: Form) -> Form | None:
    """Without the maxima that another makes redundant; of the numbers in one, the largest."""
    form = frozenset(_with_one_number(c) for c in form)
    kept = frozenset(c for c in form if not any(_implied(c, other) for other in form))
    if len(kept) > _CLAUSES or any(len(c) > _CLAUSES for c in kept):
        return None
    return kept


def _with_one_number(clause: frozenset[Any]) -> frozenset[Any]:
    import sympy as sp

    numbers = [x for x in clause if x.is_Number]
    if not numbers:
        return clause
    largest = max(numbers)
    if largest is sp.oo:
        return frozenset([sp.oo])
    rest = clause - frozenset(numbers)
    return rest if rest and largest is -sp.oo else rest | {largest}


def _implied(clause: frozenset[Any], other: frozenset[Any]) -> bool:
    """Whether a maximum is never less than another one of the form, and so redundant beside it."""
    if clause == other:
        return False
    mine = [x for x in clause if x.is_Number]
    theirs = [x for x in other if x.is_Number]
    rest = other - frozenset(theirs)
    return rest <= clause and (not theirs or bool(mine and mine[0] >= theirs[0]))
