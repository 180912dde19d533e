"""``python -m benchmarks.wide_states``: a state over two axes that never reaches memory.

Mamba's S6 with a state of (hidden, slots), its streams given, at (B, T, hidden, slots) = (8, 2048,
512, 16) in float32. Before measuring: the forward kernel reads x and delta and writes y, 12 bytes
for each of B T hidden elements, and B and C besides (8 bytes for each of B T slots); it computes
B T hidden slots exponentials, 134 million, and as many times 5 flops. A state written out would be
4 bytes for each of those: 537 MB.

Measured, side by side:

* time against reading and writing the streams (``torch.mul`` of as many bytes) and the
  exponentials (``torch.exp`` on a block that stays in cache, as many of them): promise, at most
  2 x the sum;
* time against plain PyTorch without a loop over time: the coefficients and offsets written out,
  scanned by doubling (log2 T passes), read out by einsum; checked to compute the same;
* the forward's peak memory, inputs included, in a fresh process and as the kernel counts it
  (VmHWM, reset before the call): promise, under 1.3 x the bytes of inputs and outputs, with and
  without gradients asked for.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import seqc
from benchmarks import report
from benchmarks.memory import _process_peak
from benchmarks.timing import Paired, paired

SPEC = """
layer Selective
size   hidden, slots
input  x[t]: hidden, delta[t]: hidden, B[t]: slots, C[t]: slots
state  h[t]: (hidden, slots)
param  A_log: (hidden, slots) = 0
A = -exp(A_log)
h[t] = exp(delta[t] * A) * h[t-1] + delta[t] * x[t] * B[t]
y[t] = sum(C[t] * h[t], slots)
output y[t]
"""


def doubling(a: Tensor, b: Tensor) -> Tensor:
    """h[t] = a[t] h[t-1] + b[t] from h = 0, over dimension 1, in log2 T passes (Hillis, Steele)."""
    reach = 1
    while reach < a.shape[1]:
        b = torch.cat((b[:, :reach], b[:, reach:] + a[:, reach:] * b[:, :-reach]), 1)
        a = torch.cat((a[:, :reach], a[:, reach:] * a[:, :-reach]), 1)
        reach *= 2
    return b


def plain(A: Tensor, x: Tensor, delta: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The same layer without a loop over time, its state in memory."""
    a = torch.exp(delta.unsqueeze(-1) * A)
    b = (delta * x).unsqueeze(-1) * B.unsqueeze(2)
    return torch.einsum("bths,bts->bth", doubling(a, b), C)


def streams(B: int, T: int, hidden: int, slots: int) -> tuple[Tensor, ...]:
    """x, delta, B, C."""
    torch.manual_seed(0)
    delta = torch.rand(B, T, hidden) * 0.1 + 1e-3
    return torch.randn(B, T, hidden), delta, torch.randn(B, T, slots), torch.randn(B, T, slots)


def shown(name: str, unit: Paired) -> str:
    """A line of the table."""
    r = unit.ratio
    others = "" if unit.others is None else f", others {unit.others:.0%}"
    return (
        f"{name:<44} {unit.ours.median * 1e3:8.1f} ms  {unit.theirs.median * 1e3:8.1f} ms  "
        f"{r.median:.3f} ({r.low:.3f} to {r.high:.3f}; {unit.pairs} pairs{others})"
    )


def in_a_process(way: str, shape: list[str]) -> float:
    """The forward's peak over the bytes of inputs and outputs, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.wide_states", "--peak", way, "--shape", *shape]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def peak_of(way: str, shape: tuple[int, ...]) -> float:
    """As :func:`in_a_process`, in this one, which must be fresh."""
    layer: Any = seqc.compile(SPEC)(hidden=shape[2], slots=shape[3])
    A = -layer.A_log.detach().exp()

    def run(*given: Tensor) -> Tensor:
        if way == "plain":
            return plain(A, *given)
        y: Tensor = layer(*given)[0]
        return y

    with torch.set_grad_enabled(way == "asked"):
        run(*streams(1, 4, shape[2], shape[3]))  # kernels built, threads there
        given = streams(*shape)
        inputs = sum(t.nbytes for t in given)
        found: list[Tensor] = []
        peak = _process_peak(lambda: found.append(run(*given)))
    if peak is None:
        raise RuntimeError("this system does not count a process's peak memory")
    return (inputs + peak) / (inputs + found[0].nbytes)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(prog="benchmarks.wide_states", description=__doc__)
    parser.add_argument("--shape", type=int, nargs=4, default=(8, 2048, 512, 16))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--peak", choices=("none", "asked", "plain"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.peak:
        print(peak_of(options.peak, tuple(options.shape)))
        return 0
    rows, steps, hidden, slots = options.shape
    warnings.simplefilter("error", seqc.SeqcWarning)
    layer: Any = seqc.compile(SPEC)(hidden=hidden, slots=slots)
    x, delta, B, C = streams(*options.shape)
    A = -layer.A_log.detach().exp()
    elements = rows * steps * hidden

    block = torch.randn(1 << 15)
    out = torch.empty_like(block)
    whole, rest = divmod(elements * slots, block.numel())
    moved = torch.empty(elements + rows * steps * slots)
    other, product = torch.rand_like(moved), torch.empty_like(moved)

    def bound() -> None:
        torch.mul(moved, other, out=product)
        for _ in range(whole):
            torch.exp(block, out=out)
        torch.exp(block[:rest])

    def ours() -> Tensor:
        y: Tensor = layer(x, delta, B, C)[0]
        return y

    found: dict[str, Any] = {}
    with torch.no_grad():
        few = options.repeats
        against_bound = paired(ours, bound, repeats=few)
        print(f"{'':<44} {'ours':>11}  {'theirs':>11}  ratio (quartiles)")
        print(shown("forward / (streams by mul + exps by torch.exp)", against_bound))
        got, want = ours(), plain(A, x, delta, B, C)
        apart = float((got - want).abs().max() / want.abs().max())
        against_plain = paired(ours, lambda: plain(A, x, delta, B, C), repeats=min(few, 5))
        print(shown("forward / PyTorch without a loop", against_plain), f"differ by {apart:.1e}")
        kept = sum(t.nbytes for t in (x, delta, B, C, got))
    shape = [str(n) for n in options.shape]
    ways = {"no gradients": "none", "gradients asked for": "asked", "plain": "plain"}
    peaks = {name: in_a_process(way, shape) for name, way in ways.items()}
    theirs = peaks.pop("plain")
    for name, ratio in peaks.items():
        print(f"forward peak, {name}: {ratio:.3f} x inputs and outputs ({kept / 1e6:.0f} MB)")
    print(f"forward peak, PyTorch without a loop: {theirs:.1f} x")
    verdicts = {
        "time <= 2 x": against_bound.ratio.median <= 2,
        "memory < 1.3 x": max(peaks.values()) < 1.3,
    }
    print(", ".join(f"{name}: {'kept' if ok else 'MISSED'}" for name, ok in verdicts.items()))
    found |= {
        "command": shlex.join(
            ["python", "-m", "benchmarks.wide_states", *(arguments or sys.argv[1:])]
        ),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": report.machine(),
        "versions": report.versions(),
        "shape": list(options.shape),
        "bound": vars(against_bound.ratio) | {"ours_s": against_bound.ours.median},
        "plain": vars(against_plain.ratio) | {"theirs_s": against_plain.theirs.median},
        "differ": apart,
        "peaks": peaks | {"plain": theirs},
    }
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
