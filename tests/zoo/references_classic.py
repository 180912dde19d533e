"""Filters, a Kalman filter and a hidden Markov model, written another way than the layers are.

Nothing here uses seqc; the conventions are those of tests/references.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from tests.references import Params, Result, State, softplus, steps
from tests.zoo.references_gated import affine
from tests.zoo.references_ssm import stacked, start


def leaky_integrator(
    params: Params, inputs: Sequence[Tensor], state: State | None = None
) -> Result:
    """A convolution: h_t = ρ^t h_0 + (1 − ρ) Σ_s ρ^(t−s) x_s, with ρ = e^(−1/τ)."""
    (x,) = inputs
    T, hidden = x.shape[1:]
    rho = torch.exp(-1 / torch.exp(params["log_tau"]))
    h0 = start(state, "h", x, hidden)
    ys = []
    for t in range(T):
        age = torch.arange(t, -1, -1).to(x)
        kernel = rho ** age.unsqueeze(-1)
        ys.append(rho ** (t + 1) * h0 + (1 - rho) * (kernel * x[:, : t + 1]).sum(1))
    return (stacked(ys, x, hidden),), {"h": ys[-1] if ys else h0}


def running_max(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """torch.cummax, after the state as one more element."""
    (x,) = inputs
    if state is not None:
        x = torch.cat([state["m"].unsqueeze(1), x], 1)
    if not x.shape[1]:
        return (x,), {"m": x.new_full((x.shape[0], x.shape[2]), -torch.inf)}
    y = torch.cummax(x, 1).values
    return (y if state is None else y[:, 1:],), {"m": y[:, -1]}


def biquad(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """A channel's whole sequence at once: T(a) y = T(b) x, T the banded Toeplitz matrices."""
    (x,) = inputs
    B, T, hidden = x.shape
    a1 = 2 * torch.tanh(params["r1"])
    a2 = ((2 - a1.abs()) * torch.tanh(params["r2"]) + a1.abs()) / 2
    one = torch.ones_like(a1)
    x0 = x.new_zeros(B, 2, hidden) if state is None else state["x"]
    y0 = x.new_zeros(B, 2, hidden) if state is None else state["y"]
    if not T:
        return (x,), {"y": y0, "x": x0}

    def band(taps: Sequence[Tensor]) -> Tensor:
        """(hidden, T, T + 2): row t reads what lies at t, t − 1 and t − 2; the past comes first."""
        eye = torch.eye(T, T + 2).to(x)
        rows = [tap[:, None, None] * torch.roll(eye, 2 - lag, 1) for lag, tap in enumerate(taps)]
        return torch.stack(rows).sum(0)

    numerator = band((params["b0"], params["b1"], params["b2"]))
    denominator = band((one, a1, a2))
    driven = torch.einsum("hts,bsh->bht", numerator, torch.cat([x0, x], 1))
    driven = driven - torch.einsum("hts,bsh->bht", denominator[..., :2], y0)
    y = torch.linalg.solve_triangular(
        denominator[..., 2:], driven.unsqueeze(-1), upper=False, unitriangular=True
    ).squeeze(-1)
    y = y.transpose(1, 2)
    final = {"y": torch.cat([y0, y], 1)[:, -2:], "x": torch.cat([x0, x], 1)[:, -2:]}
    return (y,), final


def kalman(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """The information form: precisions add, and the mean is weighted by them."""
    (x,) = inputs
    hidden = len(params["a"])
    a, q = params["a"], torch.exp(params["log_q"])
    if state is None:
        P = torch.exp(params["log_p0"]).expand(x.shape[0], hidden)
    else:
        P = state["P"]
    m = start(state, "m", x, hidden)
    ms, Ps = [], []
    for x_t in steps(x):
        w, r = affine(params, "w", x_t), softplus(affine(params, "r", x_t))
        prior = 1 / (a * P * a + q)
        precision = prior + 1 / r
        m = (prior * (a * m) + w / r) / precision
        P = 1 / precision
        ms.append(m)
        Ps.append(P)
    return (stacked(ms, x, hidden), stacked(Ps, x, hidden)), {"m": m, "P": P}


def hmm(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Rabiner 1989 in probabilities, with a product of matrices; for a few steps only."""
    (e,) = inputs
    B, tags = e.shape[0], e.shape[2]
    A = torch.exp(params["trans"])
    A = A / A.sum(1, keepdim=True)
    if state is None:
        weights = torch.exp(params["start"])
        alpha = (weights / weights.sum()).expand(B, tags)
    else:
        alpha = torch.exp(state["alpha"])
    alphas = []
    for e_t in steps(e):
        alpha = (alpha @ A) * torch.exp(e_t)
        alphas.append(alpha)
    found = stacked(alphas, e, tags)
    return (torch.log(found), torch.log(found.sum(-1, keepdim=True))), {"alpha": torch.log(alpha)}


def likelihood_by_paths(trans: Tensor, start: Tensor, e: Tensor) -> float:
    """P(observations), summed over every path through the states: tags^(T + 1) of them."""
    A, pi = torch.softmax(trans, 1), torch.softmax(start, 0)
    T, tags = e.shape
    total = 0.0
    for path in itertools.product(range(tags), repeat=T + 1):
        p = float(pi[path[0]])
        for t in range(T):
            p *= float(A[path[t], path[t + 1]] * torch.exp(e[t, path[t + 1]]))
        total += p
    return total
