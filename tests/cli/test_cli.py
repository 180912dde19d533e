"""The command line with a stand-in for the compiler: calls, texts, files and exit codes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import seqc
from seqc import cli
from seqc.commands import COMMANDS, check, common
from seqc.diagnostics import Diagnostic, SeqcError, Severity
from seqc.ir.verdict import Interval, Verdict
from tests.cli import fakes

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[2]
ERROR = Diagnostic("E101", "unknown name 'hiden'", hint="did you mean hidden?")
WARNING = Diagnostic("W201", "x is never read", severity=Severity.WARNING)


def launch(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    """The real process, from the checkout."""
    start = ["-c", code] if code else ["-m", "seqc.cli", *arguments]
    return subprocess.run(
        [sys.executable, *start], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


# --- the frame ----------------------------------------------------------------------------------


def test_help_does_not_import_torch() -> None:
    done = launch(
        code="import sys; from seqc.cli import main; code = main(['--help'])\n"
        "heavy = {'torch', 'sympy', 'numpy', 'lark', 'jinja2'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy), code)"
    )
    assert done.stdout.rstrip().endswith("heavy: [] 0"), done.stdout + done.stderr
    for name in COMMANDS:
        assert f"\n    {name} " in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_each_help_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"  seqc {name}" in text.split("example")[1]


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "usage: seqc" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("seqc ")


def test_an_unknown_command_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["chek", "MinGRU"]) == 2
    err = capsys.readouterr().err
    assert "no command 'chek'" in err
    assert "did you mean check?" in err


@pytest.mark.parametrize(
    "word, nearest",
    [("FakeGRUU", "FakeGRU"), ("fakegru", "FakeGRU"), ("fakegru.seq", "FakeGRU")],
)
def test_an_unknown_spec_gets_the_nearest(
    word: str, nearest: str, compiler: fakes.Compiler, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", word]) == 1
    assert f"did you mean {nearest}?" in capsys.readouterr().err
    assert compiler.calls == []


def test_a_misspelt_file_gets_the_file_beside_it(
    compiler: fakes.Compiler, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.joinpath("gated.seq").write_text(fakes.SPEC, encoding="utf-8")
    assert cli.main(["check", "gatde.seq"]) == 1
    assert "did you mean gated.seq?" in capsys.readouterr().err


def test_a_folder_and_bytes_are_no_specs(
    compiler: fakes.Compiler, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", str(tmp_path)]) == 1
    assert "is a folder" in capsys.readouterr().err
    tmp_path.joinpath("bad.seq").write_bytes(b"\xff\xfe")
    assert cli.main(["check", "bad.seq"]) == 1
    assert "not UTF-8" in capsys.readouterr().err


def test_a_spec_comes_from_stdin(compiler: fakes.Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("layer A"))
    assert cli.main(["check", "-"]) == 0
    # The newline tells the compiler that it is text.
    assert compiler.calls[0][1] == "layer A\n"


def test_ctrl_c_exits_with_130(
    compiler: fakes.Compiler, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(options: object) -> int:
        raise KeyboardInterrupt

    room = COMMANDS["zoo"]
    interrupted_room = type(room)(room.summary, room.epilog, room.add_arguments, interrupted)
    monkeypatch.setitem(COMMANDS, "zoo", interrupted_room)
    assert cli.main(["zoo"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_closed_pipe_is_no_error() -> None:
    code = (
        "import os, sys; from seqc.cli import main\n"
        "reader, writer = os.pipe(); os.close(reader); os.dup2(writer, 1)\n"
        "sys.exit(main(['zoo']))"
    )
    done = launch(code=code)
    assert done.returncode == 141
    assert done.stderr == ""


def test_a_warning_is_shown_without_its_place(
    compiler: fakes.Compiler, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn(where: object) -> object:
        warnings.warn("h runs step by step", UserWarning, stacklevel=1)
        return fakes.report()

    monkeypatch.setattr(seqc, "check", warn)
    assert cli.main(["check", "FakeGRU"]) == 0
    assert capsys.readouterr().err == "warning: h runs step by step\n"


def test_colour_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert common.wants_color(Terminal())
    assert not common.wants_color(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not common.wants_color(Terminal())


# --- check and explain --------------------------------------------------------------------------


def test_check_prints_a_table(compiler: fakes.Compiler, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "FakeGRU"]) == 0
    header, line, row = capsys.readouterr().out.splitlines()
    assert header.split() == [
        "layer", "stratum", "states", "algebra", "verdict", "method", "jacobian", "domain",
        "coefficient",
    ]  # fmt: skip
    assert set(line) == {"-", " "}
    assert row.split()[:8] == [
        "FakeGRU", "0", "h", "affine", "proved", "scan", "diagonal", "linear",
    ]  # fmt: skip
    assert row.endswith("in (0, 1)")


def test_check_shows_warnings_and_passes(
    compiler: fakes.Compiler, capsys: pytest.CaptureFixture[str]
) -> None:
    compiler.answers["check"] = fakes.report(WARNING)
    assert cli.main(["check", "FakeGRU"]) == 0
    assert "warning[W201]: x is never read" in capsys.readouterr().err


def test_a_refused_spec_exits_with_1(
    compiler: fakes.Compiler, capsys: pytest.CaptureFixture[str]
) -> None:
    compiler.answers["check"] = SeqcError([ERROR, ERROR])
    assert cli.main(["check", "FakeGRU"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("error[E101]: unknown name 'hiden'") == 2
    assert shown.err.endswith("2 errors\n")
    assert "\x1b" not in shown.err


def test_check_json(compiler: fakes.Compiler, capsys: pytest.CaptureFixture[str]) -> None:
    compiler.answers["check"] = fakes.report(WARNING, coefficient_range=Interval())
    assert cli.main(["check", "FakeGRU", "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert shown.err == ""
    assert found["layers"]["FakeGRU"]["strata"][0]["verdict"] == "proved"
    assert found["layers"]["FakeGRU"]["strata"][0]["coefficient_range"] == ["-inf", "inf"]
    assert found["diagnostics"][0]["code"] == "W201"


def test_check_json_of_a_refused_spec(
    compiler: fakes.Compiler, capsys: pytest.CaptureFixture[str]
) -> None:
    compiler.answers["check"] = SeqcError([ERROR])
    assert cli.main(["check", "FakeGRU", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["layers"] == {}
    assert found["diagnostics"][0]["hint"] == "did you mean hidden?"


def test_json_holds_no_infinity() -> None:
    text = check.to_json({"a": [float("inf"), 1.0, float("nan")]})
    assert " ".join(text.split()) == '{ "a": [ "inf", 1.0, "nan" ] }'


def test_explain_tells_everything(
    compiler: fakes.Compiler, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", "FakeGRU"]) == 0
    text = capsys.readouterr().out
    for part in (
        "FakeGRU: 1 stratum",
        "h[t] = (1 - z[t]) * h[t-1] + z[t] * v[t]",
        "affine, proved (h[t-1] enters linearly)",
        "1 - z[t], in (0, 1)",
        "linear: every coefficient is below 1",
        "logsigmoid(pre[t]) + log(v[t])",
        "g[t] = dh[t] + (1 - z[t+1]) * g[t+1]",
        "associative: proved",
        "2. kernel h: affine scan",
    ):
        assert part in text


def test_explain_prints_a_counterexample(
    compiler: fakes.Compiler, capsys: pytest.CaptureFixture[str]
) -> None:
    refuted = Verdict("refuted", "0 * inf", {"a": 0.0, "h": 2.5})
    compiler.answers["check"] = fakes.report(verdict=refuted, coefficient_range=None)
    assert cli.main(["explain", "FakeGRU"]) == 0
    assert "refuted (0 * inf); it fails at a = 0, h = 2.5" in capsys.readouterr().out


def test_explain_of_an_unknown_layer(
    compiler: fakes.Compiler, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", "FakeGRU", "--layer", "FakeGRUs"]) == 1
    assert "did you mean FakeGRU?" in capsys.readouterr().err


# --- verify ----------------------------------------------------------------------------


def test_verify_prints_a_table(
    compiler: fakes.Compiler, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["verify", "FakeGRU", "--quick", "--size", "hidden=2"]) == 0
    assert compiler.calls == [("compile", compiler.calls[0][1], {"layer": "FakeGRU"})]
    text = capsys.readouterr().out
    assert text.startswith("FakeLayer(input=3, hidden=2), seed 0\n")
    assert text.endswith(" 0 failed\n")


def test_verify_exits_with_1_on_a_failure(
    compiler: fakes.Compiler, capsys: pytest.CaptureFixture[str]
) -> None:
    compiler.answers["compile"] = type("FakeGRU", (fakes.FakeLayer,), {"fault": "outputs"})
    assert cli.main(["verify", "FakeGRU", "--quick"]) == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.parametrize("size", ["hidden", "hidden=x", "=3", "hidden=0"])
def test_verify_refuses_a_size_that_is_none(
    size: str, compiler: fakes.Compiler, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["verify", "FakeGRU", "--size", size]) == 2
    assert "NAME=N" in capsys.readouterr().err
