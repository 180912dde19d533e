"""Which backend a call runs on, and what is said where it is not the one hoped for."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

from seqc.runtime import backends, nvrtc
from seqc.runtime.backends import SeqcWarning, choose_backend
from seqc.runtime.nvrtc import CudaBuildError, find_cuda


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(backends, "_WARNED", set())
    find_cuda.cache_clear()
    yield
    find_cuda.cache_clear()


def choose(wish: str, device: str) -> str:
    return choose_backend(wish, device, 0 if device == "cuda" else None, "Layer", True)


class NoDevice:
    """Stands in for torch.cuda where there is none."""

    def __init__(self, index: int) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass

    def synchronize(self) -> None:
        pass


PROBLEMS = [
    (CudaBuildError('NVRTC 13.0 does not know sm_50: install another (pip install "seqc[cuda12]")'),
     "does not know sm_50"),
    (CudaBuildError("the driver does not load kernel probe for sm_90"), "the driver does not load"),
    (RuntimeError("CUDA driver version is insufficient for CUDA runtime version"),
     "the driver may be older than the CUDA that CuPy was built for"),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "said"), PROBLEMS)
def test_a_gpu_that_kernels_cannot_be_built_for(problem, said, monkeypatch):
    def refuse(*args, **more):
        raise problem

    monkeypatch.setattr(nvrtc, "find_cupy", lambda: "")
    monkeypatch.setattr(nvrtc, "load_function", refuse)
    monkeypatch.setattr("torch.cuda.device", NoDevice)
    monkeypatch.setattr("torch.cuda.current_stream", lambda: NoDevice(0))
    with pytest.warns(SeqcWarning, match=said) as caught:
        assert choose("auto", "cuda") == "reference"
    assert "pip install" in str(caught[0].message)
    assert "runs on the reference backend" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        assert choose("auto", "cuda") == "reference"
    with pytest.raises(RuntimeError, match=said):
        choose("cuda", "cuda")


def test_no_cupy_is_reference_with_one_warning(monkeypatch):
    monkeypatch.setattr(nvrtc, "find_cupy", lambda: "CUDA kernels need CuPy: pip install it")
    with pytest.warns(SeqcWarning, match="pip install"):
        assert choose("auto", "cuda") == "reference"


@pytest.mark.parametrize(
    ("wish", "device", "said"),
    [
        ("cuda", "cpu", "backend 'cuda' runs on a CUDA device, but the input is on cpu"),
        ("cpp", "cuda", "backend 'cpp' runs on the CPU, but the input is on cuda"),
        ("cpp", "meta", "backend 'cpp' runs on the CPU, but the input is on meta"),
    ],
)
def test_another_device_is_refused(wish, device, said):
    with pytest.raises(ValueError, match=said):
        choose(wish, device)


def test_a_device_without_kernels_is_reference_with_one_warning():
    with pytest.warns(SeqcWarning, match="no fused kernels for meta"):
        assert choose("auto", "meta") == "reference"
