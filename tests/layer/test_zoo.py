"""Every layer of the zoo, on every backend, against a loop written from its paper."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import seqc
from seqc import zoo
from tests.layer.support import (
    BACKENDS,
    CPP,
    DTYPES,
    assert_all_close,
    assert_streams,
    build,
    chunked,
    hold_to,
    outputs_of,
    randn,
    random_state,
    stepped,
)
from tests.references import ZOO

NAMES = sorted(ZOO)
STATES = {name: ("c",) if name in ("QRNN", "QRNNIFO", "SRU") else ("h",) for name in NAMES}
LAGS = [n for n in NAMES if n.startswith("QRNN")]

SEED = 5

# T, B, input, hidden, width: no T or size that a vector, a tile or a chunk would like.
CASES = [
    (0, 1, 3, 3, 2),
    (0, 5, 1, 17, 3),
    (1, 1, 1, 1, 1),
    (1, 5, 3, 17, 2),
    (2, 1, 17, 3, 3),
    (2, 5, 3, 1, 6),
    (7, 1, 3, 3, 6),
    (7, 5, 1, 17, 1),
    (33, 1, 17, 17, 2),
    (33, 5, 3, 3, 3),
]


def make(name: str, backend: str, dtype: torch.dtype = torch.float64, **sizes: Any) -> Any:
    """A zoo layer with the sizes that it knows: SRU's input is as wide as its state."""
    if name == "SRU":
        sizes.pop("input", None)
    if name not in LAGS:
        sizes.pop("width", None)
    return build(getattr(zoo, name), backend, dtype, **sizes)


def width_in(name: str, input: int, hidden: int) -> int:
    return hidden if name == "SRU" else input


@pytest.mark.parametrize("T, B, input, hidden, width", CASES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients(
    name: str, backend: str, dtype: torch.dtype, T: int, B: int, input: int, hidden: int, width: int
) -> None:
    layer = make(name, backend, dtype, input=input, hidden=hidden, width=width)
    # Chosen among 1 to 5: with others a gradient of one or two entries nearly cancels, and float32,
    # kernel and plain PyTorch alike, is then off by more than 2e-6 of what little is left.
    x = randn(B, T, width_in(name, input, hidden), dtype=dtype, seed=SEED)
    hold_to(layer, ZOO[name], [x], random_state(layer, [x]), states=STATES[name])


@pytest.mark.parametrize("name", NAMES)
def test_without_a_state(name: str, backend: str) -> None:
    layer = make(name, backend, input=3, hidden=5, width=3)
    x = randn(2, 6, width_in(name, 3, 5))
    hold_to(layer, ZOO[name], [x], states=STATES[name])


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name: str, backend: str) -> None:
    layer = make(name, backend, input=2, hidden=3, width=2)
    x = randn(2, 4, width_in(name, 2, 3)).requires_grad_()
    state = random_state(layer, [x])
    names = [n for n, _ in layer.named_parameters()]
    fields = [f.requires_grad_() for f in state]

    def call(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        given = type(state)(*rest[: len(fields)])
        params = dict(zip(names, rest[len(fields) :], strict=True))
        y, final = torch.func.functional_call(layer, params, (x, given))
        return (*outputs_of(y), *final)

    params = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(call, (x, *fields, *params))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_any_split_into_chunks(name: str, backend: str, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=5), label="lengths")
    B, width = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    layer = make(name, backend, input=3, hidden=5, width=width)
    x = randn(B, sum(lengths), width_in(name, 3, 5))
    state = random_state(layer, [x])
    with torch.no_grad():
        whole = layer(x, state)
        ways = [chunked(layer, [x], lengths, state)]
        if x.shape[1]:
            ways.append(stepped(layer, [x], state))
    want = {"y": whole[0], **whole[1]._asdict()}
    for (y,), final in ways:
        assert_all_close({"y": y, **final._asdict()}, want, 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_flow_through_handed_on_states(
    name: str, backend: str, dtype: torch.dtype
) -> None:
    layer = make(name, backend, dtype, input=3, hidden=5, width=3)
    x = randn(2, 11, width_in(name, 3, 5), dtype=dtype)
    assert_streams(layer, [x], (1, 4, 0, 6), random_state(layer, [x]))


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", LAGS)
def test_quasi_recurrent_layers_of_any_width(name: str, width: int, backend: str) -> None:
    layer = make(name, backend, input=3, hidden=5, width=width)
    x = randn(2, 8, 3)
    hold_to(layer, ZOO[name], [x], random_state(layer, [x]), states=STATES[name])


# --- no silent way round -------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [CPP])
@pytest.mark.parametrize("name", NAMES)
def test_the_zoo_runs_in_kernels_and_warns_of_nothing(name: str, backend: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = make(name, backend, input=3, hidden=5, width=2)
        x = randn(2, 4, width_in(name, 3, 5))
        assert list(layer.kernel_calls(x))
        layer(x)[0].sum().backward()


@pytest.mark.parametrize("name", NAMES)
def test_the_zoo_is_proved(name: str) -> None:
    report = seqc.check(zoo.path(name))
    (stratum,) = report[name].strata
    assert stratum.states == STATES[name]
    assert stratum.algebra == "affine"
    assert "proved" in str(stratum.verdict).lower()
    assert stratum.method == "scan"


# --- peers' defects ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient_from_the_outputs_alone(name: str, backend: str) -> None:
    # torch's associative_scan in pointwise mode: the gate's gradient is exactly zero.
    layer = make(name, backend, input=3, hidden=5, width=2)
    y, _ = layer(randn(2, 6, width_in(name, 3, 5)))
    y.sum().backward()
    for parameter, p in layer.named_parameters():
        assert p.grad is not None, parameter
        assert (p.grad != 0).any(), parameter


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_the_first_and_from_the_last_state(name: str, backend: str) -> None:
    # chunk_hgrn: no gradient of h0, and that of the final state dropped.
    layer = make(name, backend, input=3, hidden=5, width=2)
    x = randn(2, 3, width_in(name, 3, 5)).requires_grad_()
    state = random_state(layer, [x])
    fields = [f.requires_grad_() for f in state]
    _, final = layer(x, state)
    declared = getattr(final, STATES[name][0])
    grads = torch.autograd.grad(declared.sum(), [x, *fields])
    for what, grad in zip(("x", *state._fields), grads, strict=True):
        assert (grad != 0).any(), what


@pytest.mark.parametrize("name", ["MinLSTM", "MinLSTMPlain"])
def test_a_minimal_lstm_goes_on_from_a_state(name: str, backend: str) -> None:
    # minGRU-pytorch: with a previous hidden state, parallel and sequential differ by 0.33. Here the
    # state is large and negative too, which the log-space form cannot hold at all.
    layer = make(name, backend, input=3, hidden=5)
    x = randn(2, 6, 3)
    _, zero = layer(x[:, :0])
    for h in (randn(2, 5), 100 * randn(2, 5), torch.full((2, 5), -3.0, dtype=torch.float64)):
        state = type(zero)(h=h)
        hold_to(layer, ZOO[name], [x], state, states=("h",))
        assert_streams(layer, [x], (2, 4), state)


@pytest.mark.parametrize("name", ["MinGRU", "MinLSTM"])
def test_the_state_starts_at_zero_and_not_at_g_of_zero(name: str, backend: str) -> None:
    layer = make(name, backend, input=3, hidden=5)
    with torch.no_grad():
        for gate in ("z", "f", "i"):
            if hasattr(layer, gate):
                getattr(layer, gate).weight.zero_()
                getattr(layer, gate).bias.zero_()
        x = randn(2, 1, 3)
        y, _ = layer(x)
        k = x @ layer.v.weight.T + layer.v.bias
        v = torch.where(k >= 0, k + 0.5, torch.sigmoid(k))
    # Every gate is one half: from zero, h_1 = v / 2.
    torch.testing.assert_close(y, v / 2, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", LAGS)
def test_the_forget_gate_keeps(name: str, backend: str) -> None:
    # A well-known QRNN has the gate inverted.
    layer = make(name, backend, input=3, hidden=5, width=2)
    with torch.no_grad():
        layer.f.weight.zero_()
        layer.f.bias.fill_(1000.0)
        if name == "QRNNIFO":
            layer.i.weight.zero_()
            layer.i.bias.fill_(-1000.0)
        x = randn(2, 9, 3)
        state = random_state(layer, [x])
        _, final = layer(x, state)
    assert torch.equal(getattr(final, STATES[name][0]), getattr(state, STATES[name][0]))


# --- zoneout -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAGS)
def test_zoneout(name: str, backend: str) -> None:
    layer = make(name, backend, input=3, hidden=5, width=2)
    x = randn(2, 9, 3).requires_grad_()
    state = random_state(layer, [x])
    with torch.no_grad():
        plain = layer(x, state)[0]
        layer.zoneout = 0.5
        assert torch.equal(layer(x, state)[0], plain)  # eval mode
        layer.train()
        torch.manual_seed(3)
        once = layer(x, state)[0]
        assert not torch.equal(once, plain)
        assert not torch.equal(layer(x, state)[0], once)  # a fresh mask each call
        torch.manual_seed(3)
        assert torch.equal(layer(x, state)[0], once)

    def call(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return layer(x, state)[0]

    # The backward pass sees the masks of its own forward pass.
    assert torch.autograd.gradcheck(call, (x,))

    # All dropped: f = 1 without rescaling, so the state stays (ifo still adds i z).
    layer.zoneout = 1.0
    with torch.no_grad():
        _, final = layer(x, state)
    if name != "QRNNIFO":
        assert torch.equal(getattr(final, STATES[name][0]), getattr(state, STATES[name][0]))


def test_zoneout_against_the_paper_with_the_mask_seen(backend: str) -> None:
    from tests import references

    spec = zoo.source("QRNN").replace("output h[t]", "output h[t], f[t]")
    # The file holds three layers; keep the one.
    start = spec.index("layer QRNN\n")
    layer = build(spec[start : spec.index("# ifo-pooling")], backend, input=3, hidden=5, width=2)
    layer.zoneout = 0.4
    layer.train()
    x = randn(2, 20, 3)
    (_, f), _ = layer(x)
    kept = (f != 1).double()
    assert 0 < kept.mean() < 1
    torch.manual_seed(11)
    (_, f), _ = layer(x)
    kept = (f != 1).double()

    def reference(p: Any, xs: Any, s: Any) -> Any:
        (y,), final = references.qrnn(p, xs, s, kept=kept)
        return (y,), final

    class Seeded(torch.nn.Module):
        """The layer with its masks pinned and h alone as its output."""

        def forward(self, *xs: Tensor, state: Any = None) -> Any:
            torch.manual_seed(11)
            (h, _), final = layer(*xs, state=state)
            return h, final

        def named_parameters(self, *args: Any, **kwargs: Any) -> Any:
            return layer.named_parameters()

    hold_to(Seeded(), reference, [x], states=("c",))


# --- the package ---------------------------------------------------------------------------------


def test_names_paths_and_sources() -> None:
    assert set(NAMES) <= set(zoo.names())  # the others are in tests/zoo
    assert len(zoo.names()) == len(set(zoo.names()))
    older = {"LeakyIntegrator", "RunningMax", "Biquad", "HMMForward", "Elman", "LSTM"}
    for name in zoo.names():
        assert zoo.path(name).suffix == ".seq"
        assert re.search(rf"^layer {name}$", zoo.source(name), re.MULTILINE)
        head = re.split(r"^layer ", zoo.source(name), flags=re.MULTILINE)[0]
        assert name in older or re.search(r"arXiv \d{4}\.\d{5}", head)
        assert name in dir(zoo)


def test_the_readme_names_every_layer() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert [n for n in zoo.names() if f"`{n}`" not in text] == []


def test_a_layer_is_compiled_once() -> None:
    assert zoo.MinGRU is zoo.MinGRU
    assert seqc.zoo.MinGRU is zoo.MinGRU
    assert zoo.MinGRU.__name__ == "MinGRU"
    assert issubclass(zoo.MinGRU, torch.nn.Module)


def test_an_unknown_layer() -> None:
    with pytest.raises(AttributeError, match=r"'minGRU': did you mean 'MinGRU'\?"):
        _ = zoo.minGRU
    with pytest.raises(AttributeError, match=r"it has .*, MinGRU, "):
        _ = zoo.xyzzyx
    with pytest.raises(KeyError, match="did you mean 'QRNN'"):
        zoo.path("QRN")
    assert not hasattr(zoo, "__wrapped__")


def test_parameters_are_named_after_the_paper() -> None:
    shapes = {
        "MinGRU": {"z": 1, "v": 1},
        "MinLSTM": {"f": 1, "i": 1, "v": 1},
        "QRNNIFO": {"z": 2, "f": 2, "o": 2, "i": 2},
    }
    for name, maps in shapes.items():
        layer = make(name, "reference", input=3, hidden=5, width=2)
        want = {}
        for m, taps in maps.items():
            want[f"{m}.weight"] = (5, 3) if taps == 1 else (5, 3, taps)
            want[f"{m}.bias"] = (5,)
        assert {k: tuple(v.shape) for k, v in layer.state_dict().items()} == want
    sru = zoo.SRU(hidden=5)
    assert {k: tuple(v.shape) for k, v in sru.state_dict().items()} == {
        "u.weight": (5, 5), "f.weight": (5, 5), "f.bias": (5,), "r.weight": (5, 5), "r.bias": (5,)
    }  # fmt: skip
