"""Axes that meet themselves: `rename`, and the matrix products that its sums run as."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import seqc
from seqc.runtime.contract import contract
from tests.layer.support import DTYPES, assert_streams, build, hold_to, randn, random_state
from tests.layer.test_language_numeric import affine

Values = Mapping[str, Tensor]

ELMAN = """
layer Elman
size  input, hidden, src = hidden
input x[t]: input
state h[t]: hidden
param w: (hidden, src) = normal(0, 1)
param u: (hidden, input) = normal(0, 1)
h[t] = tanh(sum(w * rename(h[t-1], hidden = src), src) + sum(u * x[t], input))
output h[t]
"""

ANTISYMMETRIC = """
# AntisymmetricRNN (Chang et al., 2019)
layer Antisymmetric
size  input, hidden, src = hidden
hyper step_size = 0.1, diffusion = 0.01
input x[t]: input
state h[t]: hidden
param w: (hidden, src) = normal(0, 1)
v[t]: hidden = linear(x[t])
a: (hidden, src) = w - rename(w, hidden = src, src = hidden)
m[t] = sum(a * rename(h[t-1], hidden = src), src) - diffusion * h[t-1]
h[t] = h[t-1] + step_size * tanh(m[t] + v[t])
output h[t]
"""

HEADS = """
def product(w, h, out, src) = sum(w * rename(h, out = src), src)
layer Heads
size  heads, dim, src = dim
input x[t]: (heads, dim)
state h[t]: (heads, dim)
param w: (heads, dim, src) = normal(0, 1)
h[t] = tanh(product(w, h[t-1], dim, src) + x[t])
output h[t]
"""

VITERBI = """
layer Viterbi
size  tags, last = tags
input x[t]: tags
state s[t]: tags
param move: (last, tags) = normal(0, 1)
s[t] = max(rename(s[t-1], tags = last) + move, last) + x[t]
output s[t]
"""

READOUT = """
# A scan between matrix products of a sequence, one of them the other's transpose.
layer Readout
size  hidden, src = hidden
hyper gain = 2.0
input x[t]: hidden
state h[t]: hidden
param w: (hidden, src) = normal(0, 1)
param scale: hidden = 1
g[t]: hidden = sigmoid(linear(x[t]))
m[t] = sum(gain * scale * w * g[t] * -rename(x[t], hidden = src) / sqrt(hidden), src)
h[t] = g[t] * h[t-1] + m[t]
y[t] = sum(rename(w, hidden = src, src = hidden) * rename(h[t], hidden = src), src)
output y[t], m[t]
"""

ATTENTION = """
# Sums over two axes, and factors that only some terms have.
layer Attention
size  a, b, c, d = a
input x[t]: (a, b)
input k[t]: c
state h[t]: c
param w: (a, b, c) = normal(0, 1)
param v: (c, d) = normal(0, 1)
p[t] = sum(sum(w * x[t], a), b)
q[t] = sum(v * k[t], c)
r[t] = rename(q[t], d = a)
h[t] = 0.5 * h[t-1] + p[t] * sum(x[t] * r[t] * k[t], a) * sum(q[t], d)
output h[t]
"""


def elman(p: Values, xs: Sequence[Tensor], s: Values | None) -> Any:
    (x,) = xs
    h = s["h"] if s else x.new_zeros(x.shape[0], p["w"].shape[0])
    hs = []
    for x_t in x.unbind(1):
        h = torch.tanh(h @ p["w"].T + x_t @ p["u"].T)
        hs.append(h)
    return (torch.stack(hs, 1),), {"h": h}


def antisymmetric(p: Values, xs: Sequence[Tensor], s: Values | None) -> Any:
    (x,) = xs
    h = s["h"] if s else x.new_zeros(x.shape[0], p["w"].shape[0])
    a, hs = p["w"] - p["w"].T, []
    for v in torch.nn.functional.linear(x, p["v.weight"], p["v.bias"]).unbind(1):
        h = h + 0.1 * torch.tanh(h @ a.T - 0.01 * h + v)
        hs.append(h)
    return (torch.stack(hs, 1),), {"h": h}


def heads(p: Values, xs: Sequence[Tensor], s: Values | None) -> Any:
    (x,) = xs
    h = s["h"] if s else torch.zeros_like(x[:, 0])
    hs = []
    for x_t in x.unbind(1):
        h = torch.tanh((p["w"] @ h.unsqueeze(-1)).squeeze(-1) + x_t)
        hs.append(h)
    return (torch.stack(hs, 1),), {"h": h}


def viterbi(p: Values, xs: Sequence[Tensor], s: Values | None) -> Any:
    (x,) = xs
    best = s["s"] if s else torch.zeros_like(x[:, 0])
    found = []
    for x_t in x.unbind(1):
        best = (best.unsqueeze(2) + p["move"]).amax(1) + x_t
        found.append(best)
    return (torch.stack(found, 1),), {"s": best}


def readout(p: Values, xs: Sequence[Tensor], s: Values | None) -> Any:
    (x,) = xs
    g = torch.sigmoid(torch.nn.functional.linear(x, p["g.weight"], p["g.bias"]))
    m = -2 * p["scale"] * g * (x @ p["w"].T) / x.shape[2] ** 0.5
    h = affine(g, m, s["h"] if s else torch.zeros_like(x[:, 0]))
    return (h @ p["w"], m), {"h": h[:, -1]}


def attention(p: Values, xs: Sequence[Tensor], s: Values | None) -> Any:
    x, k = xs
    w = torch.einsum("btij,ijk->btk", x, p["w"])
    q = k @ p["v"]
    sums = torch.einsum("btij,bti,btk->btjk", x, q, k)  # the axis b stays
    b = w.unsqueeze(2) * sums * q.sum(-1)[..., None, None]
    h = affine(torch.full_like(b, 0.5), b, s["h"] if s else torch.zeros_like(b[:, 0]))
    return (h,), {"h": h[:, -1]}


CASES = [
    (ELMAN, elman, {"input": 3, "hidden": 5}, ((3,),)),
    (ANTISYMMETRIC, antisymmetric, {"input": 3, "hidden": 5}, ((3,),)),
    (HEADS, heads, {"heads": 2, "dim": 3}, ((2, 3),)),
    (VITERBI, viterbi, {"tags": 4}, ((4,),)),
    (READOUT, readout, {"hidden": 5}, ((5,),)),
    (
        ATTENTION.replace("h[t]: c", "h[t]: (b, c)"),
        attention,
        {"a": 2, "b": 3, "c": 4},
        ((2, 3), (4,)),
    ),
]
NAMES = [by_hand.__name__ for _, by_hand, _, _ in CASES]


@pytest.mark.parametrize("spec, by_hand, sizes, inputs", CASES, ids=NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_numbers(
    spec: str, by_hand: Any, sizes: Any, inputs: Any, dtype: torch.dtype, backend: str
) -> None:
    nonlinear = by_hand not in (readout, attention)
    if nonlinear and backend != "reference":
        pytest.skip("no scan")
    layer = build(spec, backend, dtype, **sizes)
    xs = [randn(2, 7, *shape, dtype=dtype, seed=k) for k, shape in enumerate(inputs)]
    states = ("s",) if by_hand is viterbi else ("h",)
    hold_to(layer, by_hand, xs, random_state(layer, xs), states=states)


@pytest.mark.parametrize("spec, by_hand, sizes, inputs", CASES, ids=NAMES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_streaming(spec: str, by_hand: Any, sizes: Any, inputs: Any) -> None:
    layer = build(spec, **sizes)
    xs = [randn(2, 7, *shape, seed=k) for k, shape in enumerate(inputs)]
    assert_streams(layer, xs, (1, 2, 4), random_state(layer, xs))


@pytest.mark.parametrize("spec, by_hand, sizes, inputs", CASES, ids=NAMES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gradcheck(spec: str, by_hand: Any, sizes: Any, inputs: Any) -> None:
    layer = build(spec, **sizes)
    xs = [randn(2, 3, *shape, seed=k).requires_grad_() for k, shape in enumerate(inputs)]
    assert torch.autograd.gradcheck(lambda *xs: layer(*xs)[0], xs, check_forward_ad=True)


@pytest.mark.parametrize(
    "spec, products", [(ELMAN, 2), (ANTISYMMETRIC, 1), (HEADS, 1), (READOUT, 2), (ATTENTION, 2)]
)
def test_a_step_writes_no_product_down(spec: str, products: int) -> None:
    spec = spec.replace("h[t]: c", "h[t]: (b, c)") if spec is ATTENTION else spec
    text = seqc.emit(spec, target="reference")
    assert text.count("contract(") == products, text


def test_a_product_that_is_output_is_summed() -> None:
    spec = """
layer L
size a, b
input x[t]: a
input y[t]: b
state h[t]: b
o[t] = x[t] * y[t]
h[t] = 0.5 * h[t-1] + sum(o[t], a)
output h[t], o[t]
"""
    assert "contract" not in seqc.emit(spec, target="reference")


@pytest.mark.parametrize("spec, products", [(READOUT, 2), (ATTENTION, 2)])
def test_a_sequence_writes_no_product_down(spec: str, products: int) -> None:
    spec = spec.replace("h[t]: c", "h[t]: (b, c)") if spec is ATTENTION else spec
    text = seqc.emit(spec, target="torch").split("def _parallel", 1)[1]
    assert text.count("contract(") == products, text


def test_what_is_no_larger_than_a_factor_is_multiplied() -> None:
    spec = """
layer L
size a, b
input x[t]: (a, b)
input y[t]: a
state h[t]: b
h[t] = 0.5 * h[t-1] + sum(x[t] * y[t], a)
output h[t]
"""
    assert "contract" not in seqc.emit(spec, target="reference")


def test_a_large_product_fits() -> None:
    spec = ELMAN.replace("tanh(", "(")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = build(spec, dtype=torch.float32, input=2, hidden=4096)
        y, _ = layer(randn(512, 1, 2, dtype=torch.float32))  # terms of 34 GB, were they written
    assert y.shape == (512, 1, 4096)


def test_dtypes_meet_as_in_a_product() -> None:
    a, b = randn(3, 4, dtype=torch.float32), randn(2, 4, dtype=torch.bfloat16)
    got = contract("ij ...j -> ...i", a, b)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, b.float() @ a.T)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_under_torch_compile(dynamo: Any) -> None:
    layer = build(ELMAN, input=3, hidden=5)
    x = randn(2, 4, 3)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x)[0], layer(x)[0])


@pytest.mark.parametrize("order", ["hidden, slots, keys", "slots, hidden, keys"])
def test_axes_that_no_factor_has_both_of(order: str, backend: str) -> None:
    """A product's axes stand in the layer's order, whichever factor comes first; the result's in
    that of its declaration."""
    layer = build(
        f"layer Outer\nsize {order}\ninput a[t]: (hidden, keys), b[t]: (slots, keys)\n"
        "y[t]: (hidden, slots) = sum(a[t] * b[t], keys)\noutput y[t]\n",
        backend, hidden=3, slots=3, keys=2,
    )  # fmt: skip
    a, b = randn(1, 2, 3, 2), randn(1, 2, 3, 2, seed=2)
    want = torch.einsum("bthk,btsk->bths", a, b)
    torch.testing.assert_close(layer(a, b)[0], want)
