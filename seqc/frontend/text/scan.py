"""A first look, before the parser: is it text, is it small enough, do its brackets match?

One pass of a regular expression, so that a hostile file costs next to nothing and
an unclosed bracket is reported where it was opened, not a line or a file later.
"""

from __future__ import annotations

import re

from seqc.diagnostics import Diagnostic, Label, SeqcError, Source, Span
from seqc.frontend.messages.limits import MAX_CHARACTERS, MAX_NESTING, MAX_STATEMENTS, MAX_TOKENS
from seqc.frontend.messages.problems import point

#: The words that begin a statement (and only there are they more than names).
STATEMENT_WORDS = (
    "layer", "size", "space", "hyper", "input", "state", "param", "output", "map", "choice",
    "def", "solve", "gradient", "penalty", "algebra", "identity", "compose", "apply",
    "projective",
)  # fmt: skip

_CLOSING = {"(": ")", "[": "]"}
_FOREIGN = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff]|\r(?!\n)")
_TOKEN = re.compile(r"\n|#[^\n]*|[^\W\d]\w*|[0-9.]+|[^\s\w]|\w")
# Inside brackets none of these can stand, so a line that begins with one is a new statement.
_STATEMENT = re.compile(
    rf"[ \t]*(?:(?:{'|'.join(STATEMENT_WORDS)})[ \t]+[^\W\d]"
    r"|[^\W\d]\w*[ \t]*\[[ \t]*t[ \t]*\][ \t]*(?::|=(?!=)))"
)


def _refuse(
    code: str,
    message: str,
    span: Span,
    hint: str = "",
    label: str = "",
    related: Label | None = None,
) -> SeqcError:
    places = () if related is None else (related,)
    return SeqcError((Diagnostic(code, message, span, label, hint, related=places),))


def scan(source: Source) -> None:
    """Refuse (with :class:`SeqcError`) what isn't text, is too large, or has unmatched brackets."""
    text = source.text
    start = point(source, 1, 1)
    if len(text) > MAX_CHARACTERS:
        # A source of one line: the renderer needn't split ten megabytes for it.
        head = Source(text[:200].split("\n", 1)[0], source.name)
        raise _refuse(
            "E002",
            f"the file has {len(text):,} characters; a spec may have {MAX_CHARACTERS:,}",
            point(head, 1, 1),
            "is it a .seq file?",
        )
    foreign = _FOREIGN.search(text)
    if foreign is not None:
        line = text.count("\n", 0, foreign.start()) + 1
        column = foreign.start() - text.rfind("\n", 0, foreign.start())
        raise _refuse(
            "E001",
            f"the file is not text: it holds the character U+{ord(foreign[0]):04X}",
            point(source, line, column),
            "a spec is UTF-8 text with lines that end in \\n or \\r\\n",
        )
    open_brackets: list[tuple[str, Span]] = []
    line, line_start, tokens, statements, fresh = 1, 0, 0, 0, True
    for match in _TOKEN.finditer(text):
        word = match[0]
        if word == "\n":
            line, line_start, fresh = line + 1, match.end(), True
            if open_brackets and _STATEMENT.match(text, match.end()):
                raise _unclosed(source, open_brackets, line)
            continue
        if word[0] == "#":
            continue
        tokens += 1
        if fresh and not open_brackets:
            statements += 1
            if statements > MAX_STATEMENTS:
                raise _refuse(
                    "E002",
                    f"the file has more than {MAX_STATEMENTS:,} statements",
                    point(source, line, match.start() - line_start + 1, len(word)),
                    "split it into several files, a layer or a few each",
                )
        fresh = False
        if word in "([":
            here = point(source, line, match.start() - line_start + 1)
            open_brackets.append((word, here))
            if len(open_brackets) > MAX_NESTING:
                raise _refuse(
                    "E003",
                    f"more than {MAX_NESTING} brackets are open here",
                    here,
                    "give parts of the expression an equation of their own",
                )
        elif word in ")]":
            here = point(source, line, match.start() - line_start + 1)
            if not open_brackets:
                raise _refuse("E005", f"`{word}` closes nothing", here, "take it out")
            bracket, opened = open_brackets.pop()
            if _CLOSING[bracket] != word:
                raise _refuse(
                    "E005",
                    f"`{word}` closes a `{bracket}`",
                    here,
                    f"write `{_CLOSING[bracket]}`, or close the `{bracket}` before it",
                    related=Label(opened, "opened here"),
                )
        elif tokens > MAX_TOKENS:
            raise _refuse(
                "E002",
                f"the file has more than {MAX_TOKENS:,} words and signs",
                point(source, line, match.start() - line_start + 1, len(word)),
                "split it into several files, a layer or a few each",
            )
    if open_brackets:
        raise _unclosed(source, open_brackets, None)
    if tokens == 0:
        raise _refuse(
            "E080", "the file has no layer", start, "begin with `layer Name`, then its sizes"
        )


def _unclosed(source: Source, brackets: list[tuple[str, Span]], line: int | None) -> SeqcError:
    bracket, opened = brackets[-1]
    related = None
    if line is not None:
        content = source.line(line)
        column = len(content) - len(content.lstrip()) + 1
        word = re.match(r"\w+", content[column - 1 :])
        span = point(source, line, column, len(word[0]) if word else 1)
        related = Label(span, "a new statement begins here")
    return _refuse(
        "E004",
        f"`{bracket}` is not closed",
        opened,
        f"add the missing `{_CLOSING[bracket]}`",
        "opened here",
        related,
    )
