"""Domains of hypers: what is refused when a spec is read and when a number is set."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

import seqc

SPEC = """
layer Rates
size  hidden
hyper low = -1, high > low = 1, 0 < p <= 1 = 0.5
input x[t]: hidden
state h[t]: hidden
h[t] = exp(low - high) * h[t-1] + p * x[t]
output h[t]
"""


def told(declared: str) -> str:
    """What is said of a layer with that statement for its hypers."""
    spec = SPEC.replace("low = -1, high > low = 1, 0 < p <= 1 = 0.5", declared)
    spec = spec.replace("exp(low - high)", "0.5").replace("p *", "")
    with pytest.raises(seqc.SeqcError) as caught:
        seqc.check(spec)
    return str(caught.value)


@pytest.mark.parametrize(
    "declared, code, says",
    [
        ("c > 0 = 0", "E095", "`c` is 0, outside its domain"),
        ("c >= 2 = 1", "E095", "it must be >= 2"),
        ("1 > c = 1", "E095", "it must be < 1"),
        ("0 < c <= 1 = 2", "E095", "it must be <= 1"),
        ("a = 1, b > a = 1", "E095", "give a number > a, which is 1"),
        ("a < b = 2, b = 1", "E094", "`b`, no number and no earlier hyper"),
        ("c > hidden = 2", "E094", "`hidden`, no number and no earlier hyper"),
        ("c > 1 + x[t] = 2", "E094", "no number and no earlier hyper"),
        ("c == 1 = 1", "E094", "is a name, which may be compared with numbers"),
        ("0 < c < 1 < 2 = 1", "E094", "is a name, which may be compared with numbers"),
        ("3 = 4", "E094", "is a name, which may be compared with numbers"),
        ("c > 0", "E087", "`c` needs a number"),
    ],
)
def test_a_domain_is_refused(declared: str, code: str, says: str) -> None:
    text = told(declared)
    assert f"error[{code}]" in text
    assert says in text
    assert text.count("error[") == 1


def test_the_error_in_full() -> None:
    assert told("c > 0 = -2") == (
        "error[E095]: the hyper-parameter `c` is -2, outside its domain\n"
        " --> <text>:4:15\n"
        "  |\n"
        "4 | hyper c > 0 = -2\n"
        "  |               ^^\n"
        "  |           - it must be > 0\n"
        "  = hint: give a number > 0, or widen the domain"
    )


def built(**numbers: Any) -> Any:
    return seqc.compile(SPEC)(hidden=2, backend="reference", **numbers)


@pytest.mark.parametrize(
    "name, value, says",
    [
        ("p", 0, "hyper 'p' must be > 0; it can't be 0.0"),
        ("p", 1.5, "hyper 'p' must be <= 1; it can't be 1.5"),
        ("p", torch.tensor(-1.0), "hyper 'p' must be > 0; it can't be -1.0"),
        ("p", float("nan"), "hyper 'p' must be a number, not nan"),
        ("high", -1, "hyper 'high' must be > low, which is -1; it can't be -1.0"),
        ("low", 2, "hyper 'low' must be < high, which is 1; it can't be 2.0"),
    ],
)
def test_a_value_outside_is_refused(name: str, value: Any, says: str) -> None:
    layer = built()
    before = getattr(layer, name)
    with pytest.raises(ValueError) as caught:
        setattr(layer, name, value)
    assert str(caught.value) == f"Rates: {says}"
    assert getattr(layer, name) == before
    if not isinstance(value, torch.Tensor) and value == value:
        with pytest.raises(ValueError, match=f"hyper '{name}' must be"):
            built(**{name: value})


def test_hypers_are_taken_together_and_kept_to_afterwards() -> None:
    layer = built(low=5, high=6)
    assert (layer.low, layer.high, layer.p) == (5.0, 6.0, 0.5)
    layer.high = 8
    layer.low = 7
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert (twin.low, twin.high) == (7.0, 8.0)
        with pytest.raises(ValueError, match="must be < high"):
            twin.low = 9


def test_a_standalone_module_keeps_to_it() -> None:
    text = seqc.build(SPEC, standalone=True)
    assert "DOMAINS = (" in text
    assert "def _check_domain" in text


@pytest.mark.parametrize(
    "hypers, coefficient, lies",
    [
        ("c = 8", "exp(-c * softplus(x[t]))", "(0, inf)"),
        ("c > 0 = 8", "exp(-c * softplus(x[t]))", "(0, 1)"),
        ("c >= 0 = 8", "exp(-c * softplus(x[t]))", "(0, 1]"),
        ("low = -1, high > low = 1", "exp(low - high)", "(0, 1)"),
        ("a = 0, b >= a = 1, c > b = 2", "exp(a - c)", "(0, 1)"),
        ("a = 0, b >= a = 1", "exp(a - b)", "(0, 1]"),
        ("0 < a = 1, b > a = 2", "exp(-b)", "(0, 1)"),
        ("a = 1, a2 > a = 2, a3 >= a2 = 2, a3b < 0 = -1", "exp(a3b + 0 * a3)", "(0, 1)"),
        ("b = 1, 0 <= a <= b = 1", "exp(a - b)", "(0, 1]"),
    ],
)
def test_proofs_use_it(hypers: str, coefficient: str, lies: str) -> None:
    report = seqc.check(
        f"""
layer L
size  hidden
hyper {hypers}
input x[t]: hidden
state h[t]: hidden
h[t] = {coefficient} * h[t-1] + x[t]
output h[t]
"""
    )
    assert str(report["L"].strata[0].coefficient_range) == lies
    assert report["L"].strata[0].method == "scan"


def test_an_algebra_may_ask_for_what_a_domain_says() -> None:
    spec = """
algebra shrinking(a >= 0, b)
identity (1, 0)
compose (a2, b2) after (a1, b1) = (a2 * a1, a2 * b1 + b2)
apply h -> a * h + b

layer L
size  hidden
hyper c HERE = 0.5
input x[t]: hidden
state h[t]: hidden
h[t] = shrinking(c, x[t])(h[t-1])
output h[t]
"""
    assert seqc.check(spec.replace("HERE", ">= 0"))["L"].strata[0].method == "scan"
    assert seqc.check(spec.replace("HERE", ""))["L"].strata[0].method == "march"
