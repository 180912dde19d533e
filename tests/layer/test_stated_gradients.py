"""Stated derivatives: values exact, gradients those of the spec, to second order, everywhere."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import seqc
from seqc.runtime.graft import graft
from tests.layer.support import assert_streams, build, compiled, leaf, randn, random_state

# A leaky integrate-and-fire neuron: Neftci, Mostafa, Zenke, "Surrogate gradient learning" (2019).
LIF = """
def spike(u) = where(u >= 0, 1, 0)
gradient spike(u) = max(0, 1 - abs(u))

layer LIF
size  input, hidden
hyper decay = 0.9, threshold = 0.3
input x[t]: input
state v[t]: hidden
i[t]: hidden = linear(x[t])
v[t] = decay * v[t-1] + i[t]
s[t] = spike(v[t] - threshold)
output s[t], v[t]
"""

# The spike resets the potential, so that its derivative goes through time: step by step.
RESETTING = """
def spike(u) = where(u >= 0, 1, 0)
gradient spike(u) = max(0, 1 - abs(u))

layer Resetting
size  hidden
input x[t]: hidden
state v[t]: hidden, s[t]: hidden
v[t] = 0.9 * v[t-1] * (1 - s[t-1]) + x[t]
s[t] = spike(v[t] - 0.3)
output s[t], v[t]
"""

QUANTISED = """
# Straight through a quantiser, whose scale has a derivative of its own.
def quantise(u, scale) = scale * floor(u / scale + 0.5)
gradient quantise(v, by) = (1, floor(v / by + 0.5) - v / by)

layer Quantised
size  hidden
input x[t]: hidden
state h[t]: hidden
param scale: 1 = 0.25
h[t] = 0.5 * h[t-1] + quantise(x[t], exp(scale))
output h[t]
"""


class Spike(torch.autograd.Function):
    """By hand."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return grad * (1 - u.abs()).clamp(min=0)


def neurons(x: Tensor, v: Tensor, reset: bool) -> tuple[Tensor, Tensor]:
    s, found = torch.zeros_like(v), []
    for x_t in x.unbind(1):
        v = 0.9 * (v * (1 - s) if reset else v) + x_t
        s = Spike.apply(v - 0.3)
        found.append((s, v))
    return torch.stack([s for s, _ in found], 1), torch.stack([v for _, v in found], 1)


def grads(results: Any, leaves: Any) -> tuple[Tensor, ...]:
    total = sum((r * randn(*r.shape, seed=k)).sum() for k, r in enumerate(results))
    return torch.autograd.grad(total, leaves)


def test_spikes_in_a_scan(backend: str) -> None:
    layer = build(LIF, backend, input=3, hidden=5)
    x = leaf(randn(2, 9, 3))
    (s, v), _ = layer(x)
    own = nn.functional.linear(x, layer.get_parameter("i.weight"), layer.get_parameter("i.bias"))
    want = neurons(own, torch.zeros(2, 5, dtype=x.dtype), False)
    assert torch.equal(s, want[0])
    assert 0 < s.mean() < 1
    torch.testing.assert_close(v, want[1])
    leaves = [x, *layer.parameters()]
    torch.testing.assert_close(grads((s, v), leaves), grads(want, leaves))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_spikes_that_reset() -> None:
    layer = build(RESETTING, hidden=5)
    x = leaf(randn(2, 9, 5))
    (s, v), _ = layer(x)
    want = neurons(x, torch.zeros(2, 5, dtype=x.dtype), True)
    assert torch.equal(s, want[0])
    torch.testing.assert_close(v, want[1])
    torch.testing.assert_close(grads((s, v), [x]), grads(want, [x]))


def test_a_quantiser(backend: str) -> None:
    layer = build(QUANTISED, backend, spread=None, hidden=5)
    x = leaf(randn(2, 9, 5))
    y, _ = layer(x)
    scale = leaf(layer.scale)
    by = torch.exp(scale)
    rounded = torch.floor(x / by + 0.5)
    # x as it is and by as its own factor have just these derivatives.
    rough = (rounded.detach() - (x / by).detach()) * by + x
    h = torch.zeros(2, 5, dtype=x.dtype)
    hs = []
    for r in rough.unbind(1):
        h = 0.5 * h + r
        hs.append(h)
    want = torch.stack(hs, 1)
    torch.testing.assert_close(y, want)
    got = torch.autograd.grad(y.square().sum(), [x, layer.scale])
    torch.testing.assert_close(got, torch.autograd.grad(want.square().sum(), [x, scale]))


def test_streaming(backend: str) -> None:
    layer = build(LIF, backend, input=3, hidden=5)
    x = [randn(2, 7, 3)]
    assert_streams(layer, x, (1, 2, 4), random_state(layer, x))


CUBIC = """
def f(u) = where(u >= 0, 1, -1)
gradient f(u) = u ^ 3
layer Cubic
size  hidden
input x[t]: hidden
state h[t]: hidden
h[t] = 0.5 * h[t-1] + f(x[t])
output h[t]
"""


def test_the_second_derivative_is_that_of_the_slope(backend: str) -> None:
    layer = build(CUBIC, backend, hidden=3)
    x = leaf(randn(2, 4, 3))
    y, _ = layer(x)
    (first,) = torch.autograd.grad(y[:, -1].sum(), x, create_graph=True)
    share = 0.5 ** torch.arange(3.0, -1, -1).to(x)[:, None]
    torch.testing.assert_close(first, share * x**3)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(second, share * 3 * x**2)


def test_transforms(backend: str) -> None:
    layer = build(CUBIC, backend, hidden=3)
    x, d = randn(2, 4, 3), randn(2, 4, 3, seed=9)
    slope = 0.5 ** torch.arange(3.0, -1, -1).to(x)[:, None] * x**3

    def last(x: Tensor) -> Tensor:
        return layer(x)[0][:, -1].sum()

    torch.testing.assert_close(torch.func.grad(last)(x), slope)
    _, tangent = torch.func.jvp(last, (x,), (d,))
    torch.testing.assert_close(tangent, (slope * d).sum())
    each = torch.func.vmap(torch.func.grad(lambda x: last(x.unsqueeze(0))))(x)
    torch.testing.assert_close(each, slope)


@pytest.mark.parametrize("spec", [LIF, QUANTISED])
def test_under_torch_compile(spec: str, backend: str, dynamo: Any) -> None:
    sizes = {"input": 3, "hidden": 3} if spec is LIF else {"hidden": 3}
    layer = build(spec, backend, **sizes)
    x = leaf(randn(2, 4, 3))
    run = torch.compile(layer, fullgraph=True, backend="aot_eager")
    leaves = [x, *layer.parameters()]
    got, want = (f(x)[0] for f in (run, layer))
    got, want = ((r,) if isinstance(r, Tensor) else r for r in (got, want))
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(grads(got, leaves), grads(want, leaves))


def test_a_graft_is_exact_and_so_are_its_derivatives() -> None:
    value = torch.tensor([math.inf, -math.inf, 1e-300, 1e300]).double().requires_grad_()
    x = torch.tensor([1.0, math.inf, -math.inf, 1e-300]).double().requires_grad_()
    slope = torch.tensor([2.0, 0.0, 3.0, 4.0]).double().requires_grad_()
    got = graft(value, x, slope)
    assert torch.equal(got, value)
    dv, dx, ds = torch.autograd.grad(got.sum(), (value, x, slope), allow_unused=True)
    assert torch.equal(dv, torch.ones_like(dv))
    assert torch.equal(dx, slope)
    assert ds is None or not ds.any()


def test_a_graft_of_numbers_and_over_axes() -> None:
    x = randn(3, 1).requires_grad_()
    value = randn(4).requires_grad_()
    got = graft(value, x, 2.0)
    assert got.shape == (3, 4)
    dv, dx = torch.autograd.grad(got.sum(), (value, x))
    assert torch.equal(dv, torch.full_like(dv, 3.0))
    assert torch.equal(dx, torch.full_like(dx, 8.0))


def test_infinite_arguments_keep_the_value(backend: str) -> None:
    layer = build(LIF.replace("linear(x[t])", "linear(x[t], bias = false)"), backend,
                  input=1, hidden=1)  # fmt: skip
    with torch.no_grad():
        layer.get_parameter("i.weight").fill_(1.0)
    x = leaf(torch.tensor([[[math.inf], [1.0]], [[-math.inf], [1.0]]]).double())
    (s, _), _ = layer(x)
    assert s[..., 0].tolist() == [[1.0, 1.0], [0.0, 0.0]]
    s.sum().backward()
    assert not x.grad.any()


def test_the_kernel_reads_nothing_for_the_slope_alone() -> None:
    text = seqc.emit(CUBIC, target="cpp")
    step = text.split("struct Main", 1)[1].split("});", 1)[0]
    assert "pow" not in step
    assert compiled(CUBIC).KERNELS
