"""Values that come to a constant when the equations are rewritten, read by all that looks about.

``0 * u[t]`` is the number 0 to the compiler, without batch or time. With a hyper in place of the 0
it is not, and the layer must be the same.
"""

from __future__ import annotations

import pytest
import torch

import seqc
from tests.layer.support import BACKENDS, assert_all_close, assert_streams, build, outputs_of, randn

SPEC = """
layer Folded
size  hidden, slots
hyper none = 0
input u[t]: 1, x[t]: hidden
state h[t]: hidden
param w: hidden = uniform(-1, 1)
n[t] = NONE * u[t]
p[t] = NONE * u[t] + w
q[t]: hidden = NONE * u[t] + 0.7
m[t] = NONE * x[t] - 1
a[t]: hidden = conv(n[t], 3)
b[t]: hidden = conv(p[t], 3, depthwise = true)
d[t]: slots = linear(n[t], x[t], q[t])
e[t]: 1 = linear(n[t])
f[t]: hidden = linear(p[t])
k[t]: hidden = conv(m[t], 2)
r[t] = max(a[t] + k[t] + f[t], hidden)
h[t] = 0.5 * h[t-1] + n[t] + b[t] + p[t-1] * q[t-2]
y[t] = h[t] + cumsum(p[t], hidden) + shift(m[t], hidden, 1) * e[t]
output y[t], d[t], r[t], n[t], p[t]
"""

#: The same, of a state that needs the reference: its own past goes through a map.
STEPS = """
layer Steps
size  hidden
hyper none = 0
input u[t]: 1
state h[t]: hidden
n[t] = NONE * u[t] + 1
a[t]: hidden = linear(h[t-1], n[t])
b[t]: hidden = conv(n[t], 2) + n[t-1]
h[t] = tanh(a[t]) + b[t]
output h[t], n[t]
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_constant_is_mapped_convolved_reduced_and_read_late(backend: str) -> None:
    compare(SPEC, backend, (randn(2, 6, 1), randn(2, 6, 3, seed=3)), hidden=3, slots=2)


def test_a_constant_meets_the_past_in_a_map() -> None:
    compare(STEPS, "reference", (randn(2, 6, 1),), hidden=3)


def compare(spec: str, backend: str, inputs: tuple[torch.Tensor, ...], **sizes: int) -> None:
    layer = build(spec.replace("NONE", "0"), backend, **sizes)
    want = build(spec.replace("NONE", "none"), "reference", **sizes)
    resets = torch.zeros(2, 6, dtype=torch.bool)
    resets[0, 3] = True
    for length in (6, 1, 0):
        xs = [x[:, :length] for x in inputs]
        values = []
        for each in (layer, want):
            y, final = each(*xs, resets=resets[:, :length])
            each.zero_grad()
            sum(v.square().sum() for v in (*outputs_of(y), *final)).backward()
            values.append({f"output {k}": v for k, v in enumerate(outputs_of(y))} | final._asdict())
            values[-1] |= {f"d {n}": p.grad for n, p in each.named_parameters()}
        assert_all_close(*values, 1e-12)
    assert_streams(layer, inputs, [2, 0, 4])


@pytest.mark.parametrize("use", ["conv(n[t], 3)", "conv(n[t], 2, causal = false)", "linear(n[t])"])
def test_a_layer_of_a_constant_alone(use: str) -> None:
    spec = f"layer L\nsize a\ninput u[t]: 1\nn[t] = 0 * u[t] + 1\ny[t]: a = {use}\noutput y[t]\n"
    layer = seqc.compile(spec)(a=3)
    assert layer(randn(2, 5, 1, dtype=torch.float32))[0].shape == (2, 5, 3)
