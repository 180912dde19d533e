"""Forms that are found only by looking closer, held to float64 loops that know nothing of seqc.

The specs are those of tests/laws.py, so that their kernels are built once for these tests and for
those of cut time; the loops here are written from what each spec says.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import seqc
from tests.laws import HEAD, KNOWN, LAWS
from tests.layer.support import HAVE_CXX, build, leaf, outputs_of, randn, relative_error
from tests.layer.test_cut_time import compiled

pytestmark = [pytest.mark.cpp, pytest.mark.skipif(not HAVE_CXX, reason="no C++ compiler")]

Step = Callable[..., tuple[Tensor, ...]]


def softplus(x: Tensor) -> Tensor:
    """Unlike torch's, no straight line above 20."""
    return torch.logaddexp(x, torch.zeros_like(x))


def kalman(x: Tensor, w: Tensor, p: Tensor) -> tuple[Tensor, ...]:
    v = 0.81 * p + softplus(w)
    g = v / (v + softplus(x))
    return ((1 - g) * v,)


def rectified(x: Tensor, w: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    return (torch.relu(torch.tanh(3 * w) * h + x),)


def limits(x: Tensor, w: Tensor, h: Tensor, low: float = -0.5) -> tuple[Tensor, ...]:
    u = torch.tanh(2 * w) * h + x
    return (u.clamp(torch.full_like(w, low), 1 + w),)  # torch's: the upper one, if out of order


def best(x: Tensor, w: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    return (
        torch.maximum(a - 0.1, b - softplus(w)) + x,
        torch.maximum(a - 2, b - 0.2) + w,
    )


def shortest(x: Tensor, w: Tensor, a: Tensor, late: Tensor) -> tuple[Tensor, ...]:
    return torch.minimum(torch.minimum(a + w, late + x), 2 + x), a


def hidden(x: Tensor, w: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    return (
        torch.logaddexp(a - 0.4, b - softplus(w)) + x,
        torch.logaddexp(a - 2, b - 0.3) - 0.3 * x,
    )


def six(x: Tensor, w: Tensor, *s: Tensor) -> tuple[Tensor, ...]:
    a, b, c, d, e, f = s
    c_now = 0.4 * c + 0.3 * b + w
    return (
        0.5 * a + 0.2 * f * torch.sigmoid(w) + x,
        0.5 * b - 0.3 * a,
        c_now,
        0.3 * d - 0.4 * c_now,
        0.2 * e + torch.tanh(x) * d,
        0.6 * f - 0.1 * e,
    )


def five(x: Tensor, w: Tensor, *s: Tensor) -> tuple[Tensor, ...]:
    now = torch.maximum(torch.maximum(s[0] - softplus(w), s[4] - 0.5), x)
    return (now, *s[:4])


#: name -> (a step, what the carries start at, which of them are put out)
LOOPS: dict[str, tuple[Step, Sequence[float], Sequence[int]]] = {
    "variance of a Kalman filter": (kalman, [1], [0]),
    "rectified, of either sign": (rectified, [0], [0]),
    "limits in any order": (limits, [0], [0]),
    "best of two paths": (best, [0, -1], [0, 1]),
    "shortest of two paths, delayed": (shortest, [3, 3], [0]),
    "two hidden states": (hidden, [0, -1], [0, 1]),
    "six coupled states": (six, [0, 0, 0, 0, 0, 1], [0, 3, 5]),
    "best of five steps ago": (five, [-1] * 5, [0]),
}


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def layer_of(name: str, channels: int, dtype: torch.dtype = torch.float64) -> Any:
    _, spec = {**LAWS, **KNOWN}[name]
    return build(compiled(spec), "cpp", hidden=channels, dtype=dtype)


def run_loop(
    name: str, x: Tensor, w: Tensor, resets: Tensor | None
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs (B, T, hidden) and the carries after the last step."""
    step, starts, put_out = LOOPS[name]
    init = [torch.full_like(x[:, 0] if x.shape[1] else x.sum(1), float(s)) for s in starts]
    carries, rows = list(init), []
    for t in range(x.shape[1]):
        if resets is not None:
            again = resets[:, t, None]
            carries = [torch.where(again, i, c) for i, c in zip(init, carries, strict=True)]
        carries = list(step(x[:, t], w[:, t], *carries))
        rows.append([carries[i] for i in put_out])
    if not rows:
        return [x.new_zeros(x.shape) for _ in put_out], carries
    return [torch.stack(column, 1) for column in zip(*rows, strict=True)], carries


def compare(
    name: str, x: Tensor, w: Tensor, resets: Tensor | None, tolerance: float, grads: bool = True
) -> None:
    """The kernels against the loop on the same numbers: outputs, and gradients of the inputs."""
    given = [leaf(v) for v in (x, w)]
    y, _ = layer_of(name, x.shape[-1], x.dtype)(*given, resets=resets)
    wide = [leaf(v, torch.float64) for v in (x, w)]
    want, _ = run_loop(name, *wide, resets)
    got = outputs_of(y)
    assert len(got) == len(want)
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        assert relative_error(a, b) < tolerance, f"output {k}"
    if not grads or not x.numel():
        return
    seeds = [randn(*v.shape, seed=11 + k) for k, v in enumerate(want)]

    def pull(ys: Sequence[Tensor], leaves: list[Tensor]) -> tuple[Tensor, ...]:
        total = torch.stack([(v * s.to(v)).sum() for v, s in zip(ys, seeds, strict=True)]).sum()
        return torch.autograd.grad(total, leaves)

    found, known = pull(got, given), pull(want, wide)
    for k, (a, b) in enumerate(zip(found, known, strict=True)):
        assert relative_error(a, b) < tolerance, f"gradient of input {k}"


@pytest.mark.parametrize("name", list(LOOPS))
def test_where_time_is_cut(name: str) -> None:
    T = 2_800
    resets = torch.rand(1, T, generator=torch.Generator().manual_seed(3)) < 1e-3
    compare(name, randn(1, T, 12, seed=5), randn(1, T, 12, seed=6), resets, 1e-10)


@pytest.mark.parametrize("name", list(LOOPS))
def test_odd_sizes_and_few_steps(name: str) -> None:
    for B, T, channels in ((2, 0, 3), (3, 1, 5), (2, 7, 17), (1, 23, 1)):
        resets = torch.rand(B, T, generator=torch.Generator().manual_seed(3)) < 0.2
        for mask in (None, resets):
            x, w = randn(B, T, channels, seed=5), randn(B, T, channels, seed=6)
            compare(name, x, w, mask, 1e-11)


@pytest.mark.parametrize("name", list(LOOPS))
def test_the_state_handed_in_and_out(name: str) -> None:
    layer = layer_of(name, 3)
    x, w = randn(2, 9, 3, seed=5), randn(2, 9, 3, seed=6)
    (want, _), state, parts = layer(x, w), None, []
    for start, end in ((0, 4), (4, 4), (4, 9)):
        y, state = layer(x[:, start:end], w[:, start:end], state=state)
        parts.append(outputs_of(y))
    for k, whole in enumerate(outputs_of(want)):
        assert relative_error(torch.cat([p[k] for p in parts], 1), whole) < 1e-12


@pytest.mark.parametrize("name", ["best of two paths", "best of five steps ago"])
def test_nothing_is_possible_for_a_while(name: str) -> None:
    """-inf among the inputs of a maximum, alone and in all of them at once."""
    T = 2_800
    x, w = randn(1, T, 12, seed=5), randn(1, T, 12, seed=6)
    x[:, 700:720] = -torch.inf
    x[:, 1500], w[:, 1500] = -torch.inf, -torch.inf
    resets = torch.zeros(1, T, dtype=torch.bool)
    resets[:, 2000] = True
    compare(name, x, w, resets, 1e-10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_logarithms_of_any_size(dtype: torch.dtype) -> None:
    T = 2_800
    sign = randn(1, T, 12, seed=5).sign()
    x, w = (80 * sign).to(dtype), (80 * randn(1, T, 12, seed=6)).to(dtype)
    wide = dtype == torch.float64
    # In float32 states near 1e5 are 8e-3 apart, so that their share of a sum is not known.
    compare("two hidden states", x, w, None, 1e-10 if wide else 2e-5, grads=wide)


def test_logarithms_of_nothing() -> None:
    """An emission that is impossible in one state, then in both until a reset: no NaN anywhere."""
    T = 2_800
    x, w = randn(1, T, 12, seed=5), randn(1, T, 12, seed=6)
    x[:, 1500] = torch.inf  # a is inf, b is -inf
    x[:, 700] = -torch.inf  # and the other way round
    resets = torch.zeros(1, T, dtype=torch.bool)
    resets[:, [701, 1501]] = True
    given = [leaf(v) for v in (x, w)]
    y, _ = layer_of("two hidden states", 12)(*given, resets=resets)
    want, _ = run_loop("two hidden states", x, w, resets)
    for a, b in zip(outputs_of(y), want, strict=True):
        assert relative_error(a, b) < 1e-10
    finite = sum(v.where(v.isfinite(), torch.zeros_like(v)).sum() for v in outputs_of(y))
    grads = torch.autograd.grad(finite, given)
    assert not any(g.isnan().any() for g in grads)


@pytest.mark.parametrize("name", ["rectified, of either sign", "limits in any order"])
def test_coefficients_of_zero_and_one(name: str) -> None:
    """A step with a = 0 forgets its limits; with |a| = 1 nothing does, over any stretch."""
    T = 2_800
    x, w = 1e3 * randn(1, T, 12, seed=5), 40 * randn(1, T, 12, seed=6).sign()
    w[:, ::97] = 0.0
    w[:, 1200:1900] = 40.0
    compare(name, x, w, None, 1e-10)


def test_limits_are_hypers() -> None:
    """They are changed on the built layer, in and out of order."""
    _, spec = LAWS["limits in any order"]
    layer = build(compiled(spec), "cpp", hidden=12)
    x, w = randn(1, 2_800, 12, seed=5), randn(1, 2_800, 12, seed=6)
    for low in (-3.0, 0.4, 5.0):
        layer.low = low
        h, rows = x.new_zeros(1, 12), []
        for t in range(x.shape[1]):
            (h,) = limits(x[:, t], w[:, t], h, low)
            rows.append(h)
        assert relative_error(layer(x, w)[0], torch.stack(rows, 1)) < 1e-10


def test_exact_and_worthless_observations() -> None:
    T = 2_800
    x, w = 80 * randn(1, T, 12, seed=5), 20 * randn(1, T, 12, seed=6)
    compare("variance of a Kalman filter", x, w, None, 1e-10)


TAGS = """
layer Tags
size   src = tags, tags
input  e[t]: tags
param  trans: (src, tags) = normal(0, 1)
state  alpha[t]: tags
alpha[t] = {}
output alpha[t]
"""


@pytest.mark.parametrize(
    ("update", "algebra"),
    [
        ("e[t] + logsumexp({p} + trans, src)", "log-affine"),
        ("e[t] + log(sum(exp({p} + trans), src))", "log-affine"),
        ("e[t] + log(sum(exp({p}) * softmax(trans, tags), src))", "log-affine"),
        ("alpha[t-1] + log(sum(sigmoid(trans) * exp({p} - alpha[t-1]) / 2, src))", "log-affine"),
        ("e[t] + max({p} + trans, src)", "max-plus"),
        ("min({p} + trans + e[t], src)", "min-plus"),
        ("max(min(min({p}, trans), e[t]), src)", "max-min"),
        ("max(min(max({p}, trans), src), e[t])", "min-max"),
        (
            "logaddexp(e[t] + logsumexp({p} + trans, src), -9)",
            "log-affine",
        ),
    ],
)
def test_hidden_states_along_an_axis(update: str, algebra: str) -> None:
    """A full matrix a step is known for what it is, whatever runs it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", seqc.SeqcWarning)
        before = "rename(alpha[t-1], tags = src)"
        (s,) = seqc.check(TAGS.format(update.format(p=before)))["Tags"].strata
    assert (s.algebra, str(s.verdict), s.jacobian) == (algebra, "proved", "full")


THREE = (
    "layer L\n" + HEAD + "state a[t]: hidden, b[t]: hidden = -1, c[t]: hidden = -2\n"
    "a[t] = logaddexp(a[t-1] - 0.4, b[t-1] - softplus(w[t])) + x[t]\n"
    "b[t] = logaddexp(logaddexp(a[t-1] - 2, b[t-1] - 0.5), c[t-1] - 1) - 0.3 * x[t]\n"
    "c[t] = log(exp(b[t-1] - 1) + exp(c[t-1] - 0.3)) + 0.5 * w[t]\noutput c[t]\n"
)


@pytest.mark.slow
def test_three_hidden_states() -> None:
    stratum = seqc.check(THREE)["L"].strata[0]
    assert (stratum.algebra, stratum.method) == ("block-log-affine", "scan")
    layer = build(compiled(THREE), "cpp", hidden=3)
    x, w = leaf(randn(1, 2_800, 3, seed=5)), leaf(randn(1, 2_800, 3, seed=6))
    zero = torch.zeros(1, 3, dtype=torch.float64)
    a, b, c, rows = zero, zero - 1, zero - 2, []
    for t in range(2_800):
        u, v = x[:, t], w[:, t]
        a, b, c = (
            torch.logaddexp(a - 0.4, b - softplus(v)) + u,
            torch.logsumexp(torch.stack([a - 2, b - 0.5, c - 1]), 0) - 0.3 * u,
            torch.logaddexp(b - 1, c - 0.3) + 0.5 * v,
        )
        rows.append(c)
    seed = randn(1, 2_800, 3, seed=7)
    got, want = layer(x, w)[0], torch.stack(rows, 1)
    assert relative_error(got, want) < 1e-10
    grads = [torch.autograd.grad((y * seed).sum(), (x, w)) for y in (got, want)]
    for g, k in zip(*grads, strict=True):
        assert relative_error(g, k) < 1e-10


BESIDE = (
    "layer L\n" + HEAD + "state s[t]: complex hidden, h[t]: hidden\n"
    "s[t] = 0.9 * cis(w[t]) * s[t-1] + x[t]\n"
    "h[t] = max_plus(-sigmoid(w[t]), im(s[t-1]))(h[t-1])\ny[t] = h[t] + re(s[t])\noutput y[t]\n"
)


def test_an_algebra_named_beside_a_complex_state() -> None:
    layer = build(compiled(BESIDE), "cpp", hidden=3)
    x, w = leaf(randn(1, 2_800, 3, seed=5)), leaf(randn(1, 2_800, 3, seed=6))
    a = b = h = torch.zeros(1, 3, dtype=torch.float64)
    rows = []
    for t in range(2_800):
        u, v = x[:, t], w[:, t]
        h = torch.maximum(h - torch.sigmoid(v), b)
        a, b = (
            0.9 * (torch.cos(v) * a - torch.sin(v) * b) + u,
            0.9 * (torch.sin(v) * a + torch.cos(v) * b),
        )
        rows.append(h + a)
    got, want = layer(x, w)[0], torch.stack(rows, 1)
    assert relative_error(got, want) < 1e-10
    seed = randn(1, 2_800, 3, seed=7)
    grads = [torch.autograd.grad((y * seed).sum(), (x, w)) for y in (got, want)]
    for g, k in zip(*grads, strict=True):
        assert relative_error(g, k) < 1e-10
