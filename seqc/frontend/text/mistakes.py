"""What is said of a line that doesn't read as a statement."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from seqc.diagnostics import Diagnostic, Source
from seqc.frontend.messages.problems import point, shorten
from seqc.frontend.text.scan import STATEMENT_WORDS

if TYPE_CHECKING:
    from lark.exceptions import UnexpectedInput

# The terminals that begin a term; where all of them could stand, "an expression" could.
_TERM = {"NAME", "NUMBER", "LPAR"}
_WORDS = {
    "NAME": "a name",
    "NUMBER": "a number",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "EQUAL": "`=`",
    "SIGN": "a sign",
    "TIMES": "`*`",
    "CIRCUMFLEX": "`^`",
    "COMPARE": "a comparison",
    "_NL": "the end of the line",
    "AFTER": "`after`",
}
_CHARACTERS = {
    "\u2212": "write the minus sign as `-`",
    "\u2013": "write the minus sign as `-`",
    "\u00d7": "write the product as `*`",
    "\u00b7": "write the product as `*`",
    "\u2299": "write the product as `*`",
    "\u00a0": "this is a no-break space: write a plain one",
    ";": "one statement a line",
    "'": "the language has no strings",
    '"': "the language has no strings",
    "{": "write `(` and `)`",
    "}": "write `(` and `)`",
    "&": "for conditions, nest `where(condition, then, else)`",
    "|": "for conditions, nest `where(condition, then, else)`",
    "!": "for conditions, swap the branches of `where(condition, then, else)`",
    "@": "a matrix product is `sum(a * b, axis)`, or `linear(…)` where it is learned",
    "%": "write `x - y * floor(x / y)`",
    ".": "a name has no dots",
}


def explain(error: UnexpectedInput, source: Source) -> Diagnostic:
    """The diagnostic for what Lark could not read."""
    token: Any = getattr(error, "token", None)
    if token is None:
        return _character(error, source)
    line, column = token.line, token.column
    before = source.line(line)[: column - 1]
    if token.type in ("_NL", "$END"):
        return _end_of_line(error, source, line, column, before)
    text = str(token)
    span = point(source, line, column, len(text))
    message, hint = f"`{shorten(text)}` does not fit here", ""
    first = before.split()
    if text == "*" and before.endswith("*"):
        span = point(source, line, column - 1, 2)
        message, hint = "there is no `**`", "a power is written `^`"
    elif not first and token.type == "LSQB":
        hint = "an equation begins with a name"
    elif len(first) == 1 and first[0] in STATEMENT_WORDS and text in ("[", "=", ":"):
        word = first[0]
        span = point(source, line, before.index(word) + 1, len(word))
        message = f"`{word}` begins a statement, so it can't name an equation"
        hint = "choose another name"
    elif len(first) == 1 and first[0].isidentifier() and token.type == "NAME":
        span = point(source, line, before.index(first[0]) + 1, len(first[0]))
        message = f"no statement begins with `{shorten(first[0])}`"
        near = difflib.get_close_matches(first[0][:64], STATEMENT_WORDS, n=1)
        hint = (
            f"did you mean `{near[0]}`?"
            if near
            else "an equation is written `name[t] = expression`"
        )
    elif token.type in ("NAME", "NUMBER") and _accepted(error) >= {"SIGN", "TIMES"}:
        hint = "an operator is missing before it (a product is written `a * b`)"
    elif text == "=" and "=" in before:
        hint = "an equation has one `=`; to compare, write `==`"
    elif text == "->":
        hint = "`->` stands only in the `apply` of an algebra"
    else:
        hint = _expected(error)
    return Diagnostic("E006", message, span, hint=hint)


def _end_of_line(
    error: UnexpectedInput, source: Source, line: int, column: int, before: str
) -> Diagnostic:
    if not before.strip():
        # The newline stands alone: the statement's own line is an earlier one.
        while line > 1 and not source.line(line).strip():
            line -= 1
        before = source.line(line)
    # A comment is no part of what was written.
    before = before.split("#", 1)[0]
    span = point(source, line, len(before.rstrip()) + 1)
    hint = _expected(error)
    words = before.split()
    if len(words) == 1 and words[0] in STATEMENT_WORDS:
        hint = f"`{words[0]}` is followed by a name"
    elif "EQUAL" in _accepted(error) and "[" in before and words[0] not in STATEMENT_WORDS:
        hint = "an equation is written `name[t] = expression`"
    return Diagnostic("E006", "the line ends too early", span, hint=hint)


def _character(error: UnexpectedInput, source: Source) -> Diagnostic:
    line, column = error.line, error.column
    character = source.line(line)[column - 1 : column] or " "
    hint = _CHARACTERS.get(character, "")
    if not hint and not character.isascii():
        hint = "names are written in ASCII letters, digits and `_`"
    return Diagnostic(
        "E007",
        f"the language has no `{character}`",
        point(source, line, column),
        hint=hint,
    )


def _accepted(error: Any) -> set[str]:
    accepts = getattr(error, "accepts", None)
    return set(accepts or getattr(error, "expected", None) or ())


def _expected(error: Any) -> str:
    """What could have stood here, where that is short enough to help."""
    accepted = _accepted(error)
    words = []
    if accepted >= _TERM:
        accepted = accepted - _TERM - {"SIGN"}
        words.append("an expression")
    words += [_WORDS[a] for a in sorted(accepted) if a in _WORDS]
    if not words or len(words) > 8:
        return ""
    joined = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
    return f"expected {joined}"
