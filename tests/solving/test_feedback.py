"""Gradients that come back otherwise than exactly, held to explicit loops in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import seqc
from seqc.runtime.recurrences import decay_back
from tests.layer.support import assert_all_close, assert_close, build, leaf, randn
from tests.passes.support import HEAD as LOOP_HEAD
from tests.passes.support import random_arguments, values_and_gradients
from tests.passes.test_loops import SPECS
from tests.solving.support import CELLS, LOOPS, TWO, Unrolled, cell, compiled, stationary, truncated

WAYS: dict[str, Any] = {
    "gradient stationary": lambda u, e: stationary(u, e, 0.0, 1.0),
    "gradient stationary(0.9, -0.5)": lambda u, e: stationary(u, e, 0.9, -0.5),
    "gradient truncated(1)": lambda u, e: truncated(u, e, 1),
    "gradient truncated(2)": lambda u, e: truncated(u, e, 2),
    "gradient truncated(4)": lambda u, e: truncated(u, e, 4),
    "gradient truncated(100)": lambda u, e: truncated(u, e, 100),
}


@pytest.fixture(scope="module", autouse=True)
def _quick_builds() -> Iterator[None]:
    """Kernels of a moment's use are not worth optimising."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQC_CXXFLAGS", "-O0")
        yield


def random_resets(batch: int, steps: int) -> Tensor:
    return torch.rand(batch, steps, generator=torch.Generator().manual_seed(5)) < 0.3


def compare(name: str, statement: str, steps: int, given: bool, resets: bool) -> None:
    layer = cell(name, statement)
    x = leaf(randn(3, steps, 2))
    marks = random_resets(3, steps) if resets else None
    count = len(layer.FIELDS)
    state = layer.State(*(leaf(randn(3, 3, seed=7 + i)) for i in range(count))) if given else None
    y, last = layer(x, state, resets=marks)
    ys = (y,) if isinstance(y, Tensor) else y
    names = list(layer.OUTPUTS)
    weights = [randn(*v.shape, seed=20 + i) for i, v in enumerate(ys)]
    ends = [randn(*v.shape, seed=30 + i) for i, v in enumerate(last)]
    loss = sum((v * w).sum() for v, w in zip((*ys, *last), (*weights, *ends), strict=True))
    parameters = dict(layer.named_parameters())
    leaves = {"x": x, **parameters, **{f"past {i}": s for i, s in enumerate(state or ())}}
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    got = {n: torch.zeros_like(v) if g is None else g
           for (n, v), g in zip(leaves.items(), found, strict=True)}  # fmt: skip

    u = Unrolled(name, layer, leaf(x), state, marks)
    fields = [f.name for f in layer.FIELDS]
    for field, value in zip(fields, u.sequences(), strict=True):
        if field in names:
            assert_close(ys[names.index(field)], value, 1e-12, field)
    e = [
        [
            weights[names.index(f)][:, t] if f in names else torch.zeros(3, 3).double()
            for f in fields
        ]
        for t in range(steps)
    ]  # fmt: skip
    e[-1] = [a + b for a, b in zip(e[-1], ends, strict=True)]
    total, earlier = WAYS[statement](u, e)
    assert_all_close(got, u.gradients(total, earlier, given), 1e-11)


@pytest.mark.parametrize("statement", list(WAYS))
@pytest.mark.parametrize("name", list(CELLS))
def test_gradients_are_those_of_the_loop(name: str, statement: str) -> None:
    compare(name, statement, 7, given=True, resets=True)


@pytest.mark.parametrize("statement", ["gradient stationary", "gradient truncated(2)"])
@pytest.mark.parametrize("steps", [1, 2, 17])
def test_without_state_or_resets(statement: str, steps: int) -> None:
    compare("lstm", statement, steps, given=False, resets=False)
    compare("lstm", statement, steps, given=False, resets=True)


def test_one_state_of_several() -> None:
    """Of two strata the one that is named."""
    text = f"{TWO}gradient h stationary(0, 0)\ngradient exact\n"
    report = seqc.check(text)["Two"]
    assert [s.gradient for s in report.strata] == ["stationary(0, 0)", "exact"]


@pytest.mark.parametrize("name", LOOPS)
def test_all_steps_are_exact(name: str) -> None:
    """Through as many steps as there are, gradients are exact: whatever a step reads and is."""
    spec = LOOP_HEAD + SPECS[name][1]
    exact = build(compiled(spec), "reference", **sizes_of(compiled(spec)))
    layer = build(compiled(f"{spec}gradient truncated(1000)\n"), "auto", **sizes_of(type(exact)))
    layer.load_state_dict(exact.state_dict())
    inputs, state, resets = random_arguments(exact)
    found = [
        values_and_gradients(x, b, inputs, state, resets)
        for x, b in ((layer, "auto"), (exact, "reference"))
    ]
    for got, want in zip(*found, strict=True):
        assert_all_close(got, want, 1e-11)


def sizes_of(kind: Any) -> dict[str, int]:
    need = [s for s, default in kind.SIZES.items() if default is None]
    return {s: 3 + i for i, s in enumerate(need)}


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 50, 64, 65])
@pytest.mark.parametrize("resets", [False, True])
def test_the_recurrence_backwards(steps: int, resets: bool) -> None:
    e, a = randn(2, steps, 4), randn(4, seed=3)
    marks = random_resets(2, steps) if resets else None
    want = e.clone()
    for t in range(steps - 2, -1, -1):
        stays = 1.0 if marks is None else (~marks[:, t + 1, None]).double()
        want[:, t] += stays * a * want[:, t + 1]
    assert_close(decay_back(e, a, marks), want, 1e-13)


LINEAR = """
layer Linear
size input, hidden
input x[t]: input
param a: hidden = 0
state h[t]: hidden
h[t] = a * h[t-1] + linear(x[t])
output h[t]
"""


def test_a_recurrence_with_that_diagonal_is_exact() -> None:
    """Where the Jacobian is A itself, gradients are those of back-propagation."""
    found = []
    for statement in ("gradient stationary(0.2, 1)\n", ""):
        layer = build(compiled(LINEAR + statement), "auto" if statement else "reference",
                      input=2, hidden=5)  # fmt: skip
        with torch.no_grad():
            layer.a.copy_(torch.linspace(0.2, 1, 5, dtype=torch.float64))
        x, start = leaf(randn(2, 30, 2)), leaf(randn(2, 5))
        y, last = layer(x, layer.State(start))
        loss = (y * randn(2, 30, 5)).sum() + last.h.square().sum()
        leaves = {"x": x, "start": start, **dict(layer.named_parameters())}
        found.append(
            dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        )
    assert_all_close(*found, 1e-12)


def test_the_last_channel_counts_its_steps() -> None:
    """With a = 1 nothing is lost in float32, over however many steps."""
    layer = build(compiled(LINEAR + "gradient stationary\n"), "auto", torch.float32,
                  input=1, hidden=3)  # fmt: skip
    steps = 20_000
    with torch.no_grad():
        layer.h.weight.fill_(1.0)
    x = torch.zeros(1, steps, 1, requires_grad=True)
    layer(x)[0][..., 2].sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad[0, :, 0], torch.arange(steps, 0, -1, dtype=torch.float32))


@pytest.mark.parametrize("statement", ["gradient stationary", "gradient truncated(3)"])
def test_ends_as_they_were_before(statement: str) -> None:
    """Packed sequences are those sequences; stationary gradients cross from call to call."""
    layer = cell("gru", statement)
    x = randn(1, 9, 2)
    edges = torch.tensor([0, 4, 4, 9])
    names = dict(layer.named_parameters())

    def gradients(y: Tensor, given: Tensor) -> list[Tensor]:
        weights = randn(*y.shape)
        return list(torch.autograd.grad((y * weights).sum(), [given, *names.values()]))

    given = leaf(x)
    packed, _ = layer(given, cu_seqlens=edges)
    apart = leaf(x)
    each = torch.cat([layer(apart[:, :4])[0], layer(apart[:, 4:])[0]], 1)
    for got, want in zip(gradients(packed, given), gradients(each, apart), strict=True):
        assert_close(got, want, 1e-12)
    if "stationary" in statement:
        given = leaf(x)
        first, state = layer(given[:, :4])
        second, state = layer(given[:, 4:8], state)
        third, _ = layer.step(given[:, 8], state)
        calls = torch.cat([first, second, third.unsqueeze(1)], 1)
        whole = leaf(x)
        found = zip(gradients(calls, given), gradients(layer(whole)[0], whole), strict=True)
        for got, want in found:
            assert_close(got, want, 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    layer, x = cell("lstm", "gradient stationary", dtype=dtype), randn(2, 12, 2, dtype=dtype)
    found = []
    for to in (dtype, torch.float64):
        layer = layer.to(to)
        given = leaf(x, to)
        y, state = layer(given)
        (y[0].sum() + state.c.sum()).backward()
        found.append({"y": y[0], "x": given.grad, "w": layer.f.weight.grad})
        layer.zero_grad()
    assert found[0]["y"].dtype is dtype
    assert_all_close(*found, 4e-2 if dtype is torch.bfloat16 else 3e-6)


@pytest.mark.parametrize("statement", ["gradient stationary", "gradient truncated(2)"])
def test_what_is_not_supported_says_so(statement: str) -> None:
    layer = cell("gru", statement)
    x = leaf(randn(2, 4, 2))
    found = torch.autograd.grad(layer(x)[0].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives"):
        found[0].sum().backward()
    with pytest.raises(RuntimeError, match="other than exact"):
        torch.func.jvp(lambda v: layer(v)[0], (x,), (x,))
    with pytest.raises(RuntimeError, match="other than exact"):
        torch.func.grad(lambda v: layer(v)[0].sum())(x)
    layer.backend = "reference"
    with pytest.raises(RuntimeError, match=r"gradients that are (stationary|truncated)"):
        layer(x)
    with pytest.raises(RuntimeError, match=r"gradients that are (stationary|truncated)"):
        layer.step(x[:, 0])
    with torch.no_grad():
        by_reference = layer(x)[0]
        layer.backend = "auto"
        assert_close(layer(x)[0], by_reference, 1e-12)
        assert not layer(x)[0].requires_grad


def test_no_steps_and_nothing_to_learn() -> None:
    layer = cell("lstm", "gradient stationary").requires_grad_(False)
    assert not layer(randn(2, 3, 2))[0][0].requires_grad
    start = layer.State(*(leaf(randn(2, 3, seed=i)) for i in range(2)))
    y, last = layer(randn(2, 0, 2), start)
    assert y[0].shape == (2, 0, 3)
    last.c.sum().backward()
    assert torch.equal(start.c.grad, torch.ones(2, 3).double())


@pytest.mark.parametrize("way", ["gradient truncated(100)", "solve newton(tolerance = 1e-12)"])
def test_names_that_are_used_within(way: str) -> None:
    spec = """
layer Named
size hidden
input x[t]: hidden
state loop0[t]: hidden = learned
state h_lag[t]: hidden
loop0_step[t]: hidden = tanh(linear(loop0[t-1]) + x[t])
loop0_march[t] = 0.5 * loop0_step[t]
exact[t] = sigmoid(loop0[t-1]) * loop0_march[t]
h_lag[t] = 0.5 * h_lag[t-1] + exact[t]
loop0[t] = loop0_march[t]
Steps[t] = loop0[t] + loop0_step[t]
output h_lag[t], Steps[t]
"""
    found = []
    for statement, backend in ((way, "auto"), ("", "reference")):
        layer = build(compiled(f"{spec}{statement}\n"), backend, hidden=3)
        x = leaf(randn(2, 6, 3))
        (a, b), _ = layer(x)
        grads = torch.autograd.grad((a * b).sum(), [x, *layer.parameters()])
        found.append({"a": a, "b": b} | {str(i): g for i, g in enumerate(grads)})
    assert_all_close(*found, 1e-10)


@pytest.mark.parametrize("way", ["gradient stationary", "gradient truncated(3)", "solve newton"])
def test_an_empty_batch(way: str) -> None:
    layer, x = cell("lstm", way), leaf(randn(0, 5, 2))
    (h, c), _ = layer(x, resets=torch.zeros(0, 5, dtype=torch.bool))
    assert h.shape == (0, 5, 3)
    (h.sum() + c.sum()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())
