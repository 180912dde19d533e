"""Reverse and forward mode: against sympy, against torch.autograd, and at every edge."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqc.ir.operations import OPERATIONS
from seqc.ir.ops import FLAT, POINTWISE
from seqc.symbolic.differentiate import CHOICES, STATED, pull_back, push_forward
from seqc.symbolic.evaluate import evaluate
from seqc.symbolic.patterns import Expr
from seqc.symbolic.rewrite import StableBuilder
from tests.symbolic.expressions import Built, expressions
from tests.symbolic.torch_graph import TORCH, gradients, plainly, run_torch

INF = math.inf
#: Operation -> its derivative by each argument.
DERIVATIVES = {o.name: o.derivative for o in OPERATIONS.values() if o.derivative}

# --- the table


def test_every_operation_is_covered() -> None:
    assert set(DERIVATIVES) | FLAT | CHOICES | STATED == set(POINTWISE)
    assert not (set(DERIVATIVES) & (FLAT | CHOICES | STATED))
    assert all(len(DERIVATIVES[op]) == POINTWISE[op] for op in DERIVATIVES)


@pytest.mark.parametrize("op", sorted(DERIVATIVES))
def test_table_against_sympy(op: str) -> None:
    import sympy as sp

    from seqc.symbolic.tosympy import in_exponentials, operations, to_sympy

    names = ("x", "y")[: POINTWISE[op]]
    # Positive, so that every operation is smooth; signs are for the tests against torch.
    symbols = {n: sp.Symbol(n, positive=True) for n in names}
    value = in_exponentials(operations()[op](*symbols.values()))
    for k, name in enumerate(names):
        built = Built(DERIVATIVES[op][k], stable=False)
        leaves = {built.variables[n]: s for n, s in symbols.items() if n in built.variables}
        if "r" in built.variables:
            leaves[built.variables["r"]] = value
        rule = in_exponentials(to_sympy(built.builder.graph, leaves)[built.root])
        exact = sp.diff(value, symbols[name])
        for point in ({"x": 0.7, "y": 1.9}, {"x": 2.3, "y": 0.4}):
            at = {symbols[n]: sp.Rational(str(point[n])) for n in names}
            assert abs(sp.N(exact.subs(at), 30) - sp.N(rule.subs(at), 30)) < 1e-15
        if not rule.has(sp.Piecewise) and op not in ("normcdf", "erf"):  # a rounded factor
            assert sp.simplify(exact - rule) == 0


# --- edges

EDGES = [
    ("logaddexp(x, y)", {"x": -INF, "y": -INF}, {"x": 0, "y": 0}),
    ("logaddexp(x, y)", {"x": -INF, "y": 1.0}, {"x": 0, "y": 1}),
    ("logaddexp(x, y)", {"x": 1e4, "y": -1e4}, {"x": 1, "y": 0}),
    ("logaddexp(x, y)", {"x": 2.0, "y": 2.0}, {"x": 0.5, "y": 0.5}),
    ("min(x, y)", {"x": 2.0, "y": 2.0}, {"x": 0.5, "y": 0.5}),
    ("max(x, y)", {"x": 2.0, "y": 2.0}, {"x": 0.5, "y": 0.5}),
    ("max(x, y)", {"x": 3.0, "y": 2.0}, {"x": 1, "y": 0}),
    ("min(x, x + y)", {"x": 1.0, "y": 1.0}, {"x": 1, "y": 0}),
    ("abs(x)", {"x": 0.0}, {"x": 0}),
    ("abs(x)", {"x": -2.0}, {"x": -1}),
    ("sign(x) + floor(x)", {"x": 0.3}, {"x": 0}),
    ("x ** y", {"x": 0.0, "y": 2.0}, {"x": 0, "y": 0}),
    ("x ** y", {"x": 0.0, "y": 0.0}, {"x": 0, "y": 0}),
    ("x ** 2.5", {"x": 0.0}, {"x": 0}),
    ("x ** 5", {"x": -2.0}, {"x": 80}),
    ("x ** -3", {"x": 2.0}, {"x": -3 / 16}),
    # stated derivatives
    ("graft(sign(x), x, y * x)", {"x": 3.0, "y": 2.0}, {"x": 6, "y": 0}),
    ("graft(y, x, 0.5)", {"x": 3.0, "y": 2.0}, {"x": 0.5, "y": 1}),
    ("x * stop(x)", {"x": 3.0}, {"x": 3}),
    ("where(x > 0, graft(stop(x), x, 1 / x), 0)", {"x": 0.0}, {"x": 0}),
    ("sqrt(x)", {"x": 0.0}, {"x": INF}),
    ("log(x)", {"x": 0.0}, {"x": INF}),
    ("tanh(x)", {"x": 400.0}, {"x": 0}),
    ("sigmoid(x)", {"x": -1e4}, {"x": 0}),
    ("softplus(x)", {"x": 1e4}, {"x": 1}),
    ("expm1(x)", {"x": -50.0}, {"x": math.exp(-50)}),
    ("x * y", {"x": 0.0, "y": INF}, {"x": INF, "y": 0}),
    # a branch that is not taken leaks nothing, wherever its NaN or infinity is made
    ("where(x > 0, log(x), 0)", {"x": 0.0}, {"x": 0}),
    ("where(x > 0, log(x), x)", {"x": -1.0}, {"x": 1}),
    ("where(x > 0, sqrt(x), 0)", {"x": 0.0}, {"x": 0}),
    ("where(x < 5, exp(exp(x)), 1)", {"x": 1e3}, {"x": 0}),
    ("where(x > 0, y / x, y)", {"x": 0.0, "y": 3.0}, {"x": 0, "y": 1}),
    ("where(x > 0, x ** y, 1)", {"x": 0.0, "y": -2.0}, {"x": 0, "y": 0}),
    ("2 * where(x > 0, 3 * log(x) * y, y)", {"x": 0.0, "y": 1.0}, {"x": 0, "y": 2}),
    ("where(x > 0, where(x > 1, log(x - 1), log(x)), 0)", {"x": 1.0}, {"x": 1}),
    ("where(x > 0, log(x), 0) + where(x > 1, log(x) * 2, 0)", {"x": 0.0}, {"x": 0}),
    ("where(x > 0, log(x), 0) + where(x > 1, log(x) * 2, 0)", {"x": 0.5}, {"x": 2}),
    ("where(x > 0, log(x), 0) + where(x > 1, log(x) * 2, 0)", {"x": 2.0}, {"x": 1.5}),
    ("where(x > 0, log(x), -log(-x))", {"x": -2.0}, {"x": 0.5}),
    ("min(1 / x, 5)", {"x": 0.0}, {"x": 0}),
    ("max(log(x), -3)", {"x": 0.0}, {"x": 0}),
    ("where(x == x, y, log(y))", {"x": 1.0, "y": 0.0}, {"x": 0, "y": 1}),
]


@pytest.mark.parametrize(("text", "at", "expected"), EDGES)
@pytest.mark.parametrize("build", [Built, plainly], ids=["stable", "plain"])
def test_edge(
    build: Callable[[str], Built], text: str, at: dict[str, float], expected: dict[str, float]
) -> None:
    got = gradients(build(text), at)
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=1e-12, abs=1e-300), got


def test_guarded_logarithm_has_the_whole_gradient_at_its_bound() -> None:
    got = gradients(Built("log(where(u >= 0, u + 0.5, sigmoid(u)))"), {"u": 0.0})
    assert got["u"] == 2.0  # max(u, 0) as a guard would give 1
    for u in (-3.0, -0.5, -1e4):
        got = gradients(Built("log(where(u >= 0, u + 0.5, sigmoid(u)))"), {"u": u})
        assert got["u"] == pytest.approx(1 - 1 / (1 + math.exp(-u)) if u > -700 else 1.0)


def test_identically_zero_is_none() -> None:
    b = StableBuilder()
    x, y, z = (b.add("symbol", axes=(), attrs=(n,)) for n in "xyz")
    total = b.op("add", b.op("floor", x), b.op("where", b.op("gt", z, b.const(0.0)), y, y))
    found = pull_back(b, {total: b.const(1.0)}, [x, y, z])
    assert found[x] is None
    assert found[z] is None
    assert found[y] is not None
    assert pull_back(b, {}, [x]) == {x: None}
    assert pull_back(b, {x: y}, [x]) == {x: y}  # seeded and wanted


def test_what_is_not_pointwise_is_refused() -> None:
    b = StableBuilder(("hidden",))
    x = b.add("read", axes=("hidden",), attrs=("x", 0))
    m = b.add("map", x, axes=("hidden",), attrs=(0,))
    with pytest.raises(ValueError, match="only pointwise"):
        pull_back(b, {m: b.const(1.0)}, [x])
    assert pull_back(b, {m: b.const(1.0)}, [m]) is not None


# --- against torch.autograd

numbers = st.floats(-4, 4).filter(lambda v: abs(v) > 1e-3)


def compare(built: Built, plain: Built, leaves: Mapping[str, float]) -> None:
    got = gradients(built, leaves)
    tensors = {
        k: torch.tensor(v, dtype=torch.float64, requires_grad=True) for k, v in leaves.items()
    }
    value = run_torch(plain, tensors, plain.root)
    if not value.requires_grad or not torch.isfinite(value):
        return
    intermediate = plain.values(leaves)
    if any(abs(v) > 1e8 or 0 < abs(v) < 1e-8 or v != v for v in intermediate):
        return  # too close to an edge for two roundings to agree
    if near_tie(plain, intermediate):
        return
    wanted = [tensors[k] for k in plain.variables]
    for name, g in zip(
        plain.variables, torch.autograd.grad(value, wanted, allow_unused=True), strict=True
    ):
        want = 0.0 if g is None else g.item()
        if math.isfinite(want):  # torch leaks NaN from branches that are not taken
            assert got[name] == pytest.approx(want, rel=1e-6, abs=1e-6)


def near_tie(plain: Built, values: list[Any]) -> bool:
    """A choice that rounding decides, or the kink of an absolute value."""
    for node in plain.builder.graph:
        args = [values[a] for a in node.args]
        if node.op in ("lt", "le", "gt", "ge", "min", "max") and abs(args[0] - args[1]) < 1e-9:
            return True
        if node.op in ("abs", "sqrt", "log") and abs(args[0]) < 1e-9:
            return True
    return False


@settings(max_examples=150)
@given(expressions(), numbers, numbers, numbers)
def test_random_graphs_against_torch(e: Expr, x: float, y: float, z: float) -> None:
    leaves = {"x": x, "y": y, "z": z}
    plain = Built(e, stable=False)
    compare(plainly(e), plain, leaves)
    compare(Built(e), plain, leaves)


@pytest.mark.parametrize("op", sorted(set(DERIVATIVES) | {"min", "max"}))
@given(numbers, numbers)
def test_each_operation_against_torch(op: str, x: float, y: float) -> None:
    names = ("x", "y")[: POINTWISE[op]]
    e = Expr(op, tuple(Expr("?", name=n) for n in names))
    compare(plainly(e), Built(e, stable=False), {"x": x, "y": y})


SECOND = [
    "x * sigmoid(y * x)",
    "logaddexp(x, y) * x",
    "tanh(x * y) / (1 + exp(x))",
    "softplus(x) * normcdf(y)",
    "where(x > 0, x * x * y, exp(x))",
    "sqrt(1 + x * x) * log1p(y * y)",
    "sin(x) * cos(y) - expm1(x * y)",
    "exp(y) ** x",
    "graft(sin(x), x, x * y)",
    "x * graft(stop(sign(y)), y, exp(x) * stop(y)) + graft(stop(x), x, y)",
]


@pytest.mark.parametrize("text", SECOND)
@given(numbers, numbers)
def test_derivative_of_a_derivative(text: str, x: float, y: float) -> None:
    built = Built(text)
    b = built.builder
    vx, vy = built.variables["x"], built.variables["y"]
    first = pull_back(b, {built.root: b.const(1.0)}, [vx])[vx]
    assert first is not None
    second = pull_back(b, {first: b.const(1.0)}, [vx, vy])
    values = evaluate(b.graph, {vx: x, vy: y})
    tx, ty = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (x, y))
    plain = Built(text, stable=False)
    value = run_torch(plain, {"x": tx, "y": ty}, plain.root)
    (g,) = torch.autograd.grad(value, tx, create_graph=True)
    for name, want in zip(
        (vx, vy), torch.autograd.grad(g, (tx, ty), allow_unused=True), strict=True
    ):
        node = second[name]
        got = 0.0 if node is None else values[node]
        assert got == pytest.approx(0.0 if want is None else want.item(), rel=1e-6, abs=1e-7)


# --- forward mode


@settings(max_examples=100)
@given(expressions(), numbers, numbers, numbers)
def test_forward_and_reverse_mode_agree(e: Expr, x: float, y: float, z: float) -> None:
    leaves = {"x": x, "y": y, "z": z}
    built = plainly(e)
    b = built.builder
    directions = {"x": 0.7, "y": -1.3, "z": 0.4}
    seeds = {n: b.const(directions[k]) for k, n in built.variables.items()}
    tangent = push_forward(b, seeds, [built.root])[built.root]
    reverse = gradients(built, leaves)
    value = 0.0 if tangent is None else built.values(leaves)[tangent]
    want = sum(directions[k] * g for k, g in reverse.items())
    defined = not any(v != v for v in Built(e, stable=False).values(leaves))
    if defined and math.isfinite(value) and math.isfinite(want):
        scale = sum(abs(directions[k] * g) for k, g in reverse.items())
        assert value == pytest.approx(want, rel=1e-9, abs=1e-9 * (1 + scale))


# --- axes

AXES = [
    ("m * w", {"m": (), "w": ("hidden",)}),
    ("m * w + w", {"m": (), "w": ("hidden",)}),
    # m both broadcast and as it is: the sum over the axis must count the second use once
    ("where(exp(m) * w > 0, exp(m) * w, m) + exp(m)", {"m": (), "w": ("hidden",)}),
    ("m + w", {"m": (), "w": ("hidden",)}),
    ("sigmoid(m) * w * v", {"m": (), "w": ("hidden",), "v": ("hidden", "slots")}),
]


@pytest.mark.parametrize(("text", "axes"), AXES)
def test_cotangents_sum_to_the_gradient(text: str, axes: dict[str, tuple[str, ...]]) -> None:
    built = Built(text, axes=axes)
    b = built.builder
    order = b.axis_order
    torch.manual_seed(0)
    # One scalar output made of a broadcast value and of a node with fewer axes.
    seeds = {built.root: b.const(1.0)}
    extra = next((i for i, n in enumerate(b.nodes) if n.op in ("exp", "sigmoid")), None)
    if extra is not None:
        seeds[extra] = b.const(2.0)
    found = pull_back(b, seeds, list(built.variables.values()))

    def shape(own: tuple[str, ...]) -> list[int]:
        return [4 if a in own else 1 for a in order]

    tensors = {
        k: torch.randn(shape(own), dtype=torch.float64, requires_grad=True)
        for k, own in axes.items()
    }

    def run(position: int) -> torch.Tensor:
        held = {built.variables[k]: v for k, v in tensors.items()}
        out: list[Any] = []
        for i, node in enumerate(b.graph):
            if i in held:
                out.append(held[i])
            elif node.op == "const":
                out.append(torch.tensor(node.attrs[0], dtype=torch.float64))
            elif node.op == "size":
                out.append(torch.tensor(4.0, dtype=torch.float64))
            elif node.op == "index":
                out.append(torch.arange(4.0).double().reshape(shape(node.axes)))
            else:
                out.append(TORCH[node.op](*(out[a] for a in node.args)))
        return out[position]

    total = run(built.root).sum()
    if extra is not None:
        total = total + 2 * run(extra).sum()
    want = torch.autograd.grad(total, list(tensors.values()))
    for (name, own), g in zip(axes.items(), want, strict=True):
        node = found[built.variables[name]]
        assert node is not None
        spans = b.nodes[node].axes
        cotangent = run(node)
        # What spans fewer axes than the variable is the same along them.
        cotangent = cotangent.expand(shape(tuple({*spans, *own})) if order else [])
        dims = [i for i, a in enumerate(order) if a not in own and a in spans]
        got = cotangent.sum(dims, keepdim=True) if dims else cotangent
        torch.testing.assert_close(got.expand(g.shape), g)


def test_a_deep_graph_needs_no_recursion() -> None:
    b = StableBuilder()
    x = b.add("symbol", axes=(), attrs=("x",))
    value = x
    for k in range(5000):
        value = b.op("tanh", b.op("add", value, b.const(1e-3 * (k + 1))))
        if k % 50 == 0:
            value = b.op("where", b.op("gt", value, b.const(-2.0)), value, x)
    found = pull_back(b, {value: b.const(1.0)}, [x])[x]
    assert found is not None
    assert math.isfinite(evaluate(b.graph, {x: 0.1})[found])
