"""Generated statements made fit to read: no unused preliminaries, no line off the page."""

from __future__ import annotations

import re

WIDTH = 92  # a method's body is indented by 8


def tidy(lines: list[str]) -> list[str]:
    """Drop preliminaries (``wide = …``) that nothing below uses, and wrap long lines."""
    kept: list[str] = []
    below = ""
    for line in reversed(lines):
        made = re.match(r"(like|wide|stored|batch, steps) = ", line)
        names = made.group(1).split(", ") if made else []
        if made and not any(re.search(rf"\b{n}\b", below) for n in names):
            continue
        kept.append(line)
        below += "\n" + line
    return [part for line in reversed(kept) for part in wrap(line)]


def wrap(line: str, width: int = WIDTH) -> list[str]:
    """A statement over several lines, an argument a line, where it is longer than ``width``."""
    indent = len(line) - len(line.lstrip())
    if len(line) <= width or line.lstrip().startswith("#"):
        return [line]
    head, _, names = line.partition(" import ")
    if names:
        inside = "".join(f"    {n},\n" for n in names.split(", "))
        return f"{head} import (\n{inside})".split("\n")
    found = _last_call(line)
    if found is None:
        return [line]
    start, end = found
    arguments = _split(line[start + 1 : end])
    pad = " " * (indent + 4)
    # A comma after the one value of plain brackets would make it a tuple.
    called = start > 0 and (line[start - 1].isalnum() or line[start - 1] in "_)]")
    alone = len(arguments) == 1 and not called and not line[:end].rstrip().endswith(",")
    comma = "" if alone else ","
    inner = [piece for a in arguments for piece in wrap(f"{pad}{a}{comma}", width)]
    return [line[: start + 1], *inner, " " * indent + line[end:]]


def _last_call(line: str) -> tuple[int, int] | None:
    """The longest top-level pair of brackets: the positions of ( and )."""
    best: tuple[int, int] | None = None
    stack: list[int] = []
    for i, c in enumerate(line):
        if c in "([{":
            stack.append(i)
        elif c in ")]}":
            start = stack.pop()
            # Square brackets are indices, which stay whole.
            if not stack and line[start] == "(" and i - start > 20:
                if best is None or i - start > best[1] - best[0]:
                    best = (start, i)
    return best


def _split(text: str) -> list[str]:
    """The arguments between top-level commas."""
    parts, depth, begin = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            parts.append(text[begin:i].strip())
            begin = i + 1
    parts.append(text[begin:].strip())
    return [p for p in parts if p]
