"""``python -m benchmarks.cpu``: every CPU figure that seqc promises, measured on this machine.

Each figure runs in a process of its own, so that none inherits another's memory, thread pools or
crash. The exit status says nothing of the promises: this measures, and the table judges.
"""

from __future__ import annotations

import argparse
import datetime
import json
import pickle
import shlex
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks import contract, report
from benchmarks.figures import FIGURES, LONG, PLACED, Options, collect
from benchmarks.report import Failure, Row
from benchmarks.timing import LEAST_PAIRS

_FIGURE_SECONDS = 1800
PROCESSES = 5  # of a figure that depends on the process


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns 0."""
    options = _parser().parse_args(arguments)
    settings = Options(quick=options.quick, all=options.all, repeats=options.repeats)
    if options.rows:  # the process of one figure
        _measure(options.only[0], options.implementation, settings, Path(options.rows))
        return 0

    names = options.only or [n for n in FIGURES if not (options.quick and n in LONG)]
    facts = report.machine()
    print(f"{facts['cpu']}, {facts['isa']}; {facts['threads']} threads on {facts['cpus']} CPUs; ",
          f"load {facts['load']}; huge pages {facts['huge_pages']}", sep="")  # fmt: skip
    print(", ".join(f"{name} {version}" for name, version in report.versions().items()))
    missing = _reason_to_stop(options.implementation)
    rows: list[Row] = []
    failures: list[Failure] = []
    if missing is not None:
        failures = [Failure(name, "", missing) for name in names]
        names = []
    for name in names:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        for result in _measured(name, options):
            (rows if isinstance(result, Row) else failures).append(result)  # type: ignore[arg-type]
    print()
    print(report.table(rows, failures))
    if options.json:
        record = {
            "command": shlex.join(["python", "-m", "benchmarks.cpu", *(arguments or sys.argv[1:])]),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "implementation": options.implementation,
            "machine": facts,
            "load_after": report.machine()["load"],
            "versions": report.versions(),
            "rows": [row.record() for row in rows],
            "failures": [vars(failure) for failure in failures],
        }
        Path(options.json).write_text(json.dumps(record, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write everything to FILE as well")
    parser.add_argument("--quick", action="store_true", help="the main shape alone, in less time")
    parser.add_argument("--all", action="store_true", help="bfloat16 too")
    parser.add_argument(
        "--only", action="append", choices=[*FIGURES], metavar="NAME",
        help="one figure; may be given again. " + ", ".join(FIGURES),
    )  # fmt: skip
    parser.add_argument("--repeats", type=_repeats, default=31, metavar="N", help="pairs a figure")
    parser.add_argument(
        "--implementation", default="benchmarks.seqc_adapter", metavar="MODULE",
        help="what to measure; see benchmarks/contract.py",
    )  # fmt: skip
    parser.add_argument("--rows", help=argparse.SUPPRESS)
    return parser


def _repeats(text: str) -> int:
    value = int(text)
    if value < LEAST_PAIRS:
        raise argparse.ArgumentTypeError(f"at least {LEAST_PAIRS}, for the quartiles' sake")
    return value


def _reason_to_stop(module: str) -> str | None:
    try:
        return contract.load(module).unavailable()
    except Exception as error:
        return f"{module}: {type(error).__name__}: {error}"


def _measure(name: str, module: str, settings: Options, rows: Path) -> None:
    """Write the results of one figure, each as soon as it is there."""
    implementation = contract.load(module)
    results: list[Row | Failure] = []
    for result in collect(FIGURES[name], name, implementation, settings):
        results.append(result)
        rows.write_bytes(pickle.dumps(results))


def _measured(name: str, options: argparse.Namespace) -> list[Row | Failure]:
    """A figure's results; of one that depends on the process, the middle one of several."""
    count = PROCESSES if name in PLACED and not options.quick else 1
    runs = [_in_own_process(name, options) for _ in range(count)]
    trouble = [r for run in runs for r in run if isinstance(r, Failure)]
    if count == 1 or trouble:
        return runs[0] if count == 1 else trouble
    middle: list[Row | Failure] = []
    for rows in zip(*runs, strict=True):
        ordered = sorted((r for r in rows if isinstance(r, Row)), key=lambda r: r.value.median)
        seen = ", ".join(f"{r.value.median:.2f}" for r in ordered)
        middle.append(replace(ordered[count // 2], note=f"{count} processes: {seen}"))
    return middle


def _in_own_process(name: str, options: argparse.Namespace) -> list[Row | Failure]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows"
        command = [sys.executable, "-m", "benchmarks.cpu", "--only", name, "--rows", str(file)]
        command += ["--repeats", str(options.repeats), "--implementation", options.implementation]
        command += ["--quick"] * options.quick + ["--all"] * options.all
        trouble: Failure | None = None
        try:
            done = subprocess.run(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                timeout=_FIGURE_SECONDS,
            )  # fmt: skip
            if done.returncode != 0:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                trouble = Failure(name, "", f"its process ended with {done.returncode}: {last}")
        except subprocess.TimeoutExpired:
            trouble = Failure(name, "", f"stopped after {_FIGURE_SECONDS} s")
        results: list[Row | Failure] = pickle.loads(file.read_bytes()) if file.exists() else []
        return results + ([trouble] if trouble else [])


if __name__ == "__main__":
    sys.exit(main())
