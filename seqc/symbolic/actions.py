"""What an algebra's functions do: identity, composition and action, in floats or in sympy.

``laws`` says what a scan needs of them: both sides of each equation, from the
values of its free symbols.

Source: the laws of a monoid action; Blelloch, "Prefix sums and their
applications" (1990) for what a scan needs of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from seqc.ir.algebra import Algebra
from seqc.symbolic.evaluate import evaluate
from seqc.symbolic.tosympy import to_sympy

_MANY = 1_000_000
#: The number that a projective algebra's parts may be multiplied by; no name of a spec's.
FACTOR = "[factor]"

#: The laws that say of parts what composing them does.
COMPOSITION = ("associativity", "left identity", "right identity")
#: What a law says: both sides, from the values of its free symbols.
Sides = Callable[[Mapping[str, Any]], tuple[Sequence[Any], Sequence[Any]]]

#: The values of an algebra's expressions, from those of its symbols (by name).
Evaluator = Callable[[Algebra, Mapping[str, Any]], Sequence[Any]]


def floats(algebra: Algebra, symbols: Mapping[str, Any]) -> Sequence[Any]:
    leaves = {
        i: float(symbols.get(str(n.attrs[0]), math.nan))
        for i, n in enumerate(algebra.nodes)
        if n.op == "symbol"
    }
    return evaluate(algebra.nodes, leaves)


def expressions(algebra: Algebra, symbols: Mapping[str, Any]) -> Sequence[Any]:
    leaves = {
        i: symbols[str(n.attrs[0])]
        for i, n in enumerate(algebra.nodes)
        if n.op == "symbol" and str(n.attrs[0]) in symbols
    }
    found = to_sympy(algebra.nodes, leaves)
    return [found[i] for i in range(len(algebra.nodes))]


def terms(algebra: Algebra, symbols: Mapping[str, Any]) -> Sequence[Any]:
    """How many terms each expression comes to once expanded, about; symbols hold their own."""
    out: list[int] = []
    for node in algebra.nodes:
        counts = [out[a] for a in node.args]
        if node.op == "symbol":
            size = int(symbols.get(str(node.attrs[0]), 1))
        elif node.op in ("mul", "div"):
            size = counts[0] * counts[1]
        elif node.op == "pow":
            power = algebra.nodes[node.args[1]]
            literal = abs(float(power.attrs[0])) if power.op == "const" else _MANY
            size = counts[0] ** int(literal) if counts[0] == 1 or literal < 32 else _MANY
        else:
            size = sum(counts) or 1
        out.append(min(size, _MANY))
    return out


def identity(algebra: Algebra, evaluator: Evaluator = floats) -> tuple[Any, ...]:
    """The parts of the identity."""
    values = evaluator(algebra, {})
    return tuple(values[i] for i in algebra.identity)


def compose(
    algebra: Algebra, later: Sequence[Any], earlier: Sequence[Any], evaluator: Evaluator = floats
) -> tuple[Any, ...]:
    """The parts of ``later after earlier``; in floats unless told otherwise."""
    names = {**dict(zip(algebra.later, later, strict=True))}
    names.update(zip(algebra.earlier, earlier, strict=True))
    values = evaluator(algebra, names)
    return tuple(values[i] for i in algebra.compose)


def apply(
    algebra: Algebra, parts: Sequence[Any], states: Sequence[Any], evaluator: Evaluator = floats
) -> tuple[Any, ...]:
    """The function with these parts, applied to the states."""
    names = {**dict(zip(algebra.parts, parts, strict=True))}
    names.update(zip(algebra.arguments, states, strict=True))
    values = evaluator(algebra, names)
    return tuple(values[i] for i in algebra.applied)


def laws(
    algebra: Algebra, evaluator: Evaluator = floats, acting: Sequence[str] = ()
) -> dict[str, tuple[tuple[str, ...], Sides]]:
    """law -> (its free symbols, its two sides).

    Those of composition compare the parts of functions, but for the ``acting`` ones, which compare
    what the functions make of a state.  The parts of three functions are named ``a3``, ``a2``,
    ``a1`` (the latest first), or ``a[3]``, … where a state has such a name.
    """
    taken = {f"{p}{k}" for p in algebra.parts for k in (1, 2, 3)} & set(algebra.arguments)

    def part(k: int) -> tuple[str, ...]:
        return tuple(f"{p}[{k}]" if taken else f"{p}{k}" for p in algebra.parts)

    def f(values: Mapping[str, Any], k: int) -> tuple[Any, ...]:
        return tuple(values[name] for name in part(k))

    def after(x: Sequence[Any], y: Sequence[Any]) -> tuple[Any, ...]:
        return compose(algebra, x, y, evaluator)

    def on(x: Sequence[Any], states: Sequence[Any]) -> tuple[Any, ...]:
        return apply(algebra, x, states, evaluator)

    def h(values: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(values[name] for name in algebra.arguments)

    neutral = identity(algebra, evaluator)
    found: dict[str, tuple[tuple[str, ...], Sides]] = {
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
    if algebra.projective is not None:
        found["projective"] = (
            (*part(1), *algebra.arguments, FACTOR),
            lambda v: (on(tuple(x * v[FACTOR] for x in f(v, 1)), h(v)), on(f(v, 1), h(v))),
        )

    def acted(sides: Sides) -> Sides:
        def both(v: Mapping[str, Any]) -> tuple[Sequence[Any], Sequence[Any]]:
            left, right = sides(v)
            return on(left, h(v)), on(right, h(v))

        return both

    for name in acting:
        symbols, sides = found[name]
        found[name] = (*symbols, *algebra.arguments), acted(sides)
    return found
