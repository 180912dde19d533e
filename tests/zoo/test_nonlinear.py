"""Nonlinear layers against loops of their papers, and against torch.nn's own where it has them."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import seqc
from seqc import zoo
from tests import references
from tests.layer.support import assert_all_close, gradients, hold_to, leaf, randn
from tests.zoo import references_nonlinear as ref
from tests.zoo.harness import BACKENDS, TOLERANCE, Case, Checks, over

SIZES = {"input": 4, "hidden": 5}
OWN = {"hidden": 5}  # as wide as its input
VCRNN = Case("VCRNN", ref.vcrnn, ("h",), OWN, ("hidden",))
VCGRU = Case("VCGRU", ref.vcgru, ("h",), OWN, ("hidden",))
LEM = Case("LEM", ref.lem, ("y", "z"), SIZES)
CORNN = Case("CoRNN", ref.cornn, ("y", "z"), SIZES)
INDRNN = Case("IndRNN", ref.indrnn, ("h",), SIZES)
CASES = (
    VCRNN,
    VCGRU,
    Case("GRU", references.gru, ("h",), SIZES),
    Case("LSTM", ref.lstm, ("h", "c"), SIZES),
    Case("Elman", ref.elman, ("h",), SIZES),
    Case("MGU", ref.mgu, ("h",), SIZES),
    INDRNN,
    LEM,
    CORNN,
)
BY_NAME = {case.layer: case for case in CASES}


@over(CASES)
class TestNonlinear(Checks):
    pass


@pytest.mark.parametrize("name", [c.layer for c in CASES])
def test_a_warning_says_where_it_runs(name: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layer = seqc.compile(zoo.path(name), layer=name)(**BY_NAME[name].sizes)
        for _ in range(2):
            layer(*(x.float() for x in BY_NAME[name].drive(2, 3)))
    if name == "IndRNN":  # a scan: nothing to warn of
        assert not caught
        return
    (one,) = caught
    assert issubclass(one.category, seqc.SeqcWarning)
    assert "this part runs step by step" in str(one.message)


# --- torch's own layers --------------------------------------------------------------------------

# Torch's class, the gates in the order in which torch stacks them, the equations' names in seqc.
TORCHS = {"GRU": (nn.GRU, "run"), "LSTM": (nn.LSTM, "ifgo"), "Elman": (nn.RNN, "h")}


def stacked_names(gates: str) -> dict[str, list[str]]:
    """Torch's parameter -> the layer's, from the first chunk of rows to the last."""
    return {
        f"{kind}_{part}_l0": [f"{gate}.{source}.{kind}" for gate in gates]
        for source, part in (("x", "ih"), ("h", "hh"))
        for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", TORCHS)
def test_torchs_weights_give_torchs_numbers(name: str, backend: str, dtype: torch.dtype) -> None:
    made, gates = TORCHS[name]
    torch.manual_seed(3)
    theirs: Any = made(4, 5, batch_first=True, dtype=dtype)
    with torch.no_grad():
        for p in theirs.parameters():
            p.mul_(2)  # far enough from 0 that a gate mistaken for another shows
    layer = BY_NAME[name].build(backend).to(dtype)
    names = stacked_names(gates)
    # `torch`'s state dict with its rows dealt out is the layer's, none left over on either side.
    dealt = {
        own: rows
        for packed, owns in names.items()
        for own, rows in zip(owns, theirs.state_dict()[packed].chunk(len(owns)), strict=True)
    }
    layer.load_state_dict(dealt)

    x = randn(3, 7, 4, dtype=dtype)
    first = [randn(3, 5, dtype=dtype, seed=k) for k in (2, 3)][: 2 if name == "LSTM" else 1]

    def run_theirs(x: Tensor, *first: Tensor) -> list[Tensor]:
        lone = tuple(f.unsqueeze(0) for f in first)
        y, last = theirs(x, lone if name == "LSTM" else lone[0])
        return [y, *(f[0] for f in (last if name == "LSTM" else (last,)))]

    def run_ours(x: Tensor, *first: Tensor) -> list[Tensor]:
        with torch.no_grad():
            _, some = layer(x[:, :0])
        y, last = layer(x, type(some)(*first))
        return [y, *last]

    def results(run: Any, params: dict[str, Tensor]) -> dict[str, Tensor]:
        at = [leaf(v) for v in (x, *first)]
        values = run(*at)
        leaves = {"x": at[0], **{f"first {k}": f for k, f in enumerate(at[1:])}, **params}
        grads = gradients(values, leaves)
        return {f"result {k}": v for k, v in enumerate(values)} | {
            f"d {n}": g for n, g in grads.items()
        }

    want = results(run_theirs, dict(theirs.named_parameters()))
    got = results(run_ours, dict(layer.named_parameters()))
    for packed, owns in names.items():
        got[f"d {packed}"] = torch.cat([got.pop(f"d {own}") for own in owns])
    assert_all_close(got, want, 1e-12 if dtype == torch.float64 else 2e-6)


# --- variable computation ------------------------------------------------------------------------

# Wide enough that the threshold bites on both sides at a sharpness of 1, where η is
# ln((1 − ε) / ε) = 11.5 at the paper's ε, and of 0.1, where a larger ε makes η 22.
SHARP = [
    pytest.param(1.0, 1e-5, 37, id="sharp"),
    pytest.param(0.1, 1e-5, 37, id="soft"),
    pytest.param(0.1, 0.1, 61, id="soft, cut"),
]


def with_shares(case: Case, backend: str, width: int) -> Any:
    """A layer whose shares m spread over (0, 1)."""
    layer = dataclasses.replace(case, sizes={"hidden": width}).build(backend)
    with torch.no_grad():
        layer.m.weight.mul_(4)
        layer.m.bias.zero_()
    return layer


@pytest.mark.parametrize("sharpness, epsilon, width", SHARP)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", [VCRNN, VCGRU], ids=str)
def test_the_masked_loop(
    case: Case, backend: str, sharpness: float, epsilon: float, width: int
) -> None:
    layer = with_shares(case, backend, width)
    layer.sharpness, layer.epsilon = sharpness, epsilon
    loop = functools.partial(case.reference, sharpness=sharpness, epsilon=epsilon)
    x = randn(5, 7, width)
    hold_to(layer, loop, [x], states=("h",), tolerance=TOLERANCE)
    given = case.state(layer, [x])
    hold_to(layer, loop, [x], given, states=("h",), tolerance=TOLERANCE)

    # And the mask does what the parameters of this test promise.
    params = {n: p.detach() for n, p in layer.named_parameters()}
    m, e = ref.share_mask(params, x[:, 0], given.h, sharpness, epsilon)
    assert m.max() - m.min() > 0.5
    cut = sharpness == 1.0 or epsilon == 0.1
    assert bool((e == 0).any()) == bool((e == 1).any()) == cut
    assert ((e > 0) & (e < 1)).any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", [VCRNN, VCGRU], ids=str)
def test_the_share_of_one_sequence_decides_for_that_one(case: Case, backend: str) -> None:
    layer = with_shares(case, backend, 37)
    layer.sharpness = 1.0
    x = randn(4, 1, 37)
    given = case.state(layer, [x])
    with torch.no_grad():
        # Shares near 0.05, 0.35, 0.65 and 0.95, through the input alone.
        v = layer.m.weight[0, :37]
        layer.m.weight[0, 37:] = 0
        layer.m.bias.zero_()
        shares = torch.tensor([0.05, 0.35, 0.65, 0.95]).double()
        x[:, 0] += ((torch.logit(shares) - x[:, 0] @ v) / (v @ v)).unsqueeze(1) * v
        y, final = layer(x, given)
        for k, share in enumerate(shares.tolist()):
            alone, last = layer(x[k : k + 1], type(given)(given.h[k : k + 1]))
            torch.testing.assert_close(y[k : k + 1], alone, rtol=1e-13, atol=1e-14)
            torch.testing.assert_close(final.h[k : k + 1], last.h, rtol=1e-13, atol=1e-14)
            # Beyond m D + η nothing moves, to the bit; before m D − η everything does.
            eta = 11.6
            moved = final.h[k] != given.h[k]
            places = torch.arange(1, 38)
            assert not moved[places > share * 37 + eta].any()
            assert moved[places < share * 37 - eta].all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", [VCRNN, VCGRU], ids=str)
def test_shares_learn_through_the_band_alone(case: Case, backend: str) -> None:
    """No gradient of m where Thres replaced every entry, some where it did not."""
    layer = with_shares(case, backend, 5)
    layer.epsilon = 0.2
    x = randn(2, 3, 5)
    for sharpness, learns in ((1.0, True), (1e4, False)):
        layer.sharpness = sharpness
        layer.zero_grad()
        layer(x)[0].sum().backward()
        assert bool((layer.m.weight.grad != 0).any()) == learns
        assert layer.n.xe.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_full_share_is_an_elman_network(backend: str) -> None:
    """At m = 1 and a sharp mask e is 1, but for the last entry, σ(λ (D − D)) = ½."""
    layer = VCRNN.build(backend)
    elman = dataclasses.replace(BY_NAME["Elman"], sizes={"input": 5, "hidden": 5}).build(backend)
    layer.sharpness = 100.0
    with torch.no_grad():
        layer.m.weight.zero_()
        layer.m.bias.fill_(1000.0)
        layer.n.he.weight[:, -1] = layer.n.xe.weight[:, -1] = 0  # none reads the last entry
        elman.h.x.weight.copy_(layer.n.xe.weight)
        elman.h.x.bias.copy_(layer.n.xe.bias)
        elman.h.h.weight.copy_(layer.n.he.weight)
        elman.h.h.bias.zero_()
        x = randn(2, 6, 5)
        got, want = layer(x)[0], elman(x)[0]
    torch.testing.assert_close(got[..., :4], want[..., :4], rtol=1e-13, atol=1e-14)
    before = torch.cat([torch.zeros(2, 1).double(), got[:, :-1, 4]], 1)
    torch.testing.assert_close(got[..., 4], (want[..., 4] + before) / 2, rtol=1e-13, atol=1e-14)


# --- what the other papers say -------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case, hypers", [
    (LEM, {"dt": 0.3}),
    (CORNN, {"dt": 0.076, "gamma": 0.4, "epsilon": 8.0}),  # permuted sequential MNIST
], ids=str)  # fmt: skip
def test_other_step_sizes(case: Case, backend: str, hypers: dict[str, float]) -> None:
    layer = case.build(backend)
    for name, value in hypers.items():
        setattr(layer, name, value)
    x = case.drive(3, 7)
    loop = functools.partial(case.reference, **hypers)
    hold_to(layer, loop, x, case.state(layer, x), states=case.states, tolerance=TOLERANCE)


def test_an_oscillator_without_damping_keeps_its_energy() -> None:
    """With no force, y'' = −γ y: symplectic steps neither gain nor lose over many periods."""
    layer = CORNN.build()
    layer.epsilon = 0.0
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
        _, some = layer(torch.zeros(1, 0, 4).double())
        start = type(some)(y=randn(1, 5), z=randn(1, 5, seed=4))
        y, _ = layer(torch.zeros(1, 2000, 4).double(), start)
    half = [part.abs().amax(1) for part in y.split(1000, 1)]
    torch.testing.assert_close(half[1], half[0], rtol=1e-2, atol=0)


def test_lem_stays_between_minus_one_and_one() -> None:
    layer = LEM.build(spread=4.0)
    with torch.no_grad():
        y, final = layer(10 * randn(3, 50, 4))
    assert y.abs().max() <= 1
    assert y.abs().max() > 0.9
    assert final.z.abs().max() <= 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_indrnn_of_any_sign(backend: str) -> None:
    """u below 0 as well: affine with a floor would do for the others alone."""
    layer = INDRNN.build(backend)
    with torch.no_grad():
        layer.u.copy_(torch.tensor([-1.2, -0.5, 0.0, 0.5, 1.2]))
    x = INDRNN.drive(3, 9)
    hold_to(layer, INDRNN.reference, x, INDRNN.state(layer, x), states=("h",), tolerance=TOLERANCE)


def test_indrnn_runs_in_a_kernel() -> None:
    layer = INDRNN.build("auto")
    assert list(layer.kernel_calls(*INDRNN.drive(2, 4)))
    torch.manual_seed(0)
    u = Case("IndRNN", ref.indrnn, ("h",), {"input": 2, "hidden": 500}).build(spread=None).u
    assert 0 <= u.min() < 0.02
    assert 0.98 < u.max() < 1
