"""The commands on the real compiler and its built-in layers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from seqc import cli, zoo

ROOT = Path(__file__).parents[2]


def test_check_proves_mingru(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "MinGRU", "--json"]) == 0
    stratum = json.loads(capsys.readouterr().out)["layers"]["MinGRU"]["strata"][0]
    assert stratum["algebra"] == "affine"
    assert stratum["verdict"] == "proved"
    assert stratum["method"] == "scan"


def test_check_refuses_with_every_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "bad.seq"
    text = zoo.source("MinGRU").replace("v[t]\n", "vv[t] + ww[t]\n")
    assert "ww[t]" in text
    spec.write_text(text, encoding="utf-8")
    assert cli.main(["check", str(spec)]) == 1
    err = capsys.readouterr().err
    assert "vv" in err
    assert "ww" in err
    assert str(spec) in err
    assert cli.main(["check", str(spec), "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["diagnostics"]) >= 2


def test_explain_shows_the_derived_forms(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "MinGRU"]) == 0
    text = capsys.readouterr().out
    for part in ("coefficient", "offset", "adjoint", "domain", "stages"):
        assert part in text


@pytest.mark.parametrize("target", ["torch", "reference", "cpp", "kernel", "recurrence"])
def test_emit_prints_each_target(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["emit", "MinGRU", "--target", target]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


def test_what_build_writes_can_be_imported_and_rebuilt(tmp_path: Path) -> None:
    target = tmp_path / "min_gru.py"
    # Twice: the second must know the first for its own.
    for _ in range(2):
        assert cli.main(["build", "MinGRU", "-o", str(target)]) == 0
    code = (
        "import torch, min_gru\n"
        "y, state = min_gru.MinGRU(input=3, hidden=5)(torch.randn(2, 7, 3))\n"
        "print(tuple(y.shape))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(ROOT)!r}, '.']\n{code}"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.strip() == "(2, 7, 5)", done.stderr


def test_verify_passes_mingru(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["verify", "MinGRU", "--quick"])
    text = capsys.readouterr().out
    assert code == 0, text


@pytest.mark.parametrize("command", ["check", "explain"])
def test_a_layer_of_several_is_spoken_of_alone(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """VCGRU stands in the same file, and has a warning of its own."""
    assert cli.main([command, "VCRNN"]) == 0
    shown = capsys.readouterr()
    assert "VCGRU" not in shown.out
    assert shown.err.count("warning[") == 1
    line = zoo.source("VCRNN").splitlines().index("layer VCRNN") + 1
    place = shown.err.split("vcrnn.seq:")[1].split(":")[0]
    assert line < int(place) < line + 12


def test_commands_on_a_layer_that_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "GRU"]) == 0
    shown = capsys.readouterr()
    for part in ("sequential", "full", "s0: fused kernel", "steps h", "n.h.weightᵀ @"):
        assert part in shown.out
    assert cli.main(["emit", "GRU", "--target", "cpp"]) == 0
    shown = capsys.readouterr()
    assert "class Stepper" in shown.out
    assert "struct Pass0" in shown.out
    assert cli.main(["emit", "GRU", "--target", "cuda"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "// GRU has no kernels: it runs step by step, in plain PyTorch\n"


def test_commands_on_a_layer_without_a_kernel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "late.seq"
    place.write_text(
        "layer Late\nsize input, hidden, k = 1\ninput x[t]: input\nstate h[t]: hidden\n"
        "h[t] = tanh(linear(x[t]) + linear(h[t-k]))\noutput h[t]\n"
    )
    late = str(place)
    assert cli.main(["explain", late]) == 0
    shown = capsys.readouterr()
    for part in ("nonlinear in h[t-k]", "sequential", "loop0: step by step in PyTorch: h;"):
        assert part in shown.out
    for target in ("cpp", "cuda"):
        assert cli.main(["emit", late, "--target", target]) == 0
        shown = capsys.readouterr()
        assert shown.out == "// Late has no kernels: it runs step by step, in plain PyTorch\n"
    assert cli.main(["verify", late, "--quick"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    said = {" ".join(row) for row in rows if row and row[0] == "kernels"}
    assert not said  # the plan, maps and a loop, is checked by the name of the backend
    assert any(row[:2] == ["step", "="] and "cpp" in row for row in rows)
    assert [row[-1] for row in rows if row[:2] == ["second", "derivatives"]] == ["ok"] * 2


def test_zoo_cites_a_source_for_every_layer(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["zoo"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert {row.split()[0] for row in rows} == set(zoo.names())
    assert all(len(row.split()) > 2 for row in rows)


def test_the_gallery_is_listed_apart_and_its_layers_are_specs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["zoo", "gallery"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert {row.split()[0] for row in rows} == {f"gallery.{n}" for n in zoo.gallery.names()}
    assert all(len(row.split()) > 2 for row in rows)
    assert cli.main(["zoo", "gallery.NAS"]) == 0
    assert capsys.readouterr().out == zoo.gallery.source("NAS")
    assert cli.main(["check", "gallery.MUT2"]) == 0
    assert "MUT2" in capsys.readouterr().out
    assert cli.main(["check", "gallery.MUTT2"]) == 1
    assert "did you mean gallery.MUT2?" in capsys.readouterr().err
    with pytest.raises(AttributeError, match="did you mean 'JANET'"):
        _ = zoo.gallery.JANETT


def test_a_new_spec_compiles_and_verifies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", "MyLayer"]) == 0
    assert cli.main(["check", "MyLayer.seq"]) == 0
    shown = capsys.readouterr()
    assert "affine" in shown.out
    assert "warning" not in shown.err
    code = cli.main(["verify", "MyLayer.seq", "--quick"])
    assert code == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", ["class", "template", "while"])
def test_new_refuses_keywords(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", name]) != 0
    assert not list(tmp_path.iterdir())


def test_the_demo_runs_quickly() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "seqc.cli", "demo", "--quick"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "after training" in done.stdout
