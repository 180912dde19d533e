"""``seqc build``: a spec to a Python module that can be imported, read and shipped."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

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
  seqc build mylayer.seq -o mylayer.py --compiled     mylayer_kernels/ goes with mylayer.py
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
    parser.add_argument(
        "--compiled",
        action="store_true",
        help="kernels compiled for this kind of CPU, into the folder FILE_kernels: where they fit, "
        "no compiler is needed",
    )
    parser.add_argument(
        "--tangents",
        action="store_true",
        help="with --compiled: also the kernels of forward mode and second derivatives, which "
        "otherwise need a compiler, or run as plain PyTorch (takes twice as long)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite whatever is there")


def run(options: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    import seqc

    if options.compiled and options.output == "-":
        raise CommandError("--compiled needs a file: kernels lie beside it", code=2)
    if options.tangents and not options.compiled:
        raise CommandError("--tangents goes with --compiled", code=2)
    spec = find_spec(options.spec)
    _refuse_foreign(options.output, force=options.force)
    more: dict[str, Any] = {"layer": options.layer or spec.layer, "standalone": options.standalone}
    if not options.compiled:
        text = seqc.build(spec.where, **more)
        write_text(options.output, text)
    else:
        more["tangents"] = options.tangents
        text = _build_compiled(spec.where, options.output, force=options.force, **more)
    if options.output != "-":
        print(f"wrote {options.output} ({len(text.splitlines())} lines)", file=sys.stderr)
    return 0


def _build_compiled(where: str, output: str, *, force: bool, **more: Any) -> str:
    """Module and kernels: nothing is written before all is compiled."""
    import seqc
    from seqc.runtime.build import BuildError, NoCompilerError
    from seqc.runtime.ship import folder_beside

    folder = folder_beside(os.path.realpath(output))
    if folder.exists() and not force and not (folder / "kernels.json").is_file():
        raise CommandError(
            f"{folder} is there, and seqc did not make it",
            hint="name another file, or give --force to replace it",
        )
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as work:
            made = os.path.join(work, "kernels")
            text = seqc.build(where, kernels=made, **more)
            if folder.exists():
                os.replace(folder, os.path.join(work, "before"))
            os.replace(made, folder)
    except (NoCompilerError, BuildError, ValueError) as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{folder} cannot be written: {error.strerror}") from None
    write_text(output, text)
    print(f"wrote {folder}", file=sys.stderr)
    return text


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
