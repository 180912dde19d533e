"""Algebras of several parts, states over two axes and every layer of the zoo, on a real device.

Held to the C++ kernels in float64, forward and backward. Like the rest of this folder it runs as
part of ``python -m benchmarks.gpu --tests``, and is skipped where there is no GPU.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from seqc.runtime.nvrtc import find_cupy
from tests.laws import LAWS, MARCHES
from tests.layer.support import build, leaf, outputs_of, randn, relative_error
from tests.layer.test_cut_time import compiled
from tests.zoo.harness import Case
from tests.zoo.harness import compiled as layer_of
from tests.zoo.test_derivatives import CASES

REASON = "" if torch.cuda.is_available() else "torch sees no CUDA device here"
REASON = REASON or find_cupy()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON or "there is a GPU")

DEVICE = "cuda"
TOLERANCE = {torch.float64: 1e-10, torch.float32: 3e-4}
SPECS = {name: spec for name, (_, spec) in LAWS.items()} | MARCHES


def everything(layer: Any, inputs: list[Tensor], resets: Tensor | None) -> list[Tensor]:
    """Outputs, last states and gradients of inputs and parameters, on the CPU in float64."""
    given = [leaf(x) for x in inputs]
    y, last = layer(*given, resets=resets)
    results = [*outputs_of(y), *last]
    total = sum((r * randn(*r.shape, seed=k).to(r)).sum() for k, r in enumerate(results))
    wanted = [*given, *layer.parameters()]
    grads = torch.autograd.grad(total, wanted, allow_unused=True)
    return [t.detach().to("cpu", torch.float64) for t in (*results, *grads) if t is not None]


def held(kind: Any, sizes: dict[str, int], inputs: list[Tensor], dtype: torch.dtype) -> None:
    mask = torch.rand(inputs[0].shape[:2], generator=torch.Generator().manual_seed(3)) < 0.01
    for resets in (None, mask):
        want = everything(build(kind, "auto", torch.float64, **sizes), inputs, resets)
        layer = build(kind, "auto", dtype, **sizes).to(DEVICE)
        there = [x.to(DEVICE, dtype) for x in inputs]
        got = everything(layer, there, None if resets is None else resets.to(DEVICE))
        for k, (x, y) in enumerate(zip(got, want, strict=True)):
            assert relative_error(x, y) < TOLERANCE[dtype], f"result {k}"


@pytest.mark.parametrize(("B", "T", "hidden"), [(1, 0, 3), (2, 1, 40), (1, 5000, 3), (3, 70, 300)])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("name", list(SPECS))
def test_laws(name: str, dtype: torch.dtype, B: int, T: int, hidden: int) -> None:
    inputs = [randn(B, T, hidden, seed=5), randn(B, T, hidden, seed=6)]
    held(compiled(SPECS[name]), {"hidden": hidden}, inputs, dtype)


@pytest.mark.parametrize(("B", "T"), [(3, 1), (2, 300)])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_zoo(case: Case, dtype: torch.dtype, B: int, T: int) -> None:
    held(layer_of(case.layer), dict(case.sizes), case.drive(B, T), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_wide_states_at_size(dtype: torch.dtype) -> None:
    """S6 over 512 channels of 16 slots: more than one block of lanes, more than one chunk."""
    case = next(c for c in CASES if c.layer == "S6")
    sizes = {"hidden": 512, "slots": 16, "rank": 8}
    inputs = [randn(2, 600, 512, seed=9)]
    want = everything(build(layer_of("S6"), "auto", torch.float64, **sizes), inputs, None)
    layer = build(layer_of("S6"), "auto", dtype, **sizes).to(DEVICE)
    got = everything(layer, [inputs[0].to(DEVICE, dtype)], None)
    assert case.layer == "S6"
    limit = 3e-4 if dtype == torch.float32 else 3e-2
    for k, (x, y) in enumerate(zip(got, want, strict=True)):
        assert relative_error(x, y) < limit, f"result {k}"
