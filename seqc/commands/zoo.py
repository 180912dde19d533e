"""``seqc zoo``: the built-in layers."""

from __future__ import annotations

import argparse

from seqc.commands.common import CommandError, did_you_mean, table, write_text

SUMMARY = "list the built-in layers, or print the spec of one"
EPILOG = """\
examples:
  seqc zoo
  seqc zoo MinGRU > mygru.seq
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="the layer whose spec to print")


def run(options: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    from seqc import zoo

    names = sorted(zoo.names(), key=str.lower)
    if options.name is None:
        print(table(("layer", "what it is"), [(n, citation(zoo.source(n))) for n in names]))
        return 0
    if options.name not in names:
        hint = did_you_mean(options.name, names) or "seqc zoo lists them"
        raise CommandError(f"there is no built-in layer {options.name!r}", hint=hint)
    write_text("-", zoo.source(options.name))
    return 0


def citation(source: str) -> str:
    """The first line of the comment that a spec opens with: what it is and where it is from."""
    for line in source.splitlines():
        if text := line.strip():
            return text.lstrip("# ") if text.startswith("#") else ""
    return ""
