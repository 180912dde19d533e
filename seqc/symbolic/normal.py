"""Deciding whether two sympy expressions are equal, without ``simplify`` (which takes seconds).

Three normal forms, tried in order: polynomials and rational functions
(``expand``, ``together``); maxima of sums, as in max-plus (a set of terms);
logarithms of sums, as in log-affine (the exponential of both sides, expanded).
"""

from __future__ import annotations

from typing import Any

#: Larger maxima than this are not written out.
_TERMS = 256


def equal(left: Any, right: Any) -> bool | None:
    """True when the two are provably the same, None when that is not decided."""
    import sympy as sp

    from seqc.symbolic.tosympy import in_exponentials

    difference = sp.expand(left - right)
    if difference == 0:
        return True
    if not difference.atoms(sp.Function) and not difference.has(sp.Piecewise):
        numerator, _ = sp.fraction(sp.together(difference))
        if sp.expand(numerator) == 0:
            return True
    for kind in (sp.Max, sp.Min):
        if difference.has(kind):
            terms = _terms(left, kind), _terms(right, kind)
            if terms[0] is not None and terms[0] == terms[1]:
                return True
    left, right = in_exponentials(left), in_exponentials(right)
    difference = sp.expand(left - right)
    if difference.has(sp.log):
        difference = sp.expand(sp.exp(left) - sp.exp(right))
    elif difference.has(sp.exp):
        difference = sp.expand(sp.fraction(sp.together(difference))[0])
    return True if difference == 0 else None


def _terms(expression: Any, kind: Any) -> frozenset[Any] | None:
    """The terms of which the expression is the maximum (or minimum), sums distributed over it.

    max(a, b) + c = max(a + c, b + c), and a factor >= 0 goes inside.
    """
    import sympy as sp

    if isinstance(expression, kind):
        found: set[Any] = set()
        for a in expression.args:
            part = _terms(a, kind)
            if part is None:
                return None
            found |= part
        return frozenset(found) if len(found) <= _TERMS else None
    if not expression.has(sp.Max, sp.Min):
        return frozenset([sp.expand(expression)])
    if isinstance(expression, sp.Add):
        sums = {sp.Integer(0)}
        for a in expression.args:
            part = _terms(a, kind)
            if part is None or len(sums) * len(part) > _TERMS:
                return None
            sums = {sp.expand(x + y) for x in sums for y in part}
        return frozenset(sums)
    if isinstance(expression, sp.Mul):
        inner = [a for a in expression.args if a.has(sp.Max, sp.Min)]
        outer = sp.Mul(*(a for a in expression.args if not a.has(sp.Max, sp.Min)))
        part = _terms(inner[0], kind) if len(inner) == 1 and outer.is_nonnegative else None
        return None if part is None else frozenset(sp.expand(outer * x) for x in part)
    return None
