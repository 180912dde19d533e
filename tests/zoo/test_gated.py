"""RG-LRU, HGRN, GILR and GILR-LSTM against loops of their papers."""

from __future__ import annotations

import torch

from tests.zoo import references_gated as ref
from tests.zoo.harness import BACKENDS, Case, Checks, over

SIZES = {"input": 4, "hidden": 5}
CASES = (
    Case("RGLRU", ref.rg_lru, ("h",), {"hidden": 5}, ("hidden",)),
    Case("HGRN", ref.hgrn, ("h_re", "h_im"), SIZES),
    Case("HGRNReal", ref.hgrn_real, ("h",), SIZES),
    Case("GILR", ref.gilr, ("s",), SIZES),
    Case("GILRLSTM", ref.gilr_lstm, ("s", "c"), SIZES),
)


@over(CASES)
class TestGated(Checks):
    pass


def test_griffins_decay_starts_between_0_9_and_0_999() -> None:
    torch.manual_seed(0)
    layer = Case("RGLRU", ref.rg_lru, ("h",), {"hidden": 400}).build(spread=None)
    decay = torch.sigmoid(layer.base.detach()) ** 8
    assert 0.8995 < decay.min() < 0.905
    assert 0.998 < decay.max() < 0.9991


def test_a_closed_gate_of_griffin_still_lets_a_little_in() -> None:
    # a_t = 1 − 2e-26 rounds to 1, so the printed sqrt(1 − a_t²) is 0; it is 2e-13.
    layer = CASES[0].build()
    with torch.no_grad():
        layer.r.weight.zero_()
        layer.r.bias.fill_(-60.0)
        layer.i.weight.zero_()
        layer.base.fill_(0.0)
        x = CASES[0].drive(1, 1)[0]
        y, _ = layer(x)
    log_a = -8 * torch.log(torch.tensor(2.0).double()) * torch.exp(torch.tensor(-60.0).double())
    want = (-2 * log_a).sqrt() * torch.sigmoid(layer.i.bias.detach()) * x
    torch.testing.assert_close(y, want, rtol=1e-12, atol=0)


def test_a_gate_that_underflows_has_finite_gradients() -> None:
    for backend in BACKENDS:
        layer = CASES[0].build(backend)
        with torch.no_grad():
            layer.r.bias.fill_(-1000.0)
        x = CASES[0].drive(2, 3)[0].requires_grad_()
        y, _ = layer(x)
        y.sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()
        assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_a_bound_of_one_keeps_the_state() -> None:
    for case in CASES[1:3]:
        layer = case.build()
        with torch.no_grad():
            layer.bound.fill_(1000.0)
            if case.layer == "HGRN":
                layer.theta.copy_(-(10000.0 ** (-torch.arange(5).double() / 5)))
            x = case.drive(2, 5)
            state = case.state(layer, x)
            _, final = layer(*x, state=state)
        for got, want in zip(final, state, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
