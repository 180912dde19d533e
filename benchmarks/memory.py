"""Peak memory of forward + backward, counted twice.

The allocator's peak: every block that torch's CPU allocator hands out and takes back, as
``torch.profiler`` records it. It misses what a library takes by itself (malloc in oneDNN, MKL, or
in a kernel).

The process's peak: VmHWM, reset before the call. It misses nothing, and counts what is touched, by
the page. It is only to be trusted in a fresh process whose tensors are large.

Each speaks for the other: they must agree within a few MiB, or the figure is not used.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

# Streams of (B, T, hidden) that a layer of width `input` = `hidden` cannot do without, by what
# they are: packed pre-activations, states (saved for the backward), outputs that are no state.
STREAMS = {"MinGRU": (2, 1, 0), "MinLSTM": (3, 1, 0), "QRNN": (3, 1, 1)}


@dataclass(frozen=True)
class Peak:
    """Bytes above what was there before the call; None where it cannot be measured here."""

    allocator: int
    process: int | None


def needed(name: str, rows: int, width: int, item: int, parameters: int) -> int:
    """Bytes that one forward + backward makes, if nothing is freed before the end.

    Pre-activations, states, outputs, and the gradients of pre-activations, input and parameters.
    The input and the output's gradient are there before and are not counted.
    """
    maps, states, outputs = STREAMS[name]
    return item * (rows * width * (2 * maps + states + outputs + 1) + parameters)


def peak(run: Callable[[], object], warm_up: Callable[[], object]) -> Peak:
    """The peak of one ``run``, above the level before it.

    ``warm_up`` runs the same code on a small input, so that thread pools and kernels are in place.
    Call it in a fresh process.
    """
    warm_up()
    process = _process_peak(run)  # first: the profiler's own records are memory too
    return Peak(allocator=_allocator_peak(run), process=process)


def _allocator_peak(run: Callable[[], object]) -> int:
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    level = highest = 0
    results = profiler.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: int(event.start_ns())):
        level += event.nbytes()
        highest = max(highest, level)
    return highest


def _process_peak(run: Callable[[], object]) -> int | None:
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM = VmRSS
        before = _status("VmRSS")
        run()
        return _status("VmHWM") - before
    except (OSError, KeyError):
        return None


def _status(field: str) -> int:
    """A line of /proc/self/status, in bytes."""
    for line in Path(f"/proc/{os.getpid()}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise KeyError(field)


def forward_backward(
    layer: torch.nn.Module,
    batch: int,
    steps: int,
    width: int,
    dtype: torch.dtype,
    first: bool = False,
) -> Callable[[], object]:
    """One training step of a layer: gradients of the input and of every parameter.

    The ``first`` layer of a model reads data, whose gradient nobody wants.

    Its input and the gradient of its output are made here, before the measurement.
    """
    x = torch.randn(batch, steps, width, dtype=dtype, requires_grad=not first)
    dy = torch.randn(batch, steps, width, dtype=dtype)
    wanted = [*([] if first else [x]), *layer.parameters()]

    def run() -> object:
        y = layer(x)[0]
        return y, torch.autograd.grad(y, wanted, dy)

    return run
