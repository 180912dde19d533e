"""Every kernel compiles with NVRTC, which needs no GPU; the cubins are kept on disk."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from seqc import zoo
from seqc.runtime import nvrtc
from seqc.runtime.cuda import defines
from seqc.runtime.kernels import FusedKernel
from seqc.runtime.nvrtc import CudaBuildError, compile_cubin, find_cupy, usage
from tests.laws import LAWS, MARCHES
from tests.layer.test_cut_time import compiled as law_layer
from tests.zoo.expected import rows

needs_nvrtc = pytest.mark.skipif(bool(find_cupy()), reason=find_cupy() or "compiles")

SMALL = """
extern "C" __global__ void add(const float* a, float* b, long long n) {
  const long long i = blockIdx.x * static_cast<long long>(blockDim.x) + threadIdx.x;
  if (i < n) b[i] = a[i] + 1.0f;
}
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEQC_CACHE_DIR", str(tmp_path))
    return tmp_path


def kernels_of(name: str) -> list[FusedKernel]:
    module = vars(sys.modules[getattr(zoo, name).__module__])
    return [k for k in module.values() if isinstance(k, FusedKernel)]


def in_kernels(name: str) -> bool:
    return all(row.method != "sequential" for row in rows(name))


def compiled(kernel: FusedKernel, name: str, dtype: torch.dtype, arch: int = 90) -> Any:
    """What each function of a kernel and of its adjoint uses."""
    # Of 16 what holds for floats is looked at; doubles are but compiled, which takes twice as long.
    inner = (4 if dtype == torch.float64 else 16,) * len(kernel.spec.inner)
    found = {}
    for direction in ("forward", "backward"):
        macros = defines(kernel.spec, dtype, direction, inner)
        source = kernel.targets["cuda"].source
        made = compile_cubin(source, name=name, arch=arch, defines=macros)
        found |= {f"{f} {direction}": used for f, used in usage(made.log).items()}
    return found


@needs_nvrtc
@pytest.mark.parametrize("arch", [80, 90, 100])
@pytest.mark.parametrize("name", ["MinGRU", "MinLSTM", "QRNN"])
def test_zoo_kernels_compile_without_spills(name, arch):
    for k in kernels_of(name):
        found = compiled(k, name, torch.float32, arch)
        assert set(found) == {
            f"seqc_{how} {way}" for how in ("march", "scan") for way in ("forward", "backward")
        }
        for function, used in found.items():
            assert 0 < used.registers < 255, function
            assert (used.spill_stores, used.spill_loads) == (0, 0), (function, used)


@needs_nvrtc
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [n for n in zoo.names() if in_kernels(n)])
@pytest.mark.filterwarnings("ignore::seqc.SeqcWarning")
def test_the_whole_zoo_compiles(name, dtype):
    """On one architecture; in float32 only kernels that sum over an axis (of 16) may spill."""
    kernels = kernels_of(name)
    assert kernels
    for k in kernels:
        for function, used in compiled(k, name, dtype).items():
            spilled = used.spill_stores + used.spill_loads
            if dtype == torch.float32 and not k.spec.inner:
                assert spilled == 0, (function, used)


@needs_nvrtc
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [*LAWS, *MARCHES])
def test_laws_compile(name, dtype):
    spec = LAWS[name][1] if name in LAWS else MARCHES[name]
    module = vars(sys.modules[law_layer(spec).__module__])
    for k in [k for k in module.values() if isinstance(k, FusedKernel)]:
        assert compiled(k, "law", dtype)


@needs_nvrtc
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["MinLSTM", "QRNN"])
def test_halves_compile(name, dtype):
    (k,) = kernels_of(name)
    assert compiled(k, name, dtype)


@needs_nvrtc
def test_a_refused_source_shows_the_compilers_words(cache):
    with pytest.raises(CudaBuildError, match='identifier "nothing" is undefined') as caught:
        compile_cubin(SMALL.replace("1.0f", "nothing"), name="bad", arch=90)
    assert "kernel bad for sm_90" in str(caught.value)


@needs_nvrtc
def test_an_unknown_architecture_is_named(cache):
    with pytest.raises(CudaBuildError, match="does not know sm_12"):
        compile_cubin(SMALL, name="old", arch=12)


@needs_nvrtc
def test_cubins_are_kept_and_damage_is_mended(cache, monkeypatch):
    first = compile_cubin(SMALL, name="add", arch=90)
    assert list(usage(first.log)) == ["add"]
    compile_again, calls = nvrtc._compile, []
    monkeypatch.setattr(nvrtc, "_compile", lambda *args: calls.append(args) or compile_again(*args))
    assert compile_cubin(SMALL, name="add", arch=90) == first
    assert not calls
    for file in cache.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-100])
    assert compile_cubin(SMALL, name="add", arch=90).image == first.image
    assert len(calls) == 1


@needs_nvrtc
def test_without_a_usable_cache_it_still_compiles(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("not a folder")
    monkeypatch.setenv("SEQC_CACHE_DIR", str(file))
    assert compile_cubin(SMALL, name="add", arch=80).image


@needs_nvrtc
def test_two_threads_at_once(cache):
    made = []
    threads = [
        threading.Thread(target=lambda: made.append(compile_cubin(SMALL, name="add", arch=90)))
        for _ in range(2)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(made) == 2
    assert made[0].image == made[1].image


def test_a_missing_cupy_says_what_to_install(monkeypatch):
    for name in [m for m in sys.modules if m.split(".")[0] == "cupy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cupy", None)
    find_cupy.cache_clear()
    try:
        assert 'pip install "seqc[cuda13]"' in find_cupy()
        with pytest.raises(CudaBuildError, match="seqc\\[cuda13\\]"):
            compile_cubin(SMALL, name="add", arch=90)
    finally:
        find_cupy.cache_clear()


def test_importing_seqc_does_not_import_cupy():
    import subprocess

    code = "import seqc, sys; seqc.compile; assert 'cupy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
