"""The gallery's cells that torchrecurrent lacks, as loops written from their papers: no seqc here.

tests/references.py has the conventions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tests.references import Params, Result, State, linear, sigmoid, steps
from tests.zoo.references_ssm import stacked, start


def slstm(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Beck et al. 2024, equations 8 to 17, with the exponents as they are: no stabiliser.

    What it carries is (c e^m, n e^m), so the stabilised states are compared with their m.
    """
    (x,) = inputs
    heads, width = params["rz"].shape[:2]
    if state is None:
        h = x.new_zeros(x.shape[0], heads, width)
        c, n, m = h, h, torch.full_like(h, -torch.inf)
    else:
        h, c, n, m = (state[k] for k in "hcnm")
    weight = params["g.weight"].unflatten(0, (4, heads, width))
    bias = params["g.bias"].unflatten(0, (4, heads, width))
    scale = torch.exp(torch.where(m == -torch.inf, -1e300, m)) if state is None else m.exp()
    c, n, ys = c * scale, n * scale, []
    for x_t in steps(x):
        pre = torch.einsum("ghwi,bi->gbhw", weight, x_t) + bias.unsqueeze(1)
        back = [torch.einsum("hws,bhs->bhw", params[f"r{k}"], h) for k in "zifo"]
        z, i, f, o = (a + b for a, b in zip(pre, back, strict=True))
        forget = torch.nn.functional.logsigmoid(f)
        c = forget.exp() * c + i.exp() * torch.tanh(z)
        n = forget.exp() * n + i.exp()
        m = torch.maximum(forget + m, i)
        h = sigmoid(o) * c / n
        ys.append(h)
    y = torch.stack(ys, 1) if ys else x.new_zeros(x.shape[0], 0, heads, width)
    scale = torch.where(m == -torch.inf, 1.0, m.exp())
    return (y,), {"m": m, "n": n / scale, "c": c / scale, "h": h}


def rhn(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Zilly et al. 2016, equations 6 to 9 with L = 3 and c = 1 − t."""
    (x,) = inputs
    D = params["a.weight"].shape[0]
    W_h, W_t = params["w.weight"].chunk(2)
    s, ys = start(state, "h", x, D), []
    for x_t in steps(x):
        for depth, name in enumerate("abc"):
            u, v = linear(params, name, s), linear(params, f"{name}t", s)
            if depth == 0:
                u, v = u + x_t @ W_h.T, v + x_t @ W_t.T
            carry = 1 - sigmoid(v)
            s = torch.tanh(u) * sigmoid(v) + s * carry
        ys.append(s)
    return (stacked(ys, x, D),), {"h": s}


def ltc(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Hasani et al. 2020, equation 3, three times a step."""
    x, elapsed = inputs
    D = params["R"].shape[0]
    h, ys = start(state, "h", x, D), []
    tau = torch.logaddexp(params["c"], torch.zeros_like(params["c"]))
    for x_t, dt in zip(steps(x), steps(elapsed), strict=True):
        for _ in range(3):
            f = sigmoid(linear(params, "u", x_t) + h @ params["R"].T)
            h = (h + dt / 3 * f * params["A"]) / (1 + dt / 3 * (1 / tau + f))
        ys.append(h)
    return (stacked(ys, x, D),), {"h": h}


def cfc(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Hasani et al. 2021: two values, and a gate between them that moves with time."""
    x, elapsed = inputs
    D = params["g.weight"].shape[0] // 4
    h, ys = start(state, "h", x, D), []
    for x_t, dt in zip(steps(x), steps(elapsed), strict=True):
        z = 1.7159 * torch.tanh(0.666 * linear(params, "z", torch.cat((x_t, h), 1)))
        one, other, a, b = linear(params, "g", z).chunk(4, 1)
        share = sigmoid(a * dt + b)
        h = torch.tanh(one) * (1 - share) + share * torch.tanh(other)
        ys.append(h)
    return (stacked(ys, x, D),), {"h": h}


def para_gru(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """A GRU (Cho et al.) whose matrices of h are diagonal."""
    (x,) = inputs
    D = params["az"].shape[0]
    h, ys = start(state, "h", x, D), []
    A_z, A_r, A_v = (torch.diag(params[k]) for k in ("az", "ar", "av"))
    for x_t in steps(x):
        u_z, u_r, u_v = linear(params, "u", x_t).chunk(3, 1)
        z, r = sigmoid(h @ A_z + u_z), sigmoid(h @ A_r + u_r)
        h = (1 - z) * h + z * torch.tanh((r * h) @ A_v + u_v)
        ys.append(h)
    return (stacked(ys, x, D),), {"h": h}


def para_lstm(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """A coupled LSTM with peepholes whose matrices of h are diagonal."""
    (x,) = inputs
    D = params["af"].shape[0]
    h, c, ys = start(state, "h", x, D), start(state, "c", x, D), []
    for x_t in steps(x):
        u_f, u_v, u_o = linear(params, "u", x_t).chunk(3, 1)
        f = sigmoid(h @ torch.diag(params["af"]) + c * params["cf"] + u_f)
        c = f * c + (1 - f) * torch.tanh(h @ torch.diag(params["av"]) + u_v)
        o = sigmoid(h @ torch.diag(params["ao"]) + c * params["co"] + u_o)
        h = o * torch.tanh(c)
        ys.append(h)
    return (stacked(ys, x, D),), {"h": h, "c": c}


def sru(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Lei et al. 2018, equations 1 to 4."""
    (x,) = inputs
    D = x.shape[2]
    c, ys = start(state, "c", x, D), []
    for x_t in steps(x):
        u_f, u_r = linear(params, "u", x_t).chunk(2, 1)
        f, r = sigmoid(u_f + params["vf"] * c), sigmoid(u_r + params["vr"] * c)
        c = f * c + (1 - f) * linear(params, "w", x_t)
        ys.append(r * c + (1 - r) * x_t * 1.7320508)
    return (stacked(ys, x, D),), {"c": c}


def hamiltonian(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Chen et al. 2019: symplectic Euler on H, whose slopes autograd finds."""
    (x,) = inputs
    D = params["c"].shape[0]
    q, p = start(state, "q", x, D), start(state, "p", x, D)

    def slope(energy: Tensor, by: Tensor) -> Tensor:
        return torch.autograd.grad(energy.sum(), by, create_graph=True)[0]

    qs, ps = [], []
    for x_t in steps(x):
        at = q if q.requires_grad else q.clone().requires_grad_()
        wells = torch.log(torch.cosh(at @ params["W"].T + params["b"]))
        p = p - 0.1 * slope((params["a"] * wells).sum(-1), at) + 0.1 * linear(params, "u", x_t)
        masses = torch.logaddexp(params["c"], torch.zeros_like(params["c"]))
        q = q + 0.1 * slope((masses * p * p / 2).sum(-1), p)
        qs.append(q)
        ps.append(p)
    return (stacked(qs, x, D), stacked(ps, x, D)), {"q": q, "p": p}
