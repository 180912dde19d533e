"""Interval analysis: never too narrow, and tight where a scan needs it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqc.ir.graph import GraphBuilder
from seqc.ir.operations import OPERATIONS
from seqc.ir.operations.ranges import hull, intersect
from seqc.ir.ops import CONDITIONS as TRUTHS
from seqc.ir.ops import POINTWISE
from seqc.ir.verdict import Interval
from seqc.symbolic.evaluate import multiprecision
from seqc.symbolic.intervals import intervals
from seqc.symbolic.patterns import Expr
from tests.symbolic.expressions import Built, expressions


def interval_of(text: str, stable: bool = False) -> Interval:
    built = Built(text, stable=stable)
    return intervals(built.builder.graph)[built.root]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", "(-inf, inf)"),
        ("sigmoid(x)", "(0, 1)"),
        ("1 - sigmoid(x)", "(0, 1)"),
        ("tanh(x)", "(-1, 1)"),
        ("exp(x)", "(0, inf)"),
        ("softplus(x)", "(0, inf)"),
        ("-softplus(x)", "(-inf, 0)"),
        ("expm1(x)", "(-1, inf)"),
        ("normcdf(x)", "(0, 1)"),
        ("erf(x)", "(-1, 1)"),
        ("sigmoid(x) * sigmoid(y)", "(0, 1)"),
        ("sigmoid(x) * tanh(y)", "(-1, 1)"),
        ("1 - sigmoid(x) * sigmoid(y)", "(0, 1)"),
        ("exp(-softplus(x) * sigmoid(y))", "(0, 1)"),
        ("x * x", "[0, inf)"),
        ("1 - tanh(x) * tanh(x)", "(0, 1]"),
        ("x ** 2", "[0, inf)"),
        ("x ** 3", "(-inf, inf)"),
        ("abs(x)", "[0, inf)"),
        ("max(x, 0)", "[0, inf)"),
        ("min(max(x, 0), 1)", "[0, 1]"),
        ("sqrt(sigmoid(x))", "(0, 1)"),
        ("sin(x)", "[-1, 1]"),
        ("sign(exp(x))", "[1, 1]"),
        ("floor(sigmoid(x))", "[0, 1]"),
        ("logaddexp(x, 1)", "(1, inf)"),
        ("1 / (1 + exp(x))", "(0, 1)"),
        ("sigmoid(x) / sigmoid(y)", "(0, inf)"),
        ("x / y", "[-inf, inf]"),
        ("log(sigmoid(x))", "(-inf, 0)"),
        ("where(c, sigmoid(x), 1)", "(0, 1]"),
        ("where(u >= 0, u + 0.5, sigmoid(u))", "(0, inf)"),
        ("where(u < 0, exp(u), u + 1)", "(0, inf)"),
        ("where(u > 0, u, -u)", "[0, inf)"),
        ("where(0 > u, -u, u)", "[0, inf)"),
        ("where(u > 1, 1, where(u < 0, 0, u))", "[0, 1]"),
        ("where(exp(u) < 0, 5, 1)", "[1, 1]"),
        ("x - x", "[0, 0]"),
        ("0.5", "[0.5, 0.5]"),
    ],
)
def test_interval(text: str, expected: str) -> None:
    assert str(interval_of(text)) == expected


def test_an_inexact_end_is_rounded_outwards() -> None:
    lo, hi = interval_of("min(max(x, 0.1), 0.2) + min(max(y, 0.1), 0.2)")
    assert lo <= 0.2 < 0.4 <= hi
    lo, hi = interval_of("exp(min(max(x, 0), 1))")
    assert lo == 1
    assert math.e < hi < 2.7182818284590495


def test_leaves() -> None:
    b = GraphBuilder(("hidden",))
    b.add("size", axes=(), attrs=("hidden",))
    b.add("index", axes=("hidden",), attrs=("hidden",))
    x = b.add("read", axes=("hidden",), attrs=("x", 0))
    s = b.add("sigmoid", x)
    b.add("reduce", s, axes=(), attrs=("sum", "hidden"))
    b.add("reduce", s, axes=(), attrs=("mean", "hidden"))
    b.add("cumsum", s, axes=("hidden",), attrs=("hidden",))
    b.add("shift", s, axes=("hidden",), attrs=("hidden", 1))
    b.add("hyper", axes=(), attrs=("p",))
    assert [str(i) for i in intervals(b.graph)] == [
        "[1, inf)",
        "[0, inf)",
        "(-inf, inf)",
        "(0, 1)",
        "(0, inf)",
        "(0, 1)",
        "(0, inf)",
        "[0, 1)",
        "(-inf, inf)",
    ]


def test_every_operation_has_a_transfer() -> None:
    assert {o.name for o in OPERATIONS.values() if o.range is None} == {"where"}


def inside(value: object, i: Interval) -> bool:
    v = value
    above = v > i.lo or (v == i.lo and not i.lo_open)  # type: ignore[operator]
    below = v < i.hi or (v == i.hi and not i.hi_open)  # type: ignore[operator]
    return bool(above and below)


numbers = st.floats(-30, 30) | st.sampled_from([0.0, 1.0, -1.0, 2.0, 0.5, 1e-9, 100.0])


@settings(max_examples=200)
@given(expressions(), numbers, numbers, numbers)
def test_never_too_narrow(e: Expr, x: float, y: float, z: float) -> None:
    built = Built(e, stable=False)
    values = built.values({"x": x, "y": y, "z": z}, multiprecision(150))
    found = intervals(built.builder.graph)
    undefined: set[int] = set()
    for n, node in enumerate(built.builder.graph):
        v = values[n]
        # What is computed from something undefined, infinite, or lost to rounding says nothing.
        lost = v != v or (v != 0 and not 1e-60 < abs(v) < 1e60)
        if lost or any(a in undefined for a in node.args):
            undefined.add(n)
        elif node.op not in TRUTHS:
            # 150 digits round sigmoid(400) to 1: an open end may be reached up to that.
            ends = any(abs(v - end) <= 1e-100 * max(1, abs(v)) for end in found[n])
            assert ends or inside(v, found[n]), (node, v, found[n])


small = st.sampled_from([-math.inf, -2.0, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 3.0, math.inf])


@st.composite
def any_interval(draw: st.DrawFn) -> Interval:
    a, b = sorted((draw(small), draw(small)))
    if a == b:
        return Interval(a, b, False, False)
    return Interval(
        a, b, a == -math.inf or draw(st.booleans()), b == math.inf or draw(st.booleans())
    )


@st.composite
def point(draw: st.DrawFn, i: Interval) -> float:
    lo, hi = max(i.lo, -12.0), min(i.hi, 12.0)
    v = draw(st.sampled_from([lo, hi, (lo + hi) / 2, lo + 1e-6, hi - 1e-6]))
    return v if inside(v, i) else (lo + hi) / 2


@settings(max_examples=300)
@given(st.data(), st.sampled_from(sorted(set(POINTWISE) - TRUTHS - {"where"})))
def test_each_transfer_is_sound(data: st.DataObject, op: str) -> None:
    args = [data.draw(any_interval()) for _ in range(POINTWISE[op])]
    values = [data.draw(point(i)) for i in args]
    if not all(inside(v, i) for v, i in zip(values, args, strict=True)):
        return
    exact = multiprecision(90)[op](*values)
    if exact == exact and abs(exact) != math.inf:
        lies = OPERATIONS[op].range
        assert lies is not None
        assert inside(exact, lies(*args)), (args, values, exact, lies(*args))


@given(any_interval(), any_interval())
def test_hull_and_intersection(a: Interval, b: Interval) -> None:
    h, i = hull(a, b), intersect(a, b)
    for v in (-2.0, -1.5, -1.0, -0.5, 0.0, 0.1, 0.25, 0.5, 0.7, 1.0, 2.0, 3.0, 10.0):
        either, both = inside(v, a) or inside(v, b), inside(v, a) and inside(v, b)
        assert not either or inside(v, h)
        assert both == (i is not None and inside(v, i))
