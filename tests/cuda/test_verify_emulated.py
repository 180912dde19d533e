"""``seqc verify --backend cuda`` on a machine without a GPU: by the emulator, and saying so."""

from __future__ import annotations

import shutil
import sys

import pytest
import torch

from seqc import zoo
from seqc.cli import main
from seqc.commands.verify import verify
from seqc.runtime.kernels import FusedKernel

pytestmark = [
    pytest.mark.skipif(not shutil.which("g++"), reason="no g++"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which is used instead"),
]


def test_it_passes_and_says_what_ran(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "MinGRU", "--backend", "cuda", "--quick"]) == 0
    said = capsys.readouterr().out
    assert "no GPU here: the CUDA kernels ran on the CPU, emulated" in said
    assert "cuda       float32" in said
    assert "cpp" not in said


def test_a_fault_in_a_kernel_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    module = vars(sys.modules[zoo.MinLSTM.__module__])
    (kernel,) = (k for k in module.values() if isinstance(k, FusedKernel))
    cuda = kernel.targets["cuda"]
    broken = cuda.source.replace("w < at.warp;", "w + 1 < at.warp;")
    assert broken != cuda.source
    monkeypatch.setattr(cuda, "source", broken)
    report = verify(zoo.MinLSTM, "MinLSTM", quick=True, backend="cuda")
    assert "outputs" in {c.name for c in report.failed}
    assert {c.backend for c in report.failed} == {"cuda"}
