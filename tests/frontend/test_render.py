"""The one renderer: what a person sees, whatever the source line looks like."""

from __future__ import annotations

import copy
import pickle
import re

from seqc.diagnostics import Diagnostic, Label, SeqcError, Severity, Source, Span, render


def span(source: Source, line: int, column: int, end: int, end_line: int | None = None) -> Span:
    return Span(source, line, column, end_line or line, end)


SOURCE = Source("one two three\n\nfour five\n\tsix seven\n漢字 eight\n" + "x " * 200, "a.seq")


def test_all_parts() -> None:
    d = Diagnostic(
        "E001",
        "a message",
        span(SOURCE, 3, 6, 10),
        "here",
        "a hint",
        Severity.ERROR,
        (Label(span(SOURCE, 1, 5, 8), "there"), Label(span(SOURCE, 3, 1, 5), "and there")),
    )
    assert (
        render(d)
        == """\
error[E001]: a message
 --> a.seq:3:6
  |
1 | one two three
  |     --- there
...
3 | four five
  |      ^^^^ here
  | ---- and there
  = hint: a hint"""
    )


def test_without_a_place() -> None:
    d = Diagnostic("W001", "a message", hint="a hint", severity=Severity.WARNING)
    assert render(d) == "warning[W001]: a message\n = hint: a hint"


def test_tabs_and_wide_characters_keep_the_caret_in_place() -> None:
    tab = render(Diagnostic("E001", "m", span(SOURCE, 4, 6, 11))).splitlines()
    assert tab[-2:] == ["4 |     six seven", "  |         ^^^^^"]
    wide = render(Diagnostic("E001", "m", span(SOURCE, 5, 4, 9))).splitlines()
    assert wide[-2:] == ["5 | 漢字 eight", "  |      ^^^^^"]


def test_a_long_line_is_cut_around_the_caret() -> None:
    lines = render(Diagnostic("E001", "m", span(SOURCE, 6, 201, 202))).splitlines()
    excerpt, caret = lines[-2:]
    assert excerpt.startswith("6 | …")
    assert excerpt.endswith("…")
    assert len(excerpt) < 110
    assert excerpt[caret.index("^")] == "x"


def test_a_caret_beyond_the_end_of_the_line() -> None:
    lines = render(Diagnostic("E001", "m", span(SOURCE, 1, 14, 15))).splitlines()
    assert lines[-1] == "  |              ^"


def test_a_span_of_several_lines() -> None:
    source = Source("\n".join(f"  line {i}" for i in range(1, 10)), "a.seq")
    shown = render(Diagnostic("E001", "m", span(source, 2, 3, 7, 3), "both")).splitlines()
    assert shown[-4:] == ["2 |   line 2", "  |   ^^^^^^", "3 |   line 3", "  |   ^^^^ both"]
    many = render(Diagnostic("E001", "m", span(source, 2, 3, 7, 9), "many"))
    assert "… to line 9: many" in many
    assert "line 7" not in many


def test_another_file_is_named() -> None:
    other = Source("def f(u) = u", "b.seq")
    d = Diagnostic("E001", "m", span(SOURCE, 1, 1, 4), related=(Label(span(other, 1, 5, 6), "f"),))
    assert " ::: b.seq:1:5" in render(d)


def test_color_changes_no_text() -> None:
    d = Diagnostic("E001", "m", span(SOURCE, 1, 1, 4), "here", "a hint")
    assert "\x1b[" in render(d, color=True)
    assert re.sub("\x1b\\[[0-9;]*m", "", render(d, color=True)) == render(d)


def test_nothing_of_the_source_reaches_the_terminal_as_an_escape() -> None:
    source = Source("a \x1b[31mred\x07 \ud800", "\x1b[2J.seq")
    shown = render(Diagnostic("E001", "\x1b[0m", span(source, 1, 1, 2), "\x1b", "\x1b"))
    assert "\x1b" not in shown
    assert "\x07" not in shown
    shown.encode("utf-8")


def test_an_error_renders_all_and_survives_pickling() -> None:
    error = SeqcError([Diagnostic("E001", "one"), Diagnostic("E002", "two")])
    assert str(error) == "error[E001]: one\n\nerror[E002]: two"
    for again in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert again.diagnostics == error.diagnostics
        assert str(again) == str(error)


def test_windows_newlines_are_not_shown() -> None:
    assert Source("a\r\nb\r\n").line(1) == "a"
    assert Source("a\r\nb").line(3) == ""
