"""Proofs of an algebra's laws, with a counterexample in numbers where one fails.

Each law is first tried in floats at small whole numbers and at random, which can
refute it; then in sympy, which can prove it; else it stays unknown.  The reals
are blind to infinity (0 * -inf), so the last law runs the others in floats on
the identity, on zero and on reset coefficients (edges.py).

A part with a domain (a >= 0) is only ever given such values; where the domain
includes its end, the proof splits into that end and what lies strictly inside,
so that a choice by ``a > 0`` in the algebra is decided in each case.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from seqc.ir.algebra import Algebra, Domain
from seqc.ir.report import LawReport as Law
from seqc.ir.verdict import Interval, Verdict
from seqc.symbolic.actions import (
    COMPOSITION,
    Sides,
    apply,
    compose,
    expressions,
    identity,
    laws,
    terms,
)
from seqc.symbolic.edges import differ, run_on_edges
from seqc.symbolic.monomials import polynomials, semirings_of
from seqc.symbolic.monomials import symbol as monomial
from seqc.symbolic.normal import equal

__all__ = [
    "Law", "acts_affinely", "apply", "compose", "identity", "keeps", "prove", "together",
]  # fmt: skip

#: Parts with a closed domain, in all functions of a law, beyond which no cases are made.
_SPLIT = 6
#: Times that a proof may take a symbol below, at and above zero: 27 cases of three symbols.
_SIGNS = 13
#: Terms that a side of a law may come to once it is expanded; fewer where maxima are compared.
_TERMS = 4000
_LATTICE_TERMS = 400
#: Maxima, minima and the like that an algebra may hold.
_JOINS = 16


@lru_cache(maxsize=64)
def prove(algebra: Algebra) -> tuple[Law, ...]:
    """The laws that a scan relies on, each with what its proof came to; remembered per process."""
    numeric = laws(algebra)
    found: dict[str, Verdict] = {}
    for name, (symbols, sides) in numeric.items():
        counterexample = _refute(algebra, symbols, sides)
        if counterexample is not None:
            found[name] = _refuted(sides, counterexample)
        else:
            found[name] = _prove_symbolically(algebra, name)
    numeric |= _as_functions(algebra, found)
    out = [Law(name, verdict) for name, verdict in found.items()]
    if algebra.domains:
        out.append(Law("domains", _prove_domains(algebra)))
    return (*out, Law("floats", run_on_edges(algebra, numeric)))


def _as_functions(
    algebra: Algebra, found: dict[str, Verdict]
) -> dict[str, tuple[tuple[str, ...], Sides]]:
    """The laws of composition that fail of parts, but hold of the functions that they stand for.

    Some functions have several names: between limits that are not in order, the lower one does not
    matter.  All that a scan needs is what the composition does to a state; that this is what its
    functions do in turn, in any grouping, follows where apply is a homomorphism.
    """
    if any(found[law] != "proved" for law in ("homomorphism", "identity acts as identity")):
        return {}
    acting = [law for law in COMPOSITION if found[law] == "refuted"]
    numeric = laws(algebra, acting=acting)
    sound = {law: numeric[law] for law in acting if _refute(algebra, *numeric[law]) is None}
    for law in sound:
        why = "both sides are the same function, apply being a homomorphism"
        found[law] = Verdict("proved", f"{why}; their parts may differ")
    return sound


@lru_cache(maxsize=64)
def acts_affinely(algebra: Algebra) -> bool:
    """Whether it has two parts and applies as part0 * h + part1."""
    import sympy as sp

    if len(algebra.parts) != 2 or len(algebra.arguments) != 1 or algebra.domains:
        return False
    a, b, h = sp.symbols("a b h", real=True)
    (applied,) = apply(algebra, (a, b), (h,), expressions)
    return equal(applied, a * h + b) is True


def together(algebra: Algebra) -> tuple[Verdict, str]:
    """What all the laws come to, and the first that is refuted (else empty)."""
    found = prove(algebra)
    for law in found:
        if law.verdict == "refuted":
            return law.verdict, law.law
    for law in found:
        if law.verdict == "unknown":
            return Verdict("unknown", f"{law.law}: {law.verdict.reason}"), ""
    return Verdict("proved", f"the laws of {algebra.title} hold"), ""


# --- domains


def keeps(domain: Domain, lies: Interval) -> bool:
    """Whether every value of the interval lies in the domain."""
    return {
        "ge": lies.lo >= domain.bound,
        "gt": lies.lo > domain.bound or (lies.lo == domain.bound and lies.lo_open),
        "le": lies.hi <= domain.bound,
        "lt": lies.hi < domain.bound or (lies.hi == domain.bound and lies.hi_open),
    }[domain.op]


def _domain_of(algebra: Algebra, symbol: str) -> Domain | None:
    """The domain of a law's symbol: that of the part whose value in some function it is."""
    if symbol in algebra.arguments:
        return None
    part = symbol.split("[")[0] if symbol.endswith("]") else symbol[:-1]
    return next((d for d in algebra.domains if d.part == part), None)


def _cases(algebra: Algebra, symbols: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The symbols as sympy's, with what their domains say of them; every case once."""
    import sympy as sp

    choices: list[list[Any]] = []
    domains = [_domain_of(algebra, s) for s in symbols]
    split = sum(d is not None and d.op in ("ge", "le") for d in domains) <= _SPLIT
    for symbol, domain in zip(symbols, domains, strict=True):
        if domain is None:
            choices.append([sp.Symbol(symbol, real=True)])
            continue
        bound = sp.Rational(str(domain.bound))
        sign = 1 if domain.op in ("ge", "gt") else -1
        inside = bound + sign * sp.Symbol(symbol, positive=True)
        if domain.op in ("gt", "lt"):
            choices.append([inside])
        elif split:
            choices.append([inside, bound])
        else:
            choices.append([bound + sign * sp.Symbol(symbol, nonnegative=True)])
    for picked in itertools.product(*choices):
        yield dict(zip(symbols, picked, strict=True))


def _prove_domains(algebra: Algebra) -> Verdict:
    """The identity lies in the domains, and so does every composition."""
    neutral = dict(zip(algebra.parts, identity(algebra), strict=True))
    for domain in algebra.domains:
        if not domain.holds(neutral[domain.part]):
            return Verdict("refuted", f"the identity breaks {domain}", neutral)
    names = [f"{p}{k}" for k in (2, 1) for p in algebra.parts]
    width = len(algebra.parts)
    for values in _samples(algebra, names):
        numbers = [values[s] for s in names]
        parts = compose(algebra, numbers[:width], numbers[width:])
        for domain in algebra.domains:
            if not domain.holds(parts[algebra.parts.index(domain.part)]):
                return Verdict("refuted", f"a composition breaks {domain}", values)
    for case in _cases(algebra, names):
        given = list(case.values())
        found = compose(algebra, given[:width], given[width:], expressions)
        for domain in algebra.domains:
            value = found[algebra.parts.index(domain.part)] - domain.bound
            value = value if domain.op in ("ge", "gt") else -value
            strict = domain.op in ("gt", "lt")
            value = value.expand()
            if not (value.is_positive if strict else value.is_nonnegative):
                return Verdict("unknown", f"that compositions keep {domain} is not proved")
    return Verdict("proved", "the identity and every composition keep " + _listing(algebra))


def _listing(algebra: Algebra) -> str:
    return ", ".join(str(d) for d in algebra.domains)


# --- proof and refutation


def _prove_symbolically(algebra: Algebra, name: str) -> Verdict:
    if _same_polynomials(algebra, name):
        return Verdict("proved", "both sides have one normal form")
    symbols, sized = laws(algebra, terms)[name]
    joins = sum(n.op in ("max", "min", "logaddexp") for n in algebra.nodes)
    most = _LATTICE_TERMS if joins else _TERMS
    if joins > _JOINS or max(max(side) for side in sized(dict.fromkeys(symbols, 1))) > most:
        return Verdict("unknown", "no counterexample in numbers, and too large to expand")
    count = 0
    _, sides = laws(algebra, expressions)[name]
    splits = 0
    waiting = list(_cases(algebra, symbols))[::-1]
    while waiting:
        values = waiting.pop()
        try:
            left, right = sides(values)
            undecided = _undecided((*left, *right), values)
            if undecided is not None and splits < _SIGNS:
                splits += 1
                waiting += [{**values, undecided: x} for x in _signs(undecided)]
                continue
            same = all(equal(x, y) is True for x, y in zip(left, right, strict=True))
        except (TypeError, ValueError):  # sympy refuses to compare the NaN that 0 * inf is
            return Verdict("unknown", "a side is not defined: it holds 0 * inf")
        if not same:
            return Verdict("unknown", "no counterexample in numbers, and no proof by expansion")
        count += 1
    of = _listing(algebra) if algebra.domains else "the signs that its choices turn on"
    cases = "" if count == 1 else f", in each of {count} cases of {of}"
    return Verdict("proved", f"both sides have one normal form{cases}")


def _same_polynomials(algebra: Algebra, name: str) -> bool:
    """Whether both sides are polynomials with one normal form; False decides nothing."""
    for over in semirings_of(algebra.nodes):
        symbols, sides = laws(algebra, partial(polynomials, over=over))[name]
        left, right = sides({s: monomial(s) for s in symbols})
        if all(x is not None and x == y for x, y in zip(left, right, strict=True)):
            return True
    return False


def _undecided(sides: Sequence[Any], values: Mapping[str, Any]) -> str | None:
    """The first symbol without a known sign that a choice depends on, of either side."""
    import sympy as sp

    known = {v: name for name, v in values.items() if v.is_Symbol and v.is_zero is None}
    for side in sides:
        for condition in sorted(sp.sympify(side).atoms(sp.core.relational.Relational), key=str):
            found = [
                v for v in condition.free_symbols if v in known and v.is_extended_positive is None
            ]
            if found:
                return min(known[v] for v in found)
    return None


def _signs(name: str) -> tuple[Any, ...]:
    """The symbol below zero, zero, and above."""
    import sympy as sp

    return sp.Symbol(name, negative=True), sp.Integer(0), sp.Symbol(name, positive=True)


def _samples(algebra: Algebra, symbols: Sequence[str]) -> Iterator[dict[str, float]]:
    """Small whole numbers first, for a counterexample that a person can check."""
    numbers = random.Random(20161101)
    domains = {s: _domain_of(algebra, s) for s in symbols}

    def inside(symbol: str, value: float) -> float:
        domain = domains[symbol]
        if domain is None or domain.holds(value):
            return value
        sign = 1.0 if domain.op in ("ge", "gt") else -1.0
        return domain.bound + sign * (abs(value - domain.bound) or 1.0)

    for _ in range(24):
        yield {s: inside(s, float(numbers.randint(-2, 3))) for s in symbols}
    for scale in (1.0, 1.0, 1.0, 1.0, 10.0, 10.0, 0.1, 0.1):
        for _ in range(2):
            yield {s: inside(s, numbers.gauss(0.0, scale)) for s in symbols}


def _refute(algebra: Algebra, symbols: Sequence[str], sides: Sides) -> dict[str, float] | None:
    for values in _samples(algebra, symbols):
        left, right = sides(values)
        if any(differ(x, y) for x, y in zip(left, right, strict=True)):
            return values
    return None


def _refuted(sides: Sides, values: Mapping[str, float]) -> Verdict:
    left, right = sides(values)
    shown = ["(" + ", ".join(f"{x:g}" for x in side) + ")" for side in (left, right)]
    return Verdict("refuted", f"{shown[0]} is not {shown[1]}", values)
