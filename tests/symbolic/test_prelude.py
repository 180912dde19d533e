"""The algebras of the prelude: each proved, quickly; those that break are refuted in numbers."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqc.diagnostics import Source
from seqc.frontend import parse_algebras
from seqc.ir.algebra import Algebra, find_algebra
from seqc.symbolic.algebra import apply, compose, identity, prove
from tests.symbolic.specs import algebras

LAWS = [
    "associativity",
    "left identity",
    "right identity",
    "homomorphism",
    "identity acts as identity",
    "floats",
]
CLAMPED = """
algebra clamped(a >= 0, b, low, high)
identity (1, 0, -inf, inf)
compose  (a2, b2, low2, high2) after (a1, b1, low1, high1) = (
    a2 * a1, a2 * b1 + b2, max(a2 * low1 + b2, low2), min(max(a2 * high1 + b2, low2), high2)
)
apply    h -> min(max(a * h + b, low), high)
"""


def shape(a: Algebra) -> str:
    return f"{a.name}-{len(a.arguments)}"


@pytest.mark.parametrize("a", algebras(), ids=shape)
def test_proved(a: Algebra) -> None:
    begun = time.perf_counter()
    found = {law.law: (str(law.verdict), law.verdict.reason) for law in prove(a)}
    assert time.perf_counter() - begun < 10  # about 1.5 s for all of them on one core
    assert {law: verdict for law, (verdict, _) in found.items()} == dict.fromkeys(found, "proved")
    assert [law for law in found if law not in ("domains", "projective")] == LAWS
    assert ("projective" in found) == (a.projective is not None)
    assert ("domains" in found) == bool(a.domains)


def test_what_there_is() -> None:
    assert [shape(a) for a in algebras()] == [
        "affine-1",
        "exp_affine-1",
        "max_plus-1",
        "min_plus-1",
        "max_min-1",
        "log_affine-1",
        "clamped_affine-1",
        "mobius-1",
        "rotation-2",
        "block_affine-2",
        "block_affine-3",
        "block_affine-4",
        *(
            f"block_{kind}-{n}"
            for kind in ("max_plus", "min_plus", "max_min", "min_max", "log_affine")
            for n in (2, 3, 4)
        ),
    ]


def test_a_family_is_written_out() -> None:
    found = find_algebra(algebras(), "block_affine", 2)
    assert found is not None
    assert found.parts == ("A11", "A12", "A21", "A22", "b1", "b2")
    assert found.later == ("A2_11", "A2_12", "A2_21", "A2_22", "b2_1", "b2_2")
    assert found.arguments == ("h1", "h2")
    assert found.title == "block-affine"
    assert identity(found) == (1, 0, 0, 1, 0, 0)
    f, g = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0), (0.5, -1.0, 2.0, 0.0, 1.0, -2.0)
    assert apply(found, f, (1.0, 10.0)) == (26.0, 49.0)
    assert apply(found, compose(found, f, g), (1.0, 10.0)) == apply(
        found, f, apply(found, g, (1.0, 10.0))
    )


numbers = st.floats(-4, 4, allow_subnormal=False)


@pytest.mark.parametrize("a", algebras(), ids=shape)
@given(st.data())
def test_regrouping_changes_nothing(a: Algebra, data: st.DataObject) -> None:
    """A chain of functions, composed in any grouping, does what its functions do in turn."""
    positive = {d.part for d in a.domains} | ({"a", "b", "c", "d"} if a.name == "mobius" else set())

    def one() -> tuple[float, ...]:
        drawn = [data.draw(numbers) for _ in a.parts]
        return tuple(
            abs(v) + (1.0 if a.name == "mobius" else 0.0) if p in positive else v
            for p, v in zip(a.parts, drawn, strict=True)
        )

    f, g, k = one(), one(), one()
    states = tuple(abs(data.draw(numbers)) for _ in a.arguments)
    step = apply(a, k, apply(a, g, apply(a, f, states)))
    left = apply(a, compose(a, compose(a, k, g), f), states)
    right = apply(a, compose(a, k, compose(a, g, f)), states)
    assert left == pytest.approx(step, rel=1e-6, abs=1e-6)
    assert right == pytest.approx(step, rel=1e-6, abs=1e-6)


def test_a_domain_is_needed() -> None:
    """Without a >= 0 a limit below becomes one above, and the numbers that show it are given."""
    a = parse_algebras(Source(CLAMPED.replace("a >= 0", "a")))[-1]
    verdicts = {law.law: law.verdict for law in prove(a)}
    verdict = verdicts["homomorphism"]
    assert verdict == "refuted"
    v = verdict.counterexample
    assert v is not None
    f, g = ([v[f"{p}{k}"] for p in a.parts] for k in (2, 1))
    left = apply(a, compose(a, f, g), (v["h"],))
    assert left != pytest.approx(apply(a, f, apply(a, g, (v["h"],))))


def test_functions_with_several_names() -> None:
    """Between limits out of order the lower one does not matter: parts differ, functions do not."""
    a = find_algebra(algebras(), "clamped_affine", 1)
    assert a is not None
    assert compose(a, identity(a), (1.0, 0.0, 3.0, -1.0)) != (1.0, 0.0, 3.0, -1.0)
    reasons = {law.law: law.verdict.reason for law in prove(a)}
    assert "the same function" in reasons["left identity"]
    assert "the same function" in reasons["associativity"]
    assert "one normal form" in reasons["homomorphism"]


def test_zero_times_infinity() -> None:
    """On the reals the plain form is right; its floats are not, where a = 0 meets no limit."""
    a = parse_algebras(Source(CLAMPED))[-1]
    verdicts = {law.law: str(law.verdict) for law in prove(a)}
    assert verdicts.pop("floats") == "refuted"
    assert verdicts.pop("right identity") == "unknown"
    assert set(verdicts.values()) == {"proved"}


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("algebra m(a >= 1)\nidentity 0\ncompose b after c = b + c\napply h -> h + a", "refuted"),
        ("algebra m(a >= 0)\nidentity 0\ncompose b after c = b - c\napply h -> h + a", "refuted"),
        ("algebra m(a >= 0)\nidentity 0\ncompose b after c = b + c\napply h -> h + a", "proved"),
        ("algebra m(a < 1)\nidentity 0\ncompose b after c = b*c/(c*c+1)\napply h -> h", "unknown"),
    ],
)
def test_domains(text: str, verdict: str) -> None:
    a = parse_algebras(Source(text))[-1]
    found = next(law.verdict for law in prove(a) if law.law == "domains")
    if verdict == "unknown":
        assert found != "proved"
    else:
        assert found == verdict


def test_a_state_may_be_named_like_a_part_of_a_law() -> None:
    """``a1`` is both the state and, in the laws, the part of the first function."""
    text = "algebra m(a)\nidentity 0\ncompose b after c = b + c\napply a1 -> a1 + a"
    assert all(law.verdict == "proved" for law in prove(parse_algebras(Source(text))[-1]))
    wrong = text.replace("b + c", "b + 2 * c")
    verdicts = {law.law: law.verdict for law in prove(parse_algebras(Source(wrong))[-1])}
    assert verdicts["homomorphism"] == "refuted"
