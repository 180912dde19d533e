"""RWKV, xLSTM and linear attention against sums over all steps, or with matrices written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.layer.support import hold_to, randn
from tests.zoo import references_memory as ref
from tests.zoo.harness import BACKENDS, TOLERANCE, Case, Checks, over

MATRIX = {"input": 4, "heads": ref.HEADS, "keys": 3, "values": 5}
WKV = Case("WKV4", ref.wkv, ("p", "a", "b"), {"hidden": 5}, ("hidden", "hidden"), ("b",))
MLSTM = Case("MLSTM", ref.mlstm, ("m", "n", "C"), MATRIX)
SLSTM = Case("SLSTM", ref.slstm, ("m", "n", "c"), {"input": 4, "hidden": 5}, positive=("n",))
CASES = (
    WKV,
    Case("RWKV4", ref.rwkv, ("p", "a", "b"), {"hidden": 5}, ("hidden",), ("b",)),
    MLSTM,
    SLSTM,
    Case("GLA", ref.gla, ("S",), MATRIX | {"rank": 3}),
    Case("RetNet", ref.retnet, ("S",), MATRIX),
    Case("DeltaNet", ref.deltanet, ("S",), MATRIX),
)


@over(CASES)
class TestMemories(Checks):
    pass


# --- gates whose exponentials overflow -----------------------------------------------------------


def extremes(*shape: int, seed: int) -> Tensor:
    """About ±80 and about 0, in float64; no two are equal, so no maximum is a tie."""
    draw = torch.Generator().manual_seed(seed)
    level = torch.randint(-1, 2, shape, generator=draw).double()
    return 80 * level + randn(*shape, seed=seed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("backend", BACKENDS)
def test_keys_of_80(backend: str, seed: int) -> None:
    layer = WKV.build(backend)
    k, v = extremes(3, 9, 5, seed=seed), randn(3, 9, 5)
    hold_to(layer, WKV.reference, [k, v], states=WKV.states, tolerance=TOLERANCE)
    given = WKV.state(layer, [k, v])
    hold_to(layer, WKV.reference, [k, v], given, states=WKV.states, tolerance=TOLERANCE)
    y, _ = layer(k.float().double() * 10, v)  # ±800: e^800 is no number in float64
    assert y.isfinite().all()
    assert y.abs().max() <= v.abs().max() * (1 + 1e-12)  # an average


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", [MLSTM, SLSTM], ids=str)
def test_gates_of_80(case: Case, backend: str, seed: int) -> None:
    layer = case.build(backend)
    driven = (("i", 0), ("f", 1))
    with torch.no_grad():
        for name, p in layer.named_parameters():
            if name.endswith("weight"):
                p[:, :2] = 0  # the first two inputs drive the gates, and nothing else
        for name, column in driven:
            weight = getattr(layer, name).weight
            weight[:, column] = torch.linspace(1, 0.9, len(weight)).double()
    x = torch.cat([extremes(3, 9, 2, seed=seed), randn(3, 9, 2)], -1)
    hold_to(layer, case.reference, [x], states=case.states, tolerance=TOLERANCE)
    given = case.state(layer, [x])
    hold_to(layer, case.reference, [x], given, states=case.states, tolerance=TOLERANCE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gates_of_80_in_float32(backend: str) -> None:
    # Where e^80 still is a number but its square is none.
    for case in (WKV, MLSTM, SLSTM):
        layer = case.build(backend)
        with torch.no_grad():
            for p in layer.parameters():
                p.mul_(20)
        wide = case.drive(3, 9)
        y, _ = layer(*wide)
        narrow = [x.float() for x in wide]
        got, final = layer.float()(*narrow)
        assert got.isfinite().all(), case
        assert all(f.isfinite().all() for f in final), case
        assert (got - y).abs().max() <= 1e-3 * y.abs().max(), case


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_past_at_all(backend: str) -> None:
    """The first step alone: the maxima start at −∞, and nothing comes of it, gradients included."""
    layer = WKV.build(backend)
    k = torch.full((1, 1, 5), -300.0, dtype=torch.float64, requires_grad=True)
    v = randn(1, 1, 5).requires_grad_()
    y, _ = layer(k, v)
    torch.testing.assert_close(y, v)
    grad_k, grad_v = torch.autograd.grad(y.sum(), [k, v])
    torch.testing.assert_close(grad_v, torch.ones_like(v))
    torch.testing.assert_close(grad_k, torch.zeros_like(k))


# --- what the papers say of their layers ---------------------------------------------------------


def test_the_delta_rule_replaces_what_a_key_held() -> None:
    """With β = 1 and the same key twice, the first value is gone and the second is read."""
    case = next(c for c in CASES if c.layer == "DeltaNet")
    layer = case.build()
    layer.epsilon = 0.0
    with torch.no_grad():
        layer.beta.weight.fill_(1000.0)  # σ of 1000 times a positive sum is 1
        layer.a.weight.copy_(layer.b.weight)  # queries = keys
        x = randn(1, 1, 4).abs().expand(1, 2, 4).clone()
        first, _ = layer(x[:, :1])
        second, _ = layer(x)
    torch.testing.assert_close(second[:, 1], first[:, 0], rtol=1e-12, atol=1e-12)


def test_retention_decays_by_head() -> None:
    case = next(c for c in CASES if c.layer == "RetNet")
    layer = case.build()
    state = case.state(layer, case.drive(1, 0))
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
        _, final = layer(torch.zeros(1, 1, 4).double(), state)
    torch.testing.assert_close(final.S[0, 0], state.S[0, 0] * 31 / 32, rtol=1e-15, atol=0)
    torch.testing.assert_close(final.S[0, 1], state.S[0, 1] * 63 / 64, rtol=1e-15, atol=0)
