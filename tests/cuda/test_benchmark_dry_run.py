"""``python -m benchmarks.gpu --dry-run`` compiles and lists all that a GPU would run."""

from __future__ import annotations

import pytest

from benchmarks.gpu import main
from seqc.runtime.nvrtc import find_cupy


@pytest.mark.skipif(bool(find_cupy()), reason=find_cupy() or "compiles")
def test_it_lists_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dry-run"]) == 0
    said = capsys.readouterr().out
    for part in ("MinGRU", "QRNN", "sm_80", "sm_100", "cost of a launch"):
        assert part in said
