"""Tangents and second derivatives through the emitted CUDA, run by the emulator."""

from __future__ import annotations

import shutil

import pytest

from tests.cuda.support import Emulate
from tests.layer.support import assert_close
from tests.layer.test_second_order import (
    derivatives,
    forbid_mirrors,
    function_of,
    made,
    some_resets,
)

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="no g++")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "T", "kind"), [("MinGRU", 150, "scan"), ("S6", 5, "march")])
def test_every_order(
    name: str, T: int, kind: str, emulated: Emulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = made(name)
    loss, at = function_of(layer, 2, T, some_resets(2, T))
    want = derivatives(loss, at)
    emulated(layer)
    forbid_mirrors(layer, monkeypatch)
    got = derivatives(loss, at)
    for way, tensors in want.items():
        for k, (a, b) in enumerate(zip(got[way], tensors, strict=True)):
            assert_close(a, b, 1e-11, f"{way}, {k}")
    duals = [k.tangent.targets["cpu"] for k in layer.KERNELS]
    assert {f for k in duals for f in k.launched} == {f"{kind}_forward", f"{kind}_backward"}
