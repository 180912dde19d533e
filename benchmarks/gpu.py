"""What the CUDA kernels take on a GPU, beside a copy of as many bytes, torch's layers and others'.

    python -m benchmarks.gpu --tests --json FILE    everything, in one call
    python -m benchmarks.gpu --dry-run              needs no GPU
    python -m benchmarks.gpu --tune --json FILE     sweeps tiles, warps and look-back

Correctness first: a kernel that is wrong is not timed. ``--dry-run`` compiles all that would run,
for three architectures, and lists registers, spills and bytes. ``python -m benchmarks.gpu_report
FILE`` makes tables and a plot of it, anywhere.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_peers
from benchmarks.gpu_subjects import (
    DTYPES,
    GRID_BATCHES,
    GRID_STEPS,
    LAYERS,
    Row,
    bandwidth,
    calls_of,
    error,
    grid_rows,
    kernel_of,
    kernel_rows,
    launch_cost,
    layer_class,
    layer_rows,
    milliseconds,
    short,
)
from seqc.runtime import cuda
from seqc.runtime.nvrtc import compile_cubin, find_cupy, usage

SHAPES = ((8, 2048, 1536), (8, 65536, 1536), (1, 65536, 512), (64, 512, 1024))
PEER_SHAPES = ((8, 2048, 1536), (8, 65536, 1536), (1, 65536, 512))
ARCHITECTURES = (80, 90, 100)
ERROR_AT_MOST = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
SECONDS = 460  # of the eight minutes: what has not begun by then is left out, and listed


def cases() -> list[tuple[str, torch.dtype]]:
    """Layers and what their streams are stored as."""
    return list(itertools.product(LAYERS, DTYPES))


def kernels_usage(name: str, dtype: torch.dtype, arch: int) -> dict[str, Any]:
    """Registers and spills of each function of a layer's kernel."""
    kernel = kernel_of(layer_class(name))
    source = kernel.targets["cuda"].source
    found = {}
    for direction in ("forward", "backward"):
        macros = cuda.defines(kernel.spec, dtype, direction)
        log = compile_cubin(source, name=name, arch=arch, defines=macros).log
        found |= {f"{f.removeprefix('seqc_')}_{direction}": u for f, u in usage(log).items()}
    return found


def dry_run() -> int:
    """Compile all that would run and list it."""
    missing = find_cupy()
    if missing:
        print(missing, file=sys.stderr)
        return 1
    for name, dtype in cases():
        for arch in ARCHITECTURES:
            for function, used in sorted(kernels_usage(name, dtype, arch).items()):
                print(
                    f"{name:8} {short(dtype):9} sm_{arch:<4} {function:15} "
                    f"{used.registers:3} registers, {used.spill_stores} bytes spilled"
                )
    for name, dtype in cases():
        small = calls_of(name, (1, 64, 32), dtype, "cpu").bytes
        for shape in SHAPES:
            # What a CPU stores is float32 also for a half layer.
            times = shape[0] * shape[1] * shape[2] * dtype.itemsize // (64 * 32 * 4)
            text = ", ".join(f"{w} {b * times / 1e6:.0f} MB" for w, b in small.items())
            print(f"would time {name:8} {short(dtype):9} at {shape}: {text}")
    there, absent = gpu_peers.peers()
    for shape in PEER_SHAPES:
        for peer in there:
            print(f"would time the plain scan of {peer.name} at {shape}")
    for name, why in absent.items():
        print(f"not here, so not compared: {name} ({why})")
    print("would time layers of ours beside nn.LSTM and nn.GRU (cuDNN), both ways")
    print(f"would time QRNN beside nn.LSTM, batches {GRID_BATCHES} x steps {GRID_STEPS}")
    print("would measure the cost of a launch")
    return 0


class Record:
    """What was found, written as it comes, so that a stop loses nothing."""

    def __init__(self, file: str | None) -> None:
        self.file = file
        self.begun = time.monotonic()
        versions = {"torch": torch.__version__, "cuda": torch.version.cuda}
        for name in ("cupy-cuda12x", "cupy-cuda13x", "triton", "nvidia-cuda-nvrtc", "seqc"):
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        self.data: dict[str, Any] = {
            "command": " ".join(["python -m benchmarks.gpu", *sys.argv[1:]]),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "device": torch.cuda.get_device_name(),
            "versions": versions,
            "tests": None, "errors": {}, "usage": {}, "launch_us": {}, "rows": [], "tuned": [],
            "absent": {}, "failures": [],
        }  # fmt: skip

    def write(self) -> None:
        if self.file:
            Path(self.file).write_text(json.dumps(self.data, indent=1) + "\n")

    def add(self, row: Row) -> None:
        self.data["rows"].append(asdict(row))
        share = "" if row.of_copy is None else f"{row.of_copy:6.0%} of a copy"
        print(f"{row.layer:31} {row.what:8} {row.shape!s:18} {row.dtype:9} "
              f"{row.milliseconds:9.3f} ms {share} {row.schedule}", flush=True)  # fmt: skip
        self.write()

    def fail(self, what: str) -> None:
        print(what, file=sys.stderr, flush=True)
        self.data["failures"].append(what)
        self.write()

    def attempt(self, what: str, rows: Callable[[], Iterable[Row]]) -> None:
        """Add rows; a case that fails or comes too late is said, and does not stop the rest."""
        if time.monotonic() - self.begun > SECONDS:
            self.fail(f"{what}: no time left")
            return
        try:
            for row in rows():
                self.add(row)
        except Exception as problem:  # out of memory, a peer's own troubles
            self.fail(f"{what}: {type(problem).__name__}: {str(problem)[:300]}")
        torch.cuda.empty_cache()


def run_tests(record: Record) -> None:
    """tests/gpu in a process of their own."""
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout[-4000:], done.stderr[-1000:], flush=True)
    last = done.stdout.strip().splitlines()[-1:] or [""]
    record.data["tests"] = {"status": done.returncode, "said": last[0]}
    if done.returncode:
        record.fail(f"tests/gpu failed: {last[0]}")
    record.begun = time.monotonic()


def measure(record: Record) -> int:
    """Run on the GPU."""
    right = []
    arch = torch.cuda.get_device_capability()
    for name, dtype in cases():
        found = error(name, dtype)
        record.data["errors"][f"{name} {short(dtype)}"] = found
        print(f"{name:8} {short(dtype):9} error {found:.1e}", flush=True)
        if found <= ERROR_AT_MOST[dtype]:
            right.append((name, dtype))
        else:
            record.fail(f"{name} {dtype}: error {found:.1e}")
        used = kernels_usage(name, dtype, 10 * arch[0] + arch[1])
        record.data["usage"][f"{name} {short(dtype)}"] = {k: asdict(v) for k, v in used.items()}
    copied = record.data["copy_bytes_per_second"] = bandwidth()
    print(f"a copy moves {copied / 1e9:.0f} GB/s", flush=True)
    record.data["launch_us"] = launch_cost()
    print("launches, µs:", record.data["launch_us"], flush=True)
    for (name, dtype), shape in itertools.product(right, SHAPES):
        record.attempt(
            f"{name} {shape} {dtype}",
            lambda: kernel_rows(name, shape, dtype, copied),  # noqa: B023
        )
    for dtype in DTYPES:
        record.attempt(f"layers {dtype}", lambda: layer_rows((8, 2048, 1024), dtype))  # noqa: B023
    record.attempt("the QRNN grid", grid_rows)
    there, record.data["absent"] = gpu_peers.peers()
    for shape in PEER_SHAPES:
        record.attempt(
            f"seqc {shape}",
            lambda: gpu_peers.our_rows(shape, torch.float32, copied),  # noqa: B023
        )
    for peer in there:
        try:
            off = gpu_peers.wrong(peer, torch.float32)
        except Exception as problem:
            record.fail(f"{peer.name}: {type(problem).__name__}: {str(problem)[:300]}")
            continue
        if off > 1e-3:
            record.fail(f"{peer.name} is {off:.1e} off a loop: not timed")
            continue
        for shape in PEER_SHAPES:
            record.attempt(
                f"{peer.name} {shape}",
                lambda: gpu_peers.peer_rows(peer, shape, torch.float32, copied),  # noqa: B023
            )
    return 1 if record.data["failures"] else 0


def tune(record: Record) -> int:
    """Times of the plain scan and MinGRU over tiles, warps and look-back, both schedules."""
    copied = record.data["copy_bytes_per_second"] = bandwidth()
    settings = itertools.product((16, 32, 64), (4, 8, 16), (16, 32), (1, 5, 1 << 20))
    before = cuda.TILE_REGISTERS, cuda.WARPS, cuda.LOOK, cuda.MARCHING_SHARE
    for setting in settings:
        registers, warps, look, share = setting
        if share != 5 and (warps, look) != (8, 32):
            continue  # what is not used by the march
        cuda.TILE_REGISTERS, cuda.WARPS, cuda.LOOK, cuda.MARCHING_SHARE = setting
        for name, shape in itertools.product(("Plain", "MinGRU"), SHAPES):
            if time.monotonic() - record.begun > SECONDS:
                record.fail("tuning: no time left")
                break
            try:
                kernel = kernel_of(layer_class(name)).targets["cuda"]
                kernel.forget()
                calls = calls_of(name, shape, torch.float32)
                with torch.no_grad():
                    found = {
                        w: calls.bytes[w] / (milliseconds(getattr(calls, w), 7) * 1e-3) / copied
                        for w in ("forward", "backward")
                    }
            except Exception as problem:
                record.fail(f"{setting} {name} {shape}: {str(problem)[:200]}")
                continue
            row = {
                "registers": registers, "warps": warps, "look": look, "marching_share": share,
                "layer": name, "shape": shape, **found,
            }  # fmt: skip
            record.data["tuned"].append(row)
            record.write()
            print(" ".join(f"{k}={v if not isinstance(v, float) else format(v, '.0%')}"
                           for k, v in row.items()), flush=True)  # fmt: skip
            torch.cuda.empty_cache()
    cuda.TILE_REGISTERS, cuda.WARPS, cuda.LOOK, cuda.MARCHING_SHARE = before
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write everything to FILE as well")
    parser.add_argument("--dry-run", action="store_true", help="compile and list; needs no GPU")
    parser.add_argument("--tests", action="store_true", help="run tests/gpu first")
    parser.add_argument("--tune", action="store_true", help="sweep the schedules' numbers instead")
    options = parser.parse_args(arguments)
    if options.dry_run:
        return dry_run()
    if not torch.cuda.is_available():
        print("torch sees no CUDA device here; --dry-run needs none", file=sys.stderr)
        return 1
    record = Record(options.json)
    if options.tests:
        run_tests(record)
    status = tune(record) if options.tune else measure(record)
    record.write()
    return status


if __name__ == "__main__":
    sys.exit(main())
