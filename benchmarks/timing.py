"""Paired timing: two calls take turns (A B A B ...), and what counts is the ratio of each pair.

A shared machine changes speed from second to second. Two blocks of timings, one after the other,
compare two moments; neighbours in time compare two programs. The median over pairs is the figure,
and it never goes without its quartiles.
"""

from __future__ import annotations

import ctypes
import gc
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 2e-3  # a shorter call is repeated inside its sample until it lasts this long
LEAST_PAIRS = 5


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The median and quartiles of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def scaled(self, factor: float) -> Spread:
        """The same spread in another unit; ``factor`` > 0."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)

    def inverse(self) -> Spread:
        """The spread of 1 / value, for values > 0: a time ratio read as a speed-up."""
        return Spread(1 / self.median, 1 / self.high, 1 / self.low)


@dataclass(frozen=True)
class Paired:
    """``ours`` and ``theirs`` in seconds a call; ``ratio`` is ours / theirs, pair by pair.

    ``others`` is the share of the machine's CPU time that other processes (or, on a virtual
    machine, other guests) took meanwhile; None where it cannot be known.
    """

    ours: Spread
    theirs: Spread
    ratio: Spread
    pairs: int
    others: float | None = None


def paired(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    repeats: int = 31,
    seconds: float = 30.0,
    warm_up: int = 2,
) -> Paired:
    """Time two calls side by side.

    Takes ``repeats`` pairs, or as many as fit ``seconds`` but never fewer than ``LEAST_PAIRS`` (or
    ``repeats``, where that is less). The garbage collector is off while the clock runs.
    """
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for _ in range(max(warm_up - 1, 0)):
            ours()
            theirs()
        inner_ours, inner_theirs = _inner(ours), _inner(theirs)
        first: list[float] = []
        second: list[float] = []
        before = usage()
        deadline = time.perf_counter() + seconds
        while len(first) < repeats:
            if len(first) >= LEAST_PAIRS and time.perf_counter() > deadline:
                break
            first.append(_sample(ours, inner_ours))
            second.append(_sample(theirs, inner_theirs))
        others = others_share(before, usage())
    finally:
        if collecting:
            gc.enable()
    return Paired(
        ours=Spread.of(first),
        theirs=Spread.of(second),
        ratio=Spread.of([a / b for a, b in zip(first, second, strict=True)]),
        pairs=len(first),
        others=others,
    )


def usage() -> tuple[float, float, float] | None:
    """Seconds so far: all CPUs in all, all CPUs at work, this process and its ended children."""
    try:
        ticks = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        second = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None
    idle = ticks[3] + ticks[4]
    return sum(ticks) / second, (sum(ticks) - idle) / second, sum(os.times()[:4])


def others_share(
    before: tuple[float, float, float] | None, after: tuple[float, float, float] | None
) -> float | None:
    """The share of the CPU time between two :func:`usage` that others took; None if unknown."""
    if before is None or after is None or after[0] - before[0] < 0.05:
        return None  # a tick is 10 ms: too short to tell
    total, busy, own = (b - a for a, b in zip(before, after, strict=True))
    return min(1.0, max(0.0, (busy - own) / total))


def _inner(call: Callable[[], object]) -> int:
    """How many calls make one sample; runs the call twice, which also warms it up."""
    seconds = min(_sample(call, 1), _sample(call, 1))
    return max(1, math.ceil(SAMPLE_SECONDS / max(seconds, 1e-7)))


def _sample(call: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_pages() -> bool:
    """From here on, malloc keeps freed memory in this process, mapped; False where it cannot.

    glibc gives each freed block of 32 MiB or more back to the kernel, and the next one costs a page
    fault for every 4 KiB: a fresh (8, 2048, 512) float32 tensor takes up to ten times as long to
    fault in as to fill. Timing a kernel that returns a new tensor against ``torch.mul(out=)`` would
    then time the kernel's page faults. There is no way back: for the other mode, a new process.
    """
    try:
        libc = ctypes.CDLL(None)
        return bool(libc.mallopt(_M_MMAP_MAX, 0)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, -1))
    except (OSError, AttributeError):
        return False
