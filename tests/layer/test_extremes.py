"""Saturated gates, huge and zero numbers, infinities, NaN: finite if they can be, contained."""

from __future__ import annotations

from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor

from seqc import zoo
from tests import references
from tests.layer.support import (
    BACKENDS,
    DTYPES,
    assert_all_close,
    assert_close,
    assert_streams,
    build,
    hold_to,
    outputs_of,
    randn,
)

# The gate is fed straight from the input, so a test can set every pre-activation.
POINTWISE = """
layer Pointwise
size  hidden
input p[t], v[t]: hidden
state h[t]: hidden

z[t] = sigmoid(p[t])
h[t] = (1 - z[t]) * h[t-1] + z[t] * v[t]

output h[t]
"""


def pointwise(p: Any, inputs: Any, state: Any) -> Any:
    pre, v = inputs
    h = torch.zeros_like(v[:, 0]) if state is None else state["h"]
    ys = []
    for p_t, v_t in zip(pre.unbind(1), v.unbind(1), strict=True):
        # sigmoid(-p) is 1 - sigmoid(p) without the cancellation.
        h = torch.sigmoid(-p_t) * h + torch.sigmoid(p_t) * v_t
        ys.append(h)
    return (torch.stack(ys, 1),), {"h": h}


def wire(layer: Any, *maps: str) -> None:
    """Each map reads a block of the input of its own, as it is: x holds the pre-activations."""
    with torch.no_grad():
        for k, name in enumerate(maps):
            m = getattr(layer, name)
            hidden = m.weight.shape[0]
            m.weight.zero_()
            m.weight[:, k * hidden : (k + 1) * hidden] = torch.eye(hidden)
            m.bias.zero_()


# --- minLSTM: f / (f + i) when both underflow ----------------------------------------------------

LEVELS = (-1e4, -1e4 + 0.5, -200.0, -90.0, -1.0, 0.0, 40.0, 1e4)


def exact_minlstm(f_hat: float, i_hat: float, v: float, h: float) -> dict[str, float]:
    """One step and its derivatives, with 60 digits and exponents of any size."""
    with mpmath.workdps(60):
        f, i = (1 / (1 + mpmath.exp(-mpmath.mpf(u))) for u in (f_hat, i_hat))
        # 1 − σ(u) = σ(−u): the digits of 1 − f would run out at u = 140.
        not_f, not_i = (1 / (1 + mpmath.exp(mpmath.mpf(u))) for u in (f_hat, i_hat))
        share, rest = f / (f + i), i / (f + i)
        slope = share * rest * (mpmath.mpf(h) - v)
        return {
            "h": float(share * h + rest * v),
            "dh": float(share),
            "dv": float(rest),
            "df": float(slope * not_f),
            "di": float(-slope * not_i),
        }


@pytest.mark.parametrize("dtype", DTYPES)
def test_minlstm_with_preactivations_of_ten_thousand(backend: str, dtype: torch.dtype) -> None:
    layer = build(zoo.MinLSTMPlain, backend, dtype, input=3, hidden=1)
    wire(layer, "f", "i", "v")
    # −9999.5 and 0.5 are float32 numbers, so both precisions face the same question.
    grid = [(f, i) for f in LEVELS for i in LEVELS]
    x = torch.tensor([[[f, i, 0.75]] for f, i in grid], dtype=dtype).requires_grad_()
    _, zero = layer(x[:, :0])
    h0 = torch.full((len(grid), 1), -1.5, dtype=dtype).requires_grad_()
    y, _ = layer(x, type(zero)(h=h0))
    gx, gh = torch.autograd.grad(y.sum(), [x, h0])

    want = [exact_minlstm(f, i, 0.75, -1.5) for f, i in grid]
    got = {"h": y[:, 0, 0], "dh": gh[:, 0], "df": gx[:, 0, 0], "di": gx[:, 0, 1], "dv": gx[:, 0, 2]}
    expected = {n: torch.tensor([w[n] for w in want], dtype=torch.float64) for n in got}
    assert_all_close(got, expected, 1e-12 if dtype == torch.float64 else 2e-6)


@pytest.mark.parametrize("name", ["MinLSTM", "MinLSTMPlain"])
@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4])
def test_minlstm_over_time_at_any_scale(name: str, scale: float, backend: str) -> None:
    layer = build(getattr(zoo, name), backend, input=9, hidden=3)
    wire(layer, "f", "i", "v")
    x = randn(4, 20, 9)
    x[..., :6] = (x[..., :6] * scale).round()  # whole numbers: their differences are exact
    g = references.positive if name == "MinLSTM" else references.identity

    def reference(p: Any, xs: Any, s: Any) -> Any:
        return references.minlstm_log(p, xs, s, g=g)

    # With every gate saturated all gradients are tiny, and the s (1 − s) of torch's own sigmoid
    # has few digits left near s = 1.
    hold_to(layer, reference, [x], states=("h",), tolerance=1e-6 if scale > 1e3 else 1e-11)
    assert_streams(layer, [x], (7, 13))


def test_minlstm_in_bfloat16_stays_finite(backend: str) -> None:
    layer = build(zoo.MinLSTM, backend, torch.bfloat16, input=9, hidden=3)
    wire(layer, "f", "i", "v")
    x = randn(4, 20, 9, dtype=torch.bfloat16) * 1e4
    x.requires_grad_()
    y, state = layer(x)
    y.float().sum().backward()
    assert y.isfinite().all()
    assert state.h.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


# --- saturated gates -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("T", [1, 33, 1000])
def test_a_shut_gate_keeps_every_bit(backend: str, dtype: torch.dtype, T: int) -> None:
    layer = build(POINTWISE, backend, dtype, hidden=5)
    p = torch.full((2, T, 5), -1e4, dtype=dtype).requires_grad_()
    v = randn(2, T, 5, dtype=dtype).requires_grad_()
    _, zero = layer(p[:, :0], v[:, :0])
    h0 = randn(2, 5, dtype=dtype, seed=3).requires_grad_()
    y, final = layer(p, v, state=type(zero)(h=h0))
    assert torch.equal(final.h, h0)
    assert torch.equal(y, h0[:, None].expand(-1, T, -1))
    gp, gv, gh = torch.autograd.grad(y.sum(), [p, v, h0])
    assert torch.equal(gh, torch.full_like(gh, T))
    assert (gv == 0).all()
    assert (gp == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("T", [1, 33, 1000])
def test_an_open_gate_forgets_everything(backend: str, dtype: torch.dtype, T: int) -> None:
    layer = build(POINTWISE, backend, dtype, hidden=5)
    p = torch.full((2, T, 5), 1e4, dtype=dtype)
    v = randn(2, T, 5, dtype=dtype).requires_grad_()
    _, zero = layer(p[:, :0], v[:, :0])
    h0 = (1e30 * randn(2, 5, dtype=dtype, seed=3)).requires_grad_()
    y, final = layer(p, v, state=type(zero)(h=h0))
    assert torch.equal(y, v)
    assert torch.equal(final.h, v[:, -1])
    gv, gh = torch.autograd.grad(y.sum(), [v, h0])
    assert torch.equal(gv, torch.ones_like(v))
    assert (gh == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_numbers_of_any_size(backend: str, dtype: torch.dtype, scale: float) -> None:
    layer = build(POINTWISE, backend, dtype, hidden=5)
    x = [randn(2, 40, 5, dtype=dtype), scale * randn(2, 40, 5, dtype=dtype, seed=9)]
    hold_to(layer, pointwise, x, states=("h",))


@pytest.mark.parametrize("name", ["MinGRU", "MinLSTM", "QRNN", "SRU"])
def test_zero_and_large_inputs_to_the_zoo(name: str, backend: str) -> None:
    sizes = {"hidden": 3} if name == "SRU" else {"input": 3, "hidden": 3}
    layer = build(getattr(zoo, name), backend, **sizes)
    reference = references.minlstm_log if name == "MinLSTM" else references.ZOO[name]
    states = ("h",) if name.startswith("Min") else ("c",)
    for scale in (0.0, 3.0):
        hold_to(layer, reference, [scale * randn(2, 9, 3)], states=states, tolerance=1e-11)
    for scale in (1e3, 1e100):
        x = (scale * randn(2, 9, 3)).requires_grad_()
        y, _ = layer(x)
        (want,), _ = reference(dict(layer.named_parameters()), [x], None)
        assert_close(y, want, 1e-11)
        for grad in torch.autograd.grad(y.sum(), [x, *layer.parameters()]):
            assert grad.isfinite().all()


# --- infinities ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_infinite_preactivations_are_gates_shut_and_open(backend: str, dtype: torch.dtype) -> None:
    layer = build(POINTWISE, backend, dtype, hidden=4)
    p = randn(2, 9, 4, dtype=dtype)
    p[0, 3], p[1, 5], p[:, 7, ::2] = float("inf"), -float("inf"), float("inf")
    hold_to(layer, pointwise, [p, randn(2, 9, 4, dtype=dtype, seed=9)], states=("h",))


def test_an_infinite_candidate_stays_in_its_channel(backend: str) -> None:
    layer = build(POINTWISE, backend, hidden=4)
    p, v = randn(2, 9, 4), randn(2, 9, 4, seed=9)
    with torch.no_grad():
        plain, _ = layer(p, v)
        v[1, 5, 2] = float("inf")
        y, _ = layer(p, v)
    assert (y[1, 5:, 2] == float("inf")).all()
    mine = torch.zeros_like(y, dtype=torch.bool)
    mine[1, 5:, 2] = True
    assert torch.equal(y[~mine], plain[~mine])


# --- NaN -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("T, t", [(9, 0), (9, 5), (1000, 700)])
def test_nan_goes_forward_in_its_own_sequence_and_channel(
    backend: str, dtype: torch.dtype, which: int, T: int, t: int
) -> None:
    layer = build(POINTWISE, backend, dtype, hidden=5)
    inputs = [randn(3, T, 5, dtype=dtype), randn(3, T, 5, dtype=dtype, seed=9)]
    with torch.no_grad():
        plain, plain_state = layer(*inputs)
        inputs[which][1, t, 2] = float("nan")
        y, state = layer(*inputs)
    mine = torch.zeros_like(y, dtype=torch.bool)
    mine[1, t:, 2] = True
    assert y[mine].isnan().all()
    assert torch.equal(y[~mine], plain[~mine])
    assert state.h[1, 2].isnan()
    assert int(state.h.isnan().sum()) == 1
    assert torch.equal(state.h[~state.h.isnan()], plain_state.h[~state.h.isnan()])


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_goes_back_in_its_own_sequence_and_channel(backend: str) -> None:
    layer = build(POINTWISE, backend, hidden=5)
    leaves = [randn(3, 9, 5).requires_grad_(), randn(3, 9, 5, seed=9).requires_grad_()]
    y, _ = layer(*leaves)
    grad_y = randn(3, 9, 5, seed=4)
    plain = torch.autograd.grad(y, leaves, grad_y, retain_graph=True)
    grad_y[1, 5, 2] = float("nan")
    poisoned = torch.autograd.grad(y, leaves, grad_y)
    mine = torch.zeros(3, 9, 5, dtype=torch.bool)
    mine[1, :6, 2] = True
    for got, want in zip(poisoned, plain, strict=True):
        assert got[mine].isnan().all()
        assert torch.equal(got[~mine], want[~mine])


@pytest.mark.parametrize("name", sorted(references.ZOO))
def test_nan_does_not_reach_other_sequences_of_the_zoo(name: str, backend: str) -> None:
    sizes = {"hidden": 17} if name == "SRU" else {"input": 17, "hidden": 17}
    layer = build(getattr(zoo, name), backend, torch.float32, **sizes)
    x = randn(3, 33, 17, dtype=torch.float32)
    want, _ = layer(x)
    poisoned = x.clone()
    poisoned[1, 8, 4] = float("nan")
    poisoned.requires_grad_()
    y, state = layer(poisoned)
    assert torch.equal(y[::2], want[::2])
    assert torch.equal(y[1, :8], want[1, :8])
    assert y[1, 8].isnan().any()
    assert outputs_of(y)[0][1, 8:].isnan().any(-1).all() or name.startswith("QRNN")
    for field in state:
        assert field[::2].isfinite().all()
    (grad,) = torch.autograd.grad(y.sum(), poisoned)
    assert grad[::2].isfinite().all()


def test_nan_in_the_state_passed_in(backend: str) -> None:
    layer = build(POINTWISE, backend, hidden=5)
    p, v = randn(3, 9, 5), randn(3, 9, 5, seed=9)
    _, zero = layer(p[:, :0], v[:, :0])
    h0: Tensor = torch.zeros(3, 5, dtype=torch.float64)
    h0[1, 2] = float("nan")
    y, _ = layer(p, v, state=type(zero)(h=h0))
    want, _ = layer(p, v)
    mine = torch.zeros_like(y, dtype=torch.bool)
    mine[1, :, 2] = True
    assert y[mine].isnan().all()
    assert torch.equal(y[~mine], want[~mine])


# --- gradients at the edges of functions ---------------------------------------------------------

EDGES = """
layer Edges
size  hidden
input a[t], b[t]: hidden
state h[t]: hidden

e[t] = logaddexp(a[t], b[t])
h[t] = 0.5 * h[t-1] + where(a[t] > 0, a[t], 0)
safe[t] = where(a[t] > 0, log(a[t]), 0)

output h[t], e[t], safe[t]
"""


def test_gradients_at_the_edges_are_numbers(backend: str) -> None:
    layer = build(EDGES, backend, hidden=3)
    inf = float("inf")
    a = torch.tensor([[[-inf, 0.0, 2.0]]], dtype=torch.float64).requires_grad_()
    b = torch.tensor([[[-inf, -inf, 1.0]]], dtype=torch.float64).requires_grad_()
    (h, e, safe), _ = layer(a, b)
    assert torch.equal(h, torch.tensor([[[0.0, 0, 2]]], dtype=torch.float64))
    assert e[0, 0, 0] == -inf
    assert e[0, 0, 1] == 0
    ga, gb = torch.autograd.grad(e[0, 0].sum(), [a, b], retain_graph=True)
    share = float(torch.sigmoid(torch.tensor(1.0, dtype=torch.float64)))
    want_a = torch.tensor([[[0, 1, share]]], dtype=torch.float64)
    want_b = torch.tensor([[[0, 0, 1 - share]]], dtype=torch.float64)
    assert_all_close({"a": ga, "b": gb}, {"a": want_a, "b": want_b}, 1e-12)
    # The logarithm on the dead branch of a `where` is a famous source of NaN.
    (ga,) = torch.autograd.grad(safe.sum(), a)
    assert torch.equal(ga, torch.tensor([[[0.0, 0, 0.5]]], dtype=torch.float64))
