"""Each part of the language, in numbers: against the same equations written by hand in torch.

A case is a spec, its sizes and the same layer as a loop; outputs, final states and every gradient
must agree, and the layer must stream. tests/frontend has what the language refuses.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import seqc
from tests import references
from tests.layer.support import (
    DTYPES,
    assert_all_close,
    assert_streams,
    build,
    compiled,
    hold_to,
    outputs_of,
    randn,
    random_state,
)

Values = Mapping[str, Tensor]


def mapped(p: Values, name: str, *xs: Tensor) -> Tensor:
    """The learned map ``name`` of concatenated sources."""
    return F.linear(torch.cat(xs, -1), p[f"{name}.weight"], p.get(f"{name}.bias"))


def affine(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """h_t = a_t h_{t−1} + b_t over (B, T, *axes); all h_t."""
    shape = (h0.shape[0], max(a.shape[1], b.shape[1]), *h0.shape[1:])
    a, b = a.expand(shape), b.expand(shape)
    h, hs = h0, []
    for t in range(shape[1]):
        h = a[:, t] * h + b[:, t]
        hs.append(h)
    return torch.stack(hs, 1) if hs else b


def before(h: Tensor, h0: Tensor) -> Tensor:
    """h_{t−1} for every t."""
    return torch.cat([h0.unsqueeze(1), h], 1)[:, : h.shape[1]]


def lag(x: Tensor, k: int) -> Tensor:
    """x_{t−k}, zero before the first step."""
    pad = x.new_zeros(x.shape[0], k, *x.shape[2:])
    return torch.cat([pad, x], 1)[:, : x.shape[1]]


@dataclass(frozen=True)
class Case:
    """A spec and the same layer by hand: ``by_hand(p, xs, s) -> (outputs, final states)``.

    ``s`` holds an initial value for every declared state. ``inputs`` are the shapes after (B, T).
    """

    name: str
    spec: str
    by_hand: Callable[[Values, Sequence[Tensor], Values], tuple[tuple[Tensor, ...], Values]]
    sizes: dict[str, float]
    inputs: tuple[tuple[int, ...], ...]
    states: dict[str, tuple[int, ...]] = field(default_factory=dict)
    #: Values for the states are given to the layer; False where it starts by itself.
    given: bool = True
    streams: bool = True


CASES: list[Case] = []


def case(
    spec: str,
    sizes: dict[str, float],
    inputs: tuple[tuple[int, ...], ...],
    states: dict[str, tuple[int, ...]] | None = None,
    **flags: bool,
) -> Callable[[Any], Any]:
    """Register the function below as the spec's counterpart by hand."""

    def register(by_hand: Any) -> Any:
        name = by_hand.__name__
        CASES.append(Case(name, spec, by_hand, sizes, inputs, states or {}, **flags))
        return by_hand

    return register


# --- recurrences of every simple shape -----------------------------------------------------------


@case(
    """
layer Sum
size  hidden
input x[t]: hidden
state h[t]: hidden
h[t] = h[t-1] + x[t]
output h[t]
""",
    {"hidden": 5}, ((5,),), {"h": (5,)},
)  # fmt: skip
def running_sum(p, xs, s):
    h = s["h"].unsqueeze(1) + xs[0].cumsum(1)
    return (h,), {"h": h[:, -1]}


@case(
    """
layer Signs
size  input, hidden
input x[t]: input
state h[t]: hidden
a[t]: hidden = 1.1 * tanh(linear(x[t]))
b[t]: hidden = linear(x[t], bias = false)
h[t] = b[t] - a[t] * h[t-1]
output h[t]
""",
    {"input": 3, "hidden": 5}, ((3,),), {"h": (5,)},
)  # fmt: skip
def coefficients_of_either_sign(p, xs, s):
    assert "b.bias" not in p
    h = affine(-1.1 * torch.tanh(mapped(p, "a", xs[0])), mapped(p, "b", xs[0]), s["h"])
    return (h,), {"h": h[:, -1]}


@case(
    """
layer Gather
size  input, hidden
input x[t]: input
state h[t]: hidden
z[t]: hidden = sigmoid(linear(x[t]))
h[t] = h[t-1] + z[t] * (x_map[t] - h[t-1]) / 2 - -h[t-1] * 0.25
x_map[t]: hidden = linear(x[t])
output h[t]
""",
    {"input": 3, "hidden": 5}, ((3,),), {"h": (5,)},
)  # fmt: skip
def affine_terms_are_gathered(p, xs, s):
    z, v = torch.sigmoid(mapped(p, "z", xs[0])), mapped(p, "x_map", xs[0])
    h = affine(1.25 - z / 2, z * v / 2, s["h"])
    return (h,), {"h": h[:, -1]}


@case(
    """
layer Two
size  hidden
input x[t]: hidden
state h[t]: hidden
state c[t]: hidden
a[t]: hidden = sigmoid(linear(x[t]))
h[t] = a[t] * h[t-1] + x[t]
c[t] = (1 - a[t]) * c[t-1] - x[t]
y[t] = h[t] * c[t]
output y[t]
""",
    {"hidden": 5}, ((5,),), {"h": (5,), "c": (5,)},
)  # fmt: skip
def independent_states(p, xs, s):
    a = torch.sigmoid(mapped(p, "a", xs[0]))
    h, c = affine(a, xs[0], s["h"]), affine(1 - a, -xs[0], s["c"])
    return (h * c,), {"h": h[:, -1], "c": c[:, -1]}


@case(
    """
layer Strata
size  hidden
input x[t]: hidden
state slow[t]: hidden
state fast[t]: hidden
a[t]: hidden = sigmoid(linear(x[t]))
slow[t] = 0.9 * slow[t-1] + tanh(fast[t]) * fast[t-1]
fast[t] = a[t] * fast[t-1] + x[t]
output slow[t], fast[t]
""",
    {"hidden": 5}, ((5,),), {"slow": (5,), "fast": (5,)},
)  # fmt: skip
def stacked_strata(p, xs, s):
    fast = affine(torch.sigmoid(mapped(p, "a", xs[0])), xs[0], s["fast"])
    b = torch.tanh(fast) * before(fast, s["fast"])
    slow = affine(torch.full_like(b, 0.9), b, s["slow"])
    return (slow, fast), {"slow": slow[:, -1], "fast": fast[:, -1]}


@case(
    """
layer Between
size  input, hidden, deep
input x[t]: input
state h[t]: hidden
state c[t]: deep
a[t]: hidden = sigmoid(linear(x[t]))
h[t] = a[t] * h[t-1] + (1 - a[t])
u[t]: deep = sigmoid(linear(h[t], x[t]))
w[t]: deep = tanh(linear(h[t]))
c[t] = u[t] * c[t-1] + w[t]
output c[t]
""",
    {"input": 3, "hidden": 5, "deep": 2}, ((3,),), {"h": (5,), "c": (2,)},
)  # fmt: skip
def maps_between_scans(p, xs, s):
    a = torch.sigmoid(mapped(p, "a", xs[0]))
    h = affine(a, 1 - a, s["h"])
    c = affine(torch.sigmoid(mapped(p, "u", h, xs[0])), torch.tanh(mapped(p, "w", h)), s["c"])
    return (c,), {"h": h[:, -1], "c": c[:, -1]}


@case(
    """
layer Readout
size  input, hidden, vocab
input x[t]: input
state h[t]: hidden
a[t]: hidden = sigmoid(linear(x[t]))
h[t] = a[t] * h[t-1] + (1 - a[t])
y[t]: vocab = linear(h[t])
output y[t]
""",
    {"input": 3, "hidden": 5, "vocab": 7}, ((3,),), {"h": (5,)},
)  # fmt: skip
def readouts(p, xs, s):
    a = torch.sigmoid(mapped(p, "a", xs[0]))
    h = affine(a, 1 - a, s["h"])
    return (mapped(p, "y", h),), {"h": h[:, -1]}


@case(
    """
layer Scalars
size  hidden
input x[t]: hidden
input g[t]: 1
state n[t]: 1
state h[t]: hidden
n[t] = 0.5 * n[t-1] + g[t]
h[t] = sigmoid(g[t]) * h[t-1] + x[t] * n[t]
output n[t], h[t]
""",
    {"hidden": 5}, ((5,), (1,)), {"n": (1,), "h": (5,)},
)  # fmt: skip
def one_number_a_step(p, xs, s):
    x, g = xs
    n = affine(torch.full_like(g, 0.5), g, s["n"])
    h = affine(torch.sigmoid(g), x * n, s["h"])
    return (n, h), {"n": n[:, -1], "h": h[:, -1]}


# --- axes ----------------------------------------------------------------------------------------


@case(
    """
layer Attention
size  input, hidden, slots
input x[t]: input
state m[t]: (hidden, slots)
k[t]: slots  = softmax(k_map[t], slots)
k_map[t]: slots = linear(x[t])
q[t]: slots  = linear(x[t])
v[t]: hidden = linear(x[t])
f[t]: slots  = sigmoid(linear(x[t]))
m[t] = f[t] * m[t-1] + k[t] * v[t]
y[t] = sum(m[t] * q[t], slots) / sqrt(slots)
output y[t], m[t]
""",
    {"input": 3, "hidden": 5, "slots": 4}, ((3,),), {"m": (5, 4)},
)  # fmt: skip
def two_axes_and_outer_products(p, xs, s):
    k, q, v, f = (mapped(p, n, xs[0]) for n in ("k_map", "q", "v", "f"))
    k = torch.softmax(k, -1)
    m = affine(torch.sigmoid(f).unsqueeze(2), v.unsqueeze(3) * k.unsqueeze(2), s["m"])
    return ((m * q.unsqueeze(2)).sum(-1) / 2, m), {"m": m[:, -1]}


@case(
    """
layer Flatten
size  heads, key, hidden
input x[t]: (heads, key)
state h[t]: (heads, key)
a[t]: (heads, key) = sigmoid(linear(x[t]))
h[t] = a[t] * h[t-1] + x[t]
y[t]: hidden = linear(h[t])
output y[t]
""",
    {"heads": 2, "key": 3, "hidden": 5}, ((2, 3),), {"h": (2, 3)},
)  # fmt: skip
def several_axes_flatten_in_declared_order(p, xs, s):
    a = torch.sigmoid(mapped(p, "a", xs[0].flatten(2))).unflatten(2, (2, 3))
    h = affine(a, xs[0], s["h"])
    return (mapped(p, "y", h.flatten(2)),), {"h": h[:, -1]}


@case(
    """
layer Reductions
size  input, hidden
input x[t]: input
state h[t]: hidden
total[t] = sum(x[t], input)
power[t] = mean(x[t]^2, input)
top[t]   = max(x[t], input)
low[t]   = min(x[t], input)
a[t]: hidden = sigmoid(linear(x[t]))
h[t] = a[t] * h[t-1] + total[t] - power[t] * top[t] + low[t]
norm[t] = sqrt(sum(h[t]^2, hidden) + 1)
y[t] = h[t] / norm[t]
output y[t], total[t], norm[t]
""",
    {"input": 3, "hidden": 5}, ((3,),), {"h": (5,)},
)  # fmt: skip
def reductions(p, xs, s):
    (x,) = xs
    total, power = x.sum(-1, keepdim=True), (x**2).mean(-1, keepdim=True)
    b = total - power * x.amax(-1, keepdim=True) + x.amin(-1, keepdim=True)
    h = affine(torch.sigmoid(mapped(p, "a", x)), b, s["h"])
    norm = ((h**2).sum(-1, keepdim=True) + 1).sqrt()
    return (h / norm, total, norm), {"h": h[:, -1]}


@case(
    """
layer Along
size  hidden
input x[t]: hidden
state h[t]: hidden
c[t] = cumsum(x[t], hidden)
r[t] = shift(x[t], hidden, 1)
l[t] = shift(x[t], hidden, 2)
h[t] = sigmoid(c[t]) * h[t-1] + r[t]
y[t] = h[t] - l[t] + cumsum(h[t], hidden)
output y[t]
""",
    {"hidden": 5}, ((5,),), {"h": (5,)},
)  # fmt: skip
def cumsum_and_shift(p, xs, s):
    (x,) = xs
    r, l = F.pad(x, (1, 0))[..., :5], F.pad(x, (2, 0))[..., :5]  # noqa: E741
    h = affine(torch.sigmoid(x.cumsum(-1)), r, s["h"])
    return (h - l + h.cumsum(-1),), {"h": h[:, -1]}


@case(
    """
layer Index
size  hidden
input x[t]: hidden
state h[t]: hidden
decay: hidden = exp(-(index(hidden) + 1) / hidden)
h[t] = decay * h[t-1] + x[t] * index(hidden)
output h[t]
""",
    {"hidden": 5}, ((5,),), {"h": (5,)},
)  # fmt: skip
def index_along_an_axis(p, xs, s):
    i = torch.arange(5).to(xs[0])
    h = affine(torch.exp(-(i + 1) / 5).expand_as(xs[0]), xs[0] * i, s["h"])
    return (h,), {"h": h[:, -1]}


@case(
    """
layer Product
size  hidden, src = hidden
input x[t]: src
state h[t]: hidden
param w: (hidden, src) = normal(0, 1)
b[t] = sum(w * x[t], src)
h[t] = 0.5 * h[t-1] + b[t]
output h[t]
""",
    {"hidden": 5}, ((5,),), {"h": (5,)},
)  # fmt: skip
def derived_sizes_and_matrix_products(p, xs, s):
    b = xs[0] @ p["w"].T
    h = affine(torch.full_like(b, 0.5), b, s["h"])
    return (h,), {"h": h[:, -1]}


@case(
    """
layer Broadcast
size  hidden, slots
input x[t]: slots
state h[t]: (hidden, slots)
param rate: hidden = uniform(-1, 1)
param gain: 1 = 1.5
param mix: (hidden, slots) = normal(0, 1)
decay: hidden = sigmoid(rate)
scale = exp(gain)
h[t] = decay * h[t-1] + scale * mix * x[t]
output h[t]
""",
    {"hidden": 5, "slots": 3}, ((3,),), {"h": (5, 3)},
)  # fmt: skip
def parameters_broadcast_by_name(p, xs, s):
    assert p["gain"].shape == (1,)
    b = torch.exp(p["gain"]) * p["mix"] * xs[0].unsqueeze(2)
    a = torch.sigmoid(p["rate"]).unsqueeze(-1).expand_as(b)
    h = affine(a, b, s["h"])
    return (h,), {"h": h[:, -1]}


@case(
    """
layer Order
size  b, a
input x[t]: a
input w[t]: b
state h[t]: a
h[t] = 0.5 * h[t-1] + x[t]
y[t]: (b, a) = h[t] * w[t]
output y[t]
""",
    {"a": 5, "b": 3}, ((5,), (3,)), {"h": (5,)},
)  # fmt: skip
def axes_come_in_the_order_of_the_sizes(p, xs, s):
    h = affine(torch.full_like(xs[0], 0.5), xs[0], s["h"])
    return (h.unsqueeze(2) * xs[1].unsqueeze(3),), {"h": h[:, -1]}


# --- the past ------------------------------------------------------------------------------------


@case(
    """
layer Lags
size  hidden, gap = 3
input x[t]: hidden
state h[t]: hidden
v[t]: hidden = tanh(linear(x[t]))
h[t] = 0.5 * h[t-1] + x[t-2] - v[t-1]
y[t] = h[t] * h[t-1] + x[t-gap] * v[t-2]
output y[t]
""",
    {"hidden": 5}, ((5,),), {"h": (5,)}, given=False,
)  # fmt: skip
def reads_of_the_past(p, xs, s):
    (x,) = xs
    v = torch.tanh(mapped(p, "v", x))
    b = lag(x, 2) - lag(v, 1)
    h = affine(torch.full_like(b, 0.5), b, s["h"])
    return (h * before(h, s["h"]) + lag(x, 3) * lag(v, 2),), {"h": h[:, -1]}


@case(
    """
layer Older
size  hidden
input x[t]: hidden
state h[t]: hidden = learned
h[t] = sigmoid(x[t]) * h[t-1] + x[t]
y[t] = h[t-1] - h[t-3]
output y[t], h[t]
""",
    {"hidden": 5}, ((5,),), given=False,
)  # fmt: skip
def a_state_is_its_init_at_every_negative_time(p, xs, s):
    (x,) = xs
    init = p["h.init"].expand(x.shape[0], -1)
    h = affine(torch.sigmoid(x), x, init)
    past = torch.cat([init.unsqueeze(1).expand(-1, 3, -1), h], 1)
    T = x.shape[1]
    return (past[:, 2 : 2 + T] - past[:, :T], h), {}


@case(
    """
layer Learned
size  input, hidden
input x[t]: input
state h[t]: hidden = learned
z[t]: hidden = sigmoid(linear(x[t]))
h[t] = (1 - z[t]) * h[t-1] + z[t]
output h[t]
""",
    {"input": 3, "hidden": 5}, ((3,),), given=False,
)  # fmt: skip
def a_learned_init(p, xs, s):
    z = torch.sigmoid(mapped(p, "z", xs[0]))
    h = affine(1 - z, z, p["h.init"].expand(xs[0].shape[0], -1))
    return (h,), {"h": h[:, -1]}


@case(
    """
layer Start
size  hidden
hyper level = 0.25
input x[t]: hidden
param w: hidden = normal(0, 1)
state h[t]: hidden = level * tanh(w) + 1 / hidden
h[t] = sigmoid(x[t]) * h[t-1] + x[t]
output h[t]
""",
    {"hidden": 5}, ((5,),), given=False,
)  # fmt: skip
def an_init_computed_from_parameters_hypers_and_sizes(p, xs, s):
    init = 0.25 * torch.tanh(p["w"]) + 1 / 5
    h = affine(torch.sigmoid(xs[0]), xs[0], init.expand(xs[0].shape[0], -1))
    return (h,), {"h": h[:, -1]}


# --- functions -----------------------------------------------------------------------------------


@case(
    """
def soft(u, axis) = exp(u - max(u, axis)) / sum(exp(u - max(u, axis)), axis)
def blend(share, a, b) = share * a + (1 - share) * b

layer Defs
size  input, hidden
input x[t]: input
state h[t]: hidden
p[t]: hidden = linear(x[t])
s[t] = soft(p[t], hidden)
l[t] = logsumexp(p[t], hidden)
h[t] = blend(s[t], p[t], h[t-1])
y[t] = softmax(h[t], hidden) + l[t]
output y[t]
""",
    {"input": 3, "hidden": 5}, ((3,),), {"h": (5,)},
)  # fmt: skip
def defs_with_reductions(p, xs, s):
    k = mapped(p, "p", xs[0])
    share = torch.softmax(k, -1)
    h = affine(1 - share, share * k, s["h"])
    return (torch.softmax(h, -1) + torch.logsumexp(k, -1, True),), {"h": h[:, -1]}


FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "exp(x[t])": lambda x, w: torch.exp(x),
    "expm1(x[t])": lambda x, w: torch.expm1(x),
    "log(x[t]^2 + 1)": lambda x, w: torch.log(x**2 + 1),
    "log1p(x[t]^2)": lambda x, w: torch.log1p(x**2),
    "sqrt(1 + abs(x[t]))": lambda x, w: (1 + x.abs()).sqrt(),
    "sign(x[t]) * w[t]": lambda x, w: x.sign() * w,
    "floor(3 * x[t]) + w[t]": lambda x, w: (3 * x).floor() + w,
    "min(x[t], w[t])": torch.minimum,
    "max(x[t], w[t])": torch.maximum,
    "where(x[t] > w[t], x[t], 2 * w[t])": lambda x, w: torch.where(x > w, x, 2 * w),
    "where(x[t] <= 0, w[t], x[t] * w[t])": lambda x, w: torch.where(x <= 0, w, x * w),
    "clamp(x[t], -0.5, 0.75)": lambda x, w: x.clamp(-0.5, 0.75),
    "clamp(x[t], 0.75, -0.5)": lambda x, w: x.clamp(0.75, -0.5),
    "clamp(x[t], w[t], 0.1)": lambda x, w: x.clamp(w, torch.full_like(w, 0.1)),
    "tanh(x[t])": lambda x, w: torch.tanh(x),
    "sigmoid(x[t])": lambda x, w: torch.sigmoid(x),
    "softplus(x[t])": lambda x, w: torch.logaddexp(x, torch.zeros_like(x)),
    "logsigmoid(x[t])": lambda x, w: -torch.logaddexp(-x, torch.zeros_like(x)),
    "relu(x[t])": lambda x, w: torch.relu(x),
    "silu(x[t])": lambda x, w: F.silu(x),
    "erf(x[t])": lambda x, w: torch.erf(x),
    "gelu(x[t])": lambda x, w: F.gelu(x),
    "elu(x[t])": lambda x, w: F.elu(x),
    "leaky_relu(x[t], 0.01)": lambda x, w: F.leaky_relu(x),
    "hardsigmoid(4 * x[t])": lambda x, w: F.relu6(4 * x + 3) / 6,
    "sin(x[t]) * cos(w[t])": lambda x, w: torch.sin(x) * torch.cos(w),
    "logaddexp(x[t], w[t])": torch.logaddexp,
    "-x[t]^2": lambda x, w: -(x**2),
    "2^x[t] - x[t]^3": lambda x, w: 2**x - x**3,
    "(1 + x[t]^2)^w[t]": lambda x, w: (1 + x**2) ** w,
    "x[t] / (1 + w[t]^2) - w[t] * -x[t]": lambda x, w: x / (1 + w**2) + w * x,
    "pi * x[t] - 1e-3 + .5": lambda x, w: math.pi * x - 1e-3 + 0.5,
}

FUNCTIONS_SPEC = (
    "layer Functions\nsize  hidden\ninput x[t], w[t]: hidden\nstate h[t]: hidden\n"
    + "".join(f"y{k}[t] = {text}\n" for k, text in enumerate(FUNCTIONS))
    + "h[t] = sigmoid(w[t]) * h[t-1] + y0[t]\n"
    + "output h[t], "
    + ", ".join(f"y{k}[t]" for k in range(len(FUNCTIONS)))
    + "\n"
)


@case(FUNCTIONS_SPEC, {"hidden": 7}, ((7,), (7,)), {"h": (7,)})
def pointwise_functions(p, xs, s):
    ys = [f(*xs) for f in FUNCTIONS.values()]
    h = affine(torch.sigmoid(xs[1]), ys[0], s["h"])
    return (h, *ys), {"h": h[:, -1]}


# --- learned maps --------------------------------------------------------------------------------


@case(
    """
layer Names
size  a, b, hidden
input x[t]: a
input w[t]: b
state h[t]: hidden
r[t]: hidden = sigmoid(linear(x[t]) + linear(w[t], bias = false))
v[t]: hidden = linear(x[t], w[t])
h[t] = r[t] * h[t-1] + v[t]
output h[t]
""",
    {"a": 3, "b": 2, "hidden": 5}, ((3,), (2,)), {"h": (5,)},
)  # fmt: skip
def maps_are_named_after_equation_and_argument(p, xs, s):
    assert set(p) == {"r.x.weight", "r.x.bias", "r.w.weight", "v.weight", "v.bias"}
    r = torch.sigmoid(mapped(p, "r.x", xs[0]) + mapped(p, "r.w", xs[1]))
    h = affine(r, mapped(p, "v", *xs), s["h"])
    return (h,), {"h": h[:, -1]}


CONV = """
layer Conv
size  input, hidden, width = 2
input x[t]: input
state h[t]: hidden
z[t]: hidden = conv(x[t], width{options})
h[t] = 0.5 * h[t-1] + z[t]
output h[t]
"""


def conv_case(width: int, causal: bool, depthwise: bool) -> Case:
    """``conv`` of one width and kind."""
    options = ("" if causal else ", causal = false") + (", depthwise = true" if depthwise else "")
    spec = CONV.format(options=options)
    if depthwise:
        spec = spec.replace("input, hidden, width", "hidden, width").replace(
            "]: input", "]: hidden"
        )
    channels = 5 if depthwise else 3

    def by_hand(p: Values, xs: Sequence[Tensor], s: Values) -> Any:
        assert p["z.weight"].shape == (5, 1 if depthwise else 3, width)
        left = width - 1 if causal else (width - 1) // 2
        padded = F.pad(xs[0].transpose(1, 2), (left, width - 1 - left))
        if xs[0].shape[1]:
            groups = 5 if depthwise else 1
            z = F.conv1d(padded, p["z.weight"], p["z.bias"], groups=groups).transpose(1, 2)
        else:
            z = xs[0].new_zeros(xs[0].shape[0], 0, 5)
        h = affine(torch.full_like(z, 0.5), z, s["h"])
        return (h,), {"h": h[:, -1]}

    kind = ("causal" if causal else "centred") + (" depthwise" if depthwise else "")
    sizes = {"hidden": 5, "width": width} | ({} if depthwise else {"input": 3})
    return Case(
        f"{kind} conv of width {width}", spec, by_hand, sizes, ((channels,),), {"h": (5,)},
        given=False, streams=causal,
    )  # fmt: skip


CASES += [
    conv_case(width, causal, depthwise)
    for depthwise in (False, True)
    for causal in (True, False)
    for width in (1, 2, 3, 4, 5)
]


# --- nonlinear: right all the same ---------------------------------------------------------------

# No scan that the compiler knows: the states run step by step, which `auto` chooses by itself.
FALLBACK: list[Case] = []


@case(
    """
layer Elman
size  input, hidden
input x[t]: input
state h[t]: hidden
h[t] = tanh(linear(x[t], h[t-1]))
output h[t]
""",
    {"input": 3, "hidden": 5}, ((3,),), {"h": (5,)},
)  # fmt: skip
def elman(p, xs, s):
    h, hs = s["h"], []
    for x_t in xs[0].unbind(1):
        h = torch.tanh(mapped(p, "h", x_t, h))
        hs.append(h)
    return (torch.stack(hs, 1),), {"h": h}


@case(
    """
layer Rotation
size  hidden
input x[t]: hidden
state h[t]: hidden
state c[t]: hidden
param w: hidden = uniform(0, 1)
h[t] = 0.9 * (cos(w) * h[t-1] - sin(w) * c[t-1]) + x[t]
c[t] = 0.9 * (sin(w) * h[t-1] + cos(w) * c[t-1])
output h[t], c[t]
""",
    {"hidden": 5}, ((5,),), {"h": (5,), "c": (5,)},
)  # fmt: skip
def coupled_states(p, xs, s):
    h, c, ys = s["h"], s["c"], []
    cos, sin = torch.cos(p["w"]), torch.sin(p["w"])
    for x_t in xs[0].unbind(1):
        h, c = 0.9 * (cos * h - sin * c) + x_t, 0.9 * (sin * h + cos * c)
        ys.append((h, c))
    return tuple(torch.stack(v, 1) for v in zip(*ys, strict=True)), {"h": h, "c": c}


@case(
    """
layer Peak
size  hidden
input x[t]: hidden
state h[t]: hidden
h[t] = max(h[t-1] - 0.1, x[t])
output h[t]
""",
    {"hidden": 5}, ((5,),), {"h": (5,)},
)  # fmt: skip
def maximum_with_decay(p, xs, s):
    h, hs = s["h"], []
    for x_t in xs[0].unbind(1):
        h = torch.maximum(h - 0.1, x_t)
        hs.append(h)
    return (torch.stack(hs, 1),), {"h": h}


FALLBACK += CASES[-3:]
del CASES[-3:]


# --- the checks ----------------------------------------------------------------------------------


def initials(c: Case, xs: Sequence[Tensor], state: Values | None) -> dict[str, Tensor]:
    zeros = {n: xs[0].new_zeros(xs[0].shape[0], *shape) for n, shape in c.states.items()}
    return zeros | dict(state or {})


def check(c: Case, backend: str, dtype: torch.dtype, T: int = 7, B: int = 2) -> None:
    layer = build(c.spec, backend, dtype, **c.sizes)
    xs = [randn(B, T, *shape, dtype=dtype, seed=k) for k, shape in enumerate(c.inputs)]

    def reference(p: Values, xs: Sequence[Tensor], s: Values | None) -> Any:
        ys, final = c.by_hand(p, xs, initials(c, xs, s))
        return ys, final

    # What the loop gives of its final states; one that is read further back than a step isn't
    # given, since the layer carries several steps of it.
    with torch.no_grad():
        names = list(c.by_hand(dict(layer.named_parameters()), xs, initials(c, xs, None))[1])
    hold_to(layer, reference, xs, random_state(layer, xs) if c.given else None, states=names)


@pytest.mark.parametrize("c", CASES, ids=lambda c: c.name)
def test_numbers(c: Case, backend: str) -> None:
    check(c, backend, torch.float64)


# A float32 kernel is a compilation of its own, seconds each: the ones whose numbers are delicate.
IN_SINGLE = (
    pointwise_functions,
    defs_with_reductions,
    two_axes_and_outer_products,
    stacked_strata,
    reads_of_the_past,
)


@pytest.mark.parametrize("by_hand", IN_SINGLE, ids=lambda f: f.__name__)
def test_numbers_in_float32(by_hand: Any, backend: str) -> None:
    check(next(c for c in CASES if c.by_hand is by_hand), backend, torch.float32)


@pytest.mark.parametrize("c", [c for c in CASES if c.streams], ids=lambda c: c.name)
def test_streaming(c: Case, backend: str) -> None:
    layer = build(c.spec, backend, **c.sizes)
    xs = [randn(2, 9, *shape, seed=k) for k, shape in enumerate(c.inputs)]
    assert_streams(layer, xs, (1, 2, 0, 6), random_state(layer, xs) if c.given else None)


@pytest.mark.parametrize(
    "c", [c for c in CASES if not c.streams and c.sizes["width"] > 1], ids=lambda c: c.name
)
def test_what_sees_the_future_does_not_step(c: Case) -> None:
    layer = build(c.spec, **c.sizes)
    with pytest.raises(RuntimeError, match="step"):
        layer.step(*(randn(2, *shape) for shape in c.inputs))


@pytest.mark.parametrize("c", FALLBACK, ids=lambda c: c.name)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_nonlinear_recurrences_run_step_by_step(c: Case, dtype: torch.dtype) -> None:
    check(c, "auto", dtype)
    layer = build(c.spec, "auto", **c.sizes)
    xs = [randn(2, 9, *shape, seed=k) for k, shape in enumerate(c.inputs)]
    assert_streams(layer, xs, (1, 8), random_state(layer, xs))


GRU = """
layer GRU
size   input, hidden
input  x[t]: input
state  h[t]: hidden

r[t]: hidden = sigmoid(linear(x[t]) + linear(h[t-1]))
u[t]: hidden = sigmoid(linear(x[t]) + linear(h[t-1]))
n[t]: hidden = tanh(linear(x[t]) + r[t] * linear(h[t-1]))
h[t] = (1 - u[t]) * n[t] + u[t] * h[t-1]

output h[t]
"""


def test_the_gru_of_torch_with_one_warning() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layer: Any = seqc.compile(GRU)(input=3, hidden=5, dtype=torch.float64)
        x = randn(2, 9, 3).requires_grad_()
        y, final = layer(x)
        layer(x)
    assert len(caught) == 1, [str(w.message) for w in caught]
    assert issubclass(caught[0].category, seqc.SeqcWarning)
    assert "this part runs step by step" in str(caught[0].message)

    gru = nn.GRU(3, 5, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for source, part in (("x", "ih"), ("h", "hh")):
            for kind in ("weight", "bias"):
                rows = [layer.get_parameter(f"{n}.{source}.{kind}") for n in "run"]
                getattr(gru, f"{kind}_{part}_l0").copy_(torch.cat(rows))
    want, last = gru(x)
    assert_all_close({"y": y, "h": final.h}, {"y": want, "h": last[0]}, 1e-12)
    (got_grad,) = torch.autograd.grad(y.square().sum(), x)
    (want_grad,) = torch.autograd.grad(want.square().sum(), x)
    assert_all_close({"x": got_grad}, {"x": want_grad}, 1e-12)


def test_the_gru_against_its_loop() -> None:
    layer = build(GRU, "reference", input=3, hidden=5)
    x = randn(2, 9, 3)
    hold_to(layer, references.gru, [x], random_state(layer, [x]), states=("h",))


# --- dropout -------------------------------------------------------------------------------------

DROP = """
layer Drop
size  hidden
hyper p = 0.3
input x[t]: hidden
state h[t]: hidden
k[t] = drop(x[t], p)
h[t] = 0.5 * h[t-1] + k[t]
output k[t], h[t]
"""


def test_drop_in_training(backend: str) -> None:
    layer = build(DROP, backend, hidden=32)
    x = torch.ones(4, 256, 32, dtype=torch.float64, requires_grad=True)
    layer.train()
    torch.manual_seed(1)
    (k, h), _ = layer(x)
    assert set(k.unique().tolist()) == {0.0, 1.0}  # no rescaling
    share = 1 - float(k.mean())
    deviation = math.sqrt(0.3 * 0.7 / k.numel())
    assert abs(share - 0.3) < 5 * deviation
    # A fresh mask each step, sequence and channel.
    for axis in (0, 1, 2):
        a, b = k.narrow(axis, 0, 1), k.narrow(axis, 1, 1)
        assert not torch.equal(a, b)
    # Other equations of the step see the same mask, and so does the backward pass.
    assert_all_close({"h": h}, {"h": affine(torch.full_like(k, 0.5), k, k.new_zeros(4, 32))}, 1e-12)
    (grad,) = torch.autograd.grad(k.sum(), x, retain_graph=True)
    assert torch.equal(grad, k)
    (grad,) = torch.autograd.grad(h.sum(), x)
    assert torch.equal(grad == 0, k == 0)


def test_drop_follows_the_generator_of_torch(backend: str) -> None:
    layer = build(DROP, backend, hidden=32)
    layer.train()
    x = randn(2, 20, 32)

    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return layer(x)[0][0]

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    first = draw(1)
    assert not torch.equal(layer(x)[0][0], first)


def test_drop_is_the_identity_in_eval_and_at_zero(backend: str) -> None:
    layer = build(DROP, backend, hidden=32)
    x = randn(2, 20, 32)
    assert torch.equal(layer(x)[0][0], x)
    layer.train()
    layer.p = 0.0
    assert torch.equal(layer(x)[0][0], x)
    layer.p = 1.0
    assert not layer(x)[0][0].any()


def test_two_sites_have_two_masks(backend: str) -> None:
    spec = DROP.replace("h[t] = 0.5", "j[t] = drop(x[t], p)\nh[t] = 0.5").replace(
        "output k[t]", "output k[t], j[t]"
    )
    layer = build(spec, backend, hidden=32)
    layer.train()
    (k, j, _), _ = layer(torch.ones(2, 20, 32, dtype=torch.float64))
    assert not torch.equal(k, j)


def test_step_drops_too() -> None:
    layer = build(DROP, hidden=512)
    layer.train()
    (k, _), _ = layer.step(torch.ones(4, 512, dtype=torch.float64))
    assert abs(float(k.mean()) - 0.7) < 0.06


# --- how parameters start ------------------------------------------------------------------------


def test_parameters_start_as_the_spec_says() -> None:
    spec = """
layer Inits
size  input, hidden, src = hidden
input x[t]: input
state h[t]: hidden = learned
param n: (hidden, src) = normal(1, 0.1)
param u: hidden = uniform(-2, -1)
param o: (hidden, src) = orthogonal
param c: hidden = 0.75
param z: hidden = 0
v[t]: hidden = linear(x[t])
w[t]: hidden = linear(x[t], bias = false, weight = normal(0, 0.02))
k[t]: hidden = u * v[t] + w[t] + c + z + sum(n + o, src)
h[t] = 0.5 * h[t-1] + k[t]
output h[t]
"""
    torch.manual_seed(0)
    layer = build(spec, dtype=torch.float32, spread=None, input=64, hidden=64)
    assert abs(float(layer.n.mean()) - 1) < 0.01
    assert abs(float(layer.n.std()) - 0.1) < 0.01
    assert float(layer.u.min()) >= -2
    assert float(layer.u.max()) <= -1
    assert float(layer.u.std()) > 0.1
    torch.testing.assert_close(layer.o @ layer.o.T, torch.eye(64), rtol=0, atol=1e-5)
    assert (layer.c == 0.75).all()
    assert not layer.z.any()
    assert not layer.h.init.any()
    bound = 1 / math.sqrt(64)  # torch.nn.Linear's
    assert float(layer.v.weight.abs().max()) <= bound
    assert float(layer.v.weight.std()) > bound / 2
    assert float(layer.v.bias.abs().max()) <= bound
    assert abs(float(layer.w.weight.std()) - 0.02) < 0.002
    torch.manual_seed(0)
    again = build(spec, dtype=torch.float32, spread=None, input=64, hidden=64)
    for a, b in zip(layer.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_sizes_and_hypers_are_numbers_in_expressions(backend: str) -> None:
    spec = """
layer Numbers
size  hidden, key = 4
hyper tau = 0.5, eps = 1e-3
input x[t]: hidden
state h[t]: hidden
h[t] = tau * h[t-1] + x[t] / sqrt(key) + eps * hidden
output h[t]
"""
    cls = compiled(spec)
    x = randn(2, 6, 3)
    for key, tau in ((4, 0.5), (9, 0.25)):
        layer = build(cls, backend, hidden=3, key=key, tau=tau)
        b = x / math.sqrt(key) + 1e-3 * 3
        want = affine(torch.full_like(b, tau), b, x.new_zeros(2, 3))
        assert_all_close({"h": outputs_of(layer(x)[0])[0]}, {"h": want}, 1e-12)
