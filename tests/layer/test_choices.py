"""Functions that are chosen when a layer is built."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import seqc
from tests.layer.support import BACKENDS, build, compiled, hold_to, randn
from tests.references import Params, Result, State

SPEC = """
def bent(u) = leaky_relu(u, 0.25)
layer L
size   hidden
hyper  p = 0.5
choice act = tanh, relu, bent
choice gate = sigmoid, hardsigmoid
input  x[t]: hidden
state  h[t]: hidden
f[t]: hidden = gate(linear(x[t]))
h[t] = act(f[t] * h[t-1] + p * x[t])
output h[t]
"""
ACTS = {"tanh": torch.tanh, "relu": torch.relu, "bent": lambda u: F.leaky_relu(u, 0.25)}
GATES = {"sigmoid": torch.sigmoid, "hardsigmoid": lambda u: F.relu6(u + 3) / 6}


@pytest.mark.filterwarnings("ignore::seqc.SeqcWarning")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("gate", GATES)
def test_the_layer_has_the_function_that_was_chosen(act: str, gate: str, backend: str) -> None:
    layer = build(SPEC, backend, hidden=3, act=act, gate=gate)

    def loop(p: Params, xs: list[Tensor], state: State | None) -> Result:
        (x,) = xs
        h, ys = x.new_zeros(x.shape[0], 3) if state is None else state["h"], []
        for t in range(x.shape[1]):
            f = GATES[gate](F.linear(x[:, t], p["f.weight"], p["f.bias"]))
            h = ACTS[act](f * h + 0.5 * x[:, t])
            ys.append(h)
        return (torch.stack(ys, 1),), {"h": h}

    hold_to(layer, loop, [randn(2, 6, 3, seed=1)], states=("h",))


@pytest.mark.filterwarnings("ignore::seqc.SeqcWarning")
def test_the_first_is_the_default_and_a_choice_stays() -> None:
    made = compiled(SPEC)
    assert "act='tanh', gate='sigmoid'" in repr(made(hidden=2))
    layer = made(hidden=2, act="bent", p=0.25)
    assert "act='bent'" in repr(layer)
    x = randn(1, 4, 2, seed=2).float()
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert "act='bent'" in repr(other)
        assert torch.equal(other(x)[0], layer(x)[0])
    with pytest.raises(AttributeError, match="'act' is chosen when the layer is built"):
        layer.act = "relu"
    for wrong in ("elu", 1, None):
        with pytest.raises(ValueError, match="act is chosen from 'tanh', 'relu', 'bent'"):
            made(hidden=2, act=wrong)


def test_what_is_not_chosen_gives_no_nan() -> None:
    layer = seqc.compile(
        "layer L\nsize a\nchoice f = tanh, log, sqrt\ninput x[t]: a\nstate h[t]: a\n"
        "h[t] = 0.5 * h[t-1] + f(x[t])\noutput h[t]\n",
        backend="reference",
    )(a=2)
    x = torch.tensor([[[-1.0, 0.0], [2.0, -3.0]]], requires_grad=True)
    y = layer(x)[0]
    (slope,) = torch.autograd.grad(y[:, -1].sum(), x)
    assert y.isfinite().all()
    assert torch.allclose(slope, torch.tensor([[[0.5], [1.0]]]) * (1 - torch.tanh(x) ** 2))
