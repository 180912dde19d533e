"""Specs that nobody wrote: whatever a plan looks like, both backends give the same numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layer.support import HAVE_CXX, outputs_of
from tests.passes.generate import random_spec
from tests.passes.support import hold_backends_together, random_arguments, sized

pytestmark = [pytest.mark.cpp, pytest.mark.skipif(not HAVE_CXX, reason="no C++ compiler")]

#: More by hand: SEQC_RANDOM_SPECS=1000 pytest tests/passes/test_random_specs.py
COUNT = int(os.environ.get("SEQC_RANDOM_SPECS", "25"))


@pytest.fixture(scope="module", autouse=True)
def _quick_builds() -> Iterator[None]:
    """Kernels of a moment's use are not worth optimising."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQC_CXXFLAGS", "-O0")
        yield


@settings(max_examples=COUNT)
@given(st.randoms(use_true_random=False))
@pytest.mark.filterwarnings("ignore")
def test_random_specs(r: Random) -> None:
    hold_backends_together(random_spec(r), 1e-10, hidden=3, slots=2)


#: Kinks and steps are no place for differences.
KINKS = ("floor", "sign", "relu", "abs", "max", "min", "clamp", "where")


@settings(max_examples=max(COUNT // 6, 1))
@given(st.integers(0, 10**6))
@pytest.mark.filterwarnings("ignore")
def test_gradients_of_random_specs(seed: int) -> None:
    spec = next(
        s
        for s in (random_spec(Random(seed + 1_000_003 * i)) for i in range(10_000))
        if not any(k in s for k in KINKS) and len(s) < 700
    )
    layer = sized(spec, hidden=2, slots=2)
    inputs, state, resets = random_arguments(layer)
    if not layer.PARALLEL:
        return
    layer.backend = "cpp"
    inputs = [x[:1, :4].clone().requires_grad_() for x in inputs]
    fields = [f[:1].clone().requires_grad_() for f in state]

    def call(*leaves: torch.Tensor) -> tuple[torch.Tensor, ...]:
        xs, given = leaves[: len(inputs)], layer.State(*leaves[len(inputs) :])
        y, last = layer(*xs, state=given, resets=resets[:1, :4])
        return tuple(v for v in (*outputs_of(y), *last) if v.numel() and v.requires_grad)

    if call(*inputs, *fields):
        assert torch.autograd.gradcheck(call, (*inputs, *fields), atol=1e-5, rtol=1e-4)
