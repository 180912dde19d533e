"""The emulator as fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from seqc.runtime import cuda
from seqc.runtime.emulator import emulating
from tests.cuda.support import Emulate


@pytest.fixture
def emulated() -> Iterator[Emulate]:
    """Sends a layer's calls through its CUDA kernels, for this test alone."""
    with ExitStack() as stack:
        yield lambda layer: stack.enter_context(emulating(layer))


@pytest.fixture
def short_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small chunks and a short look-back, so that few steps have many chunks and anchors."""
    monkeypatch.setattr(cuda, "WARPS", 3)
    monkeypatch.setattr(cuda, "LOOK", 4)
    monkeypatch.setattr(cuda, "TILE_REGISTERS", 0)
