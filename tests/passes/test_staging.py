"""Specs whose plans are not plain: each held against the reference backend, whole and in parts.

A layer's two backends share the frontend and the mathematics, not what comes after: the plan, the
kernels, and the torch text between them on one side, one step of the equations on the other.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

import seqc
from seqc.ir.plan import KernelStage
from seqc.passes.pipeline import Compilation, run
from tests.layer.support import HAVE_CXX, assert_all_close, build, compiled
from tests.passes.support import HEAD, hold_backends_together

pytestmark = [pytest.mark.cpp, pytest.mark.skipif(not HAVE_CXX, reason="no C++ compiler")]

#: After the line ``layer Case``; sizes without a default are 3, 4, 5 in order.
SPECS = {
    # What a state can be.
    "two states of one update": """
size hidden
input x[t]: hidden
state a[t]: hidden
state b[t]: hidden = learned
a[t] = 0.5 * a[t-1] + x[t]
b[t] = 0.5 * a[t-1] + x[t]
y[t] = a[t] * b[t-1]
output y[t], b[t]
""",
    "a state that forgets": """
size hidden
input x[t]: hidden
state p[t]: hidden = learned
p[t] = tanh(x[t])
y[t] = p[t-1] * x[t] + p[t]
output y[t]
""",
    "a state that is an input": """
size hidden
input x[t]: hidden
state p[t]: hidden = learned
p[t] = x[t]
y[t] = p[t-1] * x[t]
output y[t]
""",
    "a state that is another's value": """
size hidden
input x[t]: hidden
state a[t]: hidden = 0.5
state c[t]: hidden = learned
a[t] = 0.5 * a[t-1] + x[t]
c[t] = a[t]
y[t] = a[t] + c[t-1] * a[t-1]
output y[t]
""",
    "a state of another's past": """
size hidden
input x[t]: hidden
state h[t]: hidden = learned
state k[t]: hidden = learned
h[t] = x[t] * k[t-1]
k[t] = 0.5 * k[t-1] + x[t]
output h[t]
""",
    "a constant state": """
size hidden
param p: hidden = normal(0, 1)
input x[t]: hidden
state h[t]: hidden
h[t] = p
y[t] = h[t-1] * h[t] + x[t]
output y[t]
""",
    "a state that nobody reads": """
size hidden
input x[t]: hidden
state h[t]: hidden = learned
state g[t]: hidden
h[t] = 0.5 * h[t-1] + x[t]
g[t] = 0.5 * g[t-1] + h[t]
y[t] = tanh(x[t])
output y[t]
""",
    "strata through strata": """
size hidden
input x[t]: hidden
hyper q = 0.4
param p: hidden = 0.3
param s: 1 = 0.3
w: hidden = sigmoid(p) * q + s
state h[t]: hidden
state g[t]: hidden
state f[t]: hidden
state e[t]: hidden
h[t] = q * h[t-1] + x[t]
g[t] = p * g[t-1] + h[t]
f[t] = w * f[t-1] + g[t-1]
e[t] = s * e[t-1] + f[t-1] * h[t-1]
output e[t]
""",
    "no reset of its own, no stream": """
size hidden
param p: hidden = 0.3
input x[t]: hidden
state h[t]: hidden = learned
h[t] = 0.5 * h[t-1] + p
output h[t]
""",
    # What is read with a lag.
    "the past put out": """
size hidden
input x[t]: hidden
state h[t]: hidden = learned
h[t] = 0.5 * h[t-1] + x[t]
y[t] = h[t-1]
output y[t]
""",
    "the past of a state in a map": """
size hidden
input x[t]: hidden
state h[t]: hidden = learned
h[t] = 0.5 * h[t-1] + x[t]
o[t]: hidden = sigmoid(linear(h[t-1]))
s[t] = sum(h[t-1], hidden)
y[t] = o[t] * h[t] + s[t]
output y[t], s[t]
""",
    "the past of another name": """
size hidden
input x[t]: hidden
state h[t]: hidden = learned
h[t] = 0.5 * h[t-1] + x[t]
g[t] = h[t-1]
y[t] = g[t-1] * h[t]
output y[t]
""",
    "lags of lags": """
size hidden, k = 2
input x[t]: hidden
state h[t]: hidden = learned
g[t] = tanh(x[t-1]) * x[t-k]
f[t] = g[t-1] + g[t-3] * x[t]
h[t] = sigmoid(f[t-2]) * h[t-1] + f[t]
e[t] = h[t-1] * h[t] + h[t-k]
y[t] = e[t-1] + e[t]
z[t] = y[t-1]
output y[t], z[t]
""",
    "the past of a constant": """
size hidden
input x[t]: hidden
param p: hidden = 0.3
state h[t]: hidden
q[t]: hidden = p
k[t]: hidden = 0.25
h[t] = 0.5 * h[t-1] + x[t] * q[t-2] + k[t-1]
output h[t]
""",
    # Windows.
    "windows of states": """
size hidden, slots
input x[t]: hidden
state h[t]: hidden = learned
state s[t]: (slots, hidden) = 0.5
state n[t]: 1 = learned
h[t] = 0.5 * h[t-1] + x[t]
s[t] = 0.5 * s[t-1] + h[t-2]
m[t] = mean(x[t], hidden)
n[t] = 0.5 * n[t-1] + m[t]
y[t]: hidden = conv(h[t], 3)
z[t]: slots = conv(s[t], 2)
v[t]: hidden = conv(n[t], 4)
output y[t], z[t], v[t]
""",
    "windows of every kind": """
size input, hidden, w = 4
input x[t]: input
state h[t]: hidden = learned
a[t]: hidden = sigmoid(conv(x[t], 1))
b[t]: hidden = conv(x[t], 3)
k[t]: hidden = conv(x[t], w)
d[t]: input = conv(x[t], 2, depthwise = true)
e[t]: hidden = conv(tanh(b[t]), 2)
h[t] = a[t] * h[t-1] + b[t] * e[t] + k[t]
m[t]: hidden = h[t] * tanh(conv(h[t] * k[t], w, depthwise = true))
output d[t], m[t], h[t]
""",
    # Constants.
    "constants put out": """
size hidden, slots
input x[t]: hidden
param p: hidden = 0.3
state h[t]: (hidden, slots)
m[t]: (hidden, slots) = x[t]
k[t]: (hidden, slots) = 2
y[t]: hidden = p
h[t] = 0.5 * h[t-1] + m[t] * k[t]
output h[t], m[t], k[t], y[t]
""",
    "truths of constants": """
size hidden, slots
param p: hidden = normal(0, 1)
hyper q = 0.3
input x[t]: hidden
state h[t]: hidden = learned
state g[t]: (hidden, slots)
h[t] = where(index(hidden) >= 1, 0.5, tanh(p)) * h[t-1] + where(p > 0, x[t], -x[t])
g[t] = where(index(hidden) >= index(slots), g[t-1] * 0.5, 0) + h[t]
y[t] = where(p > p * p, index(hidden), h[t])
k[t] = where(q >= 0.2, log(abs(x[t])), y[t])
output y[t], g[t], k[t]
""",
    "choices of numbers": """
size hidden
param p: hidden = uniform(0.5, 1)
hyper q = 0.3
input x[t]: hidden
state h[t]: hidden = learned
w: hidden = where(p > 0, sqrt(abs(p)), p)
v: hidden = where(q > 0, sqrt(abs(p)), p)
h[t] = 0.5 * h[t-1] + x[t] * w * v
y[t] = where(h[t] > 0, log(abs(p)) * x[t], sqrt(abs(p)) + q / (1 - q))
k[t]: hidden = where(x[t] > q, 1, q)
j[t]: hidden = where(q > 0.2, q, 1)
output y[t], k[t], j[t]
""",
    "choices above a sum": """
size hidden
input x[t]: hidden
state h[t]: hidden = learned
h[t] = 0.5 * h[t-1] + x[t]
z[t]: hidden = linear(x[t])
y[t]: hidden = where(h[t] > 0, log(1 + z[t]^2), linear(h[t]))
k[t] = where(h[t] > 0, log(1 + sum(z[t] * x[t], hidden)^2), 2)
output y[t], k[t]
""",
    "a sequence's choice of a learned number": """
size hidden
input x[t]: hidden
param p: 1 = 0.3
state h[t]: hidden = learned
m[t] = mean(x[t], hidden)
h[t] = 0.5 * h[t-1] + where(m[t] <= 0.1, exp(p), x[t])
output h[t]
""",
    "reductions of constants": """
size hidden, slots
param p: (hidden, slots) = normal(0, 1)
w: hidden = sum(p, slots)
v = mean(w, hidden)
k: hidden = cumsum(w, hidden)
input x[t]: hidden
state h[t]: hidden = w
h[t] = sigmoid(v) * h[t-1] + x[t] * k
y[t]: hidden = shift(h[t] * w, hidden, -1)
output y[t]
""",
    "inits of fewer axes": """
size hidden, slots
param r: hidden = 0.3
param s: 1 = 0.7
hyper q = 2.0
input x[t]: hidden
state m[t]: (hidden, slots) = r
state n[t]: (slots, hidden) = r * q + s
state k[t]: slots = s * q
state j[t]: slots = q / 3 + slots
m[t] = 0.5 * m[t-1] + x[t]
n[t] = 0.5 * n[t-1] + m[t-2]
k[t] = 0.5 * k[t-1] + sum(n[t], hidden)
j[t] = 0.5 * j[t-1] + k[t-2]
output j[t]
""",
    # Axes.
    "two axes in either order": """
size hidden, slots
input x[t]: hidden
input w[t]: slots
state m[t]: (hidden, slots) = learned
state n[t]: (slots, hidden)
param p: slots = normal(0, 1)
f[t]: hidden = sigmoid(linear(x[t]))
e[t]: slots = sigmoid(linear(x[t]))
g[t]: (hidden, slots) = linear(x[t])
k[t]: 1 = linear(x[t])
m[t] = f[t] * e[t] * m[t-1] + p * g[t] * k[t] + w[t]
n[t] = sigmoid(p * k[t]) * n[t-1] + m[t-1] * x[t] + w[t] * f[t]
y[t] = sum(m[t] * n[t], slots)
z[t]: slots = linear(m[t])
u[t]: (slots, hidden) = linear(n[t], z[t])
v[t]: hidden = f[t] * y[t]
s[t]: 1 = mean(v[t], hidden) * k[t]
output y[t], u[t], s[t], n[t], v[t]
""",
    "three axes": """
size a, b, d
input x[t]: a
input y[t]: (a, d)
input w[t]: b
state h[t]: (a, b, d)
state g[t]: (a, b) = 0.5
param p: (a, d) = normal(0, 1)
param q: b = normal(0, 1)
g[t] = sigmoid(w[t]) * g[t-1] + x[t] * q
h[t] = sigmoid(p * q) * h[t-1] * 0.9 + y[t] * w[t] - g[t-1] * x[t]
o[t] = max(h[t], d)
k[t] = cumsum(h[t], a)
j[t] = shift(h[t], b, 1) * q
output o[t], k[t], j[t]
""",
    "masks of fewer axes": """
size hidden, slots
hyper q = 0.0
input x[t]: hidden
input w[t]: slots
state m[t]: (hidden, slots) = learned
d[t] = drop(x[t], q)
e[t] = drop(w[t], q)
n[t] = drop(mean(w[t], slots), q)
m[t] = 0.5 * m[t-1] + d[t] * e[t] * n[t]
output m[t]
""",
    "values without axes": """
size hidden
input x[t]: hidden
input u[t]: 1
state n[t]: 1 = learned
state h[t]: hidden
a[t]: 1 = sigmoid(linear(u[t]))
n[t] = a[t] * n[t-1] + 1 - a[t]
h[t] = n[t] * h[t-1] + x[t] * n[t-1]
m[t]: 1 = sum(h[t], hidden)
output h[t], n[t], m[t]
""",
    "nothing but numbers": """
input u[t]: 1
state n[t]: 1 = learned
z[t]: 1 = linear(u[t])
w[t]: 1 = conv(u[t], 2, depthwise = true)
n[t] = sigmoid(z[t]) * n[t-1] + u[t] + w[t]
output n[t]
""",
    # Kernels one after another.
    "levels": """
size hidden
input x[t]: hidden
state a[t]: hidden = 0.5
state b[t]: hidden = learned
z[t]: hidden = sigmoid(linear(x[t]))
o[t] = tanh(x[t]) * z[t]
a[t] = z[t] * a[t-1] + x[t]
n[t] = sqrt(sum(a[t]^2, hidden) + 1)
u[t] = a[t] / n[t]
g[t]: hidden = sigmoid(linear(u[t], x[t]))
b[t] = g[t] * b[t-1] + u[t] + o[t]
s[t] = exp(b[t] - max(b[t], hidden))
y[t] = s[t] / sum(s[t], hidden)
w[t] = y[t]
output w[t], y[t], u[t]
""",
    "one value by three names": """
size hidden
input x[t]: hidden
state a[t]: hidden = 0.5
a[t] = 0.5 * a[t-1] + x[t]
y[t] = a[t]
z[t] = y[t]
w[t] = x[t]
output y[t], z[t], a[t], w[t]
""",
    "no state at all": """
size hidden
input x[t]: hidden
z[t]: hidden = linear(x[t])
y[t] = tanh(z[t]) * x[t]
output y[t]
""",
    # Names that generated code has uses for.
    "names": """
size batch, time, base = 2, at = 2
hyper wide = 0.3, extents = 0.2, data = 0.1
input b[t]: batch
input x[t]: time
param row: (batch, time) = normal(0, 1)
param first: (batch, base, time) = normal(0, 1)
state n[t]: (batch, time)
state c[t]: (batch, base, time) = learned
state h_start[t]: time
state at_time[t]: time
state EOF[t]: time
z_t[t]: time = sigmoid(linear(x[t]))
pre0[t]: time = linear(x[t])
n[t] = wide * n[t-1] + b[t] * x[t] * row
x_lag[t] = x[t-1]
c[t] = extents * c[t-1] + first * n[t]
h_start[t] = z_t[t] * h_start[t-1] + pre0[t] * x_lag[t] * data
at_time[t] = 0.5 * at_time[t-1] + h_start[t]
EOF[t] = 0.5 * EOF[t-1] + at_time[t]
full[t] = EOF[t] * x[t]
windows[t]: time = conv(full[t], 2)
remember[t] = windows[t] + windows[t-1]
steps[t] = sum(c[t], batch)
split[t] = max(steps[t], base)
Case_k0[t] = split[t] * 2
output n[t], c[t], at_time[t], windows[t], remember[t], steps[t], Case_k0[t]
""",
}


@pytest.mark.parametrize("name", list(SPECS))
def test_the_backends_agree(name: str) -> None:
    hold_backends_together(HEAD + SPECS[name])


def compilation(text: str) -> Compilation:
    return run(seqc.diagnostics.Source(HEAD + text))


def kernels(text: str) -> list[Any]:
    (plan,) = compilation(text).plans
    return [s for s in plan.stages if isinstance(s, KernelStage)]


def test_a_value_used_only_later_is_not_stored() -> None:
    first, second = kernels("""
size hidden
input x[t]: hidden
state a[t]: hidden
state b[t]: hidden
o[t] = tanh(x[t])
a[t] = 0.5 * a[t-1] + x[t]
g[t]: hidden = sigmoid(linear(a[t]))
b[t] = g[t] * b[t-1] + o[t]
output b[t]
""")
    assert [o.name for o in first.kernel.outputs] == ["a"]
    assert {s.name for s in second.kernel.streams} == {"x", "g_pre"}


def test_truths_are_computed_in_the_kernel() -> None:
    (only,) = kernels("""
size hidden
param p: hidden = 0.3
input x[t]: hidden
state h[t]: hidden
h[t] = 0.5 * h[t-1] + where(p > 0, x[t], 0)
output h[t]
""")
    assert [c.name for c in only.kernel.constants] == ["c0_p"] or len(only.kernel.constants) == 1
    assert any(n.op == "gt" for n in only.kernel.body)


@pytest.mark.parametrize("source", ["h[t]", "tanh(h[t])", "h[t-1]", "g[t-1]"])
def test_foresight_of_a_state_is_refused(source: str) -> None:
    with pytest.raises(seqc.SeqcError) as caught:
        compilation(f"""
size hidden
input x[t]: hidden
state h[t]: hidden
h[t] = 0.5 * h[t-1] + x[t]
g[t] = 2 * h[t]
y[t]: hidden = conv({source}, 3, causal = false)
output y[t]
""")
    (said,) = caught.value.diagnostics
    assert said.code == "E302"
    assert said.span is not None
    assert "conv(" in said.span.text


@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_foresight_with_dropout(backend: str) -> None:
    spec = (
        HEAD
        + """
size hidden
hyper q = 0.5
input x[t]: hidden
state h[t]: hidden
z[t]: hidden = conv(drop(x[t], q), 4, causal = false)
h[t] = 0.5 * h[t-1] + z[t]
output h[t]
"""
    )
    layer = build(spec, backend, hidden=3)
    x = torch.randn(2, 9, 3, dtype=torch.float64)
    layer.train()
    torch.manual_seed(1)
    y, _ = layer(x)
    layer.backend = "reference" if backend == "cpp" else "cpp"
    torch.manual_seed(1)
    other, _ = layer(x)
    assert_all_close({"y": y}, {"y": other}, 1e-12)


def test_dropout_of_a_value_without_axes() -> None:
    spec = (
        HEAD
        + """
size hidden
hyper q = 0.5
input x[t]: hidden
state h[t]: hidden
m[t]: hidden = drop(1, q)
h[t] = 0.5 * h[t-1] + x[t]
output m[t], h[t]
"""
    )
    layer = compiled(spec)(hidden=4, dtype=torch.float64)
    (m, _), _ = layer(torch.randn(3, 50, 4, dtype=torch.float64))
    assert set(m.unique().tolist()) == {0.0, 1.0}
    assert (m == m[..., :1]).all()
