"""The emitted CUDA, run on the CPU by the emulator, against the step-by-step reference backend.

What an emulator cannot show (speed, FMA contraction, the GPU's own exp) is for tests/gpu.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import seqc
from seqc import zoo
from tests.cuda.support import EmulatedKernel, emulate, restore
from tests.layer.support import build
from tests.runtime.test_kernels import (
    NUMBER,
    POINTWISE,
    ROWS,
    STRATA,
    everything,
    fields_of,
    inputs_of,
    same,
    some_resets,
)

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="no g++")

NAMES = zoo.names()
SPECS = {"STRATA": STRATA, "POINTWISE": POINTWISE, "ROWS": ROWS, "NUMBER": NUMBER}
SIZES: dict[str, dict[str, int]] = {"ROWS": {"slots": 3, "hidden": 5}, "NUMBER": {}}

Emulate = Callable[[Any], list[EmulatedKernel]]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tmp_path_factory.mktemp("emulated")


@pytest.fixture
def emulated(folder: Any) -> Iterator[Emulate]:
    """Sends a layer's calls through its CUDA kernels, for this test alone."""
    done: list[EmulatedKernel] = []

    def start(layer: Any) -> list[EmulatedKernel]:
        found = emulate(layer, folder)
        done.extend(found)
        return found

    yield start
    restore(done)


def make(name: str, dtype: torch.dtype = torch.float64, hidden: int = 5, **more: int) -> Any:
    """A zoo layer or a spec of this file, on the backend of fused kernels."""
    if name in SPECS:
        return build(SPECS[name], "cpp", dtype, **(SIZES.get(name, {"hidden": hidden}) | more))
    sizes = {"input": 3, "hidden": hidden, "width": 3} | more
    if name == "SRU":
        sizes.pop("input")
    if not name.startswith("QRNN"):
        sizes.pop("width")
    return build(getattr(zoo, name), "cpp", dtype, **sizes)


@pytest.mark.parametrize("resets", [0.0, 0.08], ids=["whole", "resets"])
@pytest.mark.parametrize(("B", "T"), [(1, 0), (2, 1), (3, 37), (1, 200)])
@pytest.mark.parametrize("name", [*NAMES, *SPECS])
def test_float64_is_the_reference(name, B, T, resets, emulated: Emulate):
    layer = make(name)
    inputs, state = inputs_of(layer, B, T), fields_of(layer, B)
    mask = some_resets(B, T, resets) if resets else None
    layer.backend = "reference"
    want = everything(layer, inputs, state, mask)
    layer.backend = "cpp"
    kernels = emulated(layer)
    same(everything(layer, inputs, state, mask), want)
    marches = [launch for k in kernels for launch in k.launched if launch[0].startswith("march")]
    assert {f for f, _ in marches} == {"march_forward", "march_backward"}
    if T == 200:  # few channels: time was cut into chunks
        assert all(chunks > 1 for _, (_, chunks) in marches)


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_close_to_float64(name, emulated: Emulate):
    layer, wide = make(name, torch.float32, 17), make(name, torch.float64, 17)
    inputs, state = inputs_of(wide, 2, 300), fields_of(wide, 2)
    wide.backend = "reference"
    want = everything(wide, inputs, state)
    emulated(layer)
    got = everything(layer, [x.float() for x in inputs], type(state)(*(f.float() for f in state)))
    # Gradients of parameters are sums of cancelling terms: float32 has that much left of them.
    same(got, want, 2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["MinGRU", "MinLSTM", "QRNN", "SRU"])
def test_halves_are_those_of_the_cpp_kernels(name, dtype, emulated: Emulate):
    layer = make(name, torch.float32, 17)
    inputs = [x.float() for x in inputs_of(layer, 2, 90)]

    def run():
        with torch.autocast("cpu", dtype=dtype):
            return everything(layer, inputs)

    want = run()
    kernels = emulated(layer)
    got = run()
    assert any(k.launched for k in kernels)
    # The last bit of a stored value may fall the other way.
    same(got, want, 2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("extreme", [-1e4, -90.0, 90.0, 1e4])
@pytest.mark.parametrize("name", ["MinGRU", "MinLSTM", "QRNN"])
def test_extreme_inputs_stay_finite_and_right(name, extreme, emulated: Emulate):
    layer = make(name)
    inputs = [torch.full_like(x, extreme) for x in inputs_of(layer, 2, 70)]
    layer.backend = "reference"
    want = everything(layer, inputs)
    layer.backend = "cpp"
    emulated(layer)
    got = everything(layer, inputs)
    assert all(bool(v.isfinite().all()) for v in [*got[0].values(), *got[1].values()])
    same(got, want)


@pytest.mark.parametrize("B, hidden", [(1, 1), (2, 130), (0, 3)])
def test_odd_sizes(B, hidden, emulated: Emulate):
    layer = make("QRNN", hidden=hidden)
    inputs = inputs_of(layer, B, 65)
    layer.backend = "reference"
    want = everything(layer, inputs)
    layer.backend = "cpp"
    emulated(layer)
    same(everything(layer, inputs), want)


def test_a_strided_sequence_is_read_in_place(emulated: Emulate):
    layer = build(STRATA, "cpp", hidden=6)
    inputs = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in inputs_of(layer, 3, 50)]
    layer.backend = "reference"
    want = everything(layer, inputs)
    layer.backend = "cpp"
    emulated(layer)
    same(everything(layer, inputs), want)


def test_the_same_from_run_to_run(emulated: Emulate):
    layer = make("STRATA", torch.float32, 7)
    inputs = [x.float() for x in inputs_of(layer, 2, 300)]
    emulated(layer)
    first, second = (everything(layer, inputs) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert all(torch.equal(a[n], b[n]) for n in a)


# --- a fault planted in the source must not pass ------------------------------------------------

FAULTS = {
    "a chunk begins a step late": (
        "const i64 begin = chunk * chunk_steps, end",
        "const i64 begin = chunk * chunk_steps + 1, end",
    ),
    "a chunk ends a step early": (
        "begin + chunk_steps < steps ? begin + chunk_steps : steps",
        "begin + chunk_steps < steps ? begin + chunk_steps - 1 : steps",
    ),
    "the fold misses a chunk": ("before < chunk;", "before + 1 < chunk;"),
    "the march back reads the state of the step itself": ("(t - 1) * line", "t * line"),
    "the last chunk's state is lost": ("if (chunk + 1 == chunks)", "if (chunk + 2 == chunks)"),
}  # fmt: skip


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_planted_fault_is_caught(fault, emulated: Emulate):
    layer = make("STRATA")
    inputs, state, mask = inputs_of(layer, 1, 200), fields_of(layer, 1), some_resets(1, 200, 0.02)
    mask[:, 60] = True
    layer.backend = "reference"
    want = everything(layer, inputs, state, mask)
    layer.backend = "cpp"
    (kernel,) = emulated(layer)
    good = kernel.source
    same(everything(layer, inputs, state, mask), want)
    broken = good.replace(*FAULTS[fault])
    assert broken != good
    kernel.source = broken
    with pytest.raises(AssertionError):
        same(everything(layer, inputs, state, mask), want)


def test_a_reset_stops_even_a_nan(emulated: Emulate):
    layer = make("STRATA")
    inputs, mask = inputs_of(layer, 1, 200), torch.zeros(1, 200, dtype=torch.bool)
    mask[:, [60, 61, 130]] = True
    inputs[0][:, 3] = torch.nan
    layer.backend = "reference"
    want, last = layer(*inputs, resets=mask)
    assert bool(want[0][:, 3:60].isnan().any())
    assert not bool(want[0][:, 60:].isnan().any())
    layer.backend = "cpp"
    (kernel,) = emulated(layer)

    def agrees() -> bool:
        got, end = layer(*inputs, resets=mask)
        pairs = [*zip(got, want, strict=True), *zip(end, last, strict=True)]
        return all(torch.allclose(a, b, 1e-12, 1e-12, equal_nan=True) for a, b in pairs)

    assert agrees()
    kernel.source = kernel.source.replace("begins = 1;", "begins = 0;")
    assert not agrees()


# --- what is printed ----------------------------------------------------------------------------


def test_equations_stand_at_their_lines():
    text = seqc.emit(zoo.path("MinGRU"), target="cuda", layer="MinGRU")
    assert "__global__" in text
    assert "(1 - z[t]) * h[t-1] + z[t] * v[t]" in text
    assert text == seqc.emit(zoo.path("MinGRU"), target="cuda", layer="MinGRU")
