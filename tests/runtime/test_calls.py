"""What a call does besides computing: as little as it can."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from seqc import zoo
from seqc.runtime import backends
from seqc.runtime.pointwise import sigmoid
from tests.layer.support import CPP, build, leaf, randn
from tests.runtime.test_kernels import HISTORIES, fields_of, inputs_of


@pytest.mark.parametrize("backend", [CPP])
def test_no_compiler_is_looked_for_once_kernels_are_loaded(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = build(zoo.MinGRU, "auto", input=2, hidden=3)
    x = randn(1, 4, 2)
    want, _ = layer(x)
    asked: list[Any] = []
    monkeypatch.setattr(backends, "find_compiler", lambda: asked.append(1))
    monkeypatch.setattr(type(layer), "named_parameters", lambda self, *a: asked.append(2) or [])
    got, _ = layer(x)
    assert torch.equal(got, want)
    assert not asked


@pytest.mark.parametrize("backend", [CPP])
def test_a_step_is_a_sequence_of_one_step_to_the_bit(backend: str) -> None:
    layer = build(HISTORIES, backend, input=2, hidden=3)
    (x,), state = inputs_of(layer, 3, 1), fields_of(layer, 3)
    resets = torch.tensor([True, False, False])
    for mask in (None, resets):
        ys, after = layer.step(x[:, 0], state, resets=mask)
        want, final = layer(x, state, resets=None if mask is None else mask.unsqueeze(1))
        for a, b in zip((*ys, *after), (*(w[:, 0] for w in want), *final), strict=True):
            assert torch.equal(a, b)


def test_the_quick_sigmoid_has_the_same_derivatives() -> None:
    x = leaf(torch.tensor([-800.0, -30.0, 0.0, 1.5, 30.0, 800.0], dtype=torch.float64))
    y = sigmoid(x)
    assert torch.equal(y, torch.sigmoid(x.detach()))
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    exact = torch.sigmoid(x.detach()) * torch.sigmoid(-x.detach())
    assert torch.equal(slope, exact)  # with digits at 30, where s (1 - s) has none
    (second,) = torch.autograd.grad(slope.sum(), x)
    s = torch.sigmoid(x.detach())
    assert torch.allclose(second, exact * (1 - 2 * s), rtol=1e-12)
    assert torch.autograd.gradgradcheck(sigmoid, leaf(randn(5)))
    _, tangent = torch.func.jvp(sigmoid, (x.detach(),), (torch.ones_like(x),))
    assert torch.equal(tangent, exact)
    assert torch.equal(torch.func.vmap(torch.func.grad(sigmoid))(x.detach()), exact)
