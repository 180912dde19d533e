"""Declared maps: one weight, wherever the map is called, on every path a value can take."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import seqc
from seqc.diagnostics import Source
from seqc.frontend import parse_spec
from tests.layer.support import BACKENDS, assert_streams, build, hold_to, randn
from tests.references import Params, Result, State

# Called with an input twice, with a product, in a kernel's coefficient.
SCANNED = """
layer L
size input, hidden
input x[t], w[t]: input
state h[t]: hidden
map f(u): hidden = linear(u, weight = xavier_uniform, bias = 1)
y[t] = sigmoid(f(x[t])) + f(x[t] * w[t])
h[t] = sigmoid(f(w[t])) * h[t-1] + y[t] * f(x[t])
output h[t]
"""

# Called with the state, and with what is made of it within the step: two steps of Heun's method.
HEUN = """
layer Heun
size input, hidden, width = hidden
input x[t]: input
state h[t]: hidden
map f(u, v): hidden = linear(u, v)
map g(u): width = linear(u, bias = false)
a[t] = tanh(f(h[t-1], x[t]))
b[t] = tanh(f(h[t-1] + 0.1 * a[t], x[t]))
s[t] = h[t-1] + 0.05 * (a[t] + b[t])
c[t] = tanh(f(s[t], x[t]))
h[t] = s[t] + 0.1 * c[t] + rename(g(x[t]), width = hidden)
y[t] = g(x[t-1])
output h[t], y[t]
"""


def scanned(p: Params, xs: Sequence[Tensor], state: State | None) -> Result:
    x, w = xs
    h, ys = x.new_zeros(x.shape[0], 4) if state is None else state["h"], []

    def f(u: Tensor) -> Tensor:
        return F.linear(u, p["f.weight"], p["f.bias"])

    for t in range(x.shape[1]):
        y = torch.sigmoid(f(x[:, t])) + f(x[:, t] * w[:, t])
        h = torch.sigmoid(f(w[:, t])) * h + y * f(x[:, t])
        ys.append(h)
    return (torch.stack(ys, 1),), {"h": h}


def heun(p: Params, xs: Sequence[Tensor], state: State | None) -> Result:
    (x,) = xs
    h, hs, ys = x.new_zeros(x.shape[0], 4) if state is None else state["h"], [], []

    def f(u: Tensor, v: Tensor) -> Tensor:
        return torch.tanh(F.linear(torch.cat((u, v), 1), p["f.weight"], p["f.bias"]))

    before = torch.zeros_like(x[:, 0])
    for t in range(x.shape[1]):
        a = f(h, x[:, t])
        s = h + 0.05 * (a + f(h + 0.1 * a, x[:, t]))
        h = s + 0.1 * f(s, x[:, t]) + x[:, t] @ p["g.weight"].T
        hs.append(h)
        ys.append(before @ p["g.weight"].T)
        before = x[:, t]
    return (torch.stack(hs, 1), torch.stack(ys, 1)), {"h": h}


@pytest.mark.filterwarnings("ignore::seqc.SeqcWarning")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("spec, loop, inputs", [(SCANNED, scanned, 2), (HEUN, heun, 1)])
def test_every_call_has_the_same_weights(
    spec: str, loop: object, inputs: int, backend: str
) -> None:
    assert callable(loop)
    layer = build(spec, backend, input=3, hidden=4)
    xs = [randn(2, 5, 3, seed=k) for k in range(inputs)]
    hold_to(layer, loop, xs, states=("h",))
    assert_streams(layer, xs, (2, 3))


def test_its_parameters_are_there_once_and_start_as_it_says() -> None:
    layer = build(SCANNED, spread=None, input=3, hidden=4)
    assert {n: tuple(p.shape) for n, p in layer.named_parameters()} == {
        "f.weight": (4, 3), "f.bias": (4,)
    }  # fmt: skip
    assert (layer.f.bias == 1).all()


def test_the_same_value_is_mapped_once() -> None:
    (found,), warned = parse_spec(Source(SCANNED))
    assert [m.label for m in found.maps] == ["f", "f.2", "f.3"]
    assert list(found.problems()) == []
    assert not warned


def test_it_never_learns_only_where_no_call_of_it_does() -> None:
    head = (
        "layer L\nsize a\ninput x[t]: a\nstate h[t]: a\nmap f(u): a = linear(u)\noutput h[t]\n"
        "h[t] = 0.5 * h[t-1] + "
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seqc.compile(f"{head}sign(f(x[t])) + f(2 * x[t])")
    with pytest.warns(seqc.SeqcWarning, match="`f` never learns"):
        seqc.compile(f"{head}sign(f(x[t])) + sign(f(2 * x[t]))")
    with pytest.warns(seqc.SeqcWarning, match="the map `f` is never used"):
        seqc.compile(f"{head}x[t]")
