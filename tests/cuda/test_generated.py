"""The emitted CUDA, run on the CPU by the emulator, against the step-by-step reference backend.

What an emulator cannot show (speed, FMA contraction, the GPU's own exp) is for tests/gpu.
"""

from __future__ import annotations

import itertools
import shutil
import sys

import pytest
import torch

import seqc
from seqc import zoo
from seqc.runtime.tables import STORAGE
from tests.cuda.support import NAMES, SPECS, Emulate, make
from tests.layer.support import build
from tests.runtime.test_kernels import (
    STRATA,
    everything,
    fields_of,
    inputs_of,
    same,
    some_resets,
)

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="no g++")


@pytest.mark.parametrize("resets", [0.0, 0.08], ids=["whole", "resets"])
@pytest.mark.parametrize(("B", "T"), [(1, 0), (2, 1), (55, 37), (1, 200)])
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
    kinds = {f for k in kernels for f in k.launched}
    kind = "scan" if T == 200 else "march"
    assert kinds == {f"{kind}_forward", f"{kind}_backward"}


@pytest.mark.parametrize("resets", [0.0, 0.08], ids=["whole", "resets"])
@pytest.mark.parametrize(("B", "T"), [(1, 0), (2, 1), (55, 37), (1, 200)])
def test_zeros_to_start_from_need_not_be_made(B, T, resets, emulated: Emulate):
    layer = make("MinGRU")
    assert layer.FROM_ZEROS
    inputs, mask = inputs_of(layer, B, T), some_resets(B, T, resets) if resets else None
    zeros = layer.State(*(torch.zeros_like(f) for f in fields_of(layer, B)))
    emulated(layer)
    values, slopes = everything(layer, inputs, zeros, mask)
    got, grads = everything(layer, inputs, None, mask)
    assert all(torch.equal(got[n], values[n]) for n in values)
    assert all(torch.equal(grads[n], slopes[n]) for n in grads)


@pytest.mark.parametrize("resets", [0.0, 0.01], ids=["whole", "resets"])
@pytest.mark.parametrize("name", [*NAMES, *SPECS])
def test_many_chunks_and_anchors(name, resets, emulated: Emulate, short_look):
    layer = make(name, hidden=7)
    B = 2 if name == "ROWS" else 5
    inputs, state = inputs_of(layer, B, 230), fields_of(layer, B)
    mask = some_resets(B, 230, resets) if resets else None
    layer.backend = "reference"
    want = everything(layer, inputs, state, mask)
    layer.backend = "cpp"
    (kernel, *_) = emulated(layer)
    same(everything(layer, inputs, state, mask), want)
    assert "scan_forward" in kernel.launched


@pytest.mark.parametrize("name", ["MinLSTM", "QRNN"])
def test_thousands_of_steps_as_launched(name, emulated: Emulate):
    layer = make(name, hidden=3)
    inputs, state = inputs_of(layer, 1, 4801), fields_of(layer, 1)
    want = everything(layer, inputs, state)
    emulated(layer)
    same(everything(layer, inputs, state), want)


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


@pytest.mark.parametrize(
    ("name", "dtype"),
    list(zip(NAMES, itertools.cycle((torch.bfloat16, torch.float16)), strict=False)),
)
def test_half_layers_store_halves(name, dtype, emulated: Emulate, monkeypatch):
    """As on a GPU: products and streams are halves, and states are not."""
    layer = make(name, torch.float32, 17).to(dtype)
    wide = make(name, torch.float64, 17)
    wide.load_state_dict({k: v.double() for k, v in layer.state_dict().items()})
    inputs = [x.to(dtype) for x in inputs_of(wide, 2, 90)]
    wide.backend = "reference"
    want = everything(wide, [x.double() for x in inputs])
    module = sys.modules[type(layer).__module__]
    monkeypatch.setattr(module, "storage_dtype", lambda like: like.dtype)
    kernels = emulated(layer)
    stored = []
    for k in kernels:
        launch = k.launch
        k.launch = lambda *args, launch=launch: (stored.append(args[1][0]), launch(*args))
    got = everything(layer, inputs)
    assert set(stored) == {f"SEQC_STORAGE={STORAGE[dtype][0]}"}
    same(got, want, 24 * torch.finfo(dtype).eps)


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


def test_a_reset_stops_even_a_nan(emulated: Emulate, short_look):
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
    kernel.source = kernel.source.replace("begins |= tile.anew[i];", "").replace(
        "if (second.begins) return second;", ""
    )
    assert not agrees()


# --- what is printed ----------------------------------------------------------------------------


def test_equations_stand_at_their_lines():
    text = seqc.emit(zoo.path("MinGRU"), target="cuda", layer="MinGRU")
    assert "SEQC_INLINE static void run" in text
    assert "(1 - z[t]) * h[t-1] + z[t] * v[t]" in text
    assert text == seqc.emit(zoo.path("MinGRU"), target="cuda", layer="MinGRU")
