"""The CUDA kernels on a real device, against the C++ ones in float64.

    python -m pytest tests/gpu

``python -m benchmarks.gpu --tests`` runs this and then measures. Elsewhere everything here is
skipped. tests/cuda runs the same kernels without a GPU.
"""

from __future__ import annotations

import pytest
import torch

from seqc import zoo
from seqc.runtime.nvrtc import find_cupy
from tests.layer.support import assert_all_close, build, randn
from tests.references import ZOO
from tests.runtime.test_kernels import (
    NUMBER,
    ROWS,
    STRATA,
    everything,
    fields_of,
    inputs_of,
    some_resets,
)

REASON = "" if torch.cuda.is_available() else "torch sees no CUDA device here"
REASON = REASON or find_cupy()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON or "there is a GPU")

SPECS = {"STRATA": STRATA, "ROWS": ROWS, "NUMBER": NUMBER}
SIZES = {"STRATA": {"hidden": 5}, "ROWS": {"slots": 3, "hidden": 5}, "NUMBER": {}}
TOLERANCE = {torch.float64: 1e-11, torch.float32: 3e-5}


def make(name: str, dtype: torch.dtype, hidden: int = 5):
    if name in SPECS:
        return build(SPECS[name], "auto", dtype, **SIZES[name])
    sizes = {"input": 3, "hidden": hidden, "width": 3}
    if name == "SRU":
        sizes.pop("input")
    if not name.startswith("QRNN"):
        sizes.pop("width")
    return build(getattr(zoo, name), "auto", dtype, **sizes)


def on(device: str, found):
    return tuple(
        {n: v.detach().to(device, torch.float64) for n, v in part.items()} for part in found
    )


@pytest.mark.parametrize("resets", [0.0, 0.05], ids=["whole", "resets"])
@pytest.mark.parametrize(("B", "T"), [(2, 0), (1, 1), (3, 37), (2, 4099)])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("name", [*ZOO, *SPECS])
def test_values_and_gradients(name, dtype, B, T, resets):
    wide = make(name, torch.float64)
    inputs, state = inputs_of(wide, B, T), fields_of(wide, B)
    mask = some_resets(B, T, resets) if resets else None
    wide.backend = "cpp"
    want = on("cpu", everything(wide, inputs, state, mask))
    layer = make(name, dtype).cuda()
    layer.backend = "cuda"
    given = type(state)(*(f.to("cuda", dtype) for f in state))
    moved = [x.to("cuda", dtype) for x in inputs]
    got = on("cpu", everything(layer, moved, given, None if mask is None else mask.cuda()))
    for a, b in zip(got, want, strict=True):
        assert_all_close(a, b, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["MinGRU", "QRNN", "MinLSTM", "SRU"])
def test_half_layers(name, dtype):
    """Half products and half streams; the states are float32."""
    layer = make(name, torch.float32, 64).cuda().to(dtype)
    wide = make(name, torch.float64, 64)
    wide.load_state_dict({k: v.double().cpu() for k, v in layer.state_dict().items()})
    xs = [x.to("cuda", dtype) for x in inputs_of(wide, 2, 3000)]
    layer.backend, wide.backend = "cuda", "cpp"
    got = on("cpu", everything(layer, xs))
    want = on("cpu", everything(wide, [x.double().cpu() for x in xs]))
    for a, b in zip(got, want, strict=True):
        assert_all_close(a, b, 24 * torch.finfo(dtype).eps)


@pytest.mark.parametrize(("B", "T", "hidden", "kind"), [
    (1, 20_000, 33, "scan"), (2500, 40, 130, "march"), (1, 3, 5, "march"), (2, 64, 4096, "scan"),
])  # fmt: skip
@pytest.mark.parametrize("name", ["MinGRU", "QRNN"])
def test_both_schedules(name, B, T, hidden, kind):
    layer = make(name, torch.float32, hidden).cuda()
    wide = make(name, torch.float64, hidden)
    inputs = inputs_of(wide, B, T)
    wide.backend, layer.backend = "cpp", "cuda"
    want = on("cpu", everything(wide, inputs))
    got = on("cpu", everything(layer, [x.to("cuda", torch.float32) for x in inputs]))
    for a, b in zip(got, want, strict=True):
        assert_all_close(a, b, TOLERANCE[torch.float32])
    (kernel,) = layer.KERNELS
    assert kernel.targets["cuda"].last_kind == {"forward": kind, "backward": kind}


@pytest.mark.parametrize("name", ["MinGRU", "QRNN"])
def test_operators_are_as_torch_asks(name):
    layer = make(name, torch.float32, 16).cuda()
    x = randn(2, 200, 3, dtype=torch.float32).cuda().requires_grad_()
    for op, arguments in layer.kernel_calls(x):
        torch.library.opcheck(op, arguments)


@pytest.mark.parametrize("name", ["MinLSTM", "QRNN", "STRATA"])
def test_gradcheck(name):
    layer = make(name, torch.float64, 3).cuda()
    layer.backend = "cuda"
    xs = [x.cuda().requires_grad_() for x in inputs_of(layer, 2, 40)]
    assert torch.autograd.gradcheck(lambda *v: layer(*v)[0], xs, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *v: layer(*v)[0], xs, fast_mode=True)


def test_a_graph_is_captured_and_replayed():
    """Forward and backward, with look-back: its flags must be cleared inside the graph."""
    layer = build(zoo.MinGRU, "auto", torch.float32, input=16, hidden=32).cuda()
    layer.backend = "cuda"
    parameters = list(layer.parameters())
    x = randn(1, 4096, 16, dtype=torch.float32).cuda()

    def run():
        y, _ = layer(x)
        return [y.detach(), *torch.autograd.grad(y.square().sum(), parameters)]

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        run()  # loads the modules, which capture does not allow
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = run()
    for seed in range(3):
        x.copy_(randn(1, 4096, 16, dtype=torch.float32, seed=seed).cuda())
        graph.replay()
        torch.cuda.synchronize()
        found = [m.clone() for m in made]
        for a, b in zip(found, run(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_threads_of_their_own():
    """A context must be bound in a thread that has never used CUDA."""
    import threading

    layer = build(zoo.MinGRU, "auto", torch.float32, input=16, hidden=32).cuda()
    x = randn(1, 500, 16, dtype=torch.float32).cuda()
    want, _ = layer(x)
    found = []
    thread = threading.Thread(target=lambda: found.append(layer(x)[0]))
    thread.start()
    thread.join()
    assert torch.equal(found[0], want)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_the_tensors_own_device():
    layer = build(zoo.MinGRU, "auto", torch.float32, input=16, hidden=32)
    x = randn(1, 500, 16, dtype=torch.float32)
    found = [layer.to(f"cuda:{i}")(x.to(f"cuda:{i}"))[0].cpu() for i in range(2)]
    torch.testing.assert_close(found[0], found[1])


def test_it_runs_on_the_current_stream():
    layer = build(zoo.MinGRU, "auto", torch.float32, input=64, hidden=256).cuda()
    layer.backend = "cuda"
    x = randn(4, 2000, 64, dtype=torch.float32).cuda()
    want, _ = layer(x)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        late = torch.zeros_like(x)
        torch.cuda._sleep(50_000_000)
        late.copy_(x)  # what the kernel reads is there only after the wait
        y, _ = layer(late)
    stream.synchronize()
    assert torch.equal(y, want)


def test_the_same_from_run_to_run():
    layer = build(STRATA, "auto", torch.float32, hidden=7).cuda()
    inputs = [x.float().cuda() for x in inputs_of(layer, 2, 5000)]
    first, second = (everything(layer, inputs) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert all(torch.equal(a[n], b[n]) for n in a)


def test_offsets_beyond_32_bits():
    free, _ = torch.cuda.mem_get_info()
    if free < 60 << 30:
        pytest.skip("needs 60 GiB of device memory")
    layer = build(zoo.MinGRU, "auto", torch.float32, input=4, hidden=1024).cuda()
    layer.backend = "cuda"
    x = torch.randn(1, (1 << 21) + 3, 4, device="cuda")
    with torch.no_grad():
        y, state = layer(x)
        short, _ = layer(x[:, -2000:])
    # Gates in (0, 1): what lies 1000 steps back is forgotten.
    torch.testing.assert_close(y[:, -500:], short[:, -500:], rtol=1e-5, atol=1e-5)
    assert torch.equal(state[0], y[:, -1])
