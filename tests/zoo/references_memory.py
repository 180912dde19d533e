"""Matrix memories and normalised sums, from their papers; nothing here uses seqc.

RWKV, mLSTM and sLSTM carry sums of exponentials divided by the largest. Here there is no such
recurrence: every step sums over all steps before it, with the exponents written out, so the two
have nothing in common but the paper. A state that is given counts as one more term, whose exponent
is its own plus all the decay since. The conventions are those of tests/references.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tests.references import Params, Result, State, sigmoid
from tests.zoo.references_gated import affine, swish
from tests.zoo.references_ssm import stacked, start


def logsigmoid(x: Tensor) -> Tensor:
    return -torch.logaddexp(-x, torch.zeros_like(x))


def heads_of(x: Tensor, weight: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """W x of (B, T, in) as (B, T, heads, out / heads)."""
    y = x @ weight.T
    return (y if bias is None else y + bias).unflatten(-1, (heads, -1))


def exponents(log_f: Tensor, i: Tensor, before: Tensor | None) -> list[Tensor]:
    """For each step t the exponents of its terms, (B, terms, …): Σ_{r=s+1..t} log f_r + i_s.

    The first term is the state that was given, whose exponent before the first step is ``before``.
    """
    found = []
    for t in range(i.shape[1]):
        terms = [] if before is None else [before + log_f[:, : t + 1].sum(1)]
        terms += [i[:, s] + log_f[:, s + 1 : t + 1].sum(1) for s in range(t + 1)]
        found.append(torch.stack(terms, 1))
    return found


# --- RWKV ----------------------------------------------------------------------------------------


def _wkv(
    k: Tensor, v: Tensor, w: Tensor, u: Tensor, state: State | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Peng et al. 2023, section 3: weighted averages of all values so far."""
    log_f = w.expand_as(k)
    given = None if state is None else state["p"]
    ys, T = [], k.shape[1]
    terms = exponents(log_f, k, given)
    for t in range(T):
        # Of the terms at t − 1, none decayed once more; the present one has the bonus u.
        e = torch.cat([*((terms[t - 1],) if t else ()), (u + k[:, t]).unsqueeze(1)], 1)
        above, below = v[:, : t + 1], torch.ones_like(v[:, : t + 1])
        if state is not None:
            e = e if t else torch.cat([state["p"].unsqueeze(1), e], 1)
            above = torch.cat([state["a"].unsqueeze(1), above], 1)
            below = torch.cat([state["b"].unsqueeze(1), below], 1)
        weight = torch.exp(e - e.detach().amax(1, keepdim=True))
        ys.append((weight * above).sum(1) / (weight * below).sum(1))
    if not T:
        zero = k.new_zeros(k.shape[0], k.shape[-1])
        empty = {"p": zero - torch.inf, "a": zero, "b": zero}
        return stacked(ys, k, k.shape[-1]), empty if state is None else dict(state)
    p = terms[-1].amax(1)
    weight = torch.exp(terms[-1] - p.unsqueeze(1))
    above, below = v, torch.ones_like(v)
    if state is not None:
        above = torch.cat([state["a"].unsqueeze(1), above], 1)
        below = torch.cat([state["b"].unsqueeze(1), below], 1)
    final = {"p": p, "a": (weight * above).sum(1), "b": (weight * below).sum(1)}
    return stacked(ys, k, k.shape[-1]), final


def wkv(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """The recurrence alone."""
    k, v = inputs
    y, final = _wkv(k, v, -torch.exp(params["decay"]), params["u"], state)
    return (y,), final


def rwkv(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """The time-mixing block: each of r, k and v sees a mixture of this step and the last."""
    (x,) = inputs
    first = x.new_zeros(x.shape[0], 1, x.shape[-1]) if state is None else state["x"]
    padded = torch.cat([first, x], 1)
    r, k, v = (
        (params[f"mix_{n}"] * padded[:, 1:] + (1 - params[f"mix_{n}"]) * padded[:, :-1])
        @ params[f"{n}.weight"].T
        for n in "rkv"
    )
    y, final = _wkv(k, v, -torch.exp(params["decay"]), params["u"], state)
    return ((sigmoid(r) * y) @ params["y.weight"].T,), final | {"x": padded[:, -1:]}


# --- xLSTM ---------------------------------------------------------------------------------------


def mlstm(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Beck et al. 2024, section 2.3, in the parallel form: h_t = Σ_s D_ts (k_s·q_t) v_s / …"""
    (x,) = inputs
    heads, B = len(params["i.bias"]), x.shape[0]
    q, k, v = (
        heads_of(x, params[f"{n}.weight"], heads, params[f"{n}.bias"]) for n in "qkv"
    )  # (B, T, heads, keys), …, (B, T, heads, values)
    k = k / k.shape[-1] ** 0.5
    o = sigmoid(heads_of(x, params["o.weight"], heads, params["o.bias"]))
    log_f, i = logsigmoid(affine(params, "f", x)), affine(params, "i", x)
    keys, values = k.shape[-1], v.shape[-1]
    terms = exponents(log_f, i, None if state is None else state["m"])
    m = x.new_full((B, heads), -torch.inf) if state is None else state["m"]
    n, C = start(state, "n", x, heads, keys), start(state, "C", x, heads, keys, values)
    first_n, first_C = n, C
    ys = []
    for t, e in enumerate(terms):
        m = e.amax(1)
        D = torch.exp(e - m.unsqueeze(1))
        C = torch.einsum("bsh,bshk,bshv->bhkv", D[:, -t - 1 :], k[:, : t + 1], v[:, : t + 1])
        n = torch.einsum("bsh,bshk->bhk", D[:, -t - 1 :], k[:, : t + 1])
        if state is not None:
            C = C + D[:, 0, :, None, None] * first_C
            n = n + D[:, 0, :, None] * first_n
        # Over e^m, the paper's max(|n q|, 1) is max(|n q|, e^−m).
        bound = torch.maximum(torch.einsum("bhk,bhk->bh", n, q[:, t]).abs(), torch.exp(-m))
        ys.append(o[:, t] * torch.einsum("bhkv,bhk->bhv", C, q[:, t]) / bound.unsqueeze(-1))
    return (stacked(ys, x, heads, values),), {"m": m, "n": n, "C": C}


def slstm(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Beck et al. 2024, section 2.2, without recurrent weights: a weighted average of the z_s."""
    (x,) = inputs
    hidden, B = len(params["i.bias"]), x.shape[0]
    z, o = torch.tanh(affine(params, "z", x)), sigmoid(affine(params, "o", x))
    terms = exponents(
        affine(params, "f", x), affine(params, "i", x), None if state is None else state["m"]
    )
    m = x.new_full((B, hidden), -torch.inf) if state is None else state["m"]
    n, c = start(state, "n", x, hidden), start(state, "c", x, hidden)
    first_n, first_c = n.unsqueeze(1), c.unsqueeze(1)
    ys = []
    for t, e in enumerate(terms):
        above, below = z[:, : t + 1], torch.ones_like(z[:, : t + 1])
        if state is not None:
            above, below = torch.cat([first_c, above], 1), torch.cat([first_n, below], 1)
        m = e.amax(1)
        weight = torch.exp(e - m.unsqueeze(1))
        c, n = (weight * above).sum(1), (weight * below).sum(1)
        ys.append(o[:, t] * c / n)
    return (stacked(ys, x, hidden),), {"m": m, "n": n, "c": c}


# --- linear attention ----------------------------------------------------------------------------


def gla(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Yang et al. 2023, section 4, a head at a time: S = Diag(α) S + kᵀ v, o = q S."""
    (x,) = inputs
    S = None if state is None else state["S"]
    heads = _heads(params, S)
    q, k, v = (heads_of(x, params[f"{n}.weight"], heads) for n in "qkv")
    q = q / q.shape[-1] ** 0.5
    gate = sigmoid((x @ params["r.weight"].T) @ params["g.weight"].T + params["g.bias"])
    alpha = (gate ** (1 / 16)).unflatten(-1, (heads, -1))
    S = start(state, "S", x, heads, k.shape[-1], v.shape[-1])
    ys = []
    for t in range(x.shape[1]):
        outer = k[:, t].unsqueeze(-1) @ v[:, t].unsqueeze(-2)
        S = torch.diag_embed(alpha[:, t]) @ S + outer
        ys.append((q[:, t].unsqueeze(-2) @ S).squeeze(-2))
    return (stacked(ys, x, heads, v.shape[-1]),), {"S": S}


def retnet(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Sun et al. 2023, section 2, in the parallel form: (Q Kᵀ ⊙ D) V with D_ts = γ^(t−s)."""
    (x,) = inputs
    S = None if state is None else state["S"]
    heads = _heads(params, S)
    q, k, v = (heads_of(x, params[f"{n}.weight"], heads) for n in "qkv")
    k = k / k.shape[-1] ** 0.5
    gamma = torch.tensor([1 - 2.0 ** (-5 - h) for h in range(heads)], dtype=x.dtype)
    S0 = start(state, "S", x, heads, k.shape[-1], v.shape[-1])
    T = x.shape[1]
    t = torch.arange(T)
    age = (t[:, None] - t[None, :]).clamp(min=0)
    D = torch.where(t[:, None] >= t[None, :], gamma[:, None, None] ** age, 0.0)
    y = torch.einsum("bthk,bshk,hts,bshv->bthv", q, k, D, v)
    since = gamma[None, :] ** (t[:, None] + 1)  # (T, heads)
    y = y + torch.einsum("bthk,th,bhkv->bthv", q, since, S0)
    left = gamma[None, :] ** (T - 1 - t)[:, None]
    S = torch.einsum("sh,bshk,bshv->bhkv", left, k, v) + (gamma**T)[:, None, None] * S0
    return (y,), {"S": S}


def deltanet(params: Params, inputs: Sequence[Tensor], state: State | None = None) -> Result:
    """Yang et al. 2024, section 2, with the matrix written out: S = (I − β k kᵀ) S + β k vᵀ."""
    (x,) = inputs
    heads = params["beta.weight"].shape[0]

    def normal(name: str) -> Tensor:
        a = swish(heads_of(x, params[f"{name}.weight"], heads))
        return a / torch.sqrt((a * a).sum(-1, keepdim=True) + 1e-6)

    q, k, v = normal("a"), normal("b"), heads_of(x, params["v.weight"], heads)
    beta = sigmoid(x @ params["beta.weight"].T)[..., None, None]
    keys = k.shape[-1]
    S = start(state, "S", x, heads, keys, v.shape[-1])
    ys = []
    for t in range(x.shape[1]):
        column, row = k[:, t].unsqueeze(-1), v[:, t].unsqueeze(-2)
        turn = torch.eye(keys).to(x) - beta[:, t] * column @ column.mT
        S = turn @ S + beta[:, t] * column @ row
        ys.append((S.mT @ q[:, t].unsqueeze(-1)).squeeze(-1))
    return (stacked(ys, x, heads, v.shape[-1]),), {"S": S}


#: Heads of the layers whose parameters don't tell; tests build them with as many.
HEADS = 2


def _heads(params: Params, S: Tensor | None) -> int:
    return HEADS if S is None else S.shape[1]
