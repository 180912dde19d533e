"""Sums over several axes on CUDA, emulated: threads share the longest axis of a cell."""

from __future__ import annotations

import shutil

import pytest
import torch

from seqc.runtime import nested
from seqc.runtime.cuda import defines
from seqc.runtime.nvrtc import compile_cubin, find_cupy
from tests.cuda.support import Emulate
from tests.cuda.test_nested import check, kernel_of
from tests.layer.support import build
from tests.sums import SPECS, sizes

needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="no g++")
needs_nvrtc = pytest.mark.skipif(bool(find_cupy()), reason=find_cupy() or "compiles")
#: With one kernel, of which the emulator's support knows.
ONE = ("READOUTS", "MARCH", "NO_LANES")


@needs_compiler
@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize(("extents", "T"), [((2, 3, 5), 19), ((66, 5, 2), 3), ((1, 1, 9), 1)])
def test_float64_is_the_reference(name, extents, T, emulated: Emulate):
    layer = build(SPECS[name], "cpp", **sizes(name, *extents))
    check(layer, 2, T, 0.15, emulated)


@needs_nvrtc
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_plane_compiles(direction):
    """For a real device, with a thread's numbers in its registers and others' by shuffles."""
    kernel = kernel_of(build(SPECS["MARCH"], "cpp", **sizes("MARCH")))
    macros = defines(kernel.spec, torch.float32, direction, (4, 4))
    source = kernel.targets["cuda"].source
    made = compile_cubin(source, name="MARCH", arch=90, defines=macros)
    assert made.image[:4] == b"\x7fELF"


def test_the_longest_axis_is_shared():
    spec = kernel_of(build(SPECS["MARCH"], "cpp", **sizes("MARCH"))).spec
    assert nested.cells(spec, (3, 16), 4).parts == 8
    assert nested.own((3, 16), ("keys", "values"), spec, 8) == 6
    assert nested.own((3, 16), ("keys",), spec, 8) == 3
    assert nested.own((16, 16), ("heads", "values"), spec, 8) == 16
    with pytest.raises(ValueError, match="axes keys, values of 512 x 512 are too long"):
        nested.cells(spec, (512, 512), 4)
