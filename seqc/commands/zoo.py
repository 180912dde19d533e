"""``seqc zoo``: the built-in layers."""

from __future__ import annotations

import argparse
import re

from seqc.commands.common import CommandError, did_you_mean, table, write_text

SUMMARY = "list the built-in layers, or print the spec of one"
EPILOG = """\
examples:
  seqc zoo
  seqc zoo MinGRU > mygru.seq
  seqc zoo gallery              (further published cells, such as gallery.NAS)
  seqc zoo gallery.NAS
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="the layer whose spec to print, or `gallery` for more",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    from seqc import zoo

    gallery = {f"gallery.{n}": zoo.gallery.source for n in zoo.gallery.names()}
    layers = dict.fromkeys(sorted(zoo.names(), key=str.lower), zoo.source)
    if options.name in (None, "gallery"):
        listed = layers if options.name is None else gallery
        rows = [(n, citation(source(_plain(n)), _plain(n))) for n, source in listed.items()]
        print(table(("layer", "what it is"), rows))
        return 0
    found = {**layers, **gallery}.get(options.name)
    if found is None:
        hint = did_you_mean(options.name, [*layers, *gallery])
        hint = hint or "seqc zoo lists them, seqc zoo gallery further published cells"
        raise CommandError(f"there is no built-in layer {options.name!r}", hint=hint)
    write_text("-", found(_plain(options.name)))
    return 0


def _plain(name: str) -> str:
    return name.removeprefix("gallery.")


def citation(source: str, name: str) -> str:
    """Where a layer is from: the first line of its file, and which variant it is where it is one.

    A file with several layers says above each what it is.
    """
    lines = source.splitlines()
    head = lines[0].lstrip("# ").strip() if lines and lines[0].startswith("#") else ""
    layers = [i for i, line in enumerate(lines) if re.match(r"layer\s", line)]
    if len(layers) < 2:
        return head
    place = next(i for i in layers if lines[i].split()[1] == name)
    above: list[str] = []
    while place > 0 and lines[place - 1].startswith("#"):
        place -= 1
        above.append(lines[place].lstrip("# ").strip())
    return f"{head}; {above[-1]}" if above and above[-1] != head else head
