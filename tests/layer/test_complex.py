"""Complex states and values, in numbers: against torch's own complex arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import seqc
from tests.layer.support import DTYPES, assert_streams, build, hold_to, randn, random_state

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
Values = Mapping[str, Tensor]

# Orvieto et al., "Resurrecting recurrent neural networks for long sequences" (2023), eq. 5 and 6.
LRU = """
layer LRU
size  input, slots, hidden
input x[t]: input
state z[t]: complex slots
param nu: slots = uniform(-2, 0)
param theta: slots = uniform(-2, 1)
param c: complex (slots, hidden) = normal(0, 1)
rate = exp(-exp(nu))
turn = rate * cis(exp(theta))
gain = sqrt(1 - rate ^ 2)
b[t]: complex slots = linear(x[t], bias = false)
z[t] = turn * z[t-1] + gain * b[t]
y[t] = re(sum(c * z[t], slots))
output y[t]
"""

# Gu et al., "On the parameterization and initialization of diagonal state space models" (2022):
# zero-order hold, conjugate pairs.
S4D = """
layer S4D
size  hidden, slots
input u[t]: hidden
state z[t]: complex (hidden, slots) = learned
param decay: (hidden, slots) = normal(0, 0.5)
param tone: (hidden, slots) = normal(0, 1)
param C: complex (hidden, slots) = normal(0, 1)
param D: hidden = 1
param log_step: hidden = uniform(-6, -2)
a: complex (hidden, slots) = -exp(decay) + tone * cis(pi / 2)
lam = exp(exp(log_step) * a)
B = (lam - 1) / a
z[t] = lam * z[t-1] + B * u[t]
y[t] = 2 * re(sum(C * z[t], slots)) + D * u[t]
output y[t]
"""

EVERYTHING = """
def turned(z, angle) = z * cis(angle)
layer Everything
size  hidden, src = hidden, slots
hyper p = 0.5
input x[t]: hidden
state z[t]: complex hidden = start
state q[t]: hidden
param w: complex (hidden, src) = normal(0, 1)
start: complex hidden = cis(index(hidden))
a[t]: complex hidden = linear(x[t])
v[t] = turned(a[t], x[t]) / (2 + a[t]) - conj(z[t-1]) ^ 3 / 8
m[t] = sum(w * rename(v[t], hidden = src), src)
d[t] = where(x[t] > 0, m[t], 1) - a[t-1] * x[t]
e[t] = shift(cumsum(d[t], hidden), hidden, 1) / 4 + mean(d[t], hidden) - 1
f[t] = drop(e[t] / (1 + abs(e[t])), p) + exp(-a[t] / 4) + (-1) * im(d[t])
z[t] = 0.5 * cis(0.3) * z[t-1] - f[t]
q[t] = abs(z[t] - q[t-1]) + re(x[t]) + im(x[t]) + abs(conj(x[t]))
y[t] = re(z[t]) - 2 * im(1 / z[t])
output y[t], q[t]
"""


def pair(s: Values | None, name: str, like: Tensor) -> Tensor:
    return torch.complex(s[f"{name}_re"], s[f"{name}_im"]) if s else like


def mapped(p: Values, name: str, x: Tensor) -> Tensor:
    parts = (
        torch.nn.functional.linear(x, p[f"{name}.{k}.weight"], p.get(f"{name}.{k}.bias"))
        for k in ("re", "im")
    )
    return torch.complex(*parts)


def ends(z: Tensor) -> dict[str, Tensor]:
    return {"z_re": z.real, "z_im": z.imag}


def lru(p: Values, xs: Sequence[Tensor], s: Values | None) -> Any:
    (x,) = xs
    rate = torch.exp(-torch.exp(p["nu"]))
    lam = torch.polar(rate, torch.exp(p["theta"]))
    c = torch.complex(p["c_re"], p["c_im"])
    b = mapped(p, "b", x) * torch.sqrt(1 - rate**2)
    z, ys = pair(s, "z", torch.zeros_like(b[:, 0])), []
    for b_t in b.unbind(1):
        z = lam * z + b_t
        ys.append((z @ c).real)
    return (torch.stack(ys, 1),), ends(z)


def s4d(p: Values, xs: Sequence[Tensor], s: Values | None) -> Any:
    (u,) = xs
    a = torch.complex(-torch.exp(p["decay"]), p["tone"])
    lam = torch.exp(torch.exp(p["log_step"]).unsqueeze(-1) * a)
    B, C = (lam - 1) / a, torch.complex(p["C_re"], p["C_im"])
    start = torch.complex(p["z_re.init"], p["z_im.init"]).expand(u.shape[0], *a.shape)
    z, ys = pair(s, "z", start), []
    for u_t in u.unbind(1):
        z = lam * z + B * u_t.unsqueeze(-1)
        ys.append(2 * (C * z).sum(-1).real + p["D"] * u_t)
    return (torch.stack(ys, 1),), ends(z)


def everything(p: Values, xs: Sequence[Tensor], s: Values | None) -> Any:
    (x,) = xs
    i = torch.arange(x.shape[2], dtype=x.dtype)
    z = pair(s, "z", torch.polar(torch.ones_like(i), i).expand(x.shape[0], -1))
    q = s["q"] if s else torch.zeros_like(x[:, 0])
    w = torch.complex(p["w_re"], p["w_im"])
    one = torch.ones_like(x[0, 0, 0])
    earlier, ys, qs = 0.0, [], []
    for x_t in x.unbind(1):
        a = mapped(p, "a", x_t)
        v = a * torch.polar(torch.ones_like(x_t), x_t) / (2 + a) - z.conj() ** 3 / 8
        m = v @ w.T
        d = torch.where(x_t > 0, m, 1.0) - earlier * x_t
        e = torch.nn.functional.pad(d.cumsum(-1), (1, 0))[..., :-1] / 4
        e = e + d.mean(-1, keepdim=True) - 1
        f = e / (1 + e.abs()) + torch.exp(-a / 4) - d.imag
        z = 0.5 * torch.polar(one, 0.3 * one) * z - f
        q = (z - q).abs() + x_t + x_t.abs()
        ys.append(z.real - 2 * (1 / z).imag)
        qs.append(q)
        earlier = a
    return (torch.stack(ys, 1), torch.stack(qs, 1)), {**ends(z), "q": q}


CASES: list[tuple[str, Callable[..., Any], dict[str, int], tuple[str, ...], int]] = [
    (LRU, lru, {"input": 3, "slots": 4, "hidden": 5}, ("z_re", "z_im"), 3),
    (S4D, s4d, {"hidden": 3, "slots": 4}, ("z_re", "z_im"), 3),
    (EVERYTHING, everything, {"hidden": 3, "slots": 1}, ("z_re", "z_im", "q"), 3),
]
NAMES = [by_hand.__name__ for _, by_hand, *_ in CASES]


@pytest.mark.parametrize("spec, by_hand, sizes, states, width", CASES, ids=NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given", [True, False])
def test_numbers(
    spec: str, by_hand: Any, sizes: Any, states: Any, width: int, dtype: Any, given: bool
) -> None:
    layer = build(spec, "auto", dtype, **sizes)
    x = [randn(2, 7, width, dtype=dtype)]
    state = None
    if given and by_hand is not everything:  # it carries a[t-1] too
        state = random_state(layer, x)
    tolerance = 1e-11 if dtype == torch.float64 else 2e-5
    hold_to(layer, by_hand, x, state, states=states, tolerance=tolerance)


@pytest.mark.parametrize("spec, by_hand, sizes, states, width", CASES, ids=NAMES)
def test_streaming(spec: str, by_hand: Any, sizes: Any, states: Any, width: int) -> None:
    layer = build(spec, **sizes)
    x = [randn(2, 7, width)]
    assert_streams(layer, x, (1, 2, 4), random_state(layer, x))


@pytest.mark.parametrize("spec, by_hand, sizes, states, width", CASES, ids=NAMES)
def test_gradcheck(spec: str, by_hand: Any, sizes: Any, states: Any, width: int) -> None:
    layer = build(spec, **sizes)
    x = randn(2, 3, width).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x)[0], (x,), check_forward_ad=True)


ABSOLUTE = """
layer Absolute
size  hidden
input x[t]: hidden
input y[t]: hidden
state h[t]: hidden
z[t] = x[t] + y[t] * cis(pi / 2)
h[t] = 0.5 * h[t-1] + abs(x[t] * cis(0) + y[t] * cis(pi / 2)) / 2 + abs(z[t]) / 2
output h[t]
"""


def test_absolute_values_at_the_ends(backend: str) -> None:
    layer = build(ABSOLUTE, backend, torch.float32, hidden=5)
    x = torch.tensor([0.0, 3e30, 3e-30, float("inf"), -3.0]).reshape(1, 1, 5).requires_grad_()
    y = torch.tensor([0.0, 4e30, 4e-30, 1.0, 4.0]).reshape(1, 1, 5).requires_grad_()
    h, _ = layer(x, y)
    want = torch.tensor([0.0, 5e30, 5e-30, float("inf"), 5.0])
    torch.testing.assert_close(h[0, 0], want)
    got = torch.autograd.grad(h.sum(), (x, y))
    finite = [0, 1, 2, 4]
    for g, w in zip(got, ([0.0, 0.6, 0.6, -0.6], [0.0, 0.8, 0.8, 0.8]), strict=True):
        torch.testing.assert_close(g[0, 0, finite], torch.tensor(w))


def test_parts_of_different_axes_are_remembered_alike(backend: str) -> None:
    layer = build(
        """
layer Parts
size hidden
input x[t]: hidden
state h[t]: hidden
v[t] = x[t] + sum(x[t], hidden) * cis(pi / 2)
h[t] = 0.5 * h[t-1] + im(v[t-1]) - re(v[t-2])
output h[t]
""",
        backend,
        hidden=3,
    )
    x = randn(2, 5, 3)
    h, ys = torch.zeros(2, 3, dtype=x.dtype), []
    for t in range(5):
        im = x[:, t - 1].sum(-1, keepdim=True) if t > 0 else 0
        h = 0.5 * h + im - (x[:, t - 2] if t > 1 else 0)
        ys.append(h)
    torch.testing.assert_close(layer(x)[0], torch.stack(ys, 1))
    assert_streams(layer, [x], (1, 2, 2), random_state(layer, [x]))


def test_names() -> None:
    layer = build(S4D, hidden=3, slots=4)
    assert set(dict(layer.named_parameters())) == {
        "decay", "tone", "C_re", "C_im", "D", "log_step", "z_re.init", "z_im.init",
    }  # fmt: skip
    assert layer(randn(1, 1, 3))[1]._fields == ("z_re", "z_im")
    layer = build(LRU, input=2, slots=3, hidden=4)
    assert {"b.re.weight", "b.im.weight"} < set(dict(layer.named_parameters()))


def test_a_complex_matrix_product_is_two_of_each_part() -> None:
    assert seqc.emit(LRU, target="reference").count("contract(") == 2
    assert "contract(" not in seqc.emit(S4D, target="reference")
