"""``python -m benchmarks.gallery``: the gallery beside torchrecurrent, and the table in docs.

For each cell: the difference from torchrecurrent's layer with the same weights (float64, outputs
and the gradients of the input and of every parameter, the largest, each relative to its tensor),
and the time of forward + backward against its eager loop over time (float32, (B, T, width) =
(16, 256, 64) unless told otherwise), side by side. Kernels are compiled where a cell has some.

``--write`` makes docs/gallery.md of it; ``--untimed`` leaves the times out.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import seqc
from benchmarks import report
from benchmarks.gallery_cells import CELLS, built, correspondence, give_weights, their_rows
from benchmarks.timing import paired
from seqc.commands.zoo import citation
from seqc.zoo import gallery

PAGE = Path(__file__).resolve().parent.parent / "docs" / "gallery.md"

HEAD = """\
# The gallery

Published cells as specs, in `seqc/zoo/gallery/`: `seqc zoo gallery` lists them, `seqc zoo
gallery.NAS` prints one, `seqc.zoo.gallery.NAS(input=64, hidden=128)` is the layer. They are the
cells of torchrecurrent 0.2.5 (Francesco Martinuzzi, MIT licence), with its defaults, and its
weights fit: `benchmarks/gallery_cells.py` says which is which.

This page is written by `python -m benchmarks.gallery --write`. *Lines* are those of the spec
without comments. *Structure* is what seqc proves of each stratum: the scan algebra, and how it is
solved: a *scan* runs in parallel over time; a *march* takes its steps in one fused kernel;
*sequential* goes step by step, with all that needs no past before and after it.
*Difference* is the largest of outputs and all gradients in float64, relative to the largest number
of its tensor (against torch's `Hardsigmoid` with an exact slope: its own is a sixth in float32).
"""


OTHERS = """\
Besides those, held to loops of their papers' equations by `tests/zoo/test_gallery_others.py`:"""


def lines(name: str) -> int:
    """The lines of a layer's spec and of its file's defs, without comments and empty ones."""
    text = gallery.source(name)
    shared = text[: text.index("\nlayer ")].splitlines()
    begin = text.index(f"\nlayer {name}\n") + 1
    end = text.find("\nlayer ", begin)
    block = shared + text[begin : end if end > 0 else len(text)].splitlines()
    # What stands before the next layer's own comment belongs to this one.
    return sum(bool(x.strip()) and not x.startswith("#") for x in block)


def paper(name: str) -> str:
    """Whose it is: the first line of its file, or of its bracket where a file has several."""
    return citation(gallery.source(name), name).split("; ")[0]


def structure(name: str) -> str:
    """Each stratum's algebra and method."""
    strata = seqc.check(gallery.path(name))[name].strata
    return ", ".join(f"{'/'.join(s.states)}: {s.algebra}, {s.method}" for s in strata)


def gradients(layer: Any, x: Tensor, weights: list[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A layer's output and the gradients of its mean square."""
    y = layer(x)[0]
    return y.detach(), torch.autograd.grad(y.square().mean(), [x, *weights])


def difference(name: str) -> float:
    """How far outputs and gradients are from theirs, in float64."""
    torch.manual_seed(0)
    ours, theirs = built(name, 7, 11, torch.float64)
    give_weights(name, ours, theirs)
    x = torch.randn(3, 40, 11 if CELLS[name].square else 7, dtype=torch.float64)
    x.requires_grad_()
    cell = dict(theirs.cells[0].named_parameters())
    y, mine = gradients(ours, x, list(ours.parameters()))
    want, other = gradients(theirs, x, list(cell.values()))
    by_name = dict(zip(cell, other[1:], strict=True))
    table = correspondence(name, ours)
    pairs = [(y, want), (mine[0], other[0])]
    for (called, _), got in zip(ours.named_parameters(), mine[1:], strict=True):
        of, blocks, count = table[called]
        pairs.append((got, their_rows(by_name[of], blocks, count)))
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-300)) for a, b in pairs)


def training(layer: Any, x: Tensor) -> Callable[[], object]:
    """Forward and backward, with the gradients of the parameters."""
    weights = list(layer.parameters())
    return lambda: torch.autograd.grad(layer(x)[0].square().mean(), weights)


def measure(name: str, shape: tuple[int, int, int], seconds: float) -> dict[str, Any]:
    """The row of one cell; no times where ``seconds`` is 0."""
    row: dict[str, Any] = {
        "cell": name,
        "paper": paper(name),
        "lines": lines(name),
        "structure": structure(name),
        "difference": difference(name),
    }
    if seconds:
        batch, steps, width = shape
        ours, theirs = built(name, width, width, torch.float32)
        give_weights(name, ours, theirs)
        x = torch.randn(batch, steps, width)
        times = paired(training(ours, x), training(theirs, x), seconds=seconds)
        faster = times.ratio.inverse()
        row |= {
            "faster": vars(faster),
            "ours_ms": 1e3 * times.ours.median,
            "theirs_ms": 1e3 * times.theirs.median,
            "others": times.others,
        }
    return row


def page(rows: list[dict[str, Any]], about: str) -> str:
    """The rows as docs/gallery.md."""
    timed = all("faster" in row for row in rows)
    head = ["cell", "paper", "lines", "structure", "difference"]
    head += ["times faster (quartiles)"] if timed else []
    out = [HEAD, about, "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        shown = [row["cell"], row["paper"], str(row["lines"]), row["structure"]]
        shown.append(f"{row['difference']:.0e}")
        if timed:
            f = row["faster"]
            shown.append(f"{f['median']:.1f} ({f['low']:.1f}–{f['high']:.1f})")
        out.append(f"| {' | '.join(shown)} |")
    out += ["", OTHERS, "", "| cell | paper | lines | structure |", "|---|---|---|---|"]
    for name in gallery.names():
        if name not in CELLS:
            out.append(f"| {name} | {paper(name)} | {lines(name)} | {structure(name)} |")
    return "\n".join(out) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery", description=__doc__)
    parser.add_argument("--only", action="append", metavar="CELL", choices=list(CELLS))
    parser.add_argument("--shape", type=int, nargs=3, default=[16, 256, 64], metavar="N")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each cell")
    parser.add_argument("--untimed", action="store_true")
    parser.add_argument("--write", action="store_true", help="write docs/gallery.md")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    if options.write and options.only:
        parser.error("--write is of all cells")
    warnings.simplefilter("ignore", seqc.SeqcWarning)
    batch, steps, width = options.shape
    rows = []
    for name in options.only or CELLS:
        row = measure(name, (batch, steps, width), 0 if options.untimed else options.seconds)
        rows.append(row)
        time = f"{row['faster']['median']:6.2f} x faster" if "faster" in row else ""
        print(f"{name:<24} {row['difference']:.1e} {time:<16} {row['structure']}", flush=True)
    threads, cpu = torch.get_num_threads(), report.machine()
    about = (
        f"Times are of forward + backward with the gradients of the parameters in float32, (B, T, "
        f"width) = ({batch}, {steps}, {width}), {threads} threads, against torchrecurrent's eager "
        f"loop, side by side: the median and quartiles of the ratio. {cpu['cpu']}, {cpu['isa']}."
        if not options.untimed
        else "Times have not been measured."
    )
    if options.write:
        PAGE.write_text(page(rows, about), encoding="utf-8")
    if options.json:
        found = {
            "command": shlex.join(["python", "-m", "benchmarks.gallery", *sys.argv[1:]]),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": report.machine(),
            "versions": report.versions(),
            "shape": options.shape,
            "rows": rows,
        }
        Path(options.json).write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
