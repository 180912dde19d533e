"""Nonlinear recurrences, as loops written from their papers; nothing here uses seqc.

Weights are taken apart into the papers' matrices, one product each. The GRU's loop is in
tests/references.py, whose conventions these follow.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tests.references import Params, Result, State, sigmoid, steps
from tests.zoo.references_ssm import stacked, start


def threshold(soft: Tensor, epsilon: float) -> Tensor:
    """Jernite et al. 2016: Thres_ε; the gradient passes where nothing is replaced."""
    kept = (soft >= epsilon) & (soft <= 1 - epsilon)
    return soft * kept + (soft > 1 - epsilon).to(soft)


def share_mask(
    params: Params, x_t: Tensor, h: Tensor, sharpness: float, epsilon: float
) -> tuple[Tensor, Tensor]:
    """(m, e): the share m = σ(u·h + v·x + b) of each sequence, and the mask that it makes."""
    D = h.shape[1]
    v, u = params["m.weight"][0, :D], params["m.weight"][0, D:]
    m = sigmoid(h @ u + x_t @ v + params["m.bias"])
    e = [threshold(sigmoid(sharpness * (m * D - i)), epsilon) for i in range(1, D + 1)]
    return m, torch.stack(e, 1)


def vcrnn(
    params: Params,
    inputs: Sequence[Tensor],
    state: State | None = None,
    *,
    sharpness: float = 0.1,
    epsilon: float = 1e-5,
) -> Result:
    """Jernite et al. 2016: the masked form, all D dimensions of everything computed."""
    (x,) = inputs
    D = x.shape[2]
    h = start(state, "h", x, D)
    U, V, b = params["n.he.weight"], params["n.xe.weight"], params["n.xe.bias"]
    ys = []
    for x_t in steps(x):
        _, e = share_mask(params, x_t, h, sharpness, epsilon)
        h = e * torch.tanh((e * h) @ U.T + (e * x_t) @ V.T + b) + (1 - e) * h
        ys.append(h)
    return (stacked(ys, x, D),), {"h": h}


def vcgru(
    params: Params,
    inputs: Sequence[Tensor],
    state: State | None = None,
    *,
    sharpness: float = 0.1,
    epsilon: float = 1e-5,
) -> Result:
    """Jernite et al. 2016: the gates read the masked values, the update gate is masked itself."""
    (x,) = inputs
    D = x.shape[2]
    h = start(state, "h", x, D)

    def pre(name: str, old: str, x_bar: Tensor, h_bar: Tensor) -> Tensor:
        U, V, b = (params[f"{name}.{p}"] for p in (f"{old}.weight", "xe.weight", "xe.bias"))
        return h_bar @ U.T + x_bar @ V.T + b

    ys = []
    for x_t in steps(x):
        _, e = share_mask(params, x_t, h, sharpness, epsilon)
        h_bar, x_bar = e * h, e * x_t
        r = sigmoid(pre("r", "he", x_bar, h_bar))
        z = e * sigmoid(pre("z", "he", x_bar, h_bar))
        h = z * torch.tanh(pre("n", "rh", x_bar, r * h_bar)) + (1 - z) * h
        ys.append(h)
    return (stacked(ys, x, D),), {"h": h}


def lstm(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000, no peepholes."""
    (x,) = inputs
    hidden = len(params["i.x.bias"])
    h, c = start(state, "h", x, hidden), start(state, "c", x, hidden)

    def net(gate: str, x_t: Tensor, h: Tensor) -> Tensor:
        W, R = params[f"{gate}.x.weight"], params[f"{gate}.h.weight"]
        return x_t @ W.T + h @ R.T + (params[f"{gate}.x.bias"] + params[f"{gate}.h.bias"])

    ys = []
    for x_t in steps(x):
        i, f, g, o = (net(gate, x_t, h) for gate in "ifgo")
        c = sigmoid(f) * c + sigmoid(i) * torch.tanh(g)
        h = sigmoid(o) * torch.tanh(c)
        ys.append(h)
    return (stacked(ys, x, hidden),), {"h": h, "c": c}


def elman(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Elman 1990, with tanh units."""
    (x,) = inputs
    W, R = params["h.x.weight"], params["h.h.weight"]
    b = params["h.x.bias"] + params["h.h.bias"]
    h = start(state, "h", x, len(b))
    ys = []
    for x_t in steps(x):
        h = torch.tanh(x_t @ W.T + h @ R.T + b)
        ys.append(h)
    return (stacked(ys, x, len(b)),), {"h": h}


def mgu(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Zhou et al. 2016: the one gate forgets and resets."""
    (x,) = inputs
    hidden = len(params["f.bias"])
    h = start(state, "h", x, hidden)
    ys = []
    for x_t in steps(x):
        f = sigmoid(torch.cat([h, x_t], 1) @ params["f.weight"].T + params["f.bias"])
        new = torch.tanh(torch.cat([f * h, x_t], 1) @ params["v.weight"].T + params["v.bias"])
        h = h + f * (new - h)
        ys.append(h)
    return (stacked(ys, x, hidden),), {"h": h}


def indrnn(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Li et al. 2018, with ReLU."""
    (x,) = inputs
    hidden = len(params["u"])
    h = start(state, "h", x, hidden)
    ys = []
    for x_t in steps(x):
        h = torch.relu(x_t @ params["h.weight"].T + params["u"] * h + params["h.bias"])
        ys.append(h)
    return (stacked(ys, x, hidden),), {"h": h}


def lem(
    params: Params, inputs: Sequence[Tensor], state: State | None = None, *, dt: float = 1.0
) -> Result:
    """Rusch et al. 2021; σ̂(u) = (1 + tanh(u / 2)) / 2, as the paper has it."""
    (x,) = inputs
    hidden = len(params["dz.bias"])
    y, z = start(state, "y", x, hidden), start(state, "z", x, hidden)

    def net(name: str, old: Tensor, x_t: Tensor) -> Tensor:
        W, V = params[f"{name}.weight"][:, :hidden], params[f"{name}.weight"][:, hidden:]
        return old @ W.T + x_t @ V.T + params[f"{name}.bias"]

    ys = []
    for x_t in steps(x):
        step_z = dt * (0.5 + 0.5 * torch.tanh(net("dz", y, x_t) / 2))
        step_y = dt * (0.5 + 0.5 * torch.tanh(net("dy", y, x_t) / 2))
        z = (1 - step_z) * z + step_z * torch.tanh(net("vz", y, x_t))
        y = (1 - step_y) * y + step_y * torch.tanh(net("vy", z, x_t))
        ys.append(y)
    return (stacked(ys, x, hidden),), {"y": y, "z": z}


def cornn(
    params: Params,
    inputs: Sequence[Tensor],
    state: State | None = None,
    *,
    dt: float = 0.042,
    gamma: float = 2.7,
    epsilon: float = 4.7,
) -> Result:
    """Rusch and Mishra 2020, damping explicit: y'' = tanh(…) − γ y − ε y', y' = z."""
    (x,) = inputs
    hidden = len(params["a.bias"])
    V, Z, W = params["a.weight"].split([x.shape[2], hidden, hidden], 1)
    y, z = start(state, "y", x, hidden), start(state, "z", x, hidden)
    ys = []
    for x_t in steps(x):
        force = torch.tanh(y @ W.T + z @ Z.T + x_t @ V.T + params["a.bias"])
        z = z + dt * force - dt * gamma * y - dt * epsilon * z
        y = y + dt * z
        ys.append(y)
    return (stacked(ys, x, hidden),), {"y": y, "z": z}
