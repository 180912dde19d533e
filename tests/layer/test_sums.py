"""Sums over several axes of a state, fused: against the reference, and numerically."""

from __future__ import annotations

import pytest
import torch

from seqc.diagnostics import Source
from seqc.ir.plan import ArrayStage, FusedStage
from seqc.passes.pipeline import run
from tests.layer.support import CPP, build, leaf
from tests.runtime.test_kernels import everything, fields_of, inputs_of, same, some_resets
from tests.sums import INNER, SPECS, sizes

every = pytest.mark.parametrize("name", SPECS)


@every
@pytest.mark.parametrize("backend", [CPP])
@pytest.mark.parametrize("T", [0, 1, 2, 7, 70])
def test_float64_is_the_reference(name: str, T: int, backend: str) -> None:
    # Of fewer lanes than a vector, of one, and of more than a block takes.
    for extents in ((2, 3, 5), (1, 1, 1), (66, 2, 3), (2, 3, 67)):
        layer = build(SPECS[name], "reference", **sizes(name, *extents))
        inputs, state = inputs_of(layer, 2, T), fields_of(layer, 2)
        for mask in (None, some_resets(2, T, 0.2)):
            layer.backend = "reference"
            want = everything(layer, inputs, state, mask)
            layer.backend = backend
            same(everything(layer, inputs, state, mask), want)
        if T > 7:
            break


@pytest.mark.parametrize("name", ["READOUTS", "MARCH"])
@pytest.mark.parametrize("backend", [CPP])
def test_float32_is_close_to_float64(name: str, backend: str) -> None:
    wide = build(SPECS[name], "reference", **sizes(name))
    inputs, state = inputs_of(wide, 2, 30), fields_of(wide, 2)
    layer = build(SPECS[name], backend, dtype=torch.float32, **sizes(name))
    narrow = type(state)(*(f.float() for f in state))
    got = everything(layer, [x.float() for x in inputs], narrow)
    same(got, everything(wide, inputs, state), 2e-5)


@every
@pytest.mark.parametrize("backend", [CPP])
def test_gradients_are_those_of_small_steps(name: str, backend: str) -> None:
    layer = build(SPECS[name], backend, **sizes(name, 1, 2, 2))
    inputs = [leaf(0.3 * x) for x in inputs_of(layer, 1, 3)]
    mask = torch.tensor([[False, False, True]])
    assert torch.autograd.gradcheck(
        lambda *xs: layer(*xs, resets=mask)[0], inputs, atol=1e-7, fast_mode=True
    )


@every
def test_a_kernel_does_the_sums(name: str) -> None:
    """A cell has the axes that its steps need; of a sum over lanes the terms are not stored."""
    (plan,) = run(Source(SPECS[name])).plans
    kernel = next(s.kernel for s in plan.stages if isinstance(s, FusedStage))
    assert kernel.inner == INNER[name]
    summed = {e.name: e.node for e in plan.recurrence.equations}
    arrays = {s.node for s in plan.stages if isinstance(s, ArrayStage)}
    fused = {"READOUTS": "r", "MARCH": "m", "OUTER": "m"}.get(name)
    assert fused is None or summed[fused] not in arrays
    stored = [o.name for o in kernel.outputs if o.axes == kernel.axes]
    assert stored == {"ONWARD": ["S"], "NO_LANES": ["r"]}.get(name, [])
