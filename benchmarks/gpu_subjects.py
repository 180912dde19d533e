"""What benchmarks.gpu times of ours: bare kernels with their bytes, and whole layers."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import seqc
from seqc import zoo
from seqc.runtime.kernels import FusedKernel

PLAIN = """
layer Plain
size  hidden
input a[t], b[t]: hidden
state h[t]: hidden
h[t] = a[t] * h[t-1] + b[t]
output h[t]
"""
LAYERS = ("MinGRU", "QRNN", "Plain")
DTYPES = (torch.float32, torch.bfloat16)
#: Narrow inputs: the products are not what a bare kernel's row times.
INPUT = 16
REPEATS = 20


@dataclass(frozen=True)
class Row:
    """One timed call: milliseconds, what it moves, and that as a share of a copy's bandwidth."""

    layer: str
    what: str
    shape: tuple[int, ...]
    dtype: str
    milliseconds: float
    bytes: int | None = None
    of_copy: float | None = None
    schedule: str = ""


def short(dtype: torch.dtype) -> str:
    """float32, bfloat16, …"""
    return str(dtype).removeprefix("torch.")


def layer_class(name: str) -> type[Any]:
    """A zoo layer, or the plain scan."""
    found: type[Any] = seqc.compile(PLAIN) if name == "Plain" else getattr(zoo, name)
    return found


def make(name: str, hidden: int, dtype: torch.dtype, device: str = "cuda") -> Any:
    """A layer; a half one has half products and half streams on a GPU."""
    sizes = {"hidden": hidden} if name == "Plain" else {"input": INPUT, "hidden": hidden}
    return layer_class(name)(**sizes, device=device, dtype=dtype)


def inputs_of(
    name: str, shape: Sequence[int], dtype: torch.dtype, device: str = "cuda"
) -> list[Tensor]:
    """What the layer is called with."""
    batch, steps, width = shape
    if name == "Plain":
        a, b = (torch.randn(batch, steps, width, device=device) for _ in range(2))
        return [a.sigmoid_().to(dtype), b.to(dtype)]
    return [torch.randn(batch, steps, INPUT, device=device).to(dtype)]


def milliseconds(call: Callable[[], object], repeats: int = REPEATS) -> float:
    """The median time of a call on the device; a call of long runs fewer times."""
    call()
    torch.cuda.synchronize()
    begun = time.perf_counter()
    call()
    torch.cuda.synchronize()
    if time.perf_counter() - begun > 0.5:
        repeats = 3
    times = []
    for _ in range(repeats):
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
    """How far values and gradients are from the float64 reference on the CPU, same numbers in."""
    worst = 0.0
    for shape in ((3, 700, 96), (1, 9001, 33), (600, 40, 130)):
        torch.manual_seed(0)
        layer = make(name, shape[2], dtype)
        layer.backend = "cuda"
        truth = make(name, shape[2], torch.float64, "cpu")
        truth.load_state_dict({k: v.double().cpu() for k, v in layer.state_dict().items()})
        truth.backend = "cpp"
        xs = [x.requires_grad_() for x in inputs_of(name, shape, dtype)]
        wide = [x.detach().double().cpu().requires_grad_() for x in xs]
        found = []
        for module, given in ((layer, xs), (truth, wide)):
            y, _ = module(*given)
            grads = torch.autograd.grad(y.double().square().sum(), given)
            found.append([v.detach().double().cpu() for v in (y, *grads)])
        for a, b in zip(*found, strict=True):
            worst = max(worst, float((a - b).abs().max() / b.abs().max()))
    return worst


def kernel_of(cls: type[Any]) -> FusedKernel:
    """The one kernel of a layer's class."""
    names = vars(sys.modules[cls.__module__])
    (kernel,) = (k for k in names.values() if isinstance(k, FusedKernel))
    return kernel


@dataclass(frozen=True)
class Calls:
    """A kernel's operators on tensors of one shape, and the bytes they move."""

    forward: Callable[[], object]
    backward: Callable[[], object]
    bytes: dict[str, int]


def calls_of(name: str, shape: Sequence[int], dtype: torch.dtype, device: str = "cuda") -> Calls:
    """The bare forward and backward operator at a shape."""
    layer = make(name, shape[2], dtype, device)
    kernel = kernel_of(type(layer))
    seen: list[tuple[Any, ...]] = []
    kernel.listeners.append(lambda op, full: seen.append(full))
    try:
        layer(*inputs_of(name, shape, dtype, device))
    finally:
        kernel.listeners.clear()
    given, fresh, *rest = seen[0]
    tensors = [a.detach() for a in given]
    rest[-1] = True
    spec = kernel.spec
    results = kernel.forward_op(tensors, fresh, *rest)
    results = (results,) if isinstance(results, Tensor) else results
    n, m = len(spec.outputs), len(spec.carries)
    extra = iter(results[n + m :])
    kept = [results[o] if o >= 0 else next(extra) for _, o in spec.saved]
    grads = [torch.randn_like(r) for r in results[:n]]
    back = ([*grads, *[None] * m], tensors, fresh, kept, *rest[:-1])
    flat = (*tensors, *(fresh or [None] * m), *rest)
    streams = sum(t.nbytes for t in tensors[: len(spec.operands)])
    moved = {
        "forward": streams + sum(r.nbytes for r in (*results[:n], *results[n + m :])),
        "backward": 2 * streams + sum(k.nbytes for k in kept) + sum(g.nbytes for g in grads),
    }
    return Calls(lambda: kernel.run(*flat), lambda: kernel.backward_op(*back), moved)


def kernel_rows(
    name: str, shape: tuple[int, int, int], dtype: torch.dtype, copied: float
) -> Iterator[Row]:
    """The bare forward and backward kernel at a shape."""
    calls = calls_of(name, shape, dtype)
    for what in ("forward", "backward"):
        with torch.no_grad():
            took = milliseconds(getattr(calls, what))
        moved = calls.bytes[what]
        share = moved / (took * 1e-3) / copied
        schedule = kernel_of(layer_class(name)).targets["cuda"].last_kind.get(what, "")
        yield Row(name, what, shape, short(dtype), took, moved, share, schedule)


def launch_cost() -> dict[str, float]:
    """Microseconds of the CPU that a forward operator and a whole layer take to launch."""
    calls = calls_of("MinGRU", (2, 64, 64), torch.float32)
    layer = make("MinGRU", 64, torch.float32)
    (x,) = inputs_of("MinGRU", (2, 64, 64), torch.float32)

    def microseconds(call: Callable[[], object]) -> float:
        times = []
        for _ in range(20):
            torch.cuda.synchronize()
            begun = time.perf_counter()
            for _ in range(20):
                call()
            times.append((time.perf_counter() - begun) / 20 * 1e6)
        return statistics.median(times)

    with torch.no_grad():
        return {
            "forward kernel": microseconds(calls.forward),
            "backward kernel": microseconds(calls.backward),
            "MinGRU layer, forward": microseconds(lambda: layer(x)),
            "torch.mul, for comparison": microseconds(lambda: x * x),
        }


def storing(dtype: torch.dtype) -> AbstractContextManager[Any]:
    """For torch's own layers: halves by autocast, as they are used."""
    return nullcontext() if dtype == torch.float32 else torch.autocast("cuda", dtype=dtype)


def both_ways(layer: Any, x: Tensor) -> Callable[[], object]:
    """A layer's forward and backward pass on data."""
    parameters = [p for p in layer.parameters() if p.requires_grad]

    def call() -> None:
        y = layer(x)[0]
        torch.autograd.grad(y, parameters, torch.ones_like(y), allow_unused=True)

    return call


def layer_rows(shape: tuple[int, int, int], dtype: torch.dtype) -> Iterator[Row]:
    """Whole layers, forward and backward, ours and cuDNN's, input as wide as the state."""
    width = shape[2]
    x = torch.randn(shape, device="cuda").to(dtype)
    for name in ("MinGRU", "QRNN", "MinLSTM", "SRU"):
        sizes = {"hidden": width} if name == "SRU" else {"input": width, "hidden": width}
        layer = layer_class(name)(**sizes, device="cuda", dtype=dtype)
        yield Row(name, "layer", shape, short(dtype), milliseconds(both_ways(layer, x)))
    for name in ("LSTM", "GRU"):
        theirs = getattr(torch.nn, name)(width, width, batch_first=True).to("cuda", dtype)
        yield Row(f"nn.{name}", "layer", shape, short(dtype), milliseconds(both_ways(theirs, x)))


GRID_BATCHES, GRID_STEPS, GRID_WIDTH = (8, 16, 32, 64, 128, 256), (32, 64, 128, 256, 512), 320


def grid_rows() -> Iterator[Row]:
    """One 320-unit QRNN layer against a cuDNN LSTM layer, inference: the paper's 6 x 5 grid.

    Figure 4 of Bradbury et al. (arXiv 1611.01576).
    """
    ours = layer_class("QRNN")(input=GRID_WIDTH, hidden=GRID_WIDTH, width=2, device="cuda").eval()
    theirs = torch.nn.LSTM(GRID_WIDTH, GRID_WIDTH, batch_first=True, device="cuda").eval()
    for batch in GRID_BATCHES:
        for steps in GRID_STEPS:
            x = torch.randn(batch, steps, GRID_WIDTH, device="cuda")
            for name, layer in (("QRNN", ours), ("nn.LSTM", theirs)):
                with torch.inference_mode():
                    took = milliseconds(lambda: layer(x), 10)  # noqa: B023
                yield Row(name, "grid", (batch, steps, GRID_WIDTH), "float32", took)
