"""States over several axes, summed, coupled and delayed: the kernels against the step in torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from torch import Tensor

import seqc
import seqc.codegen.module
from seqc.codegen import sources
from tests.layer.support import HAVE_CXX, build, gradients, leaf, outputs_of, randn, relative_error
from tests.passes.generate_states import random_flat, random_states

pytestmark = [
    pytest.mark.cpp,
    pytest.mark.skipif(not HAVE_CXX, reason="no C++ compiler"),
    pytest.mark.filterwarnings("ignore"),
]

#: More by hand: SEQC_RANDOM_SPECS=1000 pytest tests/passes/test_random_states.py
COUNT = int(os.environ.get("SEQC_RANDOM_SPECS", "8"))
TOLERANCE = 1e-9
#: (batch, steps): a step, several chunks of the march back.
CALLS = ((1, 1), (2, 70))
EXTENTS = (
    {"hidden": 3, "slots": 2, "keys": 2}, {"hidden": 1, "slots": 3, "keys": 2},
    {"hidden": 65, "slots": 2, "keys": 1}, {"hidden": 2, "slots": 5, "keys": 3},
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _quick_builds() -> Iterator[None]:
    """Kernels of a moment's use are not worth optimising."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQC_CXXFLAGS", "-O0")
        yield


def found(
    layer: Any, backend: str, batch: int, steps: int, nudge: float = 0.0
) -> dict[str, Tensor]:
    """Outputs, last states and all gradients, from a state handed in, with resets."""
    layer.backend = backend
    shapes = [layer._shape(axes) or (1,) for axes in layer.INPUTS.values()]
    xs = [leaf(randn(batch, steps, *s, seed=3 + i) + nudge) for i, s in enumerate(shapes)]
    fields = [(*layer._field_shape(f, batch), *(() if f.axes else (1,))) for f in layer.FIELDS]
    state = layer.State(*(leaf(0.5 * randn(*s, seed=50 + i)) for i, s in enumerate(fields)))
    resets = torch.rand(batch, steps, generator=torch.Generator().manual_seed(0)) < 0.05
    y, last = layer(*xs, state=state, resets=resets)
    values = {f"output {i}": v for i, v in enumerate(outputs_of(y))}
    values |= {f"last {n}": v for n, v in last._asdict().items()}
    leaves = {f"input {i}": x for i, x in enumerate(xs)} | dict(layer.named_parameters())
    leaves |= {f"state {n}": v for n, v in state._asdict().items()}
    return values | gradients(list(values.values()), leaves)


def apart(got: dict[str, Tensor], want: dict[str, Tensor]) -> dict[str, float]:
    """How far each tensor is off by its scale, or by 1 where that is smaller."""
    one = torch.ones(1, dtype=torch.float64)
    small = {k: bool(w.numel()) and float(w.abs().max()) < 1 for k, w in want.items()}

    def padded(k: str, v: Tensor) -> Tensor:
        return torch.cat([v.detach().flatten(), one]) if small[k] else v

    return {k: relative_error(padded(k, got[k]), padded(k, w)) for k, w in want.items()}


def hold(layer: Any, calls: tuple[tuple[int, int], ...]) -> None:
    """Both backends agree, as far as the layer itself is no matter of rounding."""
    for batch, steps in calls:
        want = found(layer, "reference", batch, steps)
        errors = apart(found(layer, "cpp", batch, steps), want)
        wrong = {k: e for k, e in errors.items() if not e <= TOLERANCE}
        if wrong:  # chaos: what a nudge moves as far tells nothing
            moved = apart(found(layer, "reference", batch, steps, nudge=1e-14), want)
            wrong = {k: e for k, e in wrong.items() if not e <= 1e4 * moved[k]}
        assert not wrong, f"{batch} sequences of {steps} steps: relative errors {wrong}"


def built(spec: str, extents: dict[str, int]) -> Any:
    try:
        cls: Any = seqc.compile(spec)
    except seqc.SeqcError:  # of what is drawn anyhow, some makes no layer
        reject()
    return build(cls, **{k: v for k, v in extents.items() if k in cls.SIZES})


@settings(max_examples=COUNT, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_random_states(r: Random) -> None:
    layer = built(random_states(r), r.choice(EXTENTS))
    if layer.PARALLEL:
        hold(layer, CALLS)


@settings(max_examples=max(COUNT // 2, 1), suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_random_states_where_time_is_cut(r: Random) -> None:
    """With as few channels as that, and so many threads, were the sequences longer."""
    plain = sources.headers

    def eager(target: str) -> str:
        return plain(target).replace("steps * cells >= 1 << 15", "steps * cells >= 1")

    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sources.PRELUDES, "CPP_HEADERS", lambda: eager("CPP"))
            layer = built(random_flat(r).replace("layer Random", "layer Cut"), EXTENTS[-1])
        if layer.PARALLEL:
            hold(layer, ((1, 70),))
    finally:
        torch.set_num_threads(threads)


HEAD = "layer L\nsize hidden, slots, keys\ninput x[t]: hidden, k[t]: slots\n"
#: Each for something that a layout, or a printed step, has got wrong or might.
SPECS: dict[str, str] = {
    "two marches that sum over different axes": HEAD
    + """
state S[t]: (hidden, slots), R[t]: (hidden, slots)
S[t] = S[t-1] + 0.1 * x[t] * (k[t] - sum(x[t] * S[t-1], hidden))
R[t] = R[t-1] + 0.1 * k[t] * (x[t] - sum(k[t] * R[t-1], slots))
output S[t], R[t]
""",
    "a march, and a scan summed over another axis": HEAD
    + """
state S[t]: (hidden, slots), R[t]: (hidden, slots)
S[t] = S[t-1] + 0.1 * x[t] * (k[t] - sum(x[t] * S[t-1], hidden))
R[t] = 0.9 * R[t-1] + x[t] * k[t]
y[t] = sum(R[t] * x[t], slots)
z[t] = sum(S[t] * x[t], hidden)
output y[t], z[t]
""",
    "numbers and sizes without lanes": """
layer L
size hidden
hyper rate = 0.3
input x[t]: hidden
state h[t]: hidden
h[t] = 0.3 * h[t-1] + x[t]
y[t] = mean(max(rate, h[t-1]) * h[t-1], hidden)
output h[t], y[t]
""",
    "stated gradients between sums": """
def spike(u) = where(u >= 0, 1, 0)
gradient spike(u) = max(0, 1 - abs(u))
def still(u) = u
gradient still(u) = 0
layer L
size hidden, slots
input x[t]: hidden, k[t]: slots
state v[t]: hidden, S[t]: (hidden, slots)
v[t] = 0.9 * v[t-1] * (1 - spike(v[t-1] - 1)) + x[t]
S[t] = 0.9 * S[t-1] + spike(k[t] * v[t]) * still(v[t])
y[t] = spike(sum(S[t] * spike(k[t]), slots))
z[t] = sum(spike(y[t] + k[t]) * spike(S[t]), slots) + still(sum(S[t], slots))
output y[t], z[t]
""",
    "a product of axes that no factor has both of": """
layer L
size hidden, slots, keys, src = hidden
input x[t]: (hidden, slots), k[t]: hidden
param w: (hidden, src) = normal(0, 1)
state h[t]: (hidden, slots), g[t]: (hidden, slots)
h[t] = 0.5 * h[t-1] + x[t]
u[t] = sum(w * rename(h[t], hidden = src), src)
g[t] = sigmoid(k[t]) * g[t-1] + u[t]
y[t] = sum(g[t] * x[t], slots)
output y[t]
""",
    "sums of sums, over either axis and both": HEAD
    + """
state S[t]: (hidden, slots)
S[t] = 0.9 * S[t-1] + x[t] * k[t]
a[t] = sum(S[t], hidden)
b[t] = mean(S[t] * sum(S[t-1] * k[t], slots), slots)
c[t] = sum(sum(S[t] * k[t], slots), hidden)
output a[t], b[t], c[t]
""",
    "a sum in gates of other states": HEAD
    + """
state S[t]: (hidden, slots), m[t]: hidden = learned, R[t]: (hidden, slots)
S[t] = 0.9 * S[t-1] + x[t] * k[t]
y[t] = sum(S[t] * k[t], slots)
m[t] = sigmoid(y[t]) * m[t-1] + y[t]
R[t] = sigmoid(m[t]) * R[t-1] + m[t-1] * S[t-1]
z[t] = sum(R[t] * R[t], slots) + m[t]
w[t] = sum(where(z[t] > R[t], R[t], z[t] * k[t]), slots)
output z[t], m[t], w[t]
""",
    "three axes": """
layer L
size hidden, slots, keys
input x[t]: (hidden, slots), k[t]: keys, q[t]: (hidden, keys)
param p: keys = normal(0, 1), u: (hidden, slots) = normal(0, 1), v: 1 = normal(0, 1)
state S[t]: (hidden, slots, keys) = learned
S[t] = sigmoid(k[t] * p) * S[t-1] + k[t] * x[t] * u + v
y[t] = mean(S[t] * q[t] * index(slots), slots)
output y[t], S[t]
""",
    "delays, and sums of the past": HEAD
    + """
state S[t]: (hidden, slots) = learned
S[t] = 0.5 * S[t-1] - 0.3 * S[t-2] + 0.1 * S[t-4] * k[t] + x[t] * k[t-1]
y[t] = sum(S[t] * k[t-2], slots) + sum(S[t-3], slots)
output y[t]
""",
    "strata of other algebras, summed": HEAD
    + """
state m[t]: (hidden, slots), l[t]: (hidden, slots), c[t]: (hidden, slots)
m[t] = max(m[t-1] - sigmoid(k[t]), x[t])
l[t] = logaddexp(l[t-1] - softplus(m[t]), k[t])
c[t] = clamp(sigmoid(k[t]) * c[t-1] + sum(m[t], slots), -1, 1)
y[t] = sum(c[t] * l[t], slots)
output y[t]
""",
    "a complex state": HEAD
    + """
param th: slots = uniform(-2, 1), c: complex (hidden, slots) = normal(0, 1)
state z[t]: complex (hidden, slots) = learned
z[t] = 0.9 * cis(th * x[t]) * z[t-1] + x[t] * k[t]
y[t] = re(sum(c * z[t], slots)) + im(sum(z[t-1], slots)) + abs(sum(z[t] * c, slots))
output y[t]
""",
    "ties": HEAD
    + """
state a[t]: hidden, b[t]: hidden, c[t]: hidden, d[t]: hidden
a[t] = max(a[t-1], sign(x[t]))
b[t] = min(b[t-1], 0 * x[t])
c[t] = relu(c[t-1] + sign(x[t]))
d[t] = clamp(d[t-1] + sign(x[t]), -1, 1)
e[t] = max(x[t], x[t]) + min(a[t], b[t]) + relu(b[t])
output a[t], b[t], c[t], d[t], e[t]
""",
    "states that are others' past": HEAD
    + """
state a[t]: hidden, b[t]: hidden = learned, c[t]: hidden = 2, d[t]: hidden
a[t] = b[t-1]
b[t] = 0.7 * a[t-1] + x[t]
c[t] = 0.5 * c[t-1] + x[t]
d[t] = 0.5 * c[t-1] + x[t]
output a[t], b[t], c[t], d[t]
""",
    "a state that stays as it is": HEAD
    + """
state m[t]: hidden = learned, S[t]: (hidden, slots)
m[t] = m[t-1]
S[t] = max(S[t-1] - 0.5, k[t])
e[t] = max(S[t-1], m[t-1]) + x[t]
output e[t]
""",
    "a state that is the same along an axis, and one with no past": HEAD
    + """
state S[t]: (hidden, slots) = learned, R[t]: (hidden, slots) = learned
S[t] = 0.9 * S[t-1] + x[t]
R[t] = x[t]
y[t] = sum(S[t] * k[t], slots) + sum(S[t], slots) + sum(R[t-1] * k[t], slots)
output y[t]
""",
}


@pytest.mark.parametrize("name", list(SPECS))
def test_by_hand(name: str) -> None:
    layer = built(SPECS[name], {"hidden": 3, "slots": 2, "keys": 2})
    assert layer.PARALLEL
    hold(layer, ((3, 2), (1, 0), (2, 70)))
