"""The references themselves, held to closed forms, to torch.nn and to each other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests import references as ref


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def maps(*names: str, hidden: int, input: int, width: int | None = None) -> dict[str, Tensor]:
    params = {}
    for k, name in enumerate(names):
        shape = (hidden, input) if width is None else (hidden, input, width)
        params[f"{name}.weight"] = randn(*shape, seed=10 + k)
        params[f"{name}.bias"] = randn(hidden, seed=20 + k)
    return params


def test_softplus_and_the_positive_activation() -> None:
    x = torch.tensor([-800.0, -30, -1, 0, 1, 30, 800], dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(ref.softplus(x), nn.functional.softplus(x, threshold=700))
    assert ref.positive(x)[3] == 0.5
    assert (ref.positive(x) >= 0).all()
    (grad,) = torch.autograd.grad(ref.positive(x).sum(), x)
    assert grad[3] == 1
    assert grad[4] == 1
    torch.testing.assert_close(grad[2], torch.sigmoid(x[2]) * torch.sigmoid(-x[2]))


def test_minimal_gru_in_closed_form() -> None:
    # h_t = A_t (h_0 + Σ_{s≤t} b_s / A_s), A_t = Π_{s≤t} (1 − z_s).
    params = maps("z", "v", hidden=3, input=4)
    x, h0 = randn(2, 9, 4), randn(2, 3, seed=1)
    (y,), final = ref.mingru(params, [x], {"h": h0})
    z = torch.sigmoid(nn.functional.linear(x, params["z.weight"], params["z.bias"]))
    k = nn.functional.linear(x, params["v.weight"], params["v.bias"])
    v = torch.where(k >= 0, k + 0.5, torch.sigmoid(k))
    A = (1 - z).cumprod(1)
    torch.testing.assert_close(y, A * (h0[:, None] + (z * v / A).cumsum(1)), rtol=1e-10, atol=0)
    assert torch.equal(final["h"], y[:, -1])


@pytest.mark.parametrize("g", [ref.positive, ref.identity])
def test_minimal_lstm_as_printed_and_from_logarithms(g: ref.Reference) -> None:
    params = maps("f", "i", "v", hidden=3, input=4)
    x, state = randn(2, 9, 4), {"h": randn(2, 3, seed=1)}
    (a,), _ = ref.minlstm(params, [x], state, g=g)
    (b,), _ = ref.minlstm_log(params, [x], state, g=g)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_convolutions_are_those_of_torch(width: int) -> None:
    # f-pooling with the gate shut (f = 0) hands the convolution out: h = z.
    params = maps("z", "f", hidden=3, input=4, width=width)
    params["f.weight"] = torch.zeros_like(params["f.weight"])
    params["f.bias"] = torch.full_like(params["f.bias"], -1000.0)
    x, past = randn(2, 7, 4), randn(2, width - 1, 4, seed=1)
    h0 = randn(2, 3, seed=2)
    (y,), final = ref.qrnn_f(params, [x], {"h": h0, "x": past})
    seen = torch.cat([past, x], 1).transpose(1, 2)
    z = torch.tanh(nn.functional.conv1d(seen, params["z.weight"], params["z.bias"]))
    torch.testing.assert_close(y, z.transpose(1, 2))
    assert torch.equal(final["x"], torch.cat([past, x], 1)[:, 7:])
    (padded,), _ = ref.qrnn_f(params, [x])
    seen = nn.functional.pad(x.transpose(1, 2), (width - 1, 0))
    z = torch.tanh(nn.functional.conv1d(seen, params["z.weight"], params["z.bias"]))
    torch.testing.assert_close(padded, z.transpose(1, 2))


def test_poolings_are_related() -> None:
    params = maps("z", "f", "o", "i", hidden=3, input=4, width=2)
    params["i.weight"] = -params["f.weight"]  # σ(−u) = 1 − σ(u): ifo becomes fo
    params["i.bias"] = -params["f.bias"]
    x = randn(2, 9, 4)
    (fo,), fo_state = ref.qrnn_fo(params, [x])
    (ifo,), ifo_state = ref.qrnn_ifo(params, [x])
    torch.testing.assert_close(fo, ifo)
    torch.testing.assert_close(fo_state["c"], ifo_state["c"])
    (f,), f_state = ref.qrnn_f(params, [x])
    torch.testing.assert_close(f_state["h"], fo_state["c"])
    assert torch.equal(f[:, -1], f_state["h"])


def test_zoneout_keeps_the_state() -> None:
    params = maps("z", "f", "o", hidden=3, input=4, width=2)
    x, c0 = randn(2, 9, 4), randn(2, 3, seed=1)
    state = {"c": c0, "x": randn(2, 1, 4, seed=2)}
    none = torch.zeros(2, 9, 3, dtype=torch.float64)
    _, final = ref.qrnn(params, [x], state, kept=none)
    assert torch.equal(final["c"], c0)  # all dropped: f = 1
    (a,), _ = ref.qrnn(params, [x], state, kept=1 - none)
    (b,), _ = ref.qrnn(params, [x], state)
    assert torch.equal(a, b)


def test_the_first_sru_gated_open_and_shut() -> None:
    params = maps("f", "r", hidden=3, input=3)
    params["u.weight"] = randn(3, 3, seed=5)
    x, c0 = randn(2, 6, 3), randn(2, 3, seed=1)
    params["r.weight"] = torch.zeros(3, 3, dtype=torch.float64)
    params["r.bias"] = torch.full((3,), -1000.0, dtype=torch.float64)
    (y,), _ = ref.sru(params, [x], {"c": c0})
    assert torch.equal(y, x)  # the highway alone
    params["r.bias"] = -params["r.bias"]
    params["f.weight"] = torch.zeros(3, 3, dtype=torch.float64)
    params["f.bias"] = torch.full((3,), -1000.0, dtype=torch.float64)
    (y,), _ = ref.sru(params, [x], {"c": c0})
    torch.testing.assert_close(y, torch.tanh(x @ params["u.weight"].T))


def test_the_gru_is_that_of_torch() -> None:
    torch.manual_seed(0)
    gru = nn.GRU(4, 3, batch_first=True, dtype=torch.float64)
    params = {}
    for source, part in (("x", "ih"), ("h", "hh")):
        for kind in ("weight", "bias"):
            rows = getattr(gru, f"{kind}_{part}_l0").chunk(3)
            for name, value in zip("run", rows, strict=True):  # torch's order: r, z, n; z is u here
                params[f"{name}.{source}.{kind}"] = value
    x, h0 = randn(2, 9, 4), randn(2, 3, seed=1)
    (y,), final = ref.gru(params, [x], {"h": h0})
    want, last = gru(x, h0[None])
    torch.testing.assert_close(y, want)
    torch.testing.assert_close(final["h"], last[0])


@pytest.mark.parametrize("length", [0, 1, 13])
def test_the_adjoint_by_hand_is_that_of_autograd(length: int) -> None:
    params = {n: p.requires_grad_() for n, p in maps("a", "b", "v", hidden=3, input=4).items()}
    x = randn(2, length, 4).requires_grad_()
    h0 = randn(2, 3, seed=1).requires_grad_()
    grad_y, grad_final = randn(2, length, 3, seed=2), randn(2, 3, seed=3)
    (want,), want_state = ref.glide_loop(params, [x], {"h": h0})
    total = (want * grad_y).sum() + (want_state["h"] * grad_final).sum()
    leaves = {"x": x, "h": h0, **params}
    want_grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    with torch.no_grad():
        y, final, grads = ref.glide(params, x, h0, grad_y, grad_final)
    torch.testing.assert_close(y, want, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(final, want_state["h"], rtol=1e-12, atol=1e-14)
    for name, want_grad in zip(leaves, want_grads, strict=True):
        expected = torch.zeros_like(leaves[name]) if want_grad is None else want_grad
        torch.testing.assert_close(grads[name], expected, rtol=1e-11, atol=1e-13)
