"""What looks along an axis, and steps and signs, with their gradients, on every backend."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.layer.support import assert_streams, build, hold_to, randn, random_state

SCAN = """
layer Along
size  hidden, slots = 3, copy = hidden
input x[t]: (hidden, slots)
state h[t]: hidden
param w: (hidden, slots) = normal(0, 1)
c[t] = cumsum(w * x[t], slots)
r[t] = shift(c[t], hidden, -2) + shift(x[t], slots, 1) * index(slots)
s[t] = sign(x[t]) * c[t] + floor(3 * x[t]) * r[t]
h[t] = sigmoid(index(hidden) - 2) * h[t-1] + sum(s[t], slots) / slots
y[t] = cumsum(h[t], hidden) + shift(h[t], hidden, 9) + copy
output y[t], s[t]
"""

LOOP = """
layer Loop
size  hidden
input x[t]: hidden
state h[t]: hidden
h[t] = tanh(cumsum(h[t-1], hidden) / hidden + shift(h[t-1], hidden, 1) + floor(h[t-1]) * x[t])
output h[t]
"""


def by_hand(p: Any, xs: Any, s: Any) -> Any:
    (x,) = xs
    n = x.shape[2]
    c = (p["w"] * x).cumsum(3)
    r = F.pad(c, (0, 0, 0, 2))[:, :, 2:] + F.pad(x, (1, 0))[..., :3] * torch.arange(3.0).to(x)
    s_t = x.sign() * c + (3 * x).floor() * r
    gate = torch.sigmoid(torch.arange(n).to(x) - 2)
    h, hs = s["h"] if s else torch.zeros_like(x[:, 0, :, 0]), []
    for v in (s_t.sum(3) / 3).unbind(1):
        h = gate * h + v
        hs.append(h)
    h = torch.stack(hs, 1)
    return (h.cumsum(2) + n, s_t), {"h": h[:, -1]}


def test_in_a_scan(backend: str) -> None:
    layer = build(SCAN, backend, hidden=5)
    x = [randn(2, 7, 5, 3)]
    hold_to(layer, by_hand, x, random_state(layer, x), states=("h",))
    assert_streams(layer, x, (1, 2, 4), random_state(layer, x))


def test_in_a_scan_double_backward(backend: str) -> None:
    layer = build(SCAN, backend, hidden=2)
    x = randn(1, 2, 2, 3).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], (x,))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_step_by_step() -> None:
    layer = build(LOOP, hidden=4)
    x = randn(2, 5, 4).requires_grad_()
    h0 = randn(2, 4, seed=3).requires_grad_()

    def loop(x: Tensor, h: Tensor) -> Tensor:
        for x_t in x.unbind(1):
            moved = F.pad(h, (1, 0))[:, :4]
            h = torch.tanh(h.cumsum(1) / 4 + moved + h.floor() * x_t)
        return h

    got = layer(x, type(layer(x)[1])(h0))[0][:, -1]
    want = loop(x, h0)
    torch.testing.assert_close(got, want)
    grads = (torch.autograd.grad(v.square().sum(), (x, h0)) for v in (got, want))
    torch.testing.assert_close(*grads)
