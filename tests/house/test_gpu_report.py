"""The tables and the plot of a GPU run, from a record made up here: nothing in it was measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_report


def row(layer: str, what: str, shape: tuple[int, ...], took: float, **more: Any) -> dict[str, Any]:
    given = {"dtype": "float32", "bytes": None, "of_copy": None, "schedule": ""} | more
    return {"layer": layer, "what": what, "shape": list(shape), "milliseconds": took, **given}


def record(share: float = 0.9) -> dict[str, Any]:
    rows = [
        row("MinGRU", what, shape, 2.0, bytes=10**9, of_copy=share, schedule=kind)
        for shape, kind in (((8, 65536, 1536), "scan"), ((1, 65536, 512), "scan"))
        for what in ("forward", "backward")
    ]
    rows += [
        row(name, "forward", (1, 65536, 512), took, bytes=10**8, of_copy=0.5)
        for name, took in (("seqc", 2.0), ("another", 3.0))
    ]
    rows += [row("QRNN", "grid", (8, 32, 320), 1.0), row("nn.LSTM", "grid", (8, 32, 320), 5.0)]
    rows += [row("MinGRU", "layer", (8, 2048, 1024), 3.0)]
    return {
        "command": "made up", "date": "2000-01-01T00:00:00+00:00", "device": "No Device",
        "versions": {"torch": "0"}, "tests": {"status": 0, "said": "3 passed"},
        "errors": {"MinGRU float32": 1e-6}, "launch_us": {"forward kernel": 9.0},
        "usage": {"MinGRU float32": {"scan_forward": {"registers": 80, "spill_stores": 4}}},
        "rows": rows, "tuned": [], "absent": {"a peer": "not installed"}, "failures": ["a case"],
        "copy_bytes_per_second": 4e12,
    }  # fmt: skip


def test_tables_hold_what_was_found():
    text = gpu_report.markdown(record())
    assert (
        "| MinGRU | forward | (1, 65536, 512) | float32 | 2.000 | 1000 | 90% | scan | 80, 4 B"
        in text
    )
    assert "| another | forward | (1, 65536, 512) | 3.000 | 50% | 1.50 |" in text
    assert "| 8 | 5.0 (5.5) | (8.8) |" in text
    assert "a peer (not installed)" in text
    assert "- a case" in text


@pytest.mark.parametrize(("share", "verdict"), [(0.9, "kept"), (0.84, "MISSED")])
def test_promises_are_judged(share: float, verdict: str):
    lines = gpu_report.promises(record(share))
    assert [line[-1] for line in lines[:4]] == [verdict] * 4
    assert [line[-1] for line in lines[4:]] == ["kept", "kept"]
    nothing = record() | {"rows": [], "launch_us": {}}
    assert {line[-1] for line in gpu_report.promises(nothing)} == {"not measured"}


def test_the_command_writes_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("matplotlib")
    file = tmp_path / "found.json"
    file.write_text(json.dumps(record()))
    made = [tmp_path / "found.md", tmp_path / "found.png"]
    arguments = [str(file), "--markdown", str(made[0]), "--png", str(made[1])]
    monkeypatch.setattr(sys, "argv", ["gpu_report", *arguments])
    assert gpu_report.main() == 0
    assert made[0].read_text() == gpu_report.markdown(record())
    assert made[1].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
