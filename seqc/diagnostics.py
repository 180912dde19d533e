"""What the compiler says to a person: one record, one renderer.

Every refusal and every warning of a spec is a :class:`Diagnostic`: a stable
code, a message, the place (a :class:`Span` in a :class:`Source`), and a hint
that says what to do.  Stages collect diagnostics and raise one
:class:`SeqcError` holding them all, so a person sees every semantic error at
once.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Source:
    """A spec's text and the name to show for it (a path, or ``<text>``)."""

    text: str = field(repr=False)
    name: str = "<text>"

    @cached_property
    def lines(self) -> tuple[str, ...]:
        """The text line by line, without newlines."""
        return tuple(line.removesuffix("\r") for line in self.text.split("\n"))

    def line(self, number: int) -> str:
        """The text of line ``number`` (from 1), without its newline."""
        return self.lines[number - 1] if 1 <= number <= len(self.lines) else ""


@dataclass(frozen=True)
class Span:
    """A stretch of source: lines and columns count from 1, the end is exclusive."""

    source: Source = field(repr=False, compare=False)
    line: int
    column: int
    end_line: int
    end_column: int

    @property
    def text(self) -> str:
        """The source text that the span covers (of its first line when it covers several)."""
        line = self.source.line(self.line)
        end = self.end_column - 1 if self.end_line == self.line else len(line)
        return line[self.column - 1 : end]


class Severity(str, Enum):
    """How grave a diagnostic is; an error stops the compilation."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Label:
    """A second place that a diagnostic points at, with a word about it."""

    span: Span
    text: str


@dataclass(frozen=True)
class Diagnostic:
    """One thing to tell the person who wrote the spec."""

    code: str
    message: str
    span: Span | None = None
    label: str = ""
    hint: str = ""
    severity: Severity = Severity.ERROR
    related: tuple[Label, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain dict for tools: code, severity, message, hint, file, line, column, …"""
        place: dict[str, Any] = {}
        if self.span is not None:
            place = {
                "file": self.span.source.name,
                "line": self.span.line,
                "column": self.span.column,
                "end_line": self.span.end_line,
                "end_column": self.span.end_column,
            }
        return {
            "code": self.code,
            "severity": self.severity.value,
            "message": self.message,
            "hint": self.hint,
            "label": self.label,
            **place,
            "related": [
                {"line": r.span.line, "column": r.span.column, "text": r.text} for r in self.related
            ],
        }


class SeqcError(Exception):
    """Every refusal of a spec; ``.diagnostics`` holds the records, ``str()`` renders them."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...] | list[Diagnostic]) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = tuple(diagnostics)
        super().__init__("\n\n".join(render(d) for d in self.diagnostics))

    def __reduce__(self) -> tuple[type[SeqcError], tuple[tuple[Diagnostic, ...]]]:
        # Exception's own would call the constructor with the rendered text.
        return type(self), (self.diagnostics,)


#: The widest excerpt of a source line that is shown; longer lines are cut around the caret.
EXCERPT_WIDTH = 100
#: A span that covers more lines than this is shown by its first ones.
EXCERPT_LINES = 4
_TAB = "    "
_COLORS = {"error": "1;31", "warning": "1;33", "note": "1;36", "frame": "1;34", "bold": "1"}


@dataclass(frozen=True)
class _Mark:
    """Signs to draw under one line: columns count from 1, the end is exclusive."""

    line: int
    start: int
    end: int
    sign: str
    text: str


def render(diagnostic: Diagnostic, *, color: bool = False) -> str:
    """The diagnostic as a person reads it: place, source line, caret, hint.

    ::

        error[E021]: no size is called `hiden`
         --> cell.seq:4:14
          |
        4 | input  x[t]: hiden
          |              ^^^^^
          = hint: did you mean `hidden`?
    """

    def paint(text: str, name: str) -> str:
        return f"\x1b[{_COLORS[name]}m{text}\x1b[0m" if color and text else text

    kind = diagnostic.severity.value
    head = paint(f"{kind}[{diagnostic.code}]", kind) + paint(
        f": {_printable(diagnostic.message)}", "bold"
    )
    out = [head]
    width = 0
    if diagnostic.span is not None:
        groups: dict[int, tuple[Source, list[_Mark]]] = {}
        primary = diagnostic.span.source
        labels = [(diagnostic.span, diagnostic.label, "^")]
        labels += [(r.span, r.text, "-") for r in diagnostic.related]
        for span, text, sign in labels:
            groups.setdefault(id(span.source), (span.source, []))[1].extend(
                _marks(span, text, sign)
            )
        width = max(len(str(m.line)) for _, marks in groups.values() for m in marks)
        for source, marks in groups.values():
            first = marks[0] if source is not primary else None
            line, column = (
                (first.line, first.start)
                if first is not None
                else (diagnostic.span.line, diagnostic.span.column)
            )
            arrow = paint("-->" if first is None else ":::", "frame")
            out.append(f"{' ' * width}{arrow} {_printable(source.name)}:{line}:{column}")
            out.append(paint(f"{' ' * width} |", "frame"))
            out.extend(_excerpt(source, marks, width, kind, paint))
    if diagnostic.hint:
        bar = paint(f"{' ' * width} =", "frame")
        out.append(f"{bar} {paint('hint', 'bold')}: {_printable(diagnostic.hint)}")
    return "\n".join(out)


def _marks(span: Span, text: str, sign: str) -> list[_Mark]:
    """One mark a line that the span covers; the text stands with the last."""
    last = min(span.end_line, span.line + EXCERPT_LINES - 1)
    marks = []
    for number in range(span.line, last + 1):
        content = span.source.line(number)
        start = span.column if number == span.line else len(content) - len(content.lstrip()) + 1
        end = span.end_column if number == span.end_line else len(content.rstrip()) + 1
        label = text if number == last else ""
        if number == last < span.end_line:
            label = f"… to line {span.end_line}" + (f": {text}" if text else "")
        marks.append(_Mark(number, start, max(end, start + 1), sign, label))
    return marks


def _excerpt(
    source: Source, marks: list[_Mark], width: int, kind: str, paint: Callable[[str, str], str]
) -> Iterator[str]:
    """The marked lines of one source in order, each with its signs below."""
    empty = paint(f"{' ' * width} |", "frame")
    by_line: dict[int, list[_Mark]] = {}
    for mark in marks:
        by_line.setdefault(mark.line, []).append(mark)
    previous: int | None = None
    for number in sorted(by_line):
        if previous is not None and number > previous + 1:
            yield paint("...", "frame")
        previous = number
        line = source.line(number)
        here = by_line[number]
        cut = _window(line, here[0])
        yield f"{paint(f'{number:>{width}} |', 'frame')} {_shown(line, cut)}".rstrip()
        for mark in here:
            indent = _columns(line, cut, mark.start)
            length = max(1, _columns(line, cut, mark.end) - indent)
            signs = mark.sign * min(length, max(1, EXCERPT_WIDTH + 2 - indent))
            if mark.text:
                signs += f" {_printable(mark.text)}"
            yield f"{empty} {' ' * indent}{paint(signs, kind if mark.sign == '^' else 'frame')}"


def _window(line: str, mark: _Mark) -> tuple[int, int]:
    """The characters [start, end) of a line to show: all of it, or a cut around the mark."""
    if len(line) <= EXCERPT_WIDTH:
        return 0, len(line)
    middle = mark.start - 1 + min(mark.end - mark.start, EXCERPT_WIDTH // 2) // 2
    start = max(0, min(middle - EXCERPT_WIDTH // 2, len(line) - EXCERPT_WIDTH))
    return start, start + EXCERPT_WIDTH


def _shown(line: str, cut: tuple[int, int]) -> str:
    text = _printable(line[cut[0] : cut[1]])
    return ("…" if cut[0] > 0 else "") + text + ("…" if cut[1] < len(line) else "")


def _columns(line: str, cut: tuple[int, int], column: int) -> int:
    """How many terminal columns stand before a column of the line, as it is shown."""
    start, end = cut
    stop = min(max(column - 1, start), end)
    shown = _printable(line[start:stop])
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in shown)
    narrow = sum(unicodedata.combining(c) != 0 for c in shown)
    beyond = max(0, column - 1 - max(stop, start)) if end == len(line) else 0
    return len(shown) + wide - narrow + (1 if start > 0 else 0) + beyond


def _printable(text: str) -> str:
    """Text that is safe for a terminal: tabs as spaces, control characters and surrogates as �."""
    if text.isprintable():
        return text
    return "".join(_TAB if c == "\t" else c if c.isprintable() or c == " " else "�" for c in text)
