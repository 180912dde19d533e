"""CUDA kernels that sum over an axis, emulated, against the step-by-step reference backend."""

from __future__ import annotations

import itertools
import shutil
import sys
from typing import Any

import pytest
import torch

from seqc.runtime import nested
from seqc.runtime.cuda import defines
from seqc.runtime.kernels import FusedKernel
from seqc.runtime.nvrtc import compile_cubin, find_cupy, usage
from seqc.runtime.tables import STORAGE
from tests.cuda.nested_specs import SPECS, make
from tests.cuda.support import Emulate
from tests.runtime.test_kernels import everything, fields_of, inputs_of, same, some_resets

needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="no g++")
needs_nvrtc = pytest.mark.skipif(bool(find_cupy()), reason=find_cupy() or "compiles")
#: Those of which every scan has a law.
SCANNED = ("S6", "LINEAR_ATTENTION", "BESIDE", "TWICE")
HALVES = (torch.bfloat16, torch.float16)
DTYPES = (torch.bfloat16, torch.float64, torch.float16)
RESETS = pytest.mark.parametrize("resets", [0.0, 0.15], ids=["whole", "resets"])


def kernel_of(layer: Any) -> FusedKernel:
    module = vars(sys.modules[type(layer).__module__])
    (kernel,) = (k for k in module.values() if isinstance(k, FusedKernel))
    return kernel


def check(
    layer: Any, B: int, T: int, resets: float, emulated: Emulate, backend: str = "reference",
    schedule: str = "",
) -> None:  # fmt: skip
    """Outputs, states and all gradients are those of a backend."""
    inputs, state = inputs_of(layer, B, T), fields_of(layer, B)
    mask = some_resets(B, T, resets) if resets else None
    layer.backend = backend
    torch.manual_seed(0)
    want = everything(layer, inputs, state, mask)
    layer.backend = "cpp"
    (kernel,) = emulated(layer)
    torch.manual_seed(0)
    same(everything(layer, inputs, state, mask), want)
    assert len(kernel.launched) == 2
    if schedule:
        assert kernel.launched == [f"{schedule}_forward", f"{schedule}_backward"]


@needs_compiler
@RESETS
@pytest.mark.parametrize("T", [0, 1, 3, 80])
@pytest.mark.parametrize("name", SPECS)
def test_float64_is_the_reference(name, T, resets, emulated: Emulate):
    check(make(name, 5, 3), 2, T, resets, emulated)


@needs_compiler
@pytest.mark.parametrize("lanes", [1, 64, 70])
@pytest.mark.parametrize("name", [n for n in SPECS if n != "ONE_LANE"])
def test_lanes_of_no_whole_block(name, lanes, emulated: Emulate):
    check(make(name, lanes, 6), 2, 11, 0.1, emulated)


@needs_compiler
@pytest.mark.parametrize(
    ("name", "inner"),
    [*(("S6", n) for n in (1, 5, 16, 33, 70)), ("TWICE", 4), ("TWICE", 19), ("CONSTANTS", 2)],
)
def test_every_way_to_share_a_cell(name, inner, emulated: Emulate):
    check(make(name, 9, inner), 1, 19, 0.1, emulated)


@needs_compiler
@pytest.mark.parametrize(
    ("name", "parts"), [("S6", 1), ("S6", 8), ("BESIDE", 4), ("BESIDE", 2), ("LINEAR_ATTENTION", 4)]
)
def test_states_kept_outside_a_block(name, parts, emulated: Emulate, monkeypatch):
    monkeypatch.setattr(nested, "RECORD_BYTES", 0)
    monkeypatch.setattr(nested, "MOST_PARTS", parts)
    monkeypatch.setattr(nested, "OWN", 1)
    monkeypatch.setattr(nested, "CHUNK", 12)
    monkeypatch.setattr(nested, "PIECES", (3,))
    check(make(name, 37, 11), 2, 23, 0.1, emulated)


@needs_compiler
@pytest.mark.parametrize("lanes, inner", [(70, 3), (7, 40)])
def test_dropout_is_that_of_the_cpp_kernels(lanes, inner, emulated: Emulate):
    layer = make("DROPS", lanes, inner)
    layer.train()
    check(layer, 2, 13, 0.1, emulated, "cpp")


@needs_compiler
@pytest.mark.parametrize(
    ("name", "lanes", "inner"),
    [*((name, 3, 4) for name in SCANNED), *((name, 1, 37) for name in SCANNED), ("S6", 2, 16)],
)
def test_few_cells_look_back(name, lanes, inner, emulated: Emulate, short_look):
    """Time is cut where there are few cells, sums over an axis or not."""
    few = name != "LINEAR_ATTENTION" or lanes * inner < 20
    check(make(name, lanes, inner), 1, 130, 0.02, emulated, schedule="scan" if few else "")


@needs_compiler
@pytest.mark.parametrize("name", SPECS)
def test_float32_is_close_to_float64(name, emulated: Emulate):
    wide = make(name, 17, 6)
    inputs, state = inputs_of(wide, 2, 60), fields_of(wide, 2)
    wide.backend = "reference"
    want = everything(wide, inputs, state)
    layer = make(name, 17, 6, dtype=torch.float32)
    emulated(layer)
    got = everything(layer, [x.float() for x in inputs], type(state)(*(f.float() for f in state)))
    same(got, want, 2e-5)


@needs_compiler
@pytest.mark.parametrize(("name", "dtype"), list(zip(SPECS, itertools.cycle(HALVES), strict=False)))
def test_halves_are_stored_as_halves(name, dtype, emulated: Emulate, monkeypatch):
    """As on a GPU: streams are halves, and states are not."""
    wide = make(name, 17, 6)
    layer = make(name, 17, 6, dtype=torch.float32).to(dtype)
    wide.load_state_dict({k: v.double() for k, v in layer.state_dict().items()})
    inputs = [x.to(dtype) for x in inputs_of(wide, 2, 30)]
    wide.backend = "reference"
    want = everything(wide, [x.double() for x in inputs])
    module = sys.modules[type(layer).__module__]
    monkeypatch.setattr(module, "storage_dtype", lambda like: like.dtype)
    (kernel,) = emulated(layer)
    stored = []
    launch = kernel.launch
    monkeypatch.setattr(
        kernel, "launch", lambda *args: (stored.append(args[1][0]), launch(*args))
    )  # fmt: skip
    same(everything(layer, inputs), want, 24 * torch.finfo(dtype).eps)
    assert set(stored) == {f"SEQC_STORAGE={STORAGE[dtype][0]}"}


@needs_compiler
def test_a_strided_sequence_is_read_in_place(emulated: Emulate):
    layer = make("BESIDE", 6, 5)
    inputs = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in inputs_of(layer, 3, 20)]
    layer.backend = "reference"
    want = everything(layer, inputs)
    layer.backend = "cpp"
    emulated(layer)
    same(everything(layer, inputs), want)


@needs_compiler
def test_the_same_from_run_to_run(emulated: Emulate):
    layer = make("S6", 70, 5, dtype=torch.float32)
    inputs = [x.float() for x in inputs_of(layer, 2, 30)]
    emulated(layer)
    first, second = (everything(layer, inputs) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert all(torch.equal(a[n], b[n]) for n in a)


@needs_compiler
def test_a_reset_stops_even_a_nan(emulated: Emulate):
    layer = make("S6", 5, 3)
    inputs, mask = inputs_of(layer, 1, 40), torch.zeros(1, 40, dtype=torch.bool)
    mask[:, 20] = True
    inputs[0][:, 3] = torch.nan
    layer.backend = "reference"
    want = everything(layer, inputs, None, mask)
    assert bool(want[0]["output 0"][:, 3:20].isnan().all())
    assert not bool(want[0]["output 0"][:, 20:].isnan().any())
    layer.backend = "cpp"
    emulated(layer)
    same(everything(layer, inputs, None, mask), want)


@pytest.mark.parametrize("name", SPECS)
def test_what_a_block_shares_fits(name):
    spec = kernel_of(make(name, 5, 3)).spec
    for size in (4, 8):
        for inner in (*range(1, 70), 100, 128, 200, 256, 500):
            how = nested.cells(spec, (inner,), size)
            staged = nested.folded(spec, (inner,)) * how.threads // 32 * how.fold_steps
            assert (staged + how.kept) * size <= 48 << 10
            assert 1 <= how.fold_steps <= how.piece
            assert how.chunk % how.piece == 0


def test_an_axis_too_long_for_sums_over_lanes_is_refused():
    spec = kernel_of(make("S6", 5, 3)).spec
    with pytest.raises(ValueError, match="axis slots of 100000 is too long"):
        nested.cells(spec, (100_000,), 4)


# --- compiled -----------------------------------------------------------------------------------


@needs_nvrtc
@pytest.mark.parametrize(
    ("name", "arch", "inner"),
    [("S6", 80, 16), ("S6", 90, 64), ("S6", 100, 16), ("LINEAR_ATTENTION", 90, 16)],
)
def test_kernels_compile_with_what_they_hold_in_registers(name, inner, arch):
    """Of long axes some values that do not change with time are spilled."""
    kernel = kernel_of(make(name, 5, 3))
    for direction in ("forward", "backward"):
        macros = defines(kernel.spec, torch.float32, direction, (inner,))
        source = kernel.targets["cuda"].source
        found = usage(compile_cubin(source, name=name, arch=arch, defines=macros).log)
        used = found["seqc_march"]
        held = 0 if name == "S6" else 64
        assert max(used.spill_stores, used.spill_loads) <= (held if inner == 16 else 256), used


@needs_nvrtc
@pytest.mark.parametrize(
    ("name", "dtype"), list(zip([*SPECS, "DROPS"], itertools.cycle(DTYPES), strict=False))
)
def test_other_dtypes_and_sizes_compile(name, dtype):
    """A dtype each: the zoo compiles in float32 and float64 (test_nvrtc)."""
    kernel = kernel_of(make(name, 5, 3))
    sizes = [(1, "forward"), (7, "backward")] + [(100, "backward")] * (name == "S6")
    for inner, direction in sizes:
        macros = defines(kernel.spec, dtype, direction, (inner,))
        made = compile_cubin(kernel.targets["cuda"].source, name=name, arch=90, defines=macros)
        assert made.image[:4] == b"\x7fELF"
