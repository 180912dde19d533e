"""Recurrent layers as loops over time, written from their papers: what every backend is held to.

Nothing here uses seqc, and nothing here is fast: plain Python loops over t with torch's elementwise
operations, so autograd differentiates them. Feed them float64.

A reference takes ``(params, inputs, state)``: parameters by their names in the ``state_dict``,
sequences (B, T, C), initial states by name, (B, *axes) (None: zeros); and gives ``(outputs,
state)``, both as tuple and dict. Where a layer has a convolution, its state "x" holds the inputs
before the first step, (B, width − 1, input), the oldest first.

The last part holds adjoints written by hand, for sequences too long for autograd's tape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Params: TypeAlias = Mapping[str, Tensor]
State: TypeAlias = Mapping[str, Tensor]
Result: TypeAlias = tuple[tuple[Tensor, ...], dict[str, Tensor]]
Reference: TypeAlias = Callable[[Params, Sequence[Tensor], "State | None"], Result]


# --- elementwise pieces --------------------------------------------------------------------------


sigmoid = torch.sigmoid


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x), exact at both ends (torch's own turns to x above 20)."""
    return torch.logaddexp(x, torch.zeros_like(x))


def positive(x: Tensor) -> Tensor:
    """The g of minGRU and minLSTM: x + 0.5 where x >= 0, else sigmoid(x)."""
    return torch.where(x >= 0, x + 0.5, sigmoid(x))


def identity(x: Tensor) -> Tensor:
    """The g of the vanilla variants."""
    return x


def linear(params: Params, name: str, x: Tensor) -> Tensor:
    """W x + b with W = ``name.weight`` (out, in); there may be no ``name.bias``."""
    y = (params[f"{name}.weight"] * x.unsqueeze(-2)).sum(-1)
    bias = params.get(f"{name}.bias")
    return y if bias is None else y + bias


def conv(params: Params, name: str, window: Sequence[Tensor]) -> Tensor:
    """Sum over taps of W[:, :, tap] x[tap]; the window is (oldest, …, present), each (B, in)."""
    weight = params[f"{name}.weight"]
    assert weight.shape[-1] == len(window)
    taps = [(weight[:, :, k] * x.unsqueeze(-2)).sum(-1) for k, x in enumerate(window)]
    return torch.stack(taps).sum(0) + params[f"{name}.bias"]


def steps(x: Tensor) -> tuple[Tensor, ...]:
    """The time steps of (B, T, …)."""
    return x.unbind(1)


def sequence(values: Sequence[Tensor], like: Tensor, channels: int) -> Tensor:
    """Steps (B, C) as (B, T, C); of no steps, (B, 0, C)."""
    return torch.stack(list(values), 1) if values else like.new_zeros(like.shape[0], 0, channels)


def initial(state: State | None, name: str, x: Tensor, channels: int) -> Tensor:
    """The initial state, zeros where none is given."""
    return x.new_zeros(x.shape[0], channels) if state is None else state[name]


# --- the zoo -------------------------------------------------------------------------------------


def mingru(
    params: Params,
    inputs: Sequence[Tensor],
    state: State | None = None,
    *,
    g: Callable[[Tensor], Tensor] = positive,
) -> Result:
    """Feng et al. 2024, section 3.1."""
    (x,) = inputs
    hidden = params["z.bias"].shape[0]
    h = initial(state, "h", x, hidden)
    ys = []
    for x_t in steps(x):
        z = sigmoid(linear(params, "z", x_t))
        v = g(linear(params, "v", x_t))
        h = (1 - z) * h + z * v
        ys.append(h)
    return (sequence(ys, x, hidden),), {"h": h}


def mingru_plain(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """minGRU without the positive activation."""
    return mingru(params, inputs, state, g=identity)


def minlstm(
    params: Params,
    inputs: Sequence[Tensor],
    state: State | None = None,
    *,
    g: Callable[[Tensor], Tensor] = positive,
) -> Result:
    """Feng et al. 2024, section 3.2, the gates normalised as printed (moderate gates only)."""
    (x,) = inputs
    hidden = params["f.bias"].shape[0]
    h = initial(state, "h", x, hidden)
    ys = []
    for x_t in steps(x):
        f = sigmoid(linear(params, "f", x_t))
        i = sigmoid(linear(params, "i", x_t))
        v = g(linear(params, "v", x_t))
        h = (f / (f + i)) * h + (i / (f + i)) * v
        ys.append(h)
    return (sequence(ys, x, hidden),), {"h": h}


def minlstm_plain(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """minLSTM without the positive activation."""
    return minlstm(params, inputs, state, g=identity)


def minlstm_log(
    params: Params,
    inputs: Sequence[Tensor],
    state: State | None = None,
    *,
    g: Callable[[Tensor], Tensor] = positive,
) -> Result:
    """minLSTM with its gates from logarithms: right for pre-activations of any size."""
    (x,) = inputs
    hidden = params["f.bias"].shape[0]
    h = initial(state, "h", x, hidden)
    ys = []
    for x_t in steps(x):
        log_f = -softplus(-linear(params, "f", x_t))
        log_i = -softplus(-linear(params, "i", x_t))
        v = g(linear(params, "v", x_t))
        h = sigmoid(log_f - log_i) * h + sigmoid(log_i - log_f) * v
        ys.append(h)
    return (sequence(ys, x, hidden),), {"h": h}


def qrnn(
    params: Params,
    inputs: Sequence[Tensor],
    state: State | None = None,
    *,
    pooling: str = "fo",
    kept: Tensor | None = None,
) -> Result:
    """Bradbury et al. 2017. ``kept`` (B, T, hidden), 1 or 0, is zoneout's mask; None: eval mode.

    The carried state is "h" for f-pooling and "c" for the others.
    """
    (x,) = inputs
    name = "h" if pooling == "f" else "c"
    hidden, channels, width = params["z.weight"].shape
    c = initial(state, name, x, hidden)
    past = (
        x.new_zeros(x.shape[0], width - 1, channels)
        if state is None or "x" not in state
        else state["x"]
    )
    window = list(steps(past))
    ys = []
    for t, x_t in enumerate(steps(x)):
        window.append(x_t)
        z = torch.tanh(conv(params, "z", window))
        forget = 1 - sigmoid(conv(params, "f", window))
        f = 1 - (forget if kept is None else kept[:, t] * forget)
        i = sigmoid(conv(params, "i", window)) if pooling == "ifo" else 1 - f
        c = f * c + i * z
        ys.append(c if pooling == "f" else sigmoid(conv(params, "o", window)) * c)
        window.pop(0)
    return (sequence(ys, x, hidden),), {name: c, "x": sequence(window, x, channels)}


def qrnn_f(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """f-pooling, in eval mode."""
    return qrnn(params, inputs, state, pooling="f")


def qrnn_fo(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """fo-pooling, in eval mode."""
    return qrnn(params, inputs, state, pooling="fo")


def qrnn_ifo(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """ifo-pooling, in eval mode."""
    return qrnn(params, inputs, state, pooling="ifo")


def sru(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Lei and Zhang 2017, version 1, with g = tanh."""
    (x,) = inputs
    hidden = params["f.bias"].shape[0]
    c = initial(state, "c", x, hidden)
    ys = []
    for x_t in steps(x):
        f = sigmoid(linear(params, "f", x_t))
        r = sigmoid(linear(params, "r", x_t))
        c = f * c + (1 - f) * linear(params, "u", x_t)
        ys.append(r * torch.tanh(c) + (1 - r) * x_t)
    return (sequence(ys, x, hidden),), {"c": c}


ZOO: dict[str, Reference] = {
    "MinGRU": mingru,
    "MinGRUPlain": mingru_plain,
    "MinLSTM": minlstm,
    "MinLSTMPlain": minlstm_plain,
    "QRNNF": qrnn_f,
    "QRNN": qrnn_fo,
    "QRNNIFO": qrnn_ifo,
    "SRU": sru,
}


def gru(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """The GRU as cuDNN and torch.nn.GRU have it (the reset gate acts after the product)."""
    (x,) = inputs
    hidden = params["r.x.bias"].shape[0]
    h = initial(state, "h", x, hidden)
    ys = []
    for x_t in steps(x):
        r = sigmoid(linear(params, "r.x", x_t) + linear(params, "r.h", h))
        u = sigmoid(linear(params, "u.x", x_t) + linear(params, "u.h", h))
        n = torch.tanh(linear(params, "n.x", x_t) + r * linear(params, "n.h", h))
        h = (1 - u) * n + u * h
        ys.append(h)
    return (sequence(ys, x, hidden),), {"h": h}


# --- long sequences: the loop and its adjoint, by hand -------------------------------------------


def scan(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """h_t = a_t h_{t−1} + b_t, step by step; (B, T, D) and (B, D) to (B, T, D)."""
    a_steps = a.transpose(0, 1).contiguous().unbind(0)
    b_steps = b.transpose(0, 1).contiguous().unbind(0)
    out = torch.empty_like(b.transpose(0, 1), memory_format=torch.contiguous_format)
    h = h0
    for a_t, b_t, out_t in zip(a_steps, b_steps, out.unbind(0), strict=True):
        h = torch.addcmul(b_t, a_t, h, out=out_t)
    return out.transpose(0, 1)


def scan_adjoint(
    a: Tensor, h: Tensor, h0: Tensor, grad_h: Tensor, grad_final: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a, b and h0, given those of every h_t and of the final state.

    λ_t = ḡ_t + a_{t+1} λ_{t+1};  b̄_t = λ_t;  ā_t = λ_t h_{t−1};  h̄_0 = a_1 λ_1.
    """
    a_steps = a.transpose(0, 1).contiguous().unbind(0)
    grads = grad_h.transpose(0, 1).contiguous()
    out = torch.empty_like(grads)
    arriving = grad_final
    for a_t, grad_t, out_t in zip(
        reversed(a_steps), reversed(grads.unbind(0)), reversed(out.unbind(0)), strict=True
    ):
        torch.add(grad_t, arriving, out=out_t)
        arriving = a_t * out_t
    adjoint = out.transpose(0, 1)
    before = torch.cat([h0.unsqueeze(1), h[:, :-1]], 1) if h.shape[1] else h
    return adjoint * before, adjoint, arriving


def glide(
    params: Params, x: Tensor, h0: Tensor, grad_y: Tensor, grad_final: Tensor
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """A gated recurrence of no paper, forward and adjoint by hand: (y, final state, gradients).

        a = σ(A x + a0),  b = σ(B x + b0),  v = tanh(V x + v0)
        h_t = a h_{t−1} + (1 − a) b v,  y = b tanh(h) + (1 − b) h

    The gradients are of ⟨y, grad_y⟩ + ⟨h_T, grad_final⟩, by parameter name, "x" and "h".
    """
    a, b, v = (
        f(x @ params[f"{n}.weight"].T + params[f"{n}.bias"])
        for n, f in (("a", sigmoid), ("b", sigmoid), ("v", torch.tanh))
    )
    h = scan(a, (1 - a) * b * v, h0)
    th = torch.tanh(h)
    y = b * th + (1 - b) * h
    final = h[:, -1] if x.shape[1] else h0

    grad_h = grad_y * (b * (1 - th * th) + (1 - b))
    grad_a, grad_u, grad_h0 = scan_adjoint(a, h, h0, grad_h, grad_final)
    grad_a = grad_a - grad_u * b * v
    grad_b = grad_u * (1 - a) * v + grad_y * (th - h)
    grad_v = grad_u * (1 - a) * b

    grads = {"h": grad_h0, "x": torch.zeros_like(x)}
    for n, grad in (
        ("a", grad_a * a * (1 - a)),
        ("b", grad_b * b * (1 - b)),
        ("v", grad_v * (1 - v * v)),
    ):
        flat, flat_x = grad.reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1])
        grads[f"{n}.weight"] = flat.T @ flat_x
        grads[f"{n}.bias"] = flat.sum(0)
        grads["x"] = grads["x"] + grad @ params[f"{n}.weight"]
    return y, final, grads


def glide_loop(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """The same recurrence, one step at a time, for autograd."""
    (x,) = inputs
    hidden = params["a.bias"].shape[0]
    h = initial(state, "h", x, hidden)
    ys = []
    for x_t in steps(x):
        a = sigmoid(linear(params, "a", x_t))
        b = sigmoid(linear(params, "b", x_t))
        v = torch.tanh(linear(params, "v", x_t))
        h = a * h + (1 - a) * b * v
        ys.append(b * torch.tanh(h) + (1 - b) * h)
    return (sequence(ys, x, hidden),), {"h": h}
