"""What killed processes leave in the cache, and who may clear it away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seqc.runtime import store
from seqc.runtime.store import STORE_NAME, sweep, text_cache_write, workplace

fcntl = pytest.importorskip("fcntl")
MINUTES, DAYS = 600, 2 * 24 * 3600


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def left_behind(folder: Path, name: str = "build-x", owner: bool = True) -> Path:
    """A workplace whose owner is gone."""
    work = folder / name
    work.mkdir(parents=True)
    (work / "kernel.cpp").write_text("// half")
    if owner:
        (work / "owner").touch()
    return work


def test_the_next_build_clears_what_the_dead_left(tmp_path: Path) -> None:
    dead = left_behind(tmp_path)
    age(dead, MINUTES)
    with workplace(tmp_path) as work:
        assert not dead.exists()
        assert work.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_fresh_folder_is_left_alone(tmp_path: Path) -> None:
    """Its owner may be about to lock it."""
    fresh = left_behind(tmp_path, owner=False)
    sweep(tmp_path)
    assert fresh.exists()


def test_a_folder_without_a_lock_waits_a_day(tmp_path: Path) -> None:
    unknown, ancient = (left_behind(tmp_path, f"build-{n}", owner=False) for n in "ab")
    age(unknown, MINUTES)
    age(ancient, DAYS)
    sweep(tmp_path)
    assert unknown.exists()
    assert not ancient.exists()


def test_nothing_else_goes(tmp_path: Path) -> None:
    for name in ("lib", "somebody's", "text"):
        (tmp_path / name).mkdir()
        age(tmp_path / name, DAYS)
    (tmp_path / "lib" / "build-y").mkdir()
    age(tmp_path / "lib" / "build-y", DAYS)
    sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lib", "somebody's", "text"]
    assert (tmp_path / "lib" / "build-y").exists()
    sweep(tmp_path / "not there")


def test_a_living_owner_keeps_its_folder(tmp_path: Path) -> None:
    """However long it takes, and once it is killed the folder goes."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from seqc.runtime.store import workplace\n"
        "with workplace(Path(sys.argv[1])) as work:\n"
        "    print(work, flush=True)\n"
        "    time.sleep(60)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert owner.stdout is not None
        work = Path(owner.stdout.readline().strip())
        age(work, MINUTES)
        sweep(tmp_path)
        assert work.exists()
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        owner.stdout.close()
    age(work, MINUTES)
    sweep(tmp_path)
    assert not work.exists()


def test_without_locks_age_alone_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError("no locks on this file system")

    monkeypatch.setattr(fcntl, "flock", refuse)
    minutes, days = left_behind(tmp_path, "build-a"), left_behind(tmp_path, "build-b")
    age(minutes, MINUTES)
    age(days, DAYS)
    with workplace(tmp_path):
        assert minutes.exists()
        assert not days.exists()


def test_half_written_text_goes(fresh_cache: Path) -> None:
    text_cache_write("k", "v")
    folder = fresh_cache / STORE_NAME
    half = folder / "text" / "write-abc"
    half.write_text("ha")
    sweep(folder)
    assert half.exists()
    age(half, DAYS)
    sweep(folder)
    assert not half.exists()
    assert store.text_cache_read("k") == "v"
