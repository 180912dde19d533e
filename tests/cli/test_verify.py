"""``verify``: a sound layer passes, and each kind of wrong kernel is caught by its own check."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from seqc.commands.common import CommandError
from seqc.commands.verify import VerifyReport, states_gradient, verify
from tests.cli.fakes import FakeChaos, FakeLayer, FakeMemory, FakeOverflow

pytestmark = pytest.mark.usefixtures("one_thread")


def broken(fault: str, **options: Any) -> VerifyReport:
    """The report of a layer whose kernel has that fault."""
    layer_class = type("Broken", (FakeLayer,), {"fault": fault})
    return verify(layer_class, "Broken", quick=True, **options)


def failed(report: VerifyReport) -> set[str]:
    """The names of the checks that failed, each of them of the kernel."""
    assert {c.backend for c in report.failed} <= {"cpp"}
    return {c.name for c in report.failed}


@pytest.mark.parametrize("layer_class", [FakeLayer, FakeMemory])
def test_a_sound_layer_passes(layer_class: type[torch.nn.Module]) -> None:
    report = verify(layer_class, "Sound", quick=True)
    assert report.ok, str(report)
    names = {c.name for c in report.checks if c.backend == "cpp" and c.status == "ok"}
    assert {"outputs", "final states", "gradients", "step = parallel", "chunked = parallel"} < names
    assert {"state gradients", "gradients = differences", "second derivatives"} < names
    assert {c.dtype for c in report.checks} >= {"float64", "float32", "bfloat16"}


@pytest.mark.slow
def test_a_sound_layer_passes_in_full() -> None:
    assert verify(FakeMemory, "Sound").ok


@pytest.mark.parametrize(
    "fault, check",
    [
        ("outputs", "outputs"),
        ("float32 outputs", "outputs"),
        ("NaN", "outputs"),
        ("gradients", "gradients"),
        ("gradients", "gradients = differences"),
        ("step", "step = parallel"),
        ("overflow", "inputs of ±1e4 stay finite"),
        ("detached state", "state gradients"),
        ("detached state", "chunked = parallel"),
        ("zero second derivatives", "second derivatives"),
        ("no steps", "no steps (T = 0)"),
        ("crash", "kernels"),
    ],
)
def test_a_wrong_kernel_is_caught(fault: str, check: str) -> None:
    report = broken(fault)
    assert not report.ok
    assert check in failed(report)
    assert "FAIL" in str(report)


def test_a_right_kernel_of_an_ill_conditioned_layer_passes() -> None:
    """Plain PyTorch's error in float32 is one draw of many; a kernel's may well be larger."""
    for seed in (1, 5):
        report = verify(FakeChaos, "Chaos", quick=True, seed=seed)
        rows = [c for c in report.checks if c.dtype == "float32" and c.bound]
        assert {"outputs", "final states"} <= {c.name for c in rows}
        assert {c.status for c in rows} == {"ok"}, str(report)


def test_a_wrong_kernel_of_an_ill_conditioned_layer_is_caught() -> None:
    layer_class = type("Broken", (FakeChaos,), {"fault": "wrong"})
    assert "outputs" in failed(verify(layer_class, "Chaos", quick=True, seed=1))


def test_a_nan_is_called_one() -> None:
    rows = [c for c in broken("NaN").failed if c.name == "outputs"]
    assert rows
    for row in rows:
        assert row.measured is not None
        assert math.isnan(row.measured)
        assert row.detail.startswith("output h is NaN")


def test_where_plain_pytorch_comes_to_nan_nothing_is_told() -> None:
    rows = [
        c for c in verify(FakeOverflow, "Overflow", quick=True).checks
        if c.backend == "cpp" and c.name == "outputs"
    ]  # fmt: skip
    assert [(c.dtype, c.status) for c in rows] == [
        ("float64", "ok"), ("float32", "n/a"), ("bfloat16", "n/a")
    ]  # fmt: skip
    assert rows[1].detail == "plain PyTorch itself comes to NaN in this dtype"


def test_only_second_derivatives_tell_that_they_are_missing() -> None:
    assert failed(broken("zero second derivatives")) == {"second derivatives"}


def test_a_refused_kernel_is_no_failure() -> None:
    report = broken("absent")
    assert report.ok
    assert "no kernel for this layer" in str(report)
    assert all(c.backend == "reference" for c in report.checks if c.status == "ok")


def test_a_stated_gradient_is_not_held_to_differences() -> None:
    report = verify(FakeLayer, "Spike", quick=True, exact_gradients=False)
    assert report.ok
    assert {c.status for c in report.checks if c.name == "second derivatives"} == {"n/a"}


@pytest.mark.parametrize(
    "text, states",
    [
        ("gradient f(u) = 1", True),
        ("layer A\n  gradient truncated(4)\n", True),
        ("gradient exact", False),
        ("# gradient f(u) = 1\nsize gradients", False),
    ],
)
def test_a_spec_that_states_a_gradient_is_seen(text: str, states: bool) -> None:
    assert states_gradient(text) is states


def test_sizes_and_seed_are_taken() -> None:
    report = verify(FakeMemory, "Memory", quick=True, seed=3, sizes={"key": 2})
    assert dict(report.sizes) == {"key": 2}
    assert "Memory(key=2), seed 3" in str(report)


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(CommandError, match="no size 'width'"):
        verify(FakeLayer, "Fake", quick=True, sizes={"width": 3})


def test_torchs_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    verify(FakeLayer, "Fake", quick=True)
    assert torch.equal(before, torch.get_rng_state())


def test_the_same_seed_gives_the_same_table() -> None:
    assert str(verify(FakeLayer, "Fake", quick=True)) == str(verify(FakeLayer, "Fake", quick=True))
