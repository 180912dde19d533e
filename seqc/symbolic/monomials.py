"""A normal form of products and joins, as polynomials over a semiring: (max, +), (max, min), ….

Products distribute over the join, so that an expression is the join of monomials, each a product of
symbols and a number.  Two expressions with one such form are equal: of logaddexp, exponentials of
both sides are one polynomial with whole coefficients; a maximum of sums keeps of equal monomials
the largest; a maximum of minima drops each monomial that lies below another (a minimum of maxima
each above).  Unlike sympy's forms this takes a millisecond where there are hundreds of terms.

Source: Heidergott, Olsder, van der Woude, "Max Plus at Work" (2006), for polynomials over (max, +);
Birkhoff, "Lattice Theory" (1940), for the normal form of a distributive lattice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

from seqc.ir.algebra import Algebra
from seqc.ir.graph import Graph


@dataclass(frozen=True)
class Semiring:
    """What joins terms and what multiplies them; ``far`` joins nothing, ``one`` scales nothing."""

    join: str
    product: str
    far: float
    one: float

    @property
    def lattice(self) -> bool:
        """Whether products are minima or maxima themselves."""
        return self.product != "add"


#: The algebra of one carry that is over it (of several: ``block_`` and this), the cheapest first.
SEMIRINGS: Mapping[str, Semiring] = {
    "max_plus": Semiring("max", "add", -math.inf, 0.0),
    "min_plus": Semiring("min", "add", math.inf, 0.0),
    "log_affine": Semiring("logaddexp", "add", -math.inf, 0.0),
    "max_min": Semiring("max", "min", -math.inf, math.inf),
    "min_max": Semiring("min", "max", math.inf, -math.inf),
}

#: Symbols with their powers, in order; of a monomial, with a number that is multiplied in.
Powers: TypeAlias = tuple[tuple[str, int], ...]
Monomial: TypeAlias = tuple[Powers, Fraction | float]
#: How often each monomial is joined in; empty: nothing is.
Polynomial: TypeAlias = Mapping[Monomial, int]

#: Terms that a polynomial may come to.
_TERMS = 2000


def symbol(name: str) -> Polynomial:
    """The polynomial that is a symbol."""
    return {(((name, 1),), Fraction(0)): 1}


def constant(value: float, over: Semiring) -> Polynomial | None:
    """The polynomial that is a number; None where it is none, as of the wrong infinity."""
    if value == over.far:
        return {}
    if math.isfinite(value):
        return {((), Fraction(str(value))): 1}
    return {((), value): 1} if value == over.one else None


def operate(op: str, args: Sequence[Polynomial | None], over: Semiring) -> Polynomial | None:
    """An operation of polynomials; None where that is none, or a large one."""
    given = [a for a in args if a is not None]
    if len(given) < len(args):
        return None
    if op == "softplus" and over.join == "logaddexp":
        op, given = over.join, [*given, {((), Fraction(0)): 1}]
    if op == "clamp" and over.lattice:
        return operate("min", (operate("max", given[:2], over), given[2]), over)
    if op == over.join:
        return _joined(given[0], given[1], over)
    if op in ("sub", "neg") and not over.lattice:
        opposite = _opposite(given[-1])
        if opposite is None or op == "neg":
            return opposite
        op, given = "add", [given[0], opposite]
    if op != over.product:
        return None
    return _product(given[0], given[1], over)


def _joined(x: Polynomial, y: Polynomial, over: Semiring) -> Polynomial | None:
    found = dict(x)
    for monomial, count in y.items():
        found[monomial] = found.get(monomial, 0) + count
    return _reduced(found, over)


def _product(x: Polynomial, y: Polynomial, over: Semiring) -> Polynomial | None:
    if len(x) * len(y) > _TERMS:
        return None
    found: dict[Monomial, int] = {}
    for (left, a), m in x.items():
        for (right, b), n in y.items():
            monomial = _met(left, right, a, b, over) if over.lattice else _added(left, right, a, b)
            found[monomial] = found.get(monomial, 0) + m * n
    return _reduced(found, over)


def _added(left: Powers, right: Powers, a: Any, b: Any) -> Monomial:
    powers = dict(left)
    for name, power in right:
        powers[name] = powers.get(name, 0) + power
    return tuple(sorted((s, p) for s, p in powers.items() if p)), a + b


def _met(left: Powers, right: Powers, a: Any, b: Any, over: Semiring) -> Monomial:
    """A minimum (maximum) of symbols, each once, and of a number."""
    return tuple(sorted({*left, *right})), (min if over.product == "min" else max)(a, b)


def _opposite(x: Polynomial) -> Polynomial | None:
    if len(x) != 1:
        return None
    (((powers, number), count),) = x.items()
    return {(tuple((s, -p) for s, p in powers), -number): 1} if count == 1 else None


def _reduced(found: dict[Monomial, int], over: Semiring) -> Polynomial | None:
    if len(found) > _TERMS:
        return None
    if over.join == "logaddexp":
        return found
    better = max if over.join == "max" else min
    best: dict[Powers, Fraction | float] = {}
    for powers, number in found:
        best[powers] = better(number, best[powers]) if powers in best else number
    if over.lattice:
        best = _absorbed(best, better)
    return dict.fromkeys(best.items(), 1)


def _absorbed(best: Mapping[Powers, Any], better: Any) -> dict[Powers, Any]:
    """Without the monomials that another one covers: fewer symbols, and no lesser a number."""
    kept: dict[Powers, Any] = {}
    for powers in sorted(best, key=len):
        covering = (
            better(best[powers], number) == number and set(other) <= set(powers)
            for other, number in kept.items()
        )
        if not any(covering):
            kept[powers] = best[powers]
    return kept


# --- laws of algebras


def semirings_of(nodes: Graph) -> tuple[Semiring, ...]:
    """The semirings that an algebra is made of joins and products of; minima of maxima have two."""
    ops = {n.op for n in nodes} - {"symbol", "const"}
    return tuple(
        s for s in SEMIRINGS.values()
        if s.join in ops and ops <= {s.join, s.product, *(() if s.lattice else ("sub", "neg"))}
    )  # fmt: skip


def polynomials(algebra: Algebra, symbols: Mapping[str, Any], over: Semiring) -> Sequence[Any]:
    """Each expression's polynomial, from those of the symbols; None where there is none."""
    out: list[Polynomial | None] = []
    for node in algebra.nodes:
        if node.op == "symbol":
            out.append(symbols.get(str(node.attrs[0])))
        elif node.op == "const":
            out.append(constant(float(node.attrs[0]), over))
        else:
            out.append(operate(node.op, [out[a] for a in node.args], over))
    return out
