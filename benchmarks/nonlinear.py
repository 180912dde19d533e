"""``python -m benchmarks.nonlinear``: layers that step, beside torch's own GRU and LSTM.

A step of a GRU of H channels multiplies a state of H by 3 matrices of H x H, an LSTM's by 4:
forward 2 B T H (3 H) flops, and as many again for the inputs' maps (one product for all steps);
backward twice that. At (8, 512, 256) a GRU's forward and backward are 9.7 GFLOP, an LSTM's 12.9.

Measured side by side, with torch's weights in both, forward + backward and forward alone, in
float32; checked beforehand to compute the same. Promises (medians, 2 threads, forward + backward):
a GRU takes at most 0.45 x torch.nn.GRU's time at the four large shapes, an LSTM at most 1.15 x
torch.nn.LSTM's (oneDNN's kernel), and at the small ones no more than theirs.
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
from torch import Tensor, nn

import seqc
from benchmarks import report
from benchmarks.timing import paired
from benchmarks.wide_states import shown

LARGE = ((8, 512, 256), (32, 256, 512), (1, 1024, 128), (64, 100, 128))
SMALL = ((1, 32, 16), (1, 1, 16))
#: The gates of torch's stacked weights, and what each layer's time may be of torch's.
GATES = {"GRU": ("r", "u", "n"), "LSTM": ("i", "f", "g", "o")}
PROMISES = {"GRU": 0.45, "LSTM": 1.15}
#: Largest difference of outputs and gradients over the largest entry: rounding, no more.
APART = 1e-4


def pair(name: str, width: int) -> tuple[Any, Any]:
    """seqc's layer and torch's, of the same width in and out, with torch's weights in both."""
    torch.manual_seed(0)
    theirs = getattr(nn, name)(width, width, batch_first=True)
    ours = getattr(seqc.zoo, name)(input=width, hidden=width)
    with torch.no_grad():
        for source, part in (("ih", "x"), ("hh", "h")):
            for kind in ("weight", "bias"):
                stacked = getattr(theirs, f"{kind}_{source}_l0").chunk(len(GATES[name]))
                for gate, value in zip(GATES[name], stacked, strict=True):
                    getattr(getattr(getattr(ours, gate), part), kind).copy_(value)
    return ours, theirs


def calls(layer: Any, x: Tensor, weight: Tensor) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Forward alone, without gradients; forward + backward, of the input's too."""

    def forward() -> Any:
        with torch.no_grad():
            return layer(x)[0]

    def both() -> Any:
        y = layer(x)[0]
        return torch.autograd.grad(y, (x, *layer.parameters()), weight)

    return forward, both


def apart(name: str, shape: tuple[int, ...]) -> float:
    """How far outputs and the input's gradient are from torch's, over their largest entries."""
    ours, theirs = pair(name, shape[2])
    x = torch.randn(*shape, requires_grad=True)
    weight = torch.randn(*shape)
    found = []
    for layer in (ours, theirs):
        y = layer(x)[0]
        found.append((y.detach(), *torch.autograd.grad(y, x, weight)))
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*found, strict=True))


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns 1 where numbers differ from torch's."""
    parser = argparse.ArgumentParser(prog="benchmarks.nonlinear", description=__doc__)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--only", choices=sorted(GATES), action="append")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", seqc.SeqcWarning)
    rows: list[dict[str, Any]] = []
    print(f"{'':<24} {'ours':>10} {'torch':>10}  ratio (quartiles)")
    for name in options.only or GATES:
        for shape in (*LARGE, *SMALL):
            differ = apart(name, shape)
            if differ > APART:
                print(f"{name} {shape}: {differ:.1e} from torch's numbers")
                return 1
            ours, theirs = pair(name, shape[2])
            x, weight = torch.randn(*shape, requires_grad=True), torch.randn(*shape)
            ways = zip(calls(ours, x, weight), calls(theirs, x, weight), strict=True)
            limit = PROMISES[name] if shape in LARGE else 1.0
            for what, (mine, other) in zip(("forward", "forward + backward"), ways, strict=True):
                found = paired(mine, other, repeats=options.repeats, seconds=20)
                verdict = ""
                if what != "forward":
                    kept = found.ratio.median <= limit
                    verdict = f"<= {limit:.2f}: {'kept' if kept else 'MISSED'}"
                print(shown(f"{name} {shape} {what}", found), verdict, flush=True)
                rows.append(
                    {"layer": name, "shape": list(shape), "what": what, "differ": differ,
                     "ours_s": found.ours.median, "theirs_s": found.theirs.median,
                     "ratio": vars(found.ratio), "pairs": found.pairs, "others": found.others,
                     "limit": limit}
                )  # fmt: skip
    if options.json:
        record = {
            "command": shlex.join(
                ["python", "-m", "benchmarks.nonlinear", *(arguments or sys.argv[1:])]
            ),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": report.machine(),
            "versions": report.versions(),
            "rows": rows,
        }
        Path(options.json).write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
