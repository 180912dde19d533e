"""Strata that are taken step by step, among those that kernels run: each backend like the other.

The reference takes the whole layer step by step; here one stratum is a kernel that steps, or a loop
in torch, and what it does not feed on runs before it and after it, for the whole sequence.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import seqc
from seqc.ir.plan import ArrayStage, KernelStage, LoopStage, MapStage, Plan
from seqc.passes.pipeline import problems, run
from seqc.runtime import backends, kernels
from seqc.runtime.backends import choose_backend
from seqc.runtime.kernels import FusedKernel
from seqc.runtime.layer import Layer
from tests.layer.support import HAVE_CXX, assert_all_close, build, gradients, leaf, randn
from tests.passes.generate import random_spec
from tests.passes.support import (
    HEAD,
    hold_backends_together,
    random_arguments,
    values_and_gradients,
)

needs_cxx = [pytest.mark.cpp, pytest.mark.skipif(not HAVE_CXX, reason="no C++ compiler")]


@pytest.fixture(scope="module", autouse=True)
def _quick_builds() -> Iterator[None]:
    """Kernels of a moment's use are not worth optimising."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQC_CXXFLAGS", "-O0")
        yield


#: The kinds of a layer's stages in order (m: a map, a: an array, l: a loop, k: a kernel, s: one
#: that steps), and the spec after the line ``layer Case``; sizes without a default are 3, 4, 5, …
SPECS = {
    "a loop in torch": ("ml", """
size input, hidden, k = 1
input x[t]: input
state h[t]: hidden = learned
h[t] = tanh(linear(x[t]) + linear(h[t-k]))
output h[t]
"""),
    "two loops in torch": ("mlml", """
size hidden, k = 1
input x[t]: hidden
state h[t]: hidden
state g[t]: hidden = learned
h[t] = tanh(linear(x[t]) + linear(h[t-k]))
g[t] = tanh(linear(h[t]) + linear(g[t-k]) * h[t-1])
output g[t]
"""),
    "a loop alone": ("ms", """
size input, hidden
input x[t]: input
state h[t]: hidden = learned
h[t] = tanh(linear(x[t]) + linear(h[t-1]))
output h[t]
"""),
    "a number between steps": ("ms", """
size hidden
input x[t]: hidden
state h[t]: hidden = learned
m[t]: 1 = sigmoid(linear(x[t], h[t-1]))
e[t]: hidden = sigmoid(m[t] * 4 - index(hidden))
a[t] = e[t] * x[t]
b[t] = e[t] * h[t-1]
n[t]: hidden = tanh(linear(a[t]) + linear(b[t]))
h[t] = e[t] * n[t] + (1 - e[t]) * h[t-1]
output h[t], m[t]
"""),
    "heads of their own": ("ms", """
size heads, hidden, src = hidden
input x[t]: (heads, hidden)
param w: (heads, hidden, src) = normal(0, 1)
param v: (heads, src, hidden) = normal(0, 1)
state h[t]: (heads, hidden) = learned
z[t]: (heads, hidden) = linear(x[t])
p[t]: (heads, hidden) = sum(w * rename(h[t-1], hidden = src), src)
r[t] = sigmoid(p[t])
q[t]: (heads, hidden) = sum(v * rename(r[t] * h[t-1], hidden = src), src)
h[t] = tanh(z[t] + q[t] / 2)
output h[t]
"""),
    "low rank, and normed": ("ms", """
size hidden, rank
input x[t]: hidden
state h[t]: hidden = learned
l[t]: rank = linear(h[t-1], bias = false)
u[t]: hidden = linear(l[t]) + linear(x[t])
c[t] = u[t] - mean(u[t], hidden)
h[t] = tanh(c[t] / sqrt(mean(c[t] ^ 2, hidden) + 0.1)) + 0.1 * max(h[t-1], hidden)
output h[t]
"""),
    "a scan of a loop's state": ("msmk", """
size hidden
input x[t]: hidden
state h[t]: hidden
state s[t]: hidden = learned
h[t] = tanh(linear(x[t]) + linear(h[t-1]))
g[t]: hidden = sigmoid(linear(h[t]))
s[t] = g[t] * s[t-1] + h[t]
output s[t]
"""),
    "a loop over a scan's state": ("mkms", """
size hidden
input x[t]: hidden
state h[t]: hidden
state s[t]: hidden = learned
g[t]: hidden = sigmoid(linear(x[t]))
s[t] = g[t] * s[t-1] + (1 - g[t]) * x[t]
h[t] = tanh(linear(s[t]) + linear(h[t-1]) * s[t-1])
output h[t]
"""),
    "a loop between two scans": ("mkmsmk", """
size hidden
input x[t]: hidden
state a[t]: hidden
state h[t]: hidden = 0.5
state b[t]: hidden
f[t]: hidden = sigmoid(linear(x[t]))
a[t] = f[t] * a[t-1] + x[t]
r[t]: hidden = sigmoid(linear(a[t]) + linear(h[t-1]))
n[t]: hidden = tanh(linear(a[t]) + r[t] * linear(h[t-1]))
h[t] = (1 - r[t]) * n[t] + r[t] * h[t-1]
e[t]: hidden = sigmoid(linear(h[t], a[t]))
b[t] = e[t] * b[t-1] + h[t-1] * a[t-1]
y[t] = b[t] * r[t] + f[t]
output y[t], b[t], n[t]
"""),
    "a loop beside a scan": ("msk", """
size hidden
input x[t]: hidden
state h[t]: hidden
state s[t]: hidden = learned
z[t]: hidden = sigmoid(linear(x[t]))
s[t] = z[t] * s[t-1] + x[t]
h[t] = tanh(linear(x[t]) + linear(h[t-1]))
y[t] = s[t] + h[t]
output y[t], s[t]
"""),
    "the cell of a loop read outside": ("msk", """
size input, hidden
input x[t]: input
state h[t]: hidden
state c[t]: hidden
state s[t]: hidden
i[t]: hidden = sigmoid(linear(x[t]) + linear(h[t-1]))
f[t]: hidden = sigmoid(linear(x[t]) + linear(h[t-1]))
g[t]: hidden = tanh(linear(x[t]) + linear(h[t-1]))
c[t] = f[t] * c[t-1] + i[t] * g[t]
h[t] = sigmoid(c[t]) * tanh(c[t])
s[t] = f[t] * s[t-1] + tanh(c[t]) * c[t-1]
output s[t]
"""),
    "a loop after a loop": ("msms", """
size hidden
input x[t]: hidden
state h[t]: hidden
state g[t]: hidden = learned
h[t] = tanh(linear(x[t]) + linear(h[t-1]))
g[t] = tanh(linear(h[t]) + linear(g[t-1]) * h[t-1])
output g[t]
"""),
    "two loops beside one another": ("mss", """
size hidden
input x[t]: hidden
state h[t]: hidden
state g[t]: hidden = learned
h[t] = tanh(linear(x[t]) + linear(h[t-1]))
g[t] = tanh(linear(x[t]) - linear(g[t-1]))
y[t] = h[t-1]
output y[t], g[t]
"""),
    "a march of a loop's value": ("msmk", """
size hidden
input x[t]: hidden
state h[t]: hidden
state m[t]: hidden
r[t]: hidden = sigmoid(linear(h[t-1]))
h[t] = tanh(linear(x[t]) + r[t] * linear(h[t-1]))
q[t]: hidden = linear(h[t])
m[t] = sigmoid(m[t-1] * r[t]) * q[t]
output m[t]
"""),
    "maps of several sources": ("kl", """
size input, hidden, slots
input x[t]: input
input w[t]: (slots, input)
state h[t]: (hidden, slots) = learned
state g[t]: slots
k[t] = tanh(x[t])
h[t] = tanh(linear(w[t], h[t-1], g[t-1], k[t]))
q[t]: slots = linear(w[t], g[t-1])
g[t] = tanh(linear(h[t-1], k[t]) + q[t])
output h[t], g[t]
"""),
    "lags": ("kmlk", """
size hidden, k = 3
input x[t]: hidden
state h[t]: hidden = learned
z[t] = x[t-1] + x[t]
g[t]: hidden = linear(h[t-2])
h[t] = tanh(linear(h[t-1]) + g[t] * h[t-k] + linear(z[t]))
y[t] = h[t-2] * h[t-1]
output h[t], y[t]
"""),
    "a lag that is a size": ("l", """
size hidden, k = 2
input x[t]: hidden
state h[t]: hidden = learned
h[t] = 0.5 * h[t-k] + x[t]
output h[t]
"""),
    "sums and products in a loop": ("l", """
size hidden, slots, src = hidden
input x[t]: hidden
param w: (hidden, src) = normal(0, 1)
param v: (hidden, slots) = normal(0, 1)
state h[t]: hidden = learned
state m[t]: (hidden, slots)
q[t] = sum(w * rename(h[t-1], hidden = src), src)
m[t] = 0.5 * m[t-1] + tanh(q[t]) * v
h[t] = x[t] + mean(m[t], slots) - max(tanh(q[t]), hidden) + cumsum(shift(h[t-1], hidden, 1), hidden)
output h[t]
"""),
    "choices in a loop": ("mksk", """
size hidden
param p: hidden = normal(0, 1)
input x[t]: hidden
state h[t]: hidden = learned
z[t]: hidden = linear(x[t])
k[t] = where(z[t] > 0, log(z[t]), sqrt(-z[t]))
h[t] = where(h[t-1] > 0, 0.3 * log(abs(p)), tanh(linear(h[t-1]))) + a[t] + b[t]
a[t] = where(x[t] > 0, sqrt(x[t]) * h[t-1], 0)
b[t] = where(h[t-1] > 1, k[t], tanh(z[t]))
y[t] = where(h[t-1] > 0, x[t], z[t])
output h[t], y[t]
"""),
    "a state that is another's past": ("msk", """
size hidden
input x[t]: hidden
state h[t]: hidden = learned
state g[t]: hidden = 0.5
state f[t]: hidden
state e[t]: hidden
g[t] = h[t-1]
h[t] = tanh(linear(g[t-1]) + linear(x[t]))
f[t] = h[t]
e[t] = 0.5 * e[t-1] + f[t-1] * g[t]
output e[t]
"""),
    "numbers without axes": ("msa", """
size hidden
input u[t]: 1
state n[t]: 1 = learned
state h[t]: hidden
m[t]: hidden = tanh(linear(n[t-1], u[t]))
n[t] = mean(m[t] * h[t-1], hidden) + u[t]
h[t] = m[t] * n[t]
w[t] = sum(h[t], hidden)
output n[t], w[t]
"""),
    "axes in another order": ("ml", """
size hidden, slots
input x[t]: (slots, hidden)
state h[t]: (slots, hidden) = learned
r[t]: (slots, hidden) = sigmoid(linear(x[t]) + linear(h[t-1]))
h[t] = r[t] * tanh(linear(x[t], h[t-1]))
output r[t], h[t]
"""),
    "complex states": ("msk", """
size hidden
input x[t]: hidden
state z[t]: complex hidden = learned
state s[t]: complex hidden
g[t]: hidden = linear(re(z[t-1]))
z[t] = cis(g[t]) * z[t-1] * 0.5 + linear(x[t])
s[t] = 0.5 * cis(0.3 * x[t]) * s[t-1] + z[t]
y[t] = re(s[t]) + im(s[t])
output y[t]
"""),
    "names": ("mssk", """
size hidden
hyper carried = 0.5, steps = 0.3
input x[t]: hidden
state h[t]: hidden
state h_carry[t]: hidden
state list[t]: hidden
h_t[t]: hidden = linear(x[t])
h_steps[t]: hidden = steps * tanh(linear(h[t-1]) + h_t[t])
h[t] = h_steps[t] * carried
h_carry[t] = tanh(linear(h_carry[t-1]) * h[t])
list[t] = 0.5 * list[t-1] + h_carry[t] * h_steps[t]
output list[t], h_steps[t]
"""),
}  # fmt: skip


def plan_of(name: str) -> Plan:
    (plan,) = run(seqc.diagnostics.Source(HEAD + SPECS[name][1])).plans
    return plan


@pytest.mark.parametrize("name", list(SPECS))
def test_what_runs_where(name: str) -> None:
    letters = {MapStage: "m", ArrayStage: "a", LoopStage: "l", KernelStage: "k"}
    found = "".join(
        "s" if isinstance(s, KernelStage) and s.kernel.stepped else letters[type(s)]
        for s in plan_of(name).stages
    )
    assert found == SPECS[name][0]


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs_cxx) for n in SPECS])
def test_the_backends_agree(name: str) -> None:
    layer = hold_backends_together(HEAD + SPECS[name][1])
    inputs, state, resets = random_arguments(layer)
    found = [
        values_and_gradients(layer, b, inputs, state, resets, steps=True)
        for b in ("cpp", "reference")
    ]
    for got, want in zip(*found, strict=True):
        assert_all_close(got, want, 1e-11)


def test_a_loop_over_what_sees_the_future() -> None:
    spec = (
        HEAD
        + """
size hidden
input x[t]: hidden
state h[t]: hidden
z[t]: hidden = conv(x[t], 3, causal = false)
h[t] = tanh(z[t] + linear(h[t-1]))
output h[t]
"""
    )
    layer = build(quietly(spec), hidden=3)
    inputs, _, resets = random_arguments(layer)
    found = [values_and_gradients(layer, b, inputs, None, resets) for b in ("auto", "reference")]
    for got, want in zip(*found, strict=True):
        assert_all_close(got, want, 1e-12)
    assert layer(inputs[0][:, :0])[0].shape == (2, 0, 3)


def test_a_loop_alone_needs_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to compile, so nothing is looked for; and any device will do."""
    monkeypatch.setattr(backends, "find_compiler", lambda: None)
    layer = quiet("a loop in torch")
    x = randn(2, 3, 3, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y, _ = layer(x)
    assert y.shape == (2, 3, 4)
    assert choose_backend("auto", "mps", None, "Layer", True, kernels=False) == "torch"


@pytest.mark.parametrize("resets", [False, True])
def test_steps_where_a_device_has_no_kernel_for_them(
    resets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on CUDA: torch takes the steps, with the same numbers, and no compiler is asked for."""
    layer = quiet("a loop alone", dtype=torch.float64)
    x = leaf(randn(2, 6, 3))
    anew = torch.tensor([[0, 0, 1, 0, 1, 0], [1, 0, 0, 0, 0, 0]], dtype=torch.bool)
    found = []
    for lacking in ({"cuda"}, {"cpu"}):
        for kernel in layer.KERNELS:
            monkeypatch.setattr(kernel, "lacking", lacking)
        y, last = layer(x, resets=anew if resets else None)
        outputs = {"y": y, "h": last.h}
        found.append(
            outputs | gradients([*outputs.values()], {"x": x, **dict(layer.named_parameters())})
        )
    assert_all_close(found[0], found[1], 1e-12)
    for kernel in layer.KERNELS:
        monkeypatch.setattr(kernel, "lacking", {"cuda"})
    monkeypatch.setattr(backends, "find_cuda", lambda index: "there is no CuPy")
    assert quiet("a loop alone")._choose("cuda", 0, torch.float32) == "cuda"


def quiet(name: str, **more: Any) -> Any:
    """A layer of the table as it is compiled, what it says of itself being known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", seqc.SeqcWarning)
        kind: Any = seqc.compile(HEAD + SPECS[name][1])
    need = [s for s, default in kind.SIZES.items() if default is None]
    return kind(**{s: 3 + i for i, s in enumerate(need)}, **more)


def test_no_steps_belong_to_the_graph() -> None:
    layer = quiet("a loop alone", dtype=torch.float64)
    x = randn(2, 0, 3).requires_grad_()
    y, last = layer(x)
    (y.sum() + last.h.sum()).backward()
    assert x.grad is not None
    assert all(p.grad is not None for p in layer.parameters())
    assert (layer.h.init.grad != 0).all()


@pytest.mark.parametrize("x", [0.0, -2.0, float("inf")])
def test_a_branch_not_taken_passes_no_nan(x: float) -> None:
    """log, its argument there for the whole sequence, has no finite slope where it is not taken."""
    spec = (
        HEAD
        + """
size hidden
input x[t]: hidden
state h[t]: hidden = 0.5
k[t] = log(x[t])
h[t] = where(h[t-1] > 1, 3 * k[t] * h[t-1], tanh(linear(h[t-1])))
output h[t]
"""
    )
    found = {}
    for backend in ("reference", "auto"):
        layer = build(quietly(spec), backend, hidden=3)
        given = torch.full((1, 4, 3), x, dtype=torch.float64, requires_grad=True)
        y, _ = layer(given)
        found[backend] = gradients([y], {"x": given, **dict(layer.named_parameters())})
        assert all(g.isfinite().all() for g in found[backend].values())
    assert_all_close(found["auto"], found["reference"], 1e-12)


def quietly(spec: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", seqc.SeqcWarning)
        return seqc.compile(spec)


def test_dropout_in_a_loop() -> None:
    spec = (
        HEAD
        + """
size hidden
hyper q = 0.5
input x[t]: hidden
state h[t]: hidden = 0.5
h[t] = tanh(drop(linear(h[t-1]), q) + drop(x[t], q))
output h[t]
"""
    )
    layer = build(quietly(spec), "auto", hidden=3).train()
    results = []
    for backend in ("auto", "reference"):
        layer.backend = backend
        torch.manual_seed(4)
        x = leaf(randn(3, 6, 3))
        y, _ = layer(x)
        results.append({"y": y} | gradients([y], {"x": x, **dict(layer.named_parameters())}))
    assert_all_close(results[0], results[1], 1e-12)
    assert (results[0]["x"] == 0).any()


def test_the_stages_are_printed() -> None:
    text = str(plan_of("two loops in torch"))
    assert "loop loop0: carries ['h'] reads" in text
    assert "products [[" in text


DAMAGES = [
    ("sources", (), "needs %"),
    ("within", (), "there is no update of h"),
    ("outputs", (0,), "is kept, but not computed"),
    ("packs", (), "its learned maps are not those of its products"),
    ("states", (), "needs %"),
]


@pytest.mark.parametrize("field, value, said", DAMAGES)
def test_a_damaged_loop_is_found(field: str, value: tuple[Any, ...], said: str) -> None:
    plan = plan_of("a loop in torch")
    assert not list(problems(plan))
    damaged = tuple(
        dataclasses.replace(s, **{field: value}) if isinstance(s, LoopStage) else s
        for s in plan.stages
    )
    assert any(said in p for p in problems(dataclasses.replace(plan, stages=damaged)))


# --- transforms ----------------------------------------------------------------------------------


def transformed(layer: Any, backend: str) -> dict[str, Any]:
    """Derivatives of every kind, and rows of a batch by vmap."""
    layer.backend = backend
    x, tangent = randn(2, 4, 3), randn(2, 4, 3, seed=5)
    state = type(layer(x)[1])

    def call(x: torch.Tensor) -> torch.Tensor:
        y, last = layer(x)
        assert isinstance(last, state)
        return y

    def second() -> Any:
        given = leaf(x)
        leaves = [given, *layer.parameters()]
        first = torch.autograd.grad(call(given).sin().sum(), leaves, create_graph=True)
        return torch.cat([
            g.flatten()
            for g in torch.autograd.grad(sum(g.square().sum() for g in first), leaves)
        ])  # fmt: skip

    return {
        "jvp": torch.func.jvp(call, (x,), (tangent,))[1],
        "vmap": torch.func.vmap(call)(x.unsqueeze(1)),
        "a gradient a sample": torch.func.vmap(torch.func.grad(lambda v: call(v[None]).sum()))(x),
        "hessian": torch.func.hessian(lambda v: call(v).sin().sum())(x),
        "double backward": second(),
    }


@pytest.mark.parametrize(
    "name", ["a loop alone", pytest.param("a loop beside a scan", marks=needs_cxx)]
)
def test_transforms(name: str) -> None:
    layer = quiet(name, dtype=torch.float64)
    if len(layer.OUTPUTS) > 1:
        layer.forward = lambda x, call=layer.forward: (torch.cat((r := call(x))[0], -1), r[1])
    want = transformed(layer, "reference")
    assert_all_close(transformed(layer, "auto"), want, 1e-11)


@pytest.mark.slow
def test_torch_compile() -> None:
    layer = quiet("a loop alone", dtype=torch.float64)
    x = leaf(randn(2, 3, 3))
    whole = torch.compile(layer, fullgraph=True, backend="aot_eager")
    results = [{"y": y} | gradients([y], {"x": x}) for y in (whole(x)[0], layer(x)[0])]
    assert_all_close(results[0], results[1], 1e-12)


# --- specs that nobody wrote ---------------------------------------------------------------------

#: More by hand: SEQC_RANDOM_SPECS=1000 pytest tests/passes/test_loops.py -k random
COUNT = int(os.environ.get("SEQC_RANDOM_SPECS", "6"))


@settings(max_examples=COUNT)
@given(st.randoms(use_true_random=False))
@pytest.mark.filterwarnings("ignore")
def test_random_loops(r: Random) -> None:
    """The plan around the loops is what is held to the reference: no kernel is compiled for it."""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "plain", lambda tensors: False)
        patch.setattr(FusedKernel, "_watched", lambda self, full: self.mirror(*full[:-1]))
        patch.setattr(Layer, "_choose", lambda self, *about: self.backend)
        hold_backends_together(random_spec(r, loops=True), 1e-10, hidden=3, slots=2)
