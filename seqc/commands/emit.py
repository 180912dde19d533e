"""``seqc emit``: the text of one stage or one target, to read."""

from __future__ import annotations

import argparse

from seqc.commands.common import add_layer, add_spec, find_spec, write_text

SUMMARY = "print what is generated for a target, or one of the compiler's stages"
EPILOG = """\
targets:
  torch       the whole module, as it runs
  reference   the plain PyTorch layer, step by step
  cpp         the C++ kernels
  cuda        the CUDA kernels
  kernel      the kernels before they are printed, as straight-line code
  recurrence  the spec as typed equations

examples:
  seqc emit MinGRU --target cpp
  seqc emit mylayer.seq --target kernel -o mylayer.txt
"""
TARGETS = ("torch", "reference", "cpp", "cuda", "kernel", "recurrence")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_spec(parser)
    parser.add_argument("--target", required=True, choices=TARGETS, help="what to print")
    add_layer(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="-", help="where to write it (default: stdout)"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    import seqc

    spec = find_spec(options.spec)
    text = seqc.emit(spec.where, target=options.target, layer=options.layer or spec.layer)
    write_text(options.output, text)
    return 0
