"""Derivatives of first and second order, forward and reverse, of every layer of this folder.

In float64 on the default backend (the fused kernels, where a layer has them), with respect to
inputs, the state handed in and all parameters at once, of outputs and the state handed out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from seqc import zoo
from tests import references
from tests.layer.support import leaf, outputs_of, randn
from tests.zoo import test_classic, test_gated, test_memory, test_nonlinear, test_ssm
from tests.zoo.harness import Case

CASES = (
    *test_ssm.CASES,
    *test_gated.CASES,
    *test_memory.CASES,
    *test_classic.CASES,
    *test_nonlinear.CASES,
)
EVERY = pytest.mark.parametrize("case", CASES, ids=str)


def test_no_layer_is_left_out() -> None:
    """Those of tests.references are held to the same in tests/layer."""
    found = [case.layer for case in CASES]
    assert sorted([*found, *references.ZOO]) == sorted(zoo.names())


def function_of(case: Case, B: int = 2, T: int = 4) -> tuple[Callable[..., Any], list[Tensor]]:
    """The layer as a function of tensors alone, and where to look at it."""
    layer = case.build("auto")
    inputs = case.drive(B, T)
    state = case.state(layer, inputs)
    names = [n for n, _ in layer.named_parameters()]
    counts = len(inputs), len(state)

    def call(*given: Tensor) -> tuple[Tensor, ...]:
        x, fields = given[: counts[0]], given[counts[0] : sum(counts)]
        values = dict(zip(names, given[sum(counts) :], strict=True))
        kwargs = {"state": type(state)(*fields)}
        y, last = torch.func.functional_call(layer, values, tuple(x), kwargs)
        return (*outputs_of(y), *last)

    return call, [leaf(v) for v in (*inputs, *state, *layer.parameters())]


@EVERY
def test_gradcheck(case: Case) -> None:
    call, at = function_of(case)
    assert torch.autograd.gradcheck(call, at, atol=1e-7, rtol=1e-5)


@EVERY
def test_gradgradcheck(case: Case) -> None:
    call, at = function_of(case, 1, 3)
    assert torch.autograd.gradgradcheck(call, at, atol=1e-6, rtol=1e-4, fast_mode=True)


@EVERY
def test_forward_mode(case: Case) -> None:
    call, at = function_of(case)
    at = [a.detach() for a in at]
    along = tuple(randn(*a.shape, seed=40 + i) for i, a in enumerate(at))
    _, tangents = torch.func.jvp(call, tuple(at), along)
    step = 1e-6
    ahead = call(*(a + step * v for a, v in zip(at, along, strict=True)))
    behind = call(*(a - step * v for a, v in zip(at, along, strict=True)))
    for k, (tangent, x, y) in enumerate(zip(tangents, ahead, behind, strict=True)):
        torch.testing.assert_close(
            tangent, (x - y) / (2 * step), rtol=1e-5, atol=1e-7, msg=f"result {k}"
        )


@EVERY
def test_hessian_vector_product(case: Case) -> None:
    """Reverse over forward and reverse over reverse agree: d/de of the gradient along v."""
    call, at = function_of(case, 1, 3)
    along = [randn(*a.shape, seed=60 + i) for i, a in enumerate(at)]

    def loss(*given: Tensor) -> Tensor:
        return sum(
            (r * randn(*r.shape, seed=80 + k)).sin().sum() for k, r in enumerate(call(*given))
        )

    grads = torch.autograd.grad(loss(*at), at, create_graph=True, allow_unused=True)
    total = sum((g * v).sum() for g, v in zip(grads, along, strict=True) if g is not None)
    product = torch.autograd.grad(total, at, allow_unused=True)
    step = 1e-5

    def gradient(sign: float) -> list[Tensor]:
        moved = [leaf(a + sign * step * v) for a, v in zip(at, along, strict=True)]
        found = torch.autograd.grad(loss(*moved), moved, allow_unused=True)
        return [torch.zeros_like(m) if g is None else g for g, m in zip(found, moved, strict=True)]

    for got, a, ahead, behind in zip(product, at, gradient(1), gradient(-1), strict=True):
        want = (ahead - behind) / (2 * step)
        got = torch.zeros_like(a) if got is None else got
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
