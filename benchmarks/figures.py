"""The figures: what each one runs, against what, and what was promised."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks import baselines, memory, precision, second_order, small_calls, startup
from benchmarks.contract import Implementation
from benchmarks.report import Failure, Row, timed_row
from benchmarks.timing import Spread, keep_pages, others_share, paired, usage

MAIN = (8, 2048, 512)
SHAPES = (MAIN, (1, 65536, 16), (64, 128, 256), (2, 4096, 1024))

# The promises. Ratios are of times measured side by side.
FORWARD_AT_MOST = 1.1
BACKWARD_AT_MOST = 1.15
LOG_SPACE_AT_LEAST = 40.0
COMPILED_AT_LEAST = 8.0
LSTM_AT_LEAST = 6.0
SECOND_ORDER_AT_MOST = 4.0
FLOAT32_ERROR_AT_MOST = 2e-6
BFLOAT16_ERROR_AT_MOST = 4e-3
IMPORT_SECONDS_AT_MOST = 0.2
COLD_SECONDS_AT_MOST = 3.0
CACHED_SECONDS_AT_MOST = 0.1
# "No faster than its inputs and outputs": two per cent for what is no tensor of ours.
MEMORY_AT_MOST = 1.02


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    quick: bool = False
    all: bool = False
    repeats: int = 31

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        return SHAPES[:1] if self.quick else SHAPES

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        return (torch.float32, torch.bfloat16) if self.all else (torch.float32,)

    @property
    def seconds(self) -> float:
        """For one pair of calls, once there are enough pairs."""
        return 8.0 if self.quick else 30.0


Results = Iterator["Row | Failure"]
Figure = Callable[[Implementation, Options], Results]


def _case(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, what: str = "") -> str:
    name = str(dtype).removeprefix("torch.")
    return f"({', '.join(map(str, shape))}) {name}" + (f" {what}" if what else "")


def _inputs(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """k, v, dy"""
    generator = torch.Generator().manual_seed(0)
    k, v, dy = (torch.randn(shape, generator=generator).to(dtype) for _ in range(3))
    return k, v, dy


def _mingru(
    implementation: Implementation, shape: tuple[int, int, int], dtype: torch.dtype
) -> tuple[torch.nn.Module, Tensor, Tensor, Tensor, Tensor]:
    """A layer, and its packed pre-activations next to the k and v that they are made of; dy."""
    k, v, dy = _inputs(shape, dtype)
    width = shape[2]
    layer = implementation.make_layer("MinGRU", input=width, hidden=width, dtype=dtype)
    return layer, implementation.pack(layer, {"z": k, "v": v}).contiguous(), k, v, dy


def _agree(found: Tensor, expected: Tensor, limit: float) -> str:
    """What the two sides' results differ by; refuses to time two different things."""
    error = baselines.norm_error(found.detach(), expected.detach())
    if not error <= limit:
        raise RuntimeError(f"the two sides differ by {error:.1e}, so their times mean nothing")
    return f"the two sides differ by {error:.1e}"


def floor(implementation: Implementation, options: Options) -> Results:
    """torch.mul against itself: what this machine's noise does to a ratio that is 1."""
    keep_pages()
    elements = MAIN[0] * MAIN[1] * MAIN[2]
    calls = [baselines.multiplies(elements, 3, torch.float32) for _ in range(2)]
    times = paired(*calls, repeats=options.repeats, seconds=options.seconds)
    yield timed_row("noise: mul / mul", _case(MAIN), times, bytes=12 * elements)


def _kernel(
    figure: str,
    streams: int,
    limit: float,
    call: Callable[[Implementation, torch.nn.Module, Tensor, Tensor], Callable[[], Tensor]],
    implementation: Implementation,
    options: Options,
    kept: bool,
) -> Results:
    if kept and not keep_pages():
        yield Failure(figure, "", "no glibc mallopt here: only new tensors can be timed")
        return
    for dtype in options.dtypes:
        for shape in options.shapes if kept else (MAIN,):
            layer, packed, _, _, dy = _mingru(implementation, shape, dtype)
            ours = call(implementation, layer, packed, dy)
            make = baselines.multiplies if kept else baselines.multiplies_fresh
            elements = shape[0] * shape[1] * shape[2]
            theirs = make(elements, streams, dtype)
            times = paired(ours, theirs, repeats=options.repeats, seconds=options.seconds)
            promised = kept and shape == MAIN and dtype == torch.float32
            yield timed_row(
                f"{figure} / mul" if kept else f"{figure} / mul, new pages",
                _case(shape, dtype),
                times,
                bytes=streams * dtype.itemsize * elements,
                at_most=limit if promised else None,
            )


def forward(implementation: Implementation, options: Options, kept: bool = True) -> Results:
    """The bare forward kernel against one torch.mul of the same bytes."""

    def call(
        implementation: Implementation, layer: torch.nn.Module, packed: Tensor, dy: Tensor
    ) -> Callable[[], Tensor]:
        return implementation.kernel_forward(layer, packed)

    streams = baselines.FORWARD_STREAMS
    yield from _kernel("forward", streams, FORWARD_AT_MOST, call, implementation, options, kept)


def backward(implementation: Implementation, options: Options, kept: bool = True) -> Results:
    """The backward kernel against two torch.mul, which move as many bytes."""

    def call(
        implementation: Implementation, layer: torch.nn.Module, packed: Tensor, dy: Tensor
    ) -> Callable[[], Tensor]:
        return implementation.kernel_backward(layer, packed, dy)

    streams = baselines.BACKWARD_STREAMS
    yield from _kernel("backward", streams, BACKWARD_AT_MOST, call, implementation, options, kept)


def forward_new_pages(implementation: Implementation, options: Options) -> Results:
    """As ``forward``, with malloc as it comes: every large result is faulted in, on both sides."""
    yield from forward(implementation, options, kept=False)


def backward_new_pages(implementation: Implementation, options: Options) -> Results:
    """As ``backward``, with malloc as it comes."""
    yield from backward(implementation, options, kept=False)


def _log_space(implementation: Implementation, options: Options, kept: bool) -> Results:
    baselines.check()
    for shape in options.shapes if kept else (MAIN,):
        layer, packed, k, v, dy = _mingru(implementation, shape, torch.float32)
        for leaf in (packed, k, v):
            leaf.requires_grad_()

        def ours() -> object:
            h = implementation.kernel_apply(layer, packed)  # noqa: B023
            return h, torch.autograd.grad(h, packed, dy)  # noqa: B023

        def theirs() -> object:
            h = baselines.log_space(k, v)  # noqa: B023
            return h, torch.autograd.grad(h, (k, v), dy)  # noqa: B023

        # 5 %: over 65,536 steps the log-space form itself is that far off in float32.
        note = _agree(baselines.log_space(k, v), implementation.kernel_apply(layer, packed), 5e-2)
        times = paired(ours, theirs, repeats=min(options.repeats, 15), seconds=options.seconds)
        yield timed_row(
            "fwd+bwd vs log space" + (", kept pages" if kept else ""),
            _case(shape),
            times,
            bytes=4 * (baselines.FORWARD_STREAMS + baselines.BACKWARD_STREAMS) * k.numel(),
            at_least=LOG_SPACE_AT_LEAST if shape == MAIN and not kept else None,
            speedup=True,
            note=note,
        )


def log_space(implementation: Implementation, options: Options) -> Results:
    """Forward + backward against the published log-space minGRU, as a user would call both."""
    yield from _log_space(implementation, options, kept=False)


def log_space_kept_pages(implementation: Implementation, options: Options) -> Results:
    """The same with malloc told to keep pages, which helps the baseline's temporaries most."""
    keep_pages()
    yield from _log_space(implementation, options, kept=True)


def compiled(implementation: Implementation, options: Options) -> Results:
    """Forward against torch.compile of the gates and torch's associative_scan."""
    baselines.check()
    shape = MAIN
    layer, packed, k, v, _ = _mingru(implementation, shape, torch.float32)
    function = torch.compile(baselines.associative, dynamic=False)

    @torch.no_grad()
    def theirs() -> Tensor:
        return function(k, v)

    start = time.perf_counter()
    expected = theirs()
    seconds = time.perf_counter() - start
    ours = implementation.kernel_forward(layer, packed)
    note = f"torch.compile took {seconds:.0f} s; " + _agree(ours(), expected, 1e-4)
    for kept in (False, True):
        if kept:
            keep_pages()
        times = paired(ours, theirs, repeats=options.repeats, seconds=options.seconds)
        yield timed_row(
            "forward vs compiled scan" + (", kept pages" if kept else ""),
            _case(shape),
            times,
            bytes=4 * baselines.FORWARD_STREAMS * k.numel(),
            at_least=None if kept else COMPILED_AT_LEAST,
            speedup=True,
            note="" if kept else note,
        )


def layers(implementation: Implementation, options: Options) -> Results:
    """Whole layers with their matrix products, forward + backward, against torch's own."""
    batch, steps, width = MAIN
    lstm, gru = (kind(width, width, batch_first=True) for kind in (torch.nn.LSTM, torch.nn.GRU))
    against: list[tuple[str, str, torch.nn.Module]] = [
        ("MinGRU", "nn.LSTM", lstm),
        ("MinGRU", "nn.GRU", gru),
        ("QRNN", "nn.LSTM", lstm),
        ("MinLSTM", "nn.LSTM", lstm),
    ]
    if options.quick:
        against = against[:1]
    runs: dict[str, Callable[[], object]] = {}
    for name in dict.fromkeys(name for name, _, _ in against):
        try:
            layer = implementation.make_layer(name, input=width, hidden=width)
            runs[name] = memory.forward_backward(layer, batch, steps, width, torch.float32)
            runs[name]()
        except Exception as error:
            yield Failure("layer fwd+bwd", name, f"{type(error).__name__}: {error}")
            runs.pop(name, None)
    repeats = min(options.repeats, 9)
    for name, other, module in against:
        if name not in runs:
            continue
        theirs = memory.forward_backward(module, batch, steps, width, torch.float32)
        times = paired(runs[name], theirs, repeats=repeats, seconds=options.seconds)
        yield timed_row(f"layer fwd+bwd, {name} vs {other}", _case(MAIN), times, speedup=True)
    if "MinGRU" in runs:
        layer = implementation.make_layer("MinGRU", input=width, hidden=width)
        ours, theirs = (
            memory.forward_backward(m, batch, steps, width, torch.float32, first=True)
            for m in (layer, lstm)
        )
        yield timed_row(
            "layer fwd+bwd, MinGRU vs nn.LSTM, first layer",
            _case(MAIN),
            paired(ours, theirs, repeats=repeats, seconds=options.seconds),
            # With the input's gradient the two differ by four times in multiply-adds, and by what
            # the GEMM of each makes of them: that figure is shown above, and not promised.
            at_least=LSTM_AT_LEAST,
            speedup=True,
            note="the input is data, without a gradient",
        )
    product = _products(batch, steps, width)
    theirs = memory.forward_backward(lstm, batch, steps, width, torch.float32)
    yield timed_row(
        "layer fwd+bwd, nn.Linear alone vs nn.LSTM",
        _case(MAIN),
        paired(product, theirs, repeats=repeats, seconds=options.seconds),
        speedup=True,
        note="MinGRU's matrix products and nothing else, by torch: on this GEMM no layer is faster",
    )
    if "MinGRU" in runs:
        times = paired(runs["MinGRU"], product, repeats=repeats, seconds=options.seconds)
        yield timed_row("layer fwd+bwd, MinGRU / nn.Linear alone", _case(MAIN), times)


def _products(batch: int, steps: int, width: int) -> Callable[[], object]:
    """Forward + backward of the two maps of a MinGRU layer, as one nn.Linear."""
    linear = torch.nn.Linear(width, 2 * width)
    x = torch.randn(batch, steps, width, requires_grad=True)
    dy = torch.randn(batch, steps, 2 * width)
    return lambda: torch.autograd.grad(linear(x), [x, *linear.parameters()], dy)


def small(implementation: Implementation, options: Options) -> Results:
    """Calls with next to nothing to compute."""
    yield from small_calls.measure(implementation, options.repeats, options.seconds / 4)


def second(implementation: Implementation, options: Options) -> Results:
    """Tangents, and backward twice, against forward + backward of the same layer."""
    keep_pages()
    for name in second_order.LAYERS[:1] if options.quick else second_order.LAYERS:
        layer = implementation.make_layer(name, input=MAIN[2], hidden=MAIN[2])
        calls = second_order.calls(layer, MAIN)
        theirs = calls.pop("forward + backward")
        for what, ours in calls.items():
            times = paired(ours, theirs, repeats=min(options.repeats, 15), seconds=options.seconds)
            figure = f"{what} / fwd+bwd, {name}"
            yield timed_row(figure, _case(MAIN), times, at_most=SECOND_ORDER_AT_MOST)


def errors(implementation: Implementation, options: Options) -> Results:
    """Float32 and bfloat16 errors against a float64 loop."""
    steps = 8192 if options.quick else 65536
    for dtype, limit in (
        (torch.float32, FLOAT32_ERROR_AT_MOST),
        (torch.bfloat16, BFLOAT16_ERROR_AT_MOST),
    ):
        for bias in precision.BIASES:
            shape = (1, steps, 16)
            found = precision.measure(implementation, *shape, dtype, bias)
            yield Row(
                figure=f"error of h, gate bias {bias:g}",
                case=_case(shape, dtype),
                unit="relative",
                value=Spread.of([found.h]),
                bound=("<=", limit),
                note=f"gradient {found.gradient:.1e}; the log-space form: {found.h_log_space:.1e}",
            )


def peak_memory(implementation: Implementation, options: Options) -> Results:
    """What forward + backward takes, against the tensors that it has to make."""
    batch, steps, width = MAIN
    for name in ("MinGRU",) if options.quick else ("MinGRU", "MinLSTM", "QRNN"):
        try:
            layer = implementation.make_layer(name, input=width, hidden=width)
            small = memory.forward_backward(layer, batch, 16, width, torch.float32)
            run = memory.forward_backward(layer, batch, steps, width, torch.float32)
            peak = memory.peak(run, small)
        except Exception as error:
            yield Failure("peak memory", name, f"{type(error).__name__}: {error}")
            continue
        parameters = sum(p.numel() for p in layer.parameters())
        floor = memory.needed(name, batch * steps, width, 4, parameters)
        mib = 2**20
        counted = "not to be had" if peak.process is None else f"{peak.process / mib:.0f} MiB"
        highest = max(peak.allocator, peak.process or 0)
        yield Row(
            figure=f"peak memory, {name} fwd+bwd",
            case=_case(MAIN),
            unit="x what it makes",
            value=Spread.of([highest / floor]),
            bound=("<=", MEMORY_AT_MOST) if name == "MinGRU" else None,
            bytes=highest,
            note=f"allocator {peak.allocator / mib:.0f} MiB, process {counted}, "
            f"tensors made {floor / mib:.0f} MiB",
        )


def start(implementation: Implementation, options: Options) -> Results:
    """The import, a cold start and a cached start, in new processes."""
    given = implementation.STARTUP
    if given is None:
        yield Failure("start", "", f"{implementation.NAME} says nothing of its start")
        return
    count = 3 if options.quick else 9
    before = usage()
    startup.torch_only()  # reads torch's files into the page cache
    own = [startup.torch_only().call for _ in range(count)]
    imports = [startup.import_only(given) for _ in range(count)]
    colds = [startup.cold(given) for _ in range(2 if options.quick else 5)]
    warm = startup.cached(given, count)
    others = others_share(before, usage())

    def row(figure: str, values: list[float], limit: float | None, note: str) -> Row:
        bound = None if limit is None else ("<=", limit)
        spread = Spread.of(values)
        return Row(figure, "", "s", spread, bound, samples=len(values), others=others, note=note)

    values = [s.imports for s in imports]
    yield row("import beyond torch", values, IMPORT_SECONDS_AT_MOST, _loads(imports[0]))
    parts = sorted(colds, key=lambda s: s.total)[len(colds) // 2]
    note = f"import {parts.imports:.2f}, build {parts.build:.2f}, first call {parts.call:.2f}"
    yield row("cold: process to output", [s.total for s in colds], COLD_SECONDS_AT_MOST, note)
    parts = sorted(warm, key=lambda s: s.build + s.call)[len(warm) // 2]
    note = f"build {parts.build:.3f}, first call {parts.call:.3f}; " + _loads(parts)
    values = [s.build + s.call for s in warm]
    yield row("cached: spec to output", values, CACHED_SECONDS_AT_MOST, note)
    yield row("torch's own first output", own, None, "a Linear and a sigmoid: in every start")


def _loads(start: startup.Start) -> str:
    return "loads " + (", ".join(start.heavy) or "none of sympy, lark, jinja2")


# In the order in which they run. Each has a process of its own.
FIGURES: dict[str, Figure] = {
    "noise": floor,
    "forward": forward,
    "backward": backward,
    "forward-new-pages": forward_new_pages,
    "backward-new-pages": backward_new_pages,
    "log-space": log_space,
    "log-space-kept-pages": log_space_kept_pages,
    "compiled": compiled,
    "layers": layers,
    "second-order": second,
    "small-calls": small,
    "errors": errors,
    "memory": peak_memory,
    "start": start,
}
# How fast torch.mul is depends on where a process's pages happen to lie (1.35 to 2.4 ms were seen
# on one idle machine), so these are taken in several processes, and the middle one counts.
PLACED = ("forward", "backward", "compiled")
LONG = ("log-space-kept-pages",)  # left out by --quick


def collect(figure: Figure, name: str, implementation: Implementation, options: Options) -> Results:
    """The rows of one figure; what goes wrong becomes a Failure, after the rows that were had."""
    try:
        yield from figure(implementation, options)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        yield Failure(
            name, "", f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
        )
