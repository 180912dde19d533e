"""``seqc new``: a spec to start from."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from seqc.commands.common import CommandError, write_text

SUMMARY = "write NAME.seq, a commented spec to start from"
EPILOG = """\
example:
  seqc new MyLayer && seqc check MyLayer.seq
"""

TEMPLATE = """\
# NAME: what it is, and where its equations are from.
#
#   seqc check FILE       what the compiler proves of it
#   seqc explain FILE     its derived forms: parallel, log-domain, adjoint
#   seqc verify FILE      gradients and kernels against plain PyTorch
#
# In Python:  NAME = seqc.compile("FILE");  y, state = NAME(input=64, hidden=128)(x)

layer NAME
size   input, hidden            # positive integers, given when the layer is built
input  x[t]: input              # a sequence: a tensor (batch, time, input)
state  h[t]: hidden             # carried from step to step; 0 before the first

# linear is a learned map. It needs the axes of its result, given after the colon;
# its parameters are named after the equation: gate.weight, gate.bias, ...
gate[t]: hidden      = sigmoid(linear(x[t]))
candidate[t]: hidden = tanh(linear(x[t]))

# Linear in h[t-1], with a coefficient that does not depend on h: so it runs in parallel
# over time. A term such as linear(h[t-1]) inside gate would make it run step by step.
h[t] = gate[t] * h[t-1] + (1 - gate[t]) * candidate[t]

output h[t]
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("name", metavar="NAME", help="the layer's name, e.g. MyLayer")


def run(options: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    import seqc

    name: str = options.name
    _refuse_name(name)
    target = f"{name}.seq"
    if Path(target).exists() or Path(target).is_symlink():
        raise CommandError(
            f"{target} is there already", hint="name another, or move it out of the way"
        )
    text = TEMPLATE.replace("NAME", name).replace("FILE", target)
    # The compiler knows which names are taken (keywords of Python, C++ and CUDA): it says so now,
    # rather than at the first check of a file that came from here.
    seqc.check(text)
    write_text(target, text)
    print(f"wrote {target}; next: seqc check {target}", file=sys.stderr)
    return 0


def _refuse_name(name: str) -> None:
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        return
    stem = re.sub(r"\.seq$", "", name.replace("\\", "/").rsplit("/", 1)[-1])
    words = re.split(r"[^A-Za-z0-9]+", stem)
    guess = "".join(w[:1].upper() + w[1:] for w in words).lstrip("0123456789")
    raise CommandError(
        f"{name!r} cannot name a layer: letters, digits and _, and a letter first",
        hint=f"seqc new {guess}, in the folder where it is to lie" if guess else "",
        code=2,
    )
