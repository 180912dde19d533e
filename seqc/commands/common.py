"""What the commands share: finding a spec, speaking to the terminal, writing files."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from seqc import diagnostics


class CommandError(Exception):
    """The call cannot be carried out; the text says why, ``hint`` what to do, ``code`` the exit."""

    def __init__(self, message: str, *, hint: str = "", code: int = 1) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


@dataclass(frozen=True)
class Spec:
    """Where a spec is: ``where`` is what ``seqc.compile`` takes (a path, or the text itself).

    ``layer`` is the layer that a built-in name stands for, None for a file.
    """

    name: str
    where: str
    text: str
    layer: str | None = None


# --- finding specs ------------------------------------------------------------------------------


def add_spec(parser: argparse.ArgumentParser) -> None:
    """The SPEC argument."""
    parser.add_argument(
        "spec", metavar="SPEC", help="a .seq file, the name of a built-in layer, or - for stdin"
    )


def add_layer(parser: argparse.ArgumentParser) -> None:
    """The --layer option, for commands that work on one layer."""
    parser.add_argument(
        "--layer", metavar="NAME", help="which layer of the file, where it holds several"
    )


def find_spec(argument: str) -> Spec:
    """The spec that a SPEC argument names.

    Raises:
        CommandError: no such file or built-in layer (with the nearest), or it cannot be read.
    """
    if argument == "-":
        text = sys.stdin.read()
        # A newline makes it text and not a path, however short it is.
        return Spec("<stdin>", text + "\n", text)
    path = Path(argument)
    if path.is_file():
        return Spec(path.name, argument, _read(path))
    if path.is_dir():
        raise CommandError(f"{argument} is a folder", hint="name a .seq file in it")
    from seqc import zoo

    names = list(zoo.names())
    if argument in names:
        return Spec(argument, str(zoo.path(argument)), zoo.source(argument), argument)
    group, _, layer = argument.partition(".")
    if group == "gallery" and layer in zoo.gallery.names():
        return Spec(layer, str(zoo.gallery.path(layer)), zoo.gallery.source(layer), layer)
    hint = _nearest(path, [*names, *(f"gallery.{n}" for n in zoo.gallery.names())])
    if not hint:
        hint = "seqc zoo lists the built-in layers, seqc new NAME writes a spec to start from"
    raise CommandError(f"there is no file and no built-in layer {argument!r}", hint=hint)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is not UTF-8 text: {error.reason}") from None
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None


def _nearest(path: Path, names: Sequence[str]) -> str:
    beside: list[str] = []
    with contextlib.suppress(OSError):
        beside = sorted(str(p) for p in path.parent.glob("*.seq"))
    if hint := did_you_mean(str(path), [*names, *beside]):
        return hint
    # mingru.seq means the built-in MinGRU, not a file.
    return did_you_mean(path.stem, names)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean X?``, or nothing where nothing is near."""
    by_fold: dict[str, str] = {}
    for name in known:
        by_fold.setdefault(name.lower(), name)
    near = difflib.get_close_matches(word.lower(), by_fold, n=1, cutoff=0.6)
    return f"did you mean {by_fold[near[0]]}?" if near else ""


# --- speaking to the terminal -------------------------------------------------------------------


def wants_color(stream: TextIO) -> bool:
    """Whether to colour: only on a terminal, and not where NO_COLOR (no-color.org) is set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def write_error(message: str, *, hint: str = "") -> None:
    """An error of the call, and what to do about it, to stderr."""
    word = "\x1b[1;31merror:\x1b[0m" if wants_color(sys.stderr) else "error:"
    print(f"{word} {message}", file=sys.stderr)
    if hint:
        print(f"  hint: {hint}", file=sys.stderr)


def show_diagnostics(records: Iterable[diagnostics.Diagnostic]) -> bool:
    """Diagnostics to stderr; whether an error is among them."""
    color, failed = wants_color(sys.stderr), False
    for record in records:
        print(diagnostics.render(record, color=color), end="\n\n", file=sys.stderr)
        failed |= record.severity == diagnostics.Severity.ERROR
    return failed


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in plain text, its columns as wide as their widest cell."""
    lines = [list(header), *(list(r) for r in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    lines.insert(1, ["-" * w for w in widths])
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


# --- writing files ------------------------------------------------------------------------------


def write_text(target: str, text: str) -> None:
    """Text to a file (``-``: to stdout), whole or not at all.

    Raises:
        CommandError: the file cannot be written.
    """
    if target == "-":
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        return
    path = Path(os.path.realpath(target))  # through a link: the link stays one
    try:
        # Beside its place, so that the rename stays within one file system.
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as beside:
            try:
                beside.write(text if text.endswith("\n") else text + "\n")
                beside.flush()
                os.fchmod(beside.fileno(), _mode(path))
                os.replace(beside.name, path)
            except BaseException:
                os.unlink(beside.name)
                raise
    except OSError as error:
        raise CommandError(f"{target} cannot be written: {error.strerror}") from None


def _mode(path: Path) -> int:
    # A temporary file is private to its user; what replaces a file should look as it did.
    try:
        return path.stat().st_mode & 0o777
    except OSError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask


_GENERATED = re.compile(r"\bgenerated\b.*\bseqc\b|\bseqc\b.*\bgenerated\b", re.IGNORECASE)


def is_generated(text: str) -> bool:
    """Whether the head of a file says that seqc generated it."""
    return any(_GENERATED.search(line) for line in text.split("\n")[:10])
