"""Deciding whether two sympy expressions are equal, without ``simplify`` (which takes seconds).

Three normal forms, tried in order: polynomials and rational functions
(``expand``, ``together``); minima of maxima of sums, as in max-plus (lattice.py);
logarithms of sums, as in log-affine (the exponential of both sides, expanded).
"""

from __future__ import annotations

from typing import Any

from seqc.symbolic.lattice import lattice_form


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
    if difference.has(sp.Max, sp.Min):
        forms = lattice_form(left), lattice_form(right)
        if forms[0] is not None and forms[0] == forms[1]:
            return True
    left, right = in_exponentials(left), in_exponentials(right)
    difference = sp.expand(left - right)
    if difference.has(sp.log):
        difference = sp.expand(sp.exp(left) - sp.exp(right))
    elif difference.has(sp.exp):
        difference = sp.expand(sp.fraction(sp.together(difference))[0])
    return True if difference == 0 else None
