"""A spec's own lines for a page: numbered, coloured, with what stands in the way underlined."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from seqc.diagnostics import Source, Span
from seqc.ir.recurrence import Recurrence
from seqc.ir.report import LayerReport

_KEYWORDS = frozenset(
    "layer size space hyper input state param output def algebra identity compose apply solve "
    "gradient penalty".split()
)
#: An opening comment up to this long is shown as it is.
_SHORT = 4


@dataclass(frozen=True)
class SourceLine:
    """A line's number and its stretches of text, each with its classes."""

    number: int
    parts: list[tuple[str, str]]


def source_lines(
    source: Source, r: Recurrence, layer: LayerReport
) -> tuple[list[SourceLine], list[SourceLine]]:
    """The comment that opens the file, and what concerns the layer: what is before all, and it."""
    starts = [n for n, line in enumerate(source.lines, 1) if line.split()[:1] == ["layer"]]
    mine = r.span.line if r.span is not None else 1
    mine = max((n for n in starts if n <= mine), default=1)
    first = min(starts, default=1)
    end = next((_above(source, n) for n in starts if n > mine), len(source.lines) + 1)
    shared = range(1, _above(source, first))
    opening = next((n for n in shared if _says(source.line(n))), shared.stop)
    while opening > 1 and not source.line(opening - 1).strip():
        opening -= 1  # blank lines go with what follows
    if opening <= _SHORT:
        opening = 1
    numbers = [*range(opening, shared.stop), *range(_above(source, mine), end)]
    while numbers and not source.line(numbers[-1]).strip():
        numbers.pop()
    while numbers and not source.line(numbers[0]).strip():
        numbers.pop(0)
    spans = [s.obstacle for s in layer.plan.analysis.strata if s.obstacle is not None]
    spans = [s for s in spans if s.source.text == source.text]
    return (
        [marked(source, n, ()) for n in range(1, opening)] if opening > 1 else [],
        [marked(source, n, spans) for n in numbers],
    )


def _says(line: str) -> bool:
    text = line.strip()
    return bool(text) and not text.startswith("#")


def _above(source: Source, number: int) -> int:
    """The first line of the comment right above a line, or the line itself."""
    while number > 1 and source.line(number - 1).strip().startswith("#"):
        number -= 1
    return number


def printable(text: str) -> str:
    """Text as a page may hold it: no control characters, which could also turn its direction."""
    return "".join(c if c.isprintable() or c in "\t\n" else "�" for c in text)


def marked(source: Source, number: int, spans: Iterable[Span]) -> SourceLine:
    """A line in stretches: its comment, its keyword, and what the spans cover."""
    text = printable(source.line(number))
    classes = [""] * len(text)
    comment = text.find("#")
    if comment >= 0:
        classes[comment:] = ["comment"] * (len(text) - comment)
    word = text.split()[:1]
    if word and word[0] in _KEYWORDS:
        at = text.index(word[0])
        classes[at : at + len(word[0])] = ["keyword"] * len(word[0])
    for span in spans:
        if span.line <= number <= span.end_line:
            start = span.column - 1 if number == span.line else len(text) - len(text.lstrip())
            stop = span.end_column - 1 if number == span.end_line else len(text)
            for i in range(start, min(stop, len(text))):
                classes[i] = f"{classes[i]} obstacle".strip()
    runs = groupby(range(len(text)), key=lambda i: classes[i])
    return SourceLine(number, [("".join(text[i] for i in run), kind) for kind, run in runs])
