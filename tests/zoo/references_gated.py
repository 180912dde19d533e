"""Gated diagonal recurrences, as loops written from their papers; nothing here uses seqc.

The conventions are those of tests/references.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tests.references import Params, Result, State, sigmoid, steps
from tests.zoo.references_ssm import complex_start, stacked, start


def affine(params: Params, name: str, x: Tensor) -> Tensor:
    """W x + b."""
    return x @ params[f"{name}.weight"].T + params[f"{name}.bias"]


def swish(x: Tensor) -> Tensor:
    return x * sigmoid(x)


def rg_lru(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """De et al. 2024, section 2.4, as printed: a_t = a^(c r_t), input times sqrt(1 − a_t²)."""
    (x,) = inputs
    hidden = x.shape[-1]
    a = sigmoid(params["base"])
    h = start(state, "h", x, hidden)
    ys = []
    for x_t in steps(x):
        r = sigmoid(affine(params, "r", x_t))
        i = sigmoid(affine(params, "i", x_t))
        a_t = a ** (8 * r)
        h = a_t * h + torch.sqrt(1 - a_t**2) * (i * x_t)
        ys.append(h)
    return (stacked(ys, x, hidden),), {"h": h}


def hgrn(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Qin et al. 2023, section 3, with complex states."""
    (x,) = inputs
    gamma = sigmoid(params["bound"])
    hidden = len(gamma)
    angle = params["theta"] + 10000 ** (-torch.arange(hidden).to(x) / hidden)
    turn = torch.exp(torch.complex(torch.zeros_like(angle), angle))
    h = complex_start(state, x, hidden, name="h")
    ys = []
    for x_t in steps(x):
        c = torch.complex(swish(affine(params, "c_re", x_t)), swish(affine(params, "c_im", x_t)))
        lam = gamma + (1 - gamma) * sigmoid(affine(params, "mu", x_t))
        h = lam * turn * h + (1 - lam) * c
        ys.append(sigmoid(affine(params, "g", x_t)) * h)
    y = stacked(ys, x, hidden)
    parts = (y.real, y.imag) if ys else (y, y.clone())
    return parts, {"h_re": h.real, "h_im": h.imag}


def hgrn_real(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """The same with θ = 0 and real inputs."""
    (x,) = inputs
    gamma = sigmoid(params["bound"])
    h = start(state, "h", x, len(gamma))
    ys = []
    for x_t in steps(x):
        lam = gamma + (1 - gamma) * sigmoid(affine(params, "mu", x_t))
        h = lam * h + (1 - lam) * swish(affine(params, "c", x_t))
        ys.append(sigmoid(affine(params, "g", x_t)) * h)
    return (stacked(ys, x, len(gamma)),), {"h": h}


def gilr(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Martin and Cundy 2018: gated impulse linear recurrence."""
    (x,) = inputs
    hidden = len(params["g.bias"])
    s = start(state, "s", x, hidden)
    ys = []
    for x_t in steps(x):
        g = sigmoid(affine(params, "g", x_t))
        s = g * s + (1 - g) * torch.tanh(affine(params, "v", x_t))
        ys.append(s)
    return (stacked(ys, x, hidden),), {"s": s}


def gilr_lstm(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Martin and Cundy 2018: an LSTM whose gates read the surrogate s_{t−1}; U and V apart."""
    (x,) = inputs
    hidden = len(params["g.bias"])
    s, c = start(state, "s", x, hidden), start(state, "c", x, hidden)

    def gate(name: str, s_before: Tensor, x_t: Tensor) -> Tensor:
        U, V = params[f"{name}.weight"][:, :hidden], params[f"{name}.weight"][:, hidden:]
        return s_before @ U.T + x_t @ V.T + params[f"{name}.bias"]

    ys = []
    for x_t in steps(x):
        f, i, o = (sigmoid(gate(n, s, x_t)) for n in "fio")
        z = torch.tanh(gate("z", s, x_t))
        c = f * c + i * z
        g = sigmoid(affine(params, "g", x_t))
        s = g * s + (1 - g) * torch.tanh(affine(params, "v", x_t))
        ys.append(o * c)
    return (stacked(ys, x, hidden),), {"s": s, "c": c}
