"""Kernels of more tensors than an operator of torch may have arguments, which is 64."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from tests.layer.conftest import dynamo as dynamo
from tests.layer.support import CPP, assert_close, build, leaf, randn

INPUTS = 66
NAMES = [f"u{i}" for i in range(INPUTS)]
#: Two carries, so that there are fresh states of either; a hyper, so that there is a scalar.
SPEC = f"""
layer Wide
size hidden
hyper share = 0.25
input {", ".join(f"{n}[t]: hidden" for n in NAMES)}
state h[t]: hidden
state m[t]: hidden = 0.5
h[t] = share * h[t-1] + {" + ".join(f"{n}[t]" for n in NAMES)}
m[t] = 0.5 * m[t-1] + h[t] * u0[t]
output h[t], m[t]
"""
pytestmark = CPP.marks


@functools.cache
def layer_of(backend: str = "cpp") -> Any:
    return build(SPEC, backend, hidden=2)


def inputs_of(steps: int = 3) -> list[torch.Tensor]:
    return [leaf(randn(1, steps, 2, seed=i)) for i in range(INPUTS)]


def test_values_and_gradients() -> None:
    found = []
    resets = torch.tensor([[False, True, False]])
    for backend in ("cpp", "reference"):
        xs = inputs_of()
        (h, m), state = layer_of(backend)(*xs, resets=resets)
        (h.sum() + m.square().sum() + state.m.sum()).backward()
        found.append([h, m, *(x.grad for x in xs)])
    for got, want in zip(*found, strict=True):
        assert_close(got, want, 1e-12)


@pytest.mark.parametrize("resets", [False, True])
def test_the_operators_hold(resets: bool) -> None:
    layer = layer_of()
    xs = inputs_of()
    mask = torch.tensor([[False, True, False]]) if resets else None
    calls: list[Any] = []
    for kernel in layer.KERNELS:
        kernel.listeners.append(lambda op, args: calls.append((op, args)))
    layer(*xs, resets=mask)
    for kernel in layer.KERNELS:
        kernel.listeners.clear()
    assert any(len(args[0]) > 64 for _, args in calls)
    for op, args in calls:
        torch.library.opcheck(op, args)


@pytest.mark.slow
def test_compiled(dynamo: Any) -> None:
    layer = layer_of()
    xs, ys = inputs_of(), inputs_of()
    mask = torch.tensor([[False, True, False]])
    for given, call in (
        (xs, layer),
        (ys, torch.compile(layer, fullgraph=True, backend="aot_eager")),
    ):
        (h, m), _ = call(*given, resets=mask)
        (h.sum() + m.square().sum()).backward()
    for x, y in zip(xs, ys, strict=True):
        assert_close(y.grad, x.grad, 1e-12)
