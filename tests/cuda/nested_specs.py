"""Layers whose kernels sum over an axis, each for something that their layout must get right."""

from __future__ import annotations

from typing import Any

from tests.layer.support import build

S6 = """
layer S6
size  hidden, slots
input x[t]: hidden
input dt[t]: hidden
input b[t]: slots
input c[t]: slots
param a: (hidden, slots) = -1
param d: hidden = 1
state h[t]: (hidden, slots)
h[t] = exp(-softplus(dt[t]) * abs(a)) * h[t-1] + softplus(dt[t]) * b[t] * x[t]
y[t] = sum(c[t] * h[t], slots) + d * x[t]
output y[t]
"""
# An axis before the lanes, and gates without lanes.
LINEAR_ATTENTION = """
layer LinearAttention
size  heads, slots, hidden
input q[t]: (heads, slots)
input k[t]: (heads, slots)
input g[t]: (heads, slots)
input e[t]: heads
input v[t]: (heads, hidden)
state S[t]: (heads, slots, hidden) = learned
S[t] = sigmoid(g[t] + e[t]) * S[t-1] + k[t] * v[t]
o[t] = sum(q[t] * S[t], slots)
output o[t]
"""
# A sum that a second state and a second sum need, on the way forward and again on the way back.
TWICE = """
layer Twice
size  slots, hidden
input q[t]: slots
input k[t]: slots
input v[t]: hidden
input w[t]: hidden
state S[t]: (slots, hidden)
state R[t]: (slots, hidden) = learned
S[t] = sigmoid(w[t]) * S[t-1] + tanh(k[t]) * v[t]
u[t] = sum(q[t] * S[t], slots)
R[t] = sigmoid(u[t]) * R[t-1] + u[t] * k[t] * S[t-1]
o[t] = sum(tanh(u[t] * q[t]) * R[t], slots) * tanh(u[t])
output o[t]
"""
# A carry of lanes alone, read late and after the step; a value of the inner axis put out.
BESIDE = """
layer Beside
size  hidden, slots
hyper rate = 0.7
input x[t]: hidden
input c[t]: slots
state h[t]: (hidden, slots) = learned
state m[t]: hidden = learned
state n[t]: (hidden, slots) = 0.5
h[t] = 0.9 * h[t-1] + c[t] * x[t]
r[t] = sum(h[t] * tanh(c[t]), slots)
m[t] = rate * m[t-1] + tanh(r[t]) * x[t]
n[t] = 0.5 * n[t-1] + tanh(m[t]) * h[t-1] + m[t-1]
p[t] = sum(n[t] * c[t], slots)
z[t] = n[t] - h[t]
output r[t], m[t], p[t], z[t]
"""
CONSTANTS = """
layer Constants
size  hidden, slots
input x[t]: hidden
input w[t]: (hidden, slots)
param p: (hidden, slots) = 0.5
param q: slots = 0.5
param r: hidden = 0.5
param z: 1 = 0.5
state h[t]: (hidden, slots)
h[t] = sigmoid(w[t] * q) * h[t-1] + p * x[t] * z
y[t] = sum(tanh(r) * h[t] * q, slots)
output y[t]
"""
DROPS = """
layer Drops
size  hidden, slots
hyper p = 0.3
input x[t]: hidden
input w[t]: slots
state h[t]: (hidden, slots)
h[t] = 0.9 * h[t-1] + drop(x[t], p) * drop(w[t], p) + drop(x[t] * w[t], p)
y[t] = sum(h[t] * w[t], slots)
output y[t]
"""
# No lanes at all.
ONE_LANE = """
layer OneLane
size  slots
input x[t]: 1
input w[t]: slots
param q: slots = 0.5
state h[t]: slots = learned
h[t] = sigmoid(q) * h[t-1] + w[t] * x[t]
y[t] = sum(h[t] * w[t], slots)
output y[t]
"""
# No law: what goes into the state needs a sum over what it was before, which the output needs too.
DELTA_RULE = """
layer DeltaRule
size  slots, hidden
input q[t]: slots
input k[t]: slots
input v[t]: hidden
input w[t]: hidden
state S[t]: (slots, hidden) = learned
u[t] = v[t] - sum(tanh(k[t]) * S[t-1], slots)
S[t] = S[t-1] + 0.3 * sigmoid(w[t]) * tanh(k[t]) * u[t]
o[t] = sum(q[t] * S[t], slots) * tanh(u[t])
output o[t]
"""
# No law and one sum, and names that the kernel has itself or makes.
NAMES = """
layer Names
size  part, hidden, slots
input live[t]: (part, hidden)
input live_now[t]: slots
input kept[t]: part
param late: (part, hidden, slots) = 0.5
param live_own: slots = 0.5
state record[t]: (part, hidden, slots)
state warp[t]: (part, hidden)
record[t] = tanh(late * record[t-1] + live_now[t] * live_own * live[t])
sum_[t] = sum(record[t] * live_now[t], slots) + kept[t]
warp[t] = 0.5 * warp[t-1] + sum_[t]
live_at[t] = warp[t] * sum(record[t] * late, slots)
output live_at[t], sum_[t]
"""
SPECS = {
    "S6": S6, "LINEAR_ATTENTION": LINEAR_ATTENTION, "TWICE": TWICE, "BESIDE": BESIDE,
    "CONSTANTS": CONSTANTS, "ONE_LANE": ONE_LANE, "DELTA_RULE": DELTA_RULE, "NAMES": NAMES,
}  # fmt: skip


def make(name: str, lanes: int, inner: int, **more: Any) -> Any:
    """A layer with this many lanes and elements of the axis that is summed over."""
    sizes: dict[str, Any] = {"slots": inner}
    if name != "ONE_LANE":
        sizes["hidden"] = lanes
    if name == "LINEAR_ATTENTION":
        sizes["heads"] = 2
    if name == "NAMES":
        sizes["part"] = 2
    spec = DROPS if name == "DROPS" else SPECS[name]
    return build(spec, "cpp", **(sizes | more))
