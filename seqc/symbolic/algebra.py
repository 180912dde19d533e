"""Proofs of an algebra's laws, with a counterexample in numbers where one fails.

Each law is first tried in floats at small whole numbers and at random, which can
refute it; then in sympy, which can prove it; else it stays unknown.  The reals
are blind to infinity (0 * -inf), so the last law runs the others in floats on
the identity, on zero and on reset coefficients.

Source: the laws of a monoid action; Blelloch, "Prefix sums and their
applications" (1990) for what a scan needs of them.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from seqc.ir.algebra import Algebra
from seqc.ir.report import LawReport as Law
from seqc.ir.verdict import Verdict
from seqc.symbolic.evaluate import evaluate
from seqc.symbolic.normal import equal
from seqc.symbolic.tosympy import to_sympy

__all__ = ["Law", "acts_affinely", "apply", "compose", "identity", "prove"]

#: What a law says: both sides, from the values of its free symbols.
_Sides = Callable[[Mapping[str, Any]], tuple[Sequence[Any], Sequence[Any]]]

#: The values of an algebra's expressions, from those of its symbols (by name).
_Evaluator = Callable[[Algebra, Mapping[str, Any]], Sequence[Any]]


def _floats(algebra: Algebra, symbols: Mapping[str, Any]) -> Sequence[Any]:
    leaves = {
        i: float(symbols.get(str(n.attrs[0]), math.nan))
        for i, n in enumerate(algebra.nodes)
        if n.op == "symbol"
    }
    return evaluate(algebra.nodes, leaves)


def _expressions(algebra: Algebra, symbols: Mapping[str, Any]) -> Sequence[Any]:
    leaves = {
        i: symbols[str(n.attrs[0])]
        for i, n in enumerate(algebra.nodes)
        if n.op == "symbol" and str(n.attrs[0]) in symbols
    }
    found = to_sympy(algebra.nodes, leaves)
    return [found[i] for i in range(len(algebra.nodes))]


def identity(algebra: Algebra, evaluator: _Evaluator = _floats) -> tuple[Any, ...]:
    """The parts of the identity."""
    values = evaluator(algebra, {})
    return tuple(values[i] for i in algebra.identity)


def compose(
    algebra: Algebra, later: Sequence[Any], earlier: Sequence[Any], evaluator: _Evaluator = _floats
) -> tuple[Any, ...]:
    """The parts of ``later after earlier``; in floats unless told otherwise."""
    names = {**dict(zip(algebra.later, later, strict=True))}
    names.update(zip(algebra.earlier, earlier, strict=True))
    values = evaluator(algebra, names)
    return tuple(values[i] for i in algebra.compose)


def apply(
    algebra: Algebra, parts: Sequence[Any], states: Sequence[Any], evaluator: _Evaluator = _floats
) -> tuple[Any, ...]:
    """The function with these parts, applied to the states."""
    names = {**dict(zip(algebra.parts, parts, strict=True))}
    names.update(zip(algebra.arguments, states, strict=True))
    values = evaluator(algebra, names)
    return tuple(values[i] for i in algebra.applied)


def _laws(algebra: Algebra, evaluator: _Evaluator) -> dict[str, tuple[tuple[str, ...], _Sides]]:
    """law -> (its free symbols, its two sides).

    The parts of three functions are named ``a3``, ``a2``, ``a1`` (the latest first).
    """

    def part(k: int) -> tuple[str, ...]:
        return tuple(f"{p}{k}" for p in algebra.parts)

    def f(values: Mapping[str, Any], k: int) -> tuple[Any, ...]:
        return tuple(values[name] for name in part(k))

    def after(x: Sequence[Any], y: Sequence[Any]) -> tuple[Any, ...]:
        return compose(algebra, x, y, evaluator)

    def on(x: Sequence[Any], states: Sequence[Any]) -> tuple[Any, ...]:
        return apply(algebra, x, states, evaluator)

    def h(values: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(values[name] for name in algebra.arguments)

    neutral = identity(algebra, evaluator)
    return {
        "associativity": (
            part(3) + part(2) + part(1),
            lambda v: (
                after(after(f(v, 3), f(v, 2)), f(v, 1)),
                after(f(v, 3), after(f(v, 2), f(v, 1))),
            ),
        ),
        "left identity": (part(1), lambda v: (after(neutral, f(v, 1)), f(v, 1))),
        "right identity": (part(1), lambda v: (after(f(v, 1), neutral), f(v, 1))),
        "homomorphism": (
            (*part(2), *part(1), *algebra.arguments),
            lambda v: (on(after(f(v, 2), f(v, 1)), h(v)), on(f(v, 2), on(f(v, 1), h(v)))),
        ),
        "identity acts as identity": (algebra.arguments, lambda v: (on(neutral, h(v)), h(v))),
    }


@lru_cache(maxsize=64)
def prove(algebra: Algebra) -> tuple[Law, ...]:
    """The laws that a scan relies on, each with what its proof came to; remembered per process."""
    numeric = _laws(algebra, _floats)
    out: list[Law] = []
    for name, (symbols, sides) in numeric.items():
        counterexample = _refute(symbols, sides)
        if counterexample is not None:
            out.append(Law(name, _refuted(sides, counterexample)))
        else:
            out.append(Law(name, _prove_symbolically(algebra, name)))
    return (*out, Law("floats", _run_on_edges(algebra, numeric)))


@lru_cache(maxsize=64)
def acts_affinely(algebra: Algebra) -> bool:
    """Whether it has two parts and applies as part0 * h + part1."""
    import sympy as sp

    if len(algebra.parts) != 2 or len(algebra.arguments) != 1:
        return False
    a, b, h = sp.symbols("a b h", real=True)
    (applied,) = apply(algebra, (a, b), (h,), _expressions)
    return equal(applied, a * h + b) is True


def _prove_symbolically(algebra: Algebra, name: str) -> Verdict:
    import sympy as sp

    symbols, sides = _laws(algebra, _expressions)[name]
    values = {s: sp.Symbol(s, real=True) for s in symbols}
    left, right = sides(values)
    if all(equal(x, y) is True for x, y in zip(left, right, strict=True)):
        return Verdict("proved", "both sides have one normal form")
    return Verdict("unknown", "no counterexample in numbers, and no proof by expansion")


def _samples(symbols: Sequence[str]) -> Iterator[dict[str, float]]:
    """Small whole numbers first, for a counterexample that a person can check."""
    numbers = random.Random(20161101)
    for _ in range(24):
        yield {s: float(numbers.randint(-2, 3)) for s in symbols}
    for scale in (1.0, 1.0, 1.0, 1.0, 10.0, 10.0, 0.1, 0.1):
        for _ in range(2):
            yield {s: numbers.gauss(0.0, scale) for s in symbols}


def _refute(symbols: Sequence[str], sides: _Sides) -> dict[str, float] | None:
    for values in _samples(symbols):
        left, right = sides(values)
        if any(_differ(x, y) for x, y in zip(left, right, strict=True)):
            return values
    return None


def _differ(x: float, y: float) -> bool:
    """Finite on both sides and clearly apart: neither rounding nor a pole is a counterexample."""
    finite = math.isfinite(x) and math.isfinite(y)
    return finite and not math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-6)


def _refuted(sides: _Sides, values: Mapping[str, float]) -> Verdict:
    left, right = sides(values)
    shown = ["(" + ", ".join(f"{x:g}" for x in side) + ")" for side in (left, right)]
    return Verdict("refuted", f"{shown[0]} is not {shown[1]}", values)


# --- floats at the edges


def _run_on_edges(algebra: Algebra, laws: Mapping[str, tuple[tuple[str, ...], _Sides]]) -> Verdict:
    """The laws in floats, each part of each function being the identity's, zero, or a number.

    A function that is not defined on finite states is not of the algebra and is left out.
    Infinities come in only as parts of the identity.
    """
    neutral = identity(algebra)
    choices = [tuple(dict.fromkeys((e, 0.0, 1.5))) for e in neutral]
    elements = [
        f
        for f in itertools.product(*choices)
        if all(
            math.isfinite(x)
            for h in (-2.0, 0.5, 3.0)
            for x in apply(algebra, f, (h,) * len(algebra.arguments))
        )
    ][:27]
    states = [0.5, *(e for e in neutral if math.isinf(e))]
    for name, (symbols, sides) in laws.items():
        functions = len([s for s in symbols if s not in algebra.arguments]) // len(algebra.parts)
        for picked in itertools.product(elements, repeat=functions):
            for h in states:
                numbers = [x for f in picked for x in f]
                values = dict(
                    zip(symbols, (*numbers, *(h for _ in algebra.arguments)), strict=False)
                )
                left, right = sides(values)
                for x, y in zip(left, right, strict=True):
                    # NaN on both sides is a pole of the function itself, such as 0/0.
                    if math.isnan(x) != math.isnan(y) or _differ(x, y):
                        return Verdict("refuted", f"{name} in floats: {x:g} is not {y:g}", values)
    return Verdict("proved", f"run on {len(elements)} functions made of the identity and zero")
