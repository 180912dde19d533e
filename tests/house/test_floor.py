"""The oldest torch: what pyproject promises is what the runtime insists on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from seqc.runtime.floor import TORCH_FLOOR, require_torch

ROOT = Path(__file__).resolve().parents[2]
FLOOR = ".".join(map(str, TORCH_FLOOR))


def test_pyproject_and_the_runtime_name_one_floor() -> None:
    wanted = re.findall(r'^    "torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert wanted == [FLOOR]
    assert f"PyTorch {FLOOR}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("version", ["2.6.0", "2.7.1+cpu", "1.13.1", "2.7.0a0+gitabc"])
def test_an_older_torch_is_refused(version: str) -> None:
    with pytest.raises(ImportError, match=re.escape(f'"torch>={FLOOR}"')) as caught:
        require_torch(version)
    assert version in str(caught.value)


@pytest.mark.parametrize("version", [f"{FLOOR}.0", "2.13.0+cpu", "3.0", "2.10.0.dev20251001", "?"])
def test_the_floor_and_later_are_not(version: str) -> None:
    require_torch(version)


def test_importing_the_runtime_under_an_older_torch_says_so() -> None:
    code = (
        "import torch; torch.__version__ = '2.7.1'\n"
        "try: import seqc.runtime.layer\n"
        "except ImportError as error: print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"seqc needs torch {FLOOR} or later, and this is torch 2.7.1" in result.stdout
