"""The laws of an algebra in floats, where 0 * inf is no number: one of its obligations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from seqc.ir.algebra import Algebra
from seqc.ir.verdict import Verdict
from seqc.symbolic.actions import FACTOR, Sides, apply, identity

#: Functions that are composed with one another, at most.
_ELEMENTS = 27
#: Node evaluations that a law of three functions may take: larger algebras try fewer functions.
_WORK = 60_000


def differ(x: float, y: float) -> bool:
    """Finite on both sides and clearly apart: neither rounding nor a pole is a counterexample."""
    finite = math.isfinite(x) and math.isfinite(y)
    return finite and not math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-6)


def run_on_edges(algebra: Algebra, laws: Mapping[str, tuple[tuple[str, ...], Sides]]) -> Verdict:
    """The laws in floats, each part of each function being the identity's, zero, or a number.

    A function that is not defined on finite states is not of the algebra and is left out.
    Infinities come in only as parts of the identity, and as states where every function is
    defined on them (-inf under max-plus; not under a * h, where a = 0 would make a NaN).
    """
    neutral = identity(algebra)
    elements = _elements(algebra, neutral)
    states = [0.5, *(e for e in neutral if math.isinf(e) and _is_state(algebra, elements, e))]
    for name, (symbols, sides) in laws.items():
        if FACTOR in symbols:
            continue
        acted = any(s in algebra.arguments for s in symbols)
        functions = len([s for s in symbols if s not in algebra.arguments]) // len(algebra.parts)
        for picked in itertools.product(elements, repeat=functions):
            for h in states if acted else states[:1]:
                numbers = [x for f in picked for x in f]
                values = dict(
                    zip(symbols, (*numbers, *(h for _ in algebra.arguments)), strict=False)
                )
                left, right = sides(values)
                for x, y in zip(left, right, strict=True):
                    # NaN on both sides is a pole of the function itself, such as 0/0.
                    if math.isnan(x) != math.isnan(y) or differ(x, y):
                        return Verdict("refuted", f"{name} in floats: {x:g} is not {y:g}", values)
    return Verdict("proved", f"run on {len(elements)} functions made of the identity and zero")


def _is_state(algebra: Algebra, elements: Sequence[tuple[float, ...]], state: float) -> bool:
    states = (state,) * len(algebra.arguments)
    return not any(math.isnan(x) for f in elements for x in apply(algebra, f, states))


def _elements(algebra: Algebra, neutral: Sequence[float]) -> list[tuple[float, ...]]:
    """Functions made of the identity's parts, zeros and a number, the plainest first."""
    count = min(_ELEMENTS, max(4, int((_WORK / len(algebra.nodes)) ** (1 / 3))))
    found: list[tuple[float, ...]] = []
    for f in dict.fromkeys(_candidates(neutral)):
        if len(found) == count:
            break
        values = dict(zip(algebra.parts, f, strict=True))
        sound = all(d.holds(values[d.part]) for d in algebra.domains)
        if sound and all(
            math.isfinite(x)
            for h in (-2.0, 0.5, 3.0)
            for x in apply(algebra, f, (h,) * len(algebra.arguments))
        ):
            found.append(f)
    return found


def _candidates(neutral: Sequence[float]) -> Iterator[tuple[float, ...]]:
    width = len(neutral)
    if width <= 2:
        yield from itertools.product(*(tuple(dict.fromkeys((e, 0.0, 1.5))) for e in neutral))
        return
    yield tuple(neutral)
    yield (0.0,) * width
    yield (1.5,) * width
    for number in (0.0, 1.5):
        for i in range(width):
            yield (*neutral[:i], number, *neutral[i + 1 :])
    for number in (1.5, 0.0):
        for i in range(width):
            others = [1.5 - number] * width
            others[i] = number
            yield tuple(others)
