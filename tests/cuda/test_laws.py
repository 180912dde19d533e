"""Algebras of several parts and states on CUDA, emulated: both schedules, against the loop."""

from __future__ import annotations

import shutil

import pytest
import torch

from tests.cuda.support import Emulate
from tests.laws import LAWS, MARCHES
from tests.layer.support import build, randn, relative_error
from tests.layer.test_cut_time import compiled, everything

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="no g++")

TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}


def held(spec: str, B: int, T: int, hidden: int, dtype: torch.dtype, emulated: Emulate) -> set[str]:
    """Compare the emulated kernels with the reference; returns what was launched."""
    layer = build(compiled(spec), "cpp", hidden=hidden, dtype=dtype)
    inputs = [randn(B, T, hidden, seed=5, dtype=dtype), randn(B, T, hidden, seed=6, dtype=dtype)]
    mask = torch.rand(B, T, generator=torch.Generator().manual_seed(3)) < 0.02
    layer.backend = "reference"
    want = everything(layer, inputs, mask)
    layer.backend = "cpp"
    (kernel,) = emulated(layer)
    got = everything(layer, inputs, mask)
    for k, (x, y) in enumerate(zip(got, want, strict=True)):
        assert relative_error(x, y) < TOLERANCE[dtype], f"result {k}"
    return set(kernel.launched)


@pytest.mark.parametrize("name", list(LAWS))
def test_looking_back(name: str, emulated: Emulate, short_look: None) -> None:
    launched = held(LAWS[name][1], 1, 150, 5, torch.float32, emulated)
    assert launched >= {"scan_forward", "scan_backward"}  # and a march of no steps


@pytest.mark.parametrize("name", ["rotation", "continued fraction", "declared in the spec"])
def test_looking_back_in_float64(name: str, emulated: Emulate, short_look: None) -> None:
    launched = held(LAWS[name][1], 2, 97, 3, torch.float64, emulated)
    assert launched >= {"scan_forward", "scan_backward"}  # and a march of no steps


@pytest.mark.parametrize("name", ["four of them", "clipped", *MARCHES])
def test_marching(name: str, emulated: Emulate) -> None:
    spec = LAWS[name][1] if name in LAWS else MARCHES[name]
    launched = held(spec, 3, 11, 40, torch.float64, emulated)
    assert launched == {"march_forward", "march_backward"}
