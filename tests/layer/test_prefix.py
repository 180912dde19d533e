"""`prefix`: the mask of the variable computation RNN, against its formula by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.layer.support import assert_streams, build, hold_to, randn, random_state

VCRNN = """
# Variable computation RNN (Jernite et al., 2017)
layer VCRNN
size   hidden
hyper  sharpness = 1.5, epsilon = 0.05
input  x[t]: hidden
state  h[t]: hidden

m[t]: 1      = sigmoid(linear(x[t], h[t-1]))
e[t]: hidden = prefix(m[t], sharpness, epsilon)
xe[t]        = e[t] * x[t]
he[t]        = e[t] * h[t-1]
n[t]: hidden = tanh(linear(xe[t]) + linear(he[t], bias = false))
h[t] = e[t] * n[t] + (1 - e[t]) * h[t-1]

output h[t], e[t]
"""

SCAN = """
layer Masked
size  hidden
input x[t]: hidden
state h[t]: hidden
m[t]: 1 = sigmoid(linear(x[t]))
e[t]: hidden = prefix(m[t], 1.5, 0.05)
h[t] = (1 - e[t]) * h[t-1] + e[t] * x[t]
output h[t], e[t]
"""


def mask(m: Tensor, width: int) -> Tensor:
    soft = torch.sigmoid(1.5 * (m * width - torch.arange(1, width + 1).to(m)))
    hard = torch.where(soft < 0.05, torch.zeros_like(soft), soft)
    return torch.where(soft > 0.95, torch.ones_like(soft), hard)


def vcrnn(p: Mapping[str, Tensor], xs: Sequence[Tensor], s: Any) -> Any:
    (x,) = xs
    h = s["h"] if s else torch.zeros_like(x[:, 0])
    hs, es = [], []
    for x_t in x.unbind(1):
        joint = torch.cat([x_t, h], -1)
        e = mask(torch.sigmoid(joint @ p["m.weight"].T + p["m.bias"]), x.shape[2])
        n = (e * x_t) @ p["n.xe.weight"].T + p["n.xe.bias"] + (e * h) @ p["n.he.weight"].T
        h = e * torch.tanh(n) + (1 - e) * h
        hs.append(h)
        es.append(e)
    return (torch.stack(hs, 1), torch.stack(es, 1)), {"h": h}


def masked(p: Mapping[str, Tensor], xs: Sequence[Tensor], s: Any) -> Any:
    (x,) = xs
    h, hs = s["h"] if s else torch.zeros_like(x[:, 0]), []
    e = mask(torch.sigmoid(x @ p["m.weight"].T + p["m.bias"]), x.shape[2])
    for x_t, e_t in zip(x.unbind(1), e.unbind(1), strict=True):
        h = (1 - e_t) * h + e_t * x_t
        hs.append(h)
    return (torch.stack(hs, 1), e), {"h": h}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_variable_computation() -> None:
    layer = build(VCRNN, hidden=9)
    x = [randn(2, 7, 9)]
    hold_to(layer, vcrnn, x, random_state(layer, x), states=("h",))
    assert_streams(layer, x, (1, 2, 4), random_state(layer, x))
    e = layer(*x)[0][1]
    assert all(part.any() for part in (e == 0, e == 1, (e > 0) & (e < 1)))


def test_in_a_scan(backend: str) -> None:
    layer = build(SCAN, backend, hidden=9)
    x = [randn(2, 7, 9)]
    hold_to(layer, masked, x, random_state(layer, x), states=("h",))
