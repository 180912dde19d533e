"""Filters, a Kalman filter and a hidden Markov model against other ways to compute them."""

from __future__ import annotations

import math

import pytest
import torch

from tests.layer.support import randn
from tests.zoo import references_classic as ref
from tests.zoo.harness import BACKENDS, Case, Checks, over

CASES = (
    Case("LeakyIntegrator", ref.leaky_integrator, ("h",), {"hidden": 5}, ("hidden",)),
    Case("RunningMax", ref.running_max, ("m",), {"hidden": 5}, ("hidden",)),
    Case("Biquad", ref.biquad, ("y",), {"hidden": 5}, ("hidden",)),
    Case("KalmanFilter", ref.kalman, ("P", "m"), {"input": 4, "hidden": 5}, positive=("P",)),
    Case("HMMForward", ref.hmm, ("alpha",), {"tags": 3}, ("tags",)),
)
BY_NAME = {case.layer: case for case in CASES}


@over(CASES)
class TestClassics(Checks):
    pass


def test_biquads_are_stable_whatever_is_learned() -> None:
    layer = BY_NAME["Biquad"].build()
    with torch.no_grad():
        for seed in range(20):
            # Further out the poles are so near the circle that the test would have to be longer.
            layer.r1.copy_(randn(5, seed=seed).clamp(-1, 1))
            layer.r2.copy_(randn(5, seed=100 + seed).clamp(-1, 1))
            impulse = torch.zeros(1, 600, 5).double()
            impulse[:, 0] = 1
            y, _ = layer(impulse)
            assert y[:, -10:].abs().max() < 1e-6 * y.abs().max()


def test_a_new_biquad_passes_everything_on() -> None:
    layer = BY_NAME["Biquad"].build(spread=None)
    (x,) = BY_NAME["Biquad"].drive(2, 9)
    torch.testing.assert_close(layer(x)[0], x, rtol=0, atol=0)


def test_the_variance_settles_where_the_riccati_equation_says() -> None:
    """P = r (a² P + q) / (a² P + q + r), a quadratic in P."""
    case = BY_NAME["KalmanFilter"]
    layer = case.build()
    with torch.no_grad():
        layer.r.weight.zero_()
        (_, P), _ = layer(*case.drive(1, 400))
        a2, q = layer.a**2, layer.log_q.exp()
        r = torch.nn.functional.softplus(layer.r.bias)
        half = (q + r - a2 * r) / 2
        want = (-half + torch.sqrt(half**2 + a2 * q * r)) / a2
    torch.testing.assert_close(P[0, -1], want, rtol=1e-11, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_likelihood_is_a_sum_over_paths(backend: str) -> None:
    case = BY_NAME["HMMForward"]
    layer = case.build(backend)
    (e,) = case.drive(1, 5)
    (_, y), _ = layer(e)
    want = ref.likelihood_by_paths(layer.trans.detach(), layer.start.detach(), e[0])
    assert math.isclose(y[0, -1].item(), math.log(want), rel_tol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_impossible_observations(backend: str) -> None:
    """States of likelihood 0: −∞, never NaN, in value or gradient."""
    case = BY_NAME["HMMForward"]
    layer = case.build(backend)
    (e,) = case.drive(2, 6)
    e[0, 2, 1] = e[1, 0, :2] = -torch.inf
    e.requires_grad_()
    (alpha, y), _ = layer(e)
    assert alpha[0, 2, 1] == alpha[1, 0, 0] == -torch.inf
    assert y.isfinite().all()
    y.sum().backward()
    assert e.grad is not None
    assert e.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_impossible_sequence(backend: str) -> None:
    """No state explains a step: the likelihood is 0 from there on."""
    case = BY_NAME["HMMForward"]
    layer = case.build(backend)
    (e,) = case.drive(1, 6)
    e[0, 3] = -torch.inf
    with torch.no_grad():
        (alpha, y), _ = layer(e)
    assert (alpha[0, 3:] == -torch.inf).all()
    assert (y[0, 3:] == -torch.inf).all()
    assert y[0, :3].isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_long_sequences_do_not_underflow(backend: str) -> None:
    case = BY_NAME["HMMForward"]
    layer = case.build(backend)
    (e,) = case.drive(1, 300)
    (_, y), _ = layer(e - 100)  # likelihoods of e^−100 a step
    assert y.isfinite().all()
    with torch.no_grad():
        (_, near), _ = layer(e)
    torch.testing.assert_close(y[0, -1].detach(), near[0, -1] - 300 * 100, rtol=1e-10, atol=0)
