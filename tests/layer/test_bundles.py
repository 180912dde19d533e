"""Bundles: one equation of several parts, whose maps share a weight, each part a block of rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import seqc
from seqc.diagnostics import Source
from seqc.frontend import parse_spec
from tests.layer.support import BACKENDS, build

LSTM = """
layer L
size input, hidden
input x[t]: input
state h[t]: hidden
state c[t]: hidden
g[t]: (4, hidden) = linear(x[t]) + linear(h[t-1])
s[t]: (4, hidden) = sigmoid(g[t])
c[t] = s[t][1] * c[t-1] + s[t][0] * tanh(g[t][2])
h[t] = s[t][3] * tanh(c[t])
output h[t]
"""

# Maps of every kind, in another order than that of the sizes, some of them without a bias.
KINDS = """
layer K
size hidden, slots, width = 2
input x[t]: hidden
state h[t]: (slots, hidden)
g[t]: (2, slots, hidden) = linear(x[t])
p[t]: (3, hidden) = conv(x[t], width)
d[t]: (2, hidden) = conv(x[t], 3, depthwise = true, bias = false)
z[t]: complex (2, hidden) = linear(x[t])
v[t] = p[t][2] * d[t][1] + d[t][0] * p[t-1][0] + p[t-2][1] + re(z[t][1]) * im(z[t][0])
h[t] = sigmoid(g[t][1]) * h[t-1] + g[t][0] * v[t]
output h[t]
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_lstm_takes_torchs_parameters_as_they_are(backend: str) -> None:
    layer = build(LSTM, backend, input=3, hidden=5)
    theirs = torch.nn.LSTM(3, 5, batch_first=True, dtype=torch.float64)
    names = {"g.x.weight": "weight_ih_l0", "g.h.weight": "weight_hh_l0",
             "g.x.bias": "bias_ih_l0", "g.h.bias": "bias_hh_l0"}  # fmt: skip
    assert [n for n, _ in layer.named_parameters()] == [
        "g.x.weight", "g.x.bias", "g.h.weight", "g.h.bias"
    ]  # fmt: skip
    layer.load_state_dict({n: getattr(theirs, m) for n, m in names.items()})
    x = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    y, (want, _) = layer(x)[0], theirs(x)
    cotangent = torch.randn_like(y)
    got = torch.autograd.grad(y, [x, *layer.parameters()], cotangent)
    held = [getattr(theirs, m) for m in ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0",
                                         "bias_hh_l0")]  # fmt: skip
    for a, b in zip((y, *got), (want, *torch.autograd.grad(want, [x, *held], cotangent)),
                    strict=True):  # fmt: skip
        assert torch.allclose(a, b, atol=1e-12)
    state = None
    for t in range(6):
        step, state = layer.step(x[:, t], state)
        assert torch.allclose(step, want[:, t], atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_kind_of_map(backend: str) -> None:
    layer = build(KINDS, backend, hidden=3, slots=2)
    p = dict(layer.named_parameters())
    assert {n: tuple(w.shape) for n, w in p.items()} == {
        "g.weight": (12, 3), "g.bias": (12,), "p.weight": (9, 3, 2), "p.bias": (9,),
        "d.weight": (6, 1, 3), "z.re.weight": (6, 3), "z.re.bias": (6,),
        "z.im.weight": (6, 3), "z.im.bias": (6,),
    }  # fmt: skip
    x = torch.randn(2, 5, 3, dtype=torch.float64)

    def parts(y: Tensor, count: int, *axes: int) -> tuple[Tensor, ...]:
        return y.unflatten(-1, (count, *axes)).unbind(2)

    def late(y: Tensor, k: int) -> Tensor:
        return F.pad(y, (0, 0, k, 0))[:, : y.shape[1]]

    g = parts(F.linear(x, p["g.weight"], p["g.bias"]), 2, 2, 3)
    turned = F.pad(x, (0, 0, 2, 0)).mT
    wide = F.conv1d(turned[..., 1:], p["p.weight"], p["p.bias"]).mT
    q = parts(wide, 3, 3)
    d = [F.conv1d(turned, w, groups=3).mT for w in p["d.weight"].unflatten(0, (2, 3))]
    re = parts(F.linear(x, p["z.re.weight"], p["z.re.bias"]), 2, 3)
    im = parts(F.linear(x, p["z.im.weight"], p["z.im.bias"]), 2, 3)
    v = q[2] * d[1] + d[0] * late(q[0], 1) + late(q[1], 2) + re[1] * im[0]
    h, steps = x.new_zeros(2, 2, 3), []
    for t in range(5):
        h = torch.sigmoid(g[1][:, t]) * h + g[0][:, t] * v[:, t].unsqueeze(1)
        steps.append(h)
    want = torch.stack(steps, 1)
    assert torch.allclose(layer(x)[0], want, atol=1e-12)
    got = torch.autograd.grad(layer(x)[0].square().sum(), list(p.values()))
    expected = torch.autograd.grad(want.square().sum(), list(p.values()))
    for a, b in zip(got, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-11)


def test_parts_that_follow_one_another_are_one_stretch_of_rows() -> None:
    text = seqc.emit(LSTM, target="torch").split("def _parallel")[1]
    assert "torch.cat" not in text
    assert "project(x, cast(weight_of(g_x_map), stored), cast(bias_of(g_x_map), stored))" in text


def test_a_bundle_is_its_parts_written_out() -> None:
    (bundled,), warnings = parse_spec(Source(LSTM))
    assert list(bundled.problems()) == []
    assert [m.label for m in bundled.maps[:4]] == ["g.x.0", "g.h.0", "g.x.1", "g.h.1"]
    assert [w.message for w in warnings] == ["the equation `s[t][2]` is never used"]
