"""Laws of algebras: proved, refuted with numbers that do refute, or unknown."""

from __future__ import annotations

import math

import pytest

from seqc.diagnostics import Source
from seqc.frontend import parse_algebras
from seqc.ir.algebra import Algebra
from seqc.ir.verdict import Verdict
from seqc.symbolic.algebra import acts_affinely, apply, compose, identity, prove
from tests.symbolic.specs import algebras


def algebra(text: str) -> Algebra:
    return parse_algebras(Source(text))[-1]


def verdicts(a: Algebra) -> dict[str, Verdict]:
    return {law.law: law.verdict for law in prove(a)}


PROVED = {
    "affine": """
algebra affine(a, b)
identity (1, 0)
compose  (a2, b2) after (a1, b1) = (a2 * a1, a2 * b1 + b2)
apply    h -> a * h + b
""",
    "maxplus": """
algebra maxplus(a, b)
identity (0, -inf)
compose  (a2, b2) after (a1, b1) = (a2 + a1, max(a2 + b1, b2))
apply    h -> max(a + h, b)
""",
    "minplus": """
algebra minplus(a, b)
identity (0, inf)
compose  (a2, b2) after (a1, b1) = (a2 + a1, min(a2 + b1, b2))
apply    h -> min(a + h, b)
""",
    "logaffine": """
algebra logaffine(a, b)
identity (0, -inf)
compose  (a2, b2) after (a1, b1) = (a2 + a1, logaddexp(a2 + b1, b2))
apply    h -> logaddexp(a + h, b)
""",
    "moebius": """
algebra moebius(a, b, c, d)
identity (1, 0, 0, 1)
compose  (a2, b2, c2, d2) after (a1, b1, c1, d1) = (
    a2*a1 + b2*c1, a2*b1 + b2*d1, c2*a1 + d2*c1, c2*b1 + d2*d1
)
apply    h -> (a*h + b) / (c*h + d)
""",
}


@pytest.mark.parametrize("name", list(PROVED))
def test_proved(name: str) -> None:
    found = verdicts(algebra(PROVED[name]))
    assert list(found) == [
        "associativity",
        "left identity",
        "right identity",
        "homomorphism",
        "identity acts as identity",
        "floats",
    ]
    assert {k: str(v) for k, v in found.items()} == dict.fromkeys(found, "proved")


def test_the_prelude() -> None:
    for a in algebras():
        assert all(law.verdict == "proved" for law in prove(a)), a.name


REFUTED = [
    (
        "associativity",
        """
algebra wrong(a, b)
identity (1, 0)
compose  (a2, b2) after (a1, b1) = (a2 * a1, a2 * b1 - b2)
apply    h -> a * h + b
""",
    ),
    (
        "left identity",
        """
algebra wrong(a, b)
identity (1, 1)
compose  (a2, b2) after (a1, b1) = (a2 * a1, a2 * b1 + b2)
apply    h -> a * h + b
""",
    ),
    (
        "homomorphism",
        """
algebra wrong(a, b)
identity (1, 0)
compose  (a2, b2) after (a1, b1) = (a2 * a1, a2 * b1 + b2)
apply    h -> a * h + b * b
""",
    ),
    (
        "identity acts as identity",
        """
algebra wrong(a, b)
identity (1, 0)
compose  (a2, b2) after (a1, b1) = (a2 * a1, a2 * b1 + b2)
apply    h -> a * h + b + 1
""",
    ),
]


@pytest.mark.parametrize(("law", "text"), REFUTED)
def test_refuted_with_a_counterexample_that_refutes(law: str, text: str) -> None:
    a = algebra(text)
    verdict = verdicts(a)[law]
    assert verdict == "refuted"
    values = verdict.counterexample
    assert values is not None
    h = values.get("h", 0.0)

    def f(k: int) -> tuple[float, float]:
        return values[f"a{k}"], values[f"b{k}"]

    if law == "associativity":
        left = compose(a, compose(a, f(3), f(2)), f(1))
        right = compose(a, f(3), compose(a, f(2), f(1)))
    elif law == "left identity":
        left, right = compose(a, identity(a), f(1)), f(1)
    elif law == "homomorphism":
        left = apply(a, compose(a, f(2), f(1)), (h,))
        right = apply(a, f(2), apply(a, f(1), (h,)))
    else:
        left, right = apply(a, identity(a), (h,)), (h,)
    assert any(abs(x - y) > 1e-3 for x, y in zip(left, right, strict=True)), (left, right)
    assert "is not" in verdict.reason


def test_reals_are_blind_to_infinity() -> None:
    """max(a h, b) with a >= 0 obeys the laws on the reals; in floats 0 * -inf is NaN."""
    found = verdicts(
        algebra("""
algebra scaled(a, b)
identity (1, -inf)
compose  (a2, b2) after (a1, b1) = (a2 * a1, max(a2 * b1, b2))
apply    h -> max(a * h, b)
""")
    )
    assert found["floats"] == "refuted"
    values = found["floats"].counterexample
    assert values is not None
    assert any(v == 0 for v in values.values())
    assert any(math.isinf(v) for v in values.values())


def test_undecided_is_unknown() -> None:
    """It holds, for sin^2 + cos^2 = 1, but expansion does not see that: so no more is claimed."""
    found = verdicts(
        algebra("""
algebra circle(a, b)
identity (0, 0)
compose  (a2, b2) after (a1, b1) = (a2 + a1, b2 + b1 + sin(a1)^2 + cos(a1)^2 - 1)
apply    h -> h + b
""")
    )
    assert found["right identity"] == "proved"
    assert found["left identity"] == "unknown"
    assert found["left identity"].counterexample is None


def test_acts_affinely() -> None:
    assert acts_affinely(algebra(PROVED["affine"]))
    assert not acts_affinely(algebra(PROVED["maxplus"]))
    assert not acts_affinely(algebra(PROVED["moebius"]))


def test_proofs_are_remembered() -> None:
    a, b = algebra(PROVED["affine"]), algebra(PROVED["affine"])
    assert a is not b
    assert prove(a) is prove(b)
