"""Steps that mix the channels of a state on CUDA, emulated: a thread has a cell by itself."""

from __future__ import annotations

import shutil
import warnings

import pytest
import torch

from seqc.runtime import backends, nested
from seqc.runtime.cuda import defines
from seqc.runtime.nvrtc import compile_cubin, find_cupy
from tests.cuda.support import Emulate
from tests.cuda.test_nested import check, kernel_of
from tests.layer.support import build
from tests.mixing import SPECS, sizes

needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="no g++")
needs_nvrtc = pytest.mark.skipif(bool(find_cupy()), reason=find_cupy() or "compiles")
pytestmark = pytest.mark.filterwarnings("ignore::seqc.SeqcWarning")


@needs_compiler
@pytest.mark.parametrize(("tags", "lanes", "T"), [(5, 3, 19), (2, 66, 1)])
@pytest.mark.parametrize("name", SPECS)
def test_float64_is_the_reference(name, tags, lanes, T, emulated: Emulate):
    check(build(SPECS[name], "cpp", **sizes(name, tags, lanes)), 2, T, 0.15, emulated)


@needs_nvrtc
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_it_compiles(direction):
    kernel = kernel_of(build(SPECS["HEADS"], "cpp", **sizes("HEADS")))
    macros = defines(kernel.spec, torch.float32, direction, (16, 16))
    made = compile_cubin(kernel.targets["cuda"].source, name="HEADS", arch=90, defines=macros)
    assert made.image[:4] == b"\x7fELF"


def test_threads_share_no_cell():
    spec = kernel_of(build(SPECS["HEADS"], "cpp", **sizes("HEADS"))).spec
    assert nested.cells(spec, (16, 16), 4).parts == 1
    with pytest.raises(ValueError, match="axes src, tags of 65 x 65 are too long"):
        nested.cells(spec, (65, 65), 4)


def test_a_state_that_fits_no_cell_runs_on_the_reference_where_cuda_was_not_asked_for(monkeypatch):
    monkeypatch.setattr(backends, "find_cuda", lambda index: "")
    monkeypatch.setattr(backends, "_WARNED", set())
    chosen = []
    for tags in (16, 65):
        layer = build(SPECS["HEADS"], "auto", **sizes("HEADS", tags, 3))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            chosen.append(layer._choose("cuda", 0, torch.float32))
        assert len(said) == (tags == 65)
    assert chosen == ["cuda", "reference"]
    assert "src, tags of 65 x 65 are too long" in str(said[0].message)
    layer.backend = "cuda"
    assert layer._choose("cuda", 0, torch.float32) == "cuda"  # which a launch refuses
