"""What every test stands on: a cache of its own, two threads, the same seeds, one profile."""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

THREADS = 2
SEED = 0
CI = os.environ.get("CI", "").lower() not in ("", "0", "false")

# A first example may compile a kernel, so no deadline. In CI the examples are always the same: a
# failure there is the change's fault and repeats on another machine.
settings.register_profile("seqc", deadline=None, max_examples=40, print_blob=True)
settings.register_profile("seqc-ci", settings.get_profile("seqc"), derandomize=True)
settings.load_profile("seqc-ci" if CI else "seqc")

_session_cache = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    # Before anything imports distutils: setuptools, which torch's own compiler imports later,
    # refuses to stand in for a distutils that is there already.
    with contextlib.suppress(ImportError):
        importlib.import_module("setuptools")
    # Before collection: a test module may compile a layer while it is imported, and must then
    # neither find nor leave anything in the cache of the person who runs the tests. The workers of
    # pytest-xdist share that of the process that started them: what one compiled, all have.
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = Path(os.environ["SEQC_CACHE_DIR"])
    else:
        folder = Path(tempfile.mkdtemp(prefix="seqc-tests-"))
        os.environ["SEQC_CACHE_DIR"] = str(folder)
    config.stash[_session_cache] = folder
    # For processes that the tests start; this one is set in `_steady`, once torch is there.
    os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
    os.environ.setdefault("SEQC_VERIFY", "1")
    for name in ("SEQC_BACKEND", "SEQC_DUMP", "SEQC_CXXFLAGS"):
        os.environ.pop(name, None)


def pytest_unconfigure(config: pytest.Config) -> None:
    folder = config.stash.get(_session_cache, None)
    if folder is not None and "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def session_cache(request: pytest.FixtureRequest) -> Path:
    """The folder that SEQC_CACHE_DIR names during this session: shared by all tests."""
    return request.config.stash[_session_cache]


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder for one test, which SEQC_CACHE_DIR names while the test runs."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SEQC_CACHE_DIR", str(folder))
    return folder


@pytest.fixture(autouse=True)
def _steady() -> None:
    """The same seeds and threads for each test; torch is not imported for tests without it."""
    random.seed(SEED)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(SEED)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(SEED)
        if torch.get_num_threads() != THREADS:
            torch.set_num_threads(THREADS)
