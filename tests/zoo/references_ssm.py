"""State spaces with a diagonal matrix, as loops written from their papers.

Complex states are complex numbers here, however a layer carries them; nothing here uses seqc. The
conventions are those of tests/references.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tests.references import Params, Result, State, softplus, steps


def through(x: Tensor, weight: Tensor) -> Tensor:
    """W x, for x of (B, in)."""
    return x @ weight.T


def start(state: State | None, name: str, x: Tensor, *axes: int) -> Tensor:
    """The initial state (B, *axes), zeros where none is given."""
    return x.new_zeros(x.shape[0], *axes) if state is None else state[name]


def complex_start(state: State | None, x: Tensor, *axes: int, name: str = "s") -> Tensor:
    """The initial state from its two parts."""
    parts = (start(state, f"{name}_re", x, *axes), start(state, f"{name}_im", x, *axes))
    return torch.complex(*parts)


def stacked(values: Sequence[Tensor], x: Tensor, *axes: int) -> Tensor:
    """Steps (B, *axes) as (B, T, *axes)."""
    return torch.stack(list(values), 1) if values else x.new_zeros(x.shape[0], 0, *axes)


def s6(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Gu and Dao 2023, algorithm 2, with A = −exp(A_log) scaled by 1, …, slots."""
    (x,) = inputs
    hidden, slots = params["A_log"].shape
    A = -torch.exp(params["A_log"] + torch.log(torch.arange(1, slots + 1).to(x)))
    h = start(state, "h", x, hidden, slots)
    ys = []
    for x_t in steps(x):
        low = through(x_t, params["r.weight"])
        delta = softplus(through(low, params["d.weight"]) + params["bias"])
        B_t, C_t = through(x_t, params["B.weight"]), through(x_t, params["C.weight"])
        A_bar = torch.exp(torch.einsum("bd,dn->bdn", delta, A))
        B_bar_x = torch.einsum("bd,bn,bd->bdn", delta, B_t, x_t)
        h = A_bar * h + B_bar_x
        ys.append(torch.einsum("bdn,bn->bd", h, C_t) + params["D"] * x_t)
    return (stacked(ys, x, hidden),), {"h": h}


def _held(params: Params, dt: Tensor) -> tuple[Tensor, Tensor]:
    """Zero-order hold: exp(Δ A) and (exp(Δ A) − 1) / A, with A = −exp(A_log) + i (π n + A_im)."""
    n = torch.arange(params["A_im"].shape[-1]).to(dt)
    A = torch.complex(-torch.exp(params["A_log"]), torch.pi * n + params["A_im"])
    A_bar = torch.exp(dt * A)
    return A_bar, (A_bar - 1) / A


def s4d(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Gu et al. 2022: x' = A x + u, y = 2 Re(C x) + D u, discretised by a zero-order hold."""
    (x,) = inputs
    hidden, slots = params["A_log"].shape
    A_bar, B_bar = _held(params, torch.exp(params["log_dt"]).unsqueeze(-1))
    C = torch.complex(params["C_re"], params["C_im"])
    s = complex_start(state, x, hidden, slots)
    ys = []
    for x_t in steps(x):
        s = A_bar * s + B_bar * x_t.unsqueeze(-1)
        ys.append(2 * (C * s).sum(-1).real + params["D"] * x_t)
    return (stacked(ys, x, hidden),), {"s_re": s.real, "s_im": s.imag}


def s5(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Smith et al. 2022, section 3: B and C are complex matrices."""
    (x,) = inputs
    A_bar, scale = _held(params, torch.exp(params["log_dt"]))
    B = torch.complex(params["u_re.weight"], params["u_im.weight"])
    C = torch.complex(params["y.s_re.weight"], params["y.s_im.weight"])
    B_bar = scale.unsqueeze(-1) * B
    s = complex_start(state, x, len(A_bar))
    ys = []
    for x_t in steps(x):
        s = A_bar * s + x_t.to(B_bar) @ B_bar.T
        ys.append(2 * (s @ C.T).real + params["D"] * x_t)
    return (stacked(ys, x, x.shape[-1]),), {"s_re": s.real, "s_im": s.imag}


def lru(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Orvieto et al. 2023, section 3: λ = exp(−exp(ν) + iθ), inputs scaled by γ."""
    (x,) = inputs
    lam = torch.exp(torch.complex(-torch.exp(params["nu"]), params["theta"]))
    modulus = torch.exp(-torch.exp(params["nu"]))  # not lam.abs(): that leaves traces in dθ
    gamma = torch.sqrt(1 - modulus**2) * torch.exp(params["gamma_log"])
    B = torch.complex(params["u_re.weight"], params["u_im.weight"])
    C = torch.complex(params["y.s_re.weight"], params["y.s_im.weight"])
    s = complex_start(state, x, len(lam))
    ys = []
    for x_t in steps(x):
        s = lam * s + gamma * (x_t.to(B) @ B.T)
        ys.append((s @ C.T).real + params["D"] * x_t)
    return (stacked(ys, x, x.shape[-1]),), {"s_re": s.real, "s_im": s.imag}


def mega_ema(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Ma et al. 2022, section 3.1: the damped average, a channel and a slot at a time."""
    (x,) = inputs
    hidden, slots = params["beta"].shape
    alpha, delta = torch.sigmoid(params["alpha"]), torch.sigmoid(params["delta"])
    first = start(state, "h", x, hidden, slots)
    outputs, finals = [], []
    for d in range(hidden):
        total = x.new_zeros(x.shape[:2])
        for j in range(slots):
            h = first[:, d, j]
            hs = []
            for x_t in steps(x):
                u = params["beta"][d, j] * x_t[:, d]
                h = alpha[d, j] * u + (1 - alpha[d, j] * delta[d, j]) * h
                hs.append(h)
            finals.append(h)
            total = total + params["eta"][d, j] * stacked(hs, x)
        outputs.append(total / slots**0.5)
    final = torch.stack(finals, -1).reshape(-1, hidden, slots)
    return (torch.stack(outputs, -1),), {"h": final}
