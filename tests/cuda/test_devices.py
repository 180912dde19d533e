"""Two GPUs of the same shapes, and graph captures: what a launch keeps, seen by a driver that
records. Tensors have devices and no memory here.
"""

from __future__ import annotations

import ctypes
import struct
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from seqc import zoo
from seqc.runtime import cuda
from seqc.runtime.layout import Layout
from seqc.runtime.operators import launch, launch_back
from seqc.runtime.pages import LEAST_BYTES
from seqc.runtime.tables import maker
from tests.layer.support import build


class Recorder:
    """Stands in for the driver and for torch.cuda."""

    def __init__(self) -> None:
        self.current = 0
        self.bound: set[int] = set()
        self.launches: list[dict[str, Any]] = []
        self.loaded: list[int] = []

    @contextmanager
    def device(self, index: int) -> Iterator[None]:
        before, self.current = self.current, index
        try:
            yield
        finally:
            self.current = before

    def load(self, source: str, *, device: int, **more: Any) -> Any:
        assert device == self.current
        self.loaded.append(device)
        return types.SimpleNamespace(ptr=1000 + device)

    def bind(self) -> None:
        self.bound.add(self.current)

    def launch(self, function: int, *args: Any) -> None:
        size = ctypes.c_size_t.from_address(
            (ctypes.c_void_p * 5).from_address(args[-1])[3]  # type: ignore[arg-type]
        ).value
        data = ctypes.string_at((ctypes.c_void_p * 5).from_address(args[-1])[1] or 0, size)
        self.launches.append(
            {
                "device": self.current, "function": function, "stream": args[-3],
                "bound": self.current in self.bound, "words": struct.unpack(f"<{size // 8}q", data),
            }
        )  # fmt: skip


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    found = Recorder()
    driver = types.SimpleNamespace(
        launchKernel=found.launch, ctxGetCurrent=lambda: int(found.current in found.bound)
    )
    runtime = types.SimpleNamespace(memGetInfo=found.bind)
    package = types.ModuleType("cupy")
    package.cuda = types.ModuleType("cupy.cuda")  # type: ignore[attr-defined]
    package.cuda.driver, package.cuda.runtime = driver, runtime  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy", package)
    monkeypatch.setitem(sys.modules, "cupy.cuda", package.cuda)  # type: ignore[attr-defined]
    monkeypatch.setattr(torch.cuda, "current_device", lambda: found.current)
    monkeypatch.setattr(torch.cuda, "device", found.device)
    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda i: types.SimpleNamespace(cuda_stream=70 + i)
    )
    threads = {0: 2048, 1: 4096}  # what each device holds at once: the second is larger
    monkeypatch.setattr(
        torch.cuda, "get_device_properties",
        lambda d: types.SimpleNamespace(
            multi_processor_count=threads[d.index], max_threads_per_multi_processor=1
        ),
    )  # fmt: skip
    monkeypatch.setattr(cuda, "load_function", found.load)
    monkeypatch.setattr(cuda, "_resident", {})
    monkeypatch.setattr(cuda, "_thread", types.SimpleNamespace())
    with warnings.catch_warnings(), FakeTensorMode():
        warnings.filterwarnings("ignore", "Accessing the data pointer")
        yield found


def kernel_of(name: str = "MinGRU") -> Any:
    (kernel,) = build(getattr(zoo, name), input=2, hidden=2).KERNELS
    kernel.targets["cuda"].forget()
    return kernel


def forward(kernel: Any, device: str, steps: int = 400) -> Any:
    pre, start = torch.zeros(2, steps, 6, device=device), torch.zeros(2, 3, device=device)
    args = (pre, start, None, None, [], [2, steps, 3], torch.float32, True)
    return args, launch(kernel, args)


def test_a_second_device_gets_launches_of_its_own(recorder: Recorder) -> None:
    kernel = kernel_of()
    for index in (0, 1, 0, 1):
        args, (y, _) = forward(kernel, f"cuda:{index}")
        grad = torch.ones_like(y)
        found = launch_back(kernel, (grad, None), (*args[:3], y, *args[3:-1]))
        assert {t.device.index for t in found if t is not None} == {index}
    want = [i for i in (0, 1, 0, 1) for _ in "fb"]
    assert [r["device"] for r in recorder.launches] == want
    assert [r["stream"] for r in recorder.launches] == [70 + i for i in want]
    assert [r["function"] for r in recorder.launches] == [1000 + i for i in want]
    assert all(r["bound"] for r in recorder.launches)
    assert sorted(recorder.loaded) == [0, 0, 1, 1]  # once a device and direction


def test_the_board_lies_on_the_launch_s_own_device(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = kernel_of()
    made = []
    target = kernel.targets["cuda"]
    scratch = target.scratch
    monkeypatch.setattr(
        target, "scratch", lambda n, dtype, device: made.append(device.index) or scratch(
            n, dtype, device
        ),
    )  # fmt: skip
    for index in (0, 1):
        forward(kernel, f"cuda:{index}")
        assert target.last_kind["forward"] == "scan"
    assert sorted(set(made)) == [0, 1]


def test_each_device_has_the_schedule_of_its_own_size(recorder: Recorder) -> None:
    """6 cells: few for either device unless it is tiny."""
    kernel = kernel_of()
    target = kernel.targets["cuda"]
    cuda._resident.update({0: 5, 1: 4096})
    kinds = []
    for index in (0, 1):
        forward(kernel, f"cuda:{index}")
        kinds.append(target.last_kind["forward"])
    assert kinds == ["march", "scan"]


def test_tensors_of_two_devices_are_refused(recorder: Recorder) -> None:
    kernel = kernel_of()
    forward(kernel, "cuda:0")  # a plan of these shapes is kept
    pre, start = torch.zeros(2, 400, 6, device="cuda:0"), torch.zeros(2, 3, device="cuda:1")
    launches = len(recorder.launches)
    with pytest.raises(ValueError, match=r"cuda:0.*cuda:1"):
        launch(kernel, (pre, start, None, None, [], [2, 400, 3], torch.float32, True))
    assert len(recorder.launches) == launches


def test_no_plan_keeps_memory(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph replays addresses: what it read must be made in its own capture, and live there."""
    kernel = kernel_of()
    rows = []
    real = Layout.zeros_row

    def zeros_row(self: Any) -> Any:
        make = real(self)

        def made() -> torch.Tensor:  # what stands for a cotangent that is missing
            rows.append(make())
            return rows[-1]

        return made

    monkeypatch.setattr(Layout, "zeros_row", zeros_row)
    args, (y, last) = forward(kernel, "cuda:0")
    for _ in range(2):  # the output has no cotangent, the final state has one
        d_last = torch.ones_like(last)
        launch_back(kernel, (None, d_last), (*args[:3], y, *args[3:-1]))
    assert len(rows) == 2
    assert rows[0] is not rows[1]
    launch_back(kernel, (torch.ones_like(y), None), (*args[:3], y, *args[3:-1]))
    assert len(rows) == 2  # none is missing of those that are read step by step
    for plan in kernel.targets["cuda"]._plans.values():
        kept = (*vars(plan).values(), *vars(plan.layout).values())
        assert not any(isinstance(v, torch.Tensor) for v in kept)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("shape", [(2, 3), (0, 4), (1,)])
def test_what_makes_a_tensor_holds_no_memory(shape: tuple[int, ...], zero: bool) -> None:
    make = maker(shape, torch.float32, torch.device("cpu"), zero)
    assert [t.untyped_storage().nbytes() for t in make.args] == [0]
    first, second = make(), make()
    assert first.shape == shape
    assert first.is_contiguous()
    assert first.numel() == 0 or first.data_ptr() != second.data_ptr()
    assert not zero or not first.any()


def test_a_large_tensor_of_zeros_is_zeros_each_time() -> None:
    """Its pages are those of the one before."""
    make = maker((LEAST_BYTES // 4,), torch.float32, torch.device("cpu"), True)
    make().fill_(1.0)
    assert not make().any()
