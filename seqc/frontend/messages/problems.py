"""Where the checks put what they find, so that a person sees every error at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice

from seqc.diagnostics import Diagnostic, Label, SeqcError, Severity, Source, Span
from seqc.frontend.messages.codes import CODES
from seqc.frontend.messages.limits import MAX_CANDIDATES, MAX_NAME, MAX_PROBLEMS


class Problems:
    """Collects diagnostics; the same thing at the same place is said once."""

    def __init__(self) -> None:
        self.errors: list[Diagnostic] = []
        self.warnings: list[Diagnostic] = []
        self.hidden = 0
        self._seen: set[tuple[object, ...]] = set()

    def error(
        self,
        code: str,
        message: str,
        span: Span | None,
        *,
        label: str = "",
        hint: str = "",
        related: Iterable[Label] = (),
    ) -> None:
        """Note an error."""
        self._add(Diagnostic(code, message, span, label, hint, Severity.ERROR, tuple(related)))

    def warn(self, code: str, message: str, span: Span, *, hint: str = "", label: str = "") -> None:
        """Note a warning."""
        self._add(Diagnostic(code, message, span, label, hint, Severity.WARNING))

    def _add(self, diagnostic: Diagnostic) -> None:
        assert diagnostic.code in CODES, diagnostic.code
        span = diagnostic.span
        place = None if span is None else (id(span.source), span)
        key = (diagnostic.code, place, diagnostic.message)
        if key in self._seen:
            return
        self._seen.add(key)
        found = self.errors if diagnostic.severity is Severity.ERROR else self.warnings
        if len(found) < MAX_PROBLEMS:
            found.append(diagnostic)
        elif found is self.errors:
            self.hidden += 1

    def guess(self, name: str, candidates: Iterable[str], otherwise: str = "") -> str:
        """A hint with the nearest of the candidates, or the other hint."""
        if len(self.errors) >= MAX_PROBLEMS:
            return otherwise  # nobody will read it
        pool = [c for c in islice(candidates, MAX_CANDIDATES) if c != name]
        near = difflib.get_close_matches(name[:MAX_NAME], pool, n=1, cutoff=0.6)
        if not near:
            near = [c for c in pool if c.lower() == name.lower()]
        return f"did you mean `{near[0]}`?" if near else otherwise

    def check(self) -> None:
        """Raise what was found, if anything was, in the order of the text."""
        if not self.errors:
            return
        found = sorted(self.errors, key=place)
        if self.hidden:
            last = Diagnostic(
                "E099", f"{self.hidden} more errors are not shown", hint="mend these first"
            )
            found.append(last)
        raise SeqcError(tuple(found))


def place(diagnostic: Diagnostic) -> tuple[int, int]:
    """Where a diagnostic stands in its file, for sorting."""
    span = diagnostic.span
    return (span.line, span.column) if span is not None else (1 << 60, 0)


def shorten(text: str, limit: int = 40) -> str:
    """A name or a piece of source, short enough to stand in a message."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def point(source: Source, line: int, column: int, length: int = 1) -> Span:
    """A span on one line."""
    return Span(source, line, column, line, column + length)


def a_number(count: int, noun: str) -> str:
    """``1 argument``, ``2 arguments``."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def listing(names: Iterable[str]) -> str:
    """```a`, `b` and `c` ``."""
    quoted = [f"`{n}`" for n in names]
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"
