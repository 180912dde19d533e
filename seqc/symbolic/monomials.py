"""A normal form of sums and joins, as polynomials over (max, +), (min, +) or (logaddexp, +).

Sums distribute over the join, so that an expression is the join of monomials, each a sum of symbols
and a number.  Two expressions with one such form are equal: of logaddexp, exponentials of both
sides are one polynomial with whole coefficients; a maximum keeps of equal monomials the largest.
Unlike sympy's forms this takes a millisecond where there are hundreds of terms.

Source: Heidergott, Olsder, van der Woude, "Max Plus at Work" (2006), for polynomials over (max, +).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

from seqc.ir.algebra import Algebra
from seqc.ir.graph import Graph

#: The operations that may join terms.
JOINS = ("max", "min", "logaddexp")
#: What joins nothing, by operation.
FAR = {"max": -math.inf, "min": math.inf, "logaddexp": -math.inf}

#: Symbols with their powers, in order, and a number that is added.
Monomial: TypeAlias = tuple[tuple[tuple[str, int], ...], Fraction]
#: How often each monomial is joined in; empty: nothing is.
Polynomial: TypeAlias = Mapping[Monomial, int]

#: Terms that a polynomial may come to.
_TERMS = 2000


def symbol(name: str) -> Polynomial:
    """The polynomial that is a symbol."""
    return {(((name, 1),), Fraction(0)): 1}


def constant(value: float, join: str) -> Polynomial | None:
    """The polynomial that is a number; None where it is none, as of the wrong infinity."""
    if value == FAR[join]:
        return {}
    return {((), Fraction(str(value))): 1} if math.isfinite(value) else None


def operate(op: str, args: Sequence[Polynomial | None], join: str) -> Polynomial | None:
    """An operation of polynomials; None where that is none, or a large one."""
    given = [a for a in args if a is not None]
    if len(given) < len(args):
        return None
    if op == "softplus" and join == "logaddexp":
        op, given = join, [*given, {((), Fraction(0)): 1}]
    if op == join:
        return _joined(given[0], given[1], join)
    if op in ("sub", "neg"):
        opposite = _opposite(given[-1])
        if opposite is None or op == "neg":
            return opposite
        op, given = "add", [given[0], opposite]
    if op != "add":
        return None
    return _sum(given[0], given[1], join)


def _joined(x: Polynomial, y: Polynomial, join: str) -> Polynomial | None:
    found = dict(x)
    for monomial, count in y.items():
        found[monomial] = found.get(monomial, 0) + count
    return _reduced(found, join)


def _sum(x: Polynomial, y: Polynomial, join: str) -> Polynomial | None:
    if len(x) * len(y) > _TERMS:
        return None
    found: dict[Monomial, int] = {}
    for (left, a), m in x.items():
        for (right, b), n in y.items():
            powers = dict(left)
            for name, power in right:
                powers[name] = powers.get(name, 0) + power
            monomial = tuple(sorted((s, p) for s, p in powers.items() if p)), a + b
            found[monomial] = found.get(monomial, 0) + m * n
    return _reduced(found, join)


def _opposite(x: Polynomial) -> Polynomial | None:
    if len(x) != 1:
        return None
    (((powers, number), count),) = x.items()
    return {(tuple((s, -p) for s, p in powers), -number): 1} if count == 1 else None


def _reduced(found: dict[Monomial, int], join: str) -> Polynomial | None:
    if len(found) > _TERMS:
        return None
    if join == "logaddexp":
        return found
    better = max if join == "max" else min
    best: dict[tuple[tuple[str, int], ...], Fraction] = {}
    for powers, number in found:
        best[powers] = better(number, best[powers]) if powers in best else number
    return dict.fromkeys(best.items(), 1)


# --- laws of algebras


def join_of(nodes: Graph) -> str | None:
    """The join of an algebra that is made of sums and one join; None of any other."""
    ops = {n.op for n in nodes}
    found = [j for j in JOINS if j in ops]
    plain = ops <= {"symbol", "const", "add", "sub", "neg", *found}
    return found[0] if plain and len(found) == 1 else None


def polynomials(algebra: Algebra, symbols: Mapping[str, Any]) -> Sequence[Any]:
    """Each expression's polynomial, from those of the symbols; None where there is none."""
    join = join_of(algebra.nodes)
    assert join is not None
    out: list[Polynomial | None] = []
    for node in algebra.nodes:
        if node.op == "symbol":
            out.append(symbols.get(str(node.attrs[0])))
        elif node.op == "const":
            out.append(constant(float(node.attrs[0]), join))
        else:
            out.append(operate(node.op, [out[a] for a in node.args], join))
    return out
