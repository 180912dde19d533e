"""``seqc verify``: numeric checks of any spec, its gradients and its kernels."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from seqc.commands.common import CommandError, add_layer, add_spec, find_spec
from seqc.commands.verify_report import Check, VerifyReport

SUMMARY = "check a layer's kernels and gradients against plain PyTorch"
EPILOG = """\
Every kernel that runs here is compared with the plain PyTorch layer in float64: outputs, final
states and gradients in three dtypes; the parallel, chunked and step-by-step paths; extreme
inputs; first and second derivatives against finite differences. Exits with 1 where one fails.

With --backend cuda and no GPU, the CUDA kernels run on the CPU, by an emulator that also watches
for races and deadlocks.

examples:
  seqc verify MinGRU
  seqc verify MinGRU --backend cuda --quick
  seqc verify mylayer.seq --quick --size hidden=17
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_spec(parser)
    add_layer(parser)
    parser.add_argument("--seed", type=int, default=0, help="of parameters and inputs (default: 0)")
    parser.add_argument(
        "--backend",
        choices=("cpp", "cuda"),
        help="the kernels to check (default: cpp, and cuda where there is a GPU)",
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter sequences")
    parser.add_argument(
        "--size",
        action="append",
        default=[],
        type=_size,
        metavar="NAME=N",
        help="a size of the layer; else small odd numbers, or the spec's own",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    import seqc

    spec = find_spec(options.spec)
    layer_class = seqc.compile(spec.where, layer=options.layer or spec.layer)
    report = verify(
        layer_class,
        options.layer or layer_class.__name__,
        quick=options.quick,
        seed=options.seed,
        sizes=dict(options.size),
        exact_gradients=not states_gradient(spec.text),
        backend=options.backend,
        progress=_show if sys.stderr.isatty() else None,
    )
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    print(report)
    return 0 if report.ok else 1


def verify(
    layer_class: type[Any],
    spec_name: str,
    *,
    quick: bool = False,
    seed: int = 0,
    sizes: Mapping[str, int] | None = None,
    exact_gradients: bool = True,
    backend: str | None = None,
    progress: Callable[[Check], None] | None = None,
) -> VerifyReport:
    """Check a built layer class numerically; no check raises, each becomes a row.

    ``sizes`` are filled with small odd numbers where they are not given and have no default.
    ``exact_gradients=False`` is for a spec that states a derivative which is not that of its
    function (``gradient f(u) = …``): finite differences would refute it. ``backend`` is the one to
    check, ``cpp`` or ``cuda`` (emulated where there is no GPU); else all that run here.
    ``progress`` is called with each check as it is made.

    Raises:
        CommandError: the layer cannot be built with these sizes.
    """
    import torch

    from seqc.commands import verify_checks
    from seqc.runtime.emulator import emulating

    gpu = torch.cuda.is_available()
    backends = (backend,) if backend else ("cpp", "cuda") if gpu else ("cpp",)
    emulated = backend == "cuda" and not gpu
    try:
        plan = verify_checks.make_plan(
            layer_class,
            quick=quick,
            seed=seed,
            sizes=dict(sizes or {}),
            exact_gradients=exact_gradients,
            backends=backends,
            emulated=emulated,
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise CommandError(
            f"{spec_name} cannot be built with small sizes: {error}",
            hint="give sizes that fit, with --size NAME=N",
        ) from error
    made = []
    # gradcheck draws its directions from torch's own generator.
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        torch.manual_seed(seed)
        if emulated:
            stack.enter_context(emulating(layer_class))
        for check in verify_checks.checks(plan):
            made.append(check)
            if progress is not None:
                progress(check)
    note = "no GPU here: the CUDA kernels ran on the CPU, emulated" if emulated else ""
    return VerifyReport(spec_name, seed, plan.small.sizes, tuple(made), note)


def states_gradient(text: str) -> bool:
    """Whether a spec states a gradient other than the exact one."""
    return re.search(r"^[ \t]*gradient[ \t]+(?!exact\b)", text, re.MULTILINE) is not None


def _size(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not name or not number.isdigit() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=N with N a positive whole number")
    return name, int(number)


def _show(check: Check) -> None:
    text = f"{check.name}, {check.backend} {check.dtype}: {check.status}"
    print(f"\r\x1b[K{text[:78]}", end="", file=sys.stderr, flush=True)


__all__ = ["Check", "CommandError", "VerifyReport", "states_gradient", "verify"]
