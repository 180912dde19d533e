"""What the CUDA kernels take on a GPU, beside a copy of as many bytes and torch's own layers.

    python -m benchmarks.gpu --json FILE
    python -m benchmarks.gpu --dry-run

Correctness first: a kernel that is wrong is not timed. ``--dry-run`` needs no GPU: it compiles
all that would run, for three architectures, and lists registers, spills and bytes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import seqc
from seqc import zoo
from seqc.runtime.nvrtc import compile_cubin, find_cupy, usage
from seqc.runtime.tables import STORAGE

PLAIN = """
layer Plain
size  hidden
input a[t], b[t]: hidden
state h[t]: hidden
h[t] = a[t] * h[t-1] + b[t]
output h[t]
"""
LAYERS = ("MinGRU", "QRNN", "Plain")
SHAPES = ((8, 2048, 1536), (8, 65536, 1536), (1, 65536, 512), (64, 512, 1024))
DTYPES = (torch.float32, torch.bfloat16)
ARCHITECTURES = (80, 90, 100)
REPEATS = 20
ERROR_AT_MOST = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class Row:
    """One timed call: milliseconds, what it moves, and that as a share of a copy's bandwidth."""

    layer: str
    what: str
    shape: tuple[int, int, int]
    dtype: str
    milliseconds: float
    bytes: int | None = None
    of_copy: float | None = None


def make(name: str, hidden: int) -> Any:
    """A layer on the GPU, narrow on its input's side: the products are not what is timed."""
    if name == "Plain":
        return seqc.compile(PLAIN)(hidden=hidden, device="cuda", backend="cuda")
    cls = getattr(zoo, name)
    return cls(input=16, hidden=hidden, device="cuda", backend="cuda")


def cases() -> list[tuple[str, torch.dtype]]:
    """Layers and storage dtypes. A half comes of autocast's products, and Plain has none."""
    return [(n, d) for n in LAYERS for d in DTYPES if n != "Plain" or d == torch.float32]


def storing(dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Kernels store this dtype: a layer that is itself a half computes in float32 inside."""
    return nullcontext() if dtype == torch.float32 else torch.autocast("cuda", dtype=dtype)


def inputs_of(name: str, shape: tuple[int, int, int]) -> list[Tensor]:
    """What the layer is called with."""
    batch, steps, _ = shape
    if name == "Plain":
        a, b = (torch.randn(shape, device="cuda") for _ in range(2))
        return [a.sigmoid_(), b]
    return [torch.randn(batch, steps, 16, device="cuda")]


def milliseconds(call: Callable[[], object]) -> float:
    """The median time of a call on the device."""
    for _ in range(3):
        call()
    times = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def bandwidth() -> float:
    """Bytes a second that a device-to-device copy moves, reads and writes both counted."""
    source = torch.empty(1 << 28, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / (milliseconds(lambda: target.copy_(source)) * 1e-3)


def error(name: str, dtype: torch.dtype) -> float:
    """How far the kernel's values and gradients are from the reference backend's."""
    layer = make(name, 96)
    found = []
    for backend in ("cuda", "reference"):
        torch.manual_seed(0)
        layer.backend = backend
        xs = [x.requires_grad_() for x in inputs_of(name, (3, 700, 96))]
        with storing(dtype):
            y, _ = layer(*xs)
        grads = torch.autograd.grad(y.float().square().sum(), xs)
        found.append([y.detach().double(), *(g.double() for g in grads)])
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*found, strict=True))


def kernel_rows(
    name: str, shape: tuple[int, int, int], dtype: torch.dtype, copied: float
) -> list[Row]:
    """The bare forward and backward kernel at a shape."""
    layer = make(name, shape[2])
    kernels = vars(sys.modules[type(layer).__module__]).values()
    kernel = next(k for k in kernels if type(k).__name__ == "FusedKernel")
    seen: list[tuple[Any, ...]] = []
    kernel.listeners.append(lambda op, full: seen.append(full))
    try:
        with storing(dtype):
            layer(*inputs_of(name, shape))
    finally:
        kernel.listeners.clear()
    full = [a.detach() if isinstance(a, Tensor) else a for a in seen[0]]
    full[-1] = True
    spec = kernel.spec
    results = kernel.forward_op(*full)
    results = (results,) if isinstance(results, Tensor) else results
    n, m = spec.outputs, spec.carries
    extra = iter(results[n + m :])
    kept = [results[o] if o >= 0 else next(extra) for _, o in spec.saved]
    grads = [torch.randn_like(r) for r in results[:n]] + [None] * m
    count = kernel.tensors + m
    back = (*grads, *full[:count], *kept, full[count], *full[count + 1 : -1])
    streams = sum(t.nbytes for t in full[: len(spec.operands)])
    stored = sum(r.nbytes for r in (*results[:n], *results[n + m :]))
    moved = {
        "forward": streams + stored,
        "backward": 2 * streams + sum(k.nbytes for k in kept) + sum(g.nbytes for g in grads[:n]),
    }
    calls = {
        "forward": lambda: kernel.forward_op(*full),
        "backward": lambda: kernel.backward_op(*back),
    }
    rows = []
    for what, call in calls.items():
        with torch.no_grad():
            time = milliseconds(call)
        share = moved[what] / (time * 1e-3) / copied
        rows.append(Row(name, what, shape, str(dtype)[6:], time, moved[what], share))
    return rows


def cudnn_rows(shape: tuple[int, int, int], dtype: torch.dtype) -> list[Row]:
    """Whole layers, forward and backward, ours and cuDNN's, input as wide as the state."""
    width = shape[2]
    x = torch.randn(shape, device="cuda")
    ours = {n: getattr(zoo, n)(input=width, hidden=width) for n in ("MinGRU", "QRNN")}
    theirs = {n: getattr(torch.nn, n)(width, width, batch_first=True) for n in ("LSTM", "GRU")}
    rows = []
    for name, layer in (ours | theirs).items():
        layer.to("cuda")

        def call() -> None:
            with storing(dtype):
                y = layer(x)[0]  # noqa: B023
            y.sum().backward()

        rows.append(Row(name, "layer, both ways", shape, str(dtype)[6:], milliseconds(call)))
    return rows


def dry_run() -> int:
    """Compile all that would run and list it."""
    missing = find_cupy()
    if missing:
        print(missing, file=sys.stderr)
        return 1
    for name, dtype in cases():
        source = seqc.emit(PLAIN if name == "Plain" else zoo.path(name), target="cuda", layer=name)
        storage, state = STORAGE[dtype]
        defines = (f"SEQC_STORAGE={storage}", f"SEQC_STATE={state}")
        for arch in ARCHITECTURES:
            cubin = compile_cubin(source, name=name, arch=arch, defines=defines)
            for kernel, used in sorted(usage(cubin.log).items()):
                print(
                    f"{name:8} {str(dtype)[6:]:9} sm_{arch:<4} {kernel:20} "
                    f"{used.registers:3} registers, {used.spill_stores} bytes spilled"
                )
    for name, dtype in cases():
        for shape in SHAPES:
            print(f"would time {name:8} {str(dtype)[6:]:9} at {shape}, forward and backward")
    print("would time MinGRU and QRNN layers beside nn.LSTM and nn.GRU (cuDNN)")
    return 0


def measure(file: str | None) -> int:
    """Run on the GPU; write what was found as it comes, so that a stop loses nothing."""
    record: dict[str, Any] = {
        "command": "python -m benchmarks.gpu",
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(),
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda},
        "errors": {}, "rows": [], "failures": [],
    }  # fmt: skip

    def add(rows: list[Row]) -> None:
        for row in rows:
            record["rows"].append(asdict(row))
            share = "" if row.of_copy is None else f"{row.of_copy:6.0%} of a copy"
            print(f"{row.layer:8} {row.what:17} {row.shape!s:18} {row.dtype:9} "
                  f"{row.milliseconds:9.3f} ms {share}", flush=True)  # fmt: skip
        if file:
            Path(file).write_text(json.dumps(record, indent=1) + "\n")

    right = []
    for name, dtype in cases():
        found = error(name, dtype)
        record["errors"][f"{name} {str(dtype)[6:]}"] = found
        print(f"{name:8} {str(dtype)[6:]:9} error {found:.1e}", flush=True)
        if found <= ERROR_AT_MOST[dtype]:
            right.append((name, dtype))
        else:
            record["failures"].append(f"{name} {dtype}: error {found:.1e}")
    copied = record["copy_bytes_per_second"] = bandwidth()
    print(f"a copy moves {copied / 1e9:.0f} GB/s")
    for name, dtype in right:
        for shape in SHAPES:
            try:
                add(kernel_rows(name, shape, dtype, copied))
            except torch.cuda.OutOfMemoryError as problem:
                record["failures"].append(f"{name} {shape} {dtype}: {problem}")
            torch.cuda.empty_cache()
    for dtype in DTYPES:
        add(cudnn_rows((8, 2048, 1024), dtype))
    for failure in record["failures"]:
        print(failure, file=sys.stderr)
    return 1 if record["failures"] else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write everything to FILE as well")
    parser.add_argument("--dry-run", action="store_true", help="compile and list; needs no GPU")
    options = parser.parse_args()
    if options.dry_run:
        return dry_run()
    if not torch.cuda.is_available():
        print("torch sees no CUDA device here; --dry-run needs none", file=sys.stderr)
        return 1
    return measure(options.json)


if __name__ == "__main__":
    sys.exit(main())
