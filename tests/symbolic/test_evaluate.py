"""The float operations at their IEEE 754 edges, and against mpmath."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqc.ir.graph import GraphBuilder
from seqc.ir.ops import CONDITIONS, POINTWISE
from seqc.symbolic.evaluate import FLOATS, evaluate, multiprecision

INF, NAN = math.inf, math.nan
EXACT = multiprecision(80)

EDGES = [
    ("exp", (1e4,), INF),
    ("exp", (-INF,), 0.0),
    ("expm1", (1e4,), INF),
    ("log", (0.0,), -INF),
    ("log", (-1.0,), NAN),
    ("log1p", (-1.0,), -INF),
    ("log1p", (-2.0,), NAN),
    ("div", (1.0, 0.0), INF),
    ("div", (-1.0, 0.0), -INF),
    ("div", (1.0, -0.0), -INF),
    ("div", (0.0, 0.0), NAN),
    ("pow", (0.0, -1.0), INF),
    ("pow", (-8.0, 0.5), NAN),
    ("pow", (1e300, 2.0), INF),
    ("pow", (-1e300, 3.0), -INF),
    ("pow", (0.0, 0.0), 1.0),
    ("sqrt", (-1.0,), NAN),
    ("sigmoid", (1e4,), 1.0),
    ("sigmoid", (-1e4,), 0.0),
    ("sigmoid", (-INF,), 0.0),
    ("softplus", (1e4,), 1e4),
    ("softplus", (-1e4,), 0.0),
    ("softplus", (INF,), INF),
    ("logaddexp", (-INF, -INF), -INF),
    ("logaddexp", (INF, INF), INF),
    ("logaddexp", (INF, -INF), INF),
    ("logaddexp", (-INF, 3.0), 3.0),
    ("min", (NAN, 1.0), NAN),
    ("max", (1.0, NAN), NAN),
    ("sign", (NAN,), NAN),
    ("sign", (-3.0,), -1.0),
    ("floor", (-0.5,), -1.0),
    ("floor", (INF,), INF),
    ("sin", (INF,), NAN),
    ("where", (True, 1.0, NAN), 1.0),
    ("isset", (0.5,), True),
    ("graft", (INF, 2.0, NAN), INF),
    ("stop", (-INF,), -INF),
]


@pytest.mark.parametrize(("op", "args", "expected"), EDGES)
def test_edge(op: str, args: tuple[float, ...], expected: float) -> None:
    got = FLOATS[op](*args)
    assert got == expected or (math.isnan(got) and math.isnan(expected))


def test_every_operation_is_there() -> None:
    assert set(FLOATS) == set(POINTWISE) == set(EXACT)


@pytest.mark.parametrize("op", sorted(set(POINTWISE) - CONDITIONS - {"where"}))
@given(st.floats(-20, 20), st.floats(-20, 20))
def test_floats_against_many_digits(op: str, x: float, y: float) -> None:
    args = (x, y, x)[: POINTWISE[op]]
    got, want = FLOATS[op](*args), EXACT[op](*args)
    if math.isfinite(got) and want == want and abs(want) < 1e300:
        assert abs(got - want) <= 1e-12 * abs(want) + 1e-13


@pytest.mark.parametrize("op", sorted(POINTWISE))
@given(st.lists(st.floats(), min_size=3, max_size=3))
def test_floats_never_raise(op: str, values: list[float]) -> None:
    FLOATS[op](*values[: POINTWISE[op]])


def test_what_cannot_be_computed_is_nan() -> None:
    b = GraphBuilder(("hidden",))
    x = b.add("read", axes=("hidden",), attrs=("x", 0))
    m = b.add("map", x, axes=("hidden",), attrs=(0,))
    total = b.add("add", m, b.const(1.0))
    assert math.isnan(evaluate(b.graph, {x: 1.0})[total])
    assert evaluate(b.graph, {x: 1.0, m: 2.0})[total] == 3.0
