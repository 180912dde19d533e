"""Layers whose kernels sum over several axes, shared by tests of both targets.

Of each the spec, its sizes, and the axes that a cell of its first kernel has all of.
"""

from __future__ import annotations

from typing import Any

_MATRIX = """
size  heads, keys, values
input k[t]: (heads, keys)
input v[t]: (heads, values)
input g[t]: heads
"""
_STATE = """
state S[t]: (heads, keys, values) = learned
S[t] = sigmoid(g[t]) * S[t-1] + k[t] * v[t]
"""
#: Two readouts over different axes, and sums of sums: the second ones are over the lanes.
READOUTS = f"""
layer Readouts
{_MATRIX}
{_STATE}
o[t] = sum(tanh(k[t]) * S[t], keys)
r[t] = mean(tanh(v[t]) * S[t], values)
y[t] = sum(sum(k[t] * S[t] * v[t], keys), values)
z[t] = sum(mean(sum(S[t], keys), values), heads)
output o[t], r[t], y[t], z[t]
"""
#: What is summed over lanes goes on: into values, a gate, another state.
ONWARD = f"""
layer Onward
{_MATRIX}
param w: (keys, values) = 0.5
state n[t]: (heads, keys) = learned
{_STATE}
o[t] = sum(tanh(k[t]) * S[t], keys)
r[t] = sum(w * S[t], values) * sigmoid(k[t])
n[t] = 0.5 * n[t-1] + r[t]
y[t] = n[t] * sum(tanh(o[t]), values) + r[t]
output y[t], S[t]
"""
#: A step that needs sums over two axes, read further along each and both.
MARCH = f"""
layer March
{_MATRIX}
param w: (keys, values) = 0.5
state S[t]: (heads, keys, values) = learned
u[t] = g[t] * sum(tanh(k[t]) * S[t-1], keys)
m[t] = mean(tanh(v[t]) * S[t-1], values)
S[t] = sigmoid(g[t]) * S[t-1] - 0.2 * w * tanh(k[t]) * u[t] - 0.3 * m[t] * tanh(v[t]) + k[t] * v[t]
o[t] = sum(S[t] * k[t], keys) * tanh(u[t])
r[t] = sum(S[t] * v[t], values) + m[t]
y[t] = sum(o[t] * v[t], values) * sum(r[t] * w, keys)
output o[t], r[t], y[t]
"""
#: The same without an axis that is left.
NO_LANES = """
layer NoLanes
size  keys, values
input k[t]: keys
input v[t]: values
param w: (keys, values) = 0.5
state S[t]: (keys, values) = learned
u[t] = sum(tanh(k[t]) * S[t-1], keys)
m[t] = sum(tanh(v[t]) * S[t-1], values)
S[t] = w * S[t-1] - 0.2 * tanh(k[t]) * u[t] - 0.3 * m[t] * tanh(v[t]) + k[t] * v[t]
e[t] = sum(sum(S[t] * w, values), keys) + sum(u[t], values)
r[t] = S[t] * e[t]
output r[t], m[t]
"""
#: Lanes are the last axis: a sum over an axis before them, too, is a cell's own.
OUTER = f"""
layer Outer
{_MATRIX}
{_STATE}
o[t] = sum(tanh(k[t]) * S[t], keys)
m[t] = sum(S[t] * g[t], heads)
y[t] = o[t] * tanh(mean(m[t], keys))
output o[t], m[t], y[t]
"""
SPECS: dict[str, str] = {
    "READOUTS": READOUTS, "ONWARD": ONWARD, "MARCH": MARCH, "NO_LANES": NO_LANES, "OUTER": OUTER,
}  # fmt: skip
INNER: dict[str, tuple[str, ...]] = {
    "READOUTS": ("keys",), "ONWARD": ("values",), "MARCH": ("keys", "values"),
    "NO_LANES": ("keys", "values"), "OUTER": ("heads", "keys"),
}  # fmt: skip


def sizes(name: str, heads: int = 2, keys: int = 3, values: int = 5) -> dict[str, Any]:
    """Extents of a spec's axes."""
    found = {"keys": keys, "values": values}
    return found if name == "NO_LANES" else found | {"heads": heads}
