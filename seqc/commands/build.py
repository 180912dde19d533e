"""``seqc build``: a spec to a Python module that can be imported, read and shipped."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from seqc.commands.common import (
    CommandError,
    add_layer,
    add_spec,
    find_spec,
    is_generated,
    write_text,
)

SUMMARY = "write the generated Python module to a file"
EPILOG = """\
The file is written whole or not at all. A file that seqc did not generate is left alone,
unless --force is given.

examples:
  seqc build MinGRU -o min_gru.py
  seqc build mylayer.seq -o mylayer.py --standalone
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_spec(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="where to write it (-: stdout)"
    )
    add_layer(parser)
    parser.add_argument(
        "--standalone", action="store_true", help="a module that does not import seqc"
    )
    parser.add_argument("--force", action="store_true", help="overwrite whatever is there")


def run(options: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    import seqc

    spec = find_spec(options.spec)
    _refuse_foreign(options.output, force=options.force)
    text = seqc.build(spec.where, layer=options.layer or spec.layer, standalone=options.standalone)
    write_text(options.output, text)
    if options.output != "-":
        print(f"wrote {options.output} ({len(text.splitlines())} lines)", file=sys.stderr)
    return 0


def _refuse_foreign(target: str, *, force: bool) -> None:
    path = Path(target)
    if target == "-" or force or not path.exists():
        return
    if not path.is_file():
        raise CommandError(f"{target} is there and is not a file")
    try:
        head = path.read_bytes()[:4096].decode("utf-8", errors="replace")
    except OSError as error:
        raise CommandError(f"{target} cannot be read: {error.strerror}") from None
    if head.strip() and not is_generated(head):
        raise CommandError(
            f"{target} is there, and seqc did not generate it",
            hint="name another file, or give --force to overwrite it",
        )
