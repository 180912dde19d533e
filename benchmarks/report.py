"""Rows, the table, and what is said of the machine."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.timing import Paired, Spread

# A share of the CPU time. Threads that meet at barriers wait for the one that lost its CPU, so a
# step-by-step nn.LSTM, with thousands of barriers, has been seen to slow down tenfold and more.
DISTURBED = 0.1


@dataclass(frozen=True)
class Row:
    """One measured figure.

    ``value`` is what the promise speaks of: a ratio of times, an error, bytes, seconds. ``bound``
    is "<= x" or ">= x", as (sign, number); None for a figure that is there for information.
    ``others`` is the share of the CPU time that other processes took during the measurement.
    """

    figure: str
    case: str
    unit: str
    value: Spread
    bound: tuple[str, float] | None = None
    bytes: int | None = None
    ours_ms: Spread | None = None
    theirs_ms: Spread | None = None
    gigabytes_per_second: float | None = None
    samples: int = 1
    others: float | None = None
    note: str = ""

    @property
    def kept(self) -> bool | None:
        """Whether the median keeps the promise; None without one."""
        if self.bound is None:
            return None
        sign, limit = self.bound
        return self.value.median <= limit if sign == "<=" else self.value.median >= limit

    @property
    def clear(self) -> bool | None:
        """Whether both quartiles are on the median's side of the promise."""
        if self.bound is None:
            return None
        sign, limit = self.bound
        ends = (self.value.low, self.value.high)
        return len({(end <= limit) if sign == "<=" else (end >= limit) for end in ends}) == 1

    @property
    def verdict(self) -> str:
        if self.kept is None:
            return ""
        marks = ("" if self.clear else " ~") + (" !" if self.disturbed else "")
        return ("kept" if self.kept else "MISSED") + marks

    @property
    def disturbed(self) -> bool:
        """Whether other processes took enough of the machine to make the figure doubtful."""
        return self.others is not None and self.others > DISTURBED

    def record(self) -> dict[str, object]:
        """For JSON."""
        out = dataclasses.asdict(self)
        return {**out, "kept": self.kept, "clear": self.clear, "disturbed": self.disturbed}


@dataclass(frozen=True)
class Failure:
    """A figure, or a case of one, that could not be measured, and why."""

    figure: str
    case: str
    reason: str


def timed_row(
    figure: str,
    case: str,
    times: Paired,
    *,
    bytes: int | None = None,
    at_most: float | None = None,
    at_least: float | None = None,
    speedup: bool = False,
    note: str = "",
) -> Row:
    """A row from paired times: ours / theirs, or theirs / ours with ``speedup`` or ``at_least``."""
    speedup = speedup or at_least is not None
    bound = None
    if at_most is not None:
        bound = ("<=", at_most)
    if at_least is not None:
        bound = (">=", at_least)
    return Row(
        figure=figure,
        case=case,
        unit="x faster" if speedup else "x the time",
        value=times.ratio.inverse() if speedup else times.ratio,
        bound=bound,
        bytes=bytes,
        ours_ms=times.ours.scaled(1e3),
        theirs_ms=times.theirs.scaled(1e3),
        gigabytes_per_second=None if bytes is None else bytes / times.ours.median / 1e9,
        samples=times.pairs,
        others=times.others,
        note=note,
    )


def number(value: float) -> str:
    """Three digits, and an exponent only where it is easier to read."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 0.095 else f"{value:.2g}"


def spread(value: Spread, samples: int) -> str:
    """The median and its quartiles, as 1.05 (1.02–1.11); of one sample, the value alone."""
    if samples == 1:
        return number(value.median)
    return f"{number(value.median)} ({number(value.low)}–{number(value.high)})"


def table(rows: list[Row], failures: list[Failure]) -> str:
    """The rows as text, a line each, with what failed below."""
    head = (
        *("figure", "case", "MB", "ours ms", "theirs ms", "GB/s", "n", "others"),
        *("value (quartiles)", "", "promise", ""),
    )
    lines = [head]
    for row in rows:
        lines.append(
            (
                row.figure,
                row.case,
                "" if row.bytes is None else number(row.bytes / 1e6),
                "" if row.ours_ms is None else number(row.ours_ms.median),
                "" if row.theirs_ms is None else number(row.theirs_ms.median),
                "" if row.gigabytes_per_second is None else number(row.gigabytes_per_second),
                str(row.samples),
                "" if row.others is None else f"{row.others:.0%}",
                spread(row.value, row.samples),
                row.unit,
                "" if row.bound is None else f"{row.bound[0]} {row.bound[1]:g}",
                row.verdict,
            )
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    right = {2, 3, 4, 5, 6, 7, 8}
    text = [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    text.insert(1, "-" * max(map(len, text)))
    notes = [f"  {row.figure}{row.case and ', '}{row.case}: {row.note}" for row in rows if row.note]
    if notes:
        text += ["", "Notes", *notes]
    if failures:
        text += [
            "",
            "Not measured",
            *(f"  {f.figure}{f.case and ' '}{f.case}: {f.reason}" for f in failures),
        ]
    if any(row.clear is False for row in rows):
        text += ["", "~  the promise lies between the quartiles: measure again"]
    if any(row.disturbed for row in rows):
        text += [
            "",
            f"!  other processes took more than {DISTURBED:.0%} of the CPU time: no verdict",
        ]
    return "\n".join(text)


def machine() -> dict[str, object]:
    """What the figures depend on, besides the code."""
    facts = _cpuinfo()
    return {
        "cpu": facts.get("model name", platform.processor() or platform.machine()),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "cpus": os.cpu_count(),
        "cpus_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "threads": torch.get_num_threads(),
        "cache_kb": facts.get("cache size", ""),
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "huge_pages": _first_line("/sys/kernel/mm/transparent_hugepage/enabled"),
        "load": [round(x, 2) for x in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()}",
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(("SEQC_", "OMP_", "MKL_", "KMP_", "MALLOC_", "THP_", "GOMP_"))
        },
    }


def versions() -> dict[str, str]:
    """Of Python, torch, seqc, the C++ compiler and the C library."""
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "libc": " ".join(platform.libc_ver()),
    }
    try:
        from importlib.metadata import version

        found["seqc"] = version("seqc")
    except Exception as error:
        found["seqc"] = f"not installed ({type(error).__name__})"
    try:
        command = os.environ.get("SEQC_CXX") or os.environ.get("CXX") or "c++"
        answer = subprocess.run(
            [*command.split(), "--version"], capture_output=True, text=True, timeout=20, check=True
        )
        found["c++"] = answer.stdout.splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        found["c++"] = f"none ({type(error).__name__})"
    return found


def _cpuinfo() -> dict[str, str]:
    facts: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    return facts


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().splitlines()[0]
    except (OSError, IndexError):
        return ""
