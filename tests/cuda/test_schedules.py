"""The CUDA schedules by themselves: toy kernels, emulated, against torch in double."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import Any

import pytest
import torch

from seqc.runtime.nvrtc import compile_cubin, find_cupy, usage
from tests.cuda.schedules import Launch, source
from tests.cuda.toy_cases import Case, Toy, errors, make, run
from tests.cuda.toy_kernels import TOYS

needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="no g++")
needs_nvrtc = pytest.mark.skipif(bool(find_cupy()), reason=find_cupy() or "compiles")

SIZES = {"s": 5, "o": 2, "i": 3, "j": 2}
WAYS = [(t, d) for t in TOYS for d in ("forward", "backward") if TOYS[t].kernels[d == "backward"]]
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 0.03, torch.float16: 4e-3}


def schedules(toy: Toy, steps: int) -> list[str]:
    return ["march", "scan"] if toy.forward_scans and steps else ["march"]


def check(
    toy: Toy, case: Case, direction: str, schedule: str, every: int = 4,
    seeds: Iterable[int] = (0,), **how: Any,
) -> None:  # fmt: skip
    """Every result is torch's, in whatever order threads run."""
    how = {"sizes": SIZES, "cut": bool(toy.forward_scans), **how}
    for seed in seeds:
        got = run(toy, case, direction, schedule, every, seed=seed, **how)
        found = errors(toy, case, got, every)
        # Not `>`: a NaN is wrong, too.
        wrong = {n: e for n, e in found.items() if not e <= TOLERANCE[case.dtype]}
        assert not wrong, (direction, schedule, wrong)


@needs_compiler
@pytest.mark.parametrize(("name", "direction"), WAYS)
def test_every_shape_is_the_loop(name: str, direction: str) -> None:
    toy = TOYS[name]
    for seed, (steps, lanes, resets, null) in enumerate(
        [(0, 3, 0.1, False), (1, 1, 0.0, False), (2, 33, 0.5, False), (9, 5, 0.0, True),
         (10, 70, 0.1, False), (47, 2, 0.1, True)]
    ):  # fmt: skip
        case = make(toy, torch.float64, 2, steps, lanes, resets, null, **SIZES)
        for schedule in schedules(toy, steps):
            check(toy, case, direction, schedule, seeds=[seed])


@needs_compiler
@pytest.mark.parametrize(("name", "direction"), [w for w in WAYS if TOYS[w[0]].forward_scans])
def test_many_chunks_and_anchors(name: str, direction: str) -> None:
    toy = TOYS[name]
    case = make(toy, torch.float64, 1, 200, 3, 0.02, **SIZES)
    check(toy, case, direction, "scan", seeds=range(3))


@needs_compiler
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(
    ("slots", "parts", "every", "more"),
    [
        (5, 4, 7, ("SEQC_PIECE=3", "SEQC_SHARED_RECORD=1", "SEQC_FOLD_STEPS=2")),
        (11, 2, 3, ("SEQC_PIECE=2",)),  # more elements than registers hold ahead
        (8, 8, 5, ()),
    ],
)
def test_every_way_to_share_a_cell(
    direction: str, slots: int, parts: int, every: int, more: tuple[str, ...]
) -> None:
    toy, sizes = TOYS["ssm"], {"s": slots}
    case = make(toy, torch.float64, 2, 29, 70, 0.1, **sizes)
    for schedule in ("march", "scan"):
        check(toy, case, direction, schedule, every, sizes=sizes, parts=parts, more=more)


@needs_compiler
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(("i", "j", "parts"), [(5, 3, 4), (2, 9, 2), (4, 4, 4), (1, 8, 8)])
def test_several_axes_of_a_shared_cell(direction: str, i: int, j: int, parts: int) -> None:
    """The threads of a cell share the longest axis: of sums over another each has its own."""
    toy, sizes = TOYS["plane"], {"o": 2, "i": i, "j": j}
    case = make(toy, torch.float64, 2, 19, 70, 0.1, **sizes)
    check(toy, case, direction, "march", 7, sizes=sizes, parts=parts, more=("SEQC_PIECE=3",))


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "direction"), [w for w in WAYS if w[0] in ("strata", "ssm")])
def test_other_dtypes(name: str, direction: str, dtype: torch.dtype) -> None:
    toy = TOYS[name]
    case = make(toy, dtype, 2, 31, 9, 0.1, **SIZES)
    for schedule in schedules(toy, 31):
        check(toy, case, direction, schedule, parts=4 if toy.inner else 1)


@needs_compiler
def test_a_reset_stops_even_a_nan() -> None:
    toy = TOYS["strata"]
    case = make(toy, torch.float64, 1, 40, 5, 0.02, **SIZES)
    want = case.results["h"][:, 20:].clone()  # there is a reset at step 20
    case.inputs["x"][:, 3] = torch.nan
    for schedule in ("march", "scan"):
        got = run(toy, case, "forward", schedule)["h"]
        assert bool(got[:, 3].isnan().any())
        torch.testing.assert_close(got[:, 20:], want, rtol=0, atol=1e-11)


@needs_compiler
def test_the_same_whatever_the_order_of_blocks() -> None:
    toy = TOYS["ssm"]
    case = make(toy, torch.float32, 1, 100, 5, 0.02, **SIZES)
    first, *others = (
        run(toy, case, "backward", "scan", sizes=SIZES, parts=4, seed=seed) for seed in range(4)
    )
    for other in others:
        assert all(torch.equal(first[n], other[n]) for n in first)


# --- compiled -----------------------------------------------------------------------------------


def compiled(name: str, kernel: str, dtype: torch.dtype, slots: int = 16) -> dict[str, Any]:
    toy = TOYS[name]
    back = kernel == toy.kernels[1]
    axes = {a: {"h": 64, "s": slots}.get(a, 3) for a in toy.axes}
    parts = min(8, slots // 4) if toy.inner == "s" else 1
    shared = "SEQC_SHARED_RECORD=" + str(int(dtype != torch.float64 and slots <= 16))
    more = (shared, f"SEQC_FOLD_STEPS={8 if slots <= 16 else 1}") if toy.inner == "s" else ()
    launch = Launch(
        name, kernel, dtype, 1, 1, axes, "h", (), inner=toy.inner, parts=parts,
        tile=4 if back else 8, warps=8, look=32, more=more,
        cut=bool(toy.forward_scans) and not toy.inner,
    )  # fmt: skip
    made = compile_cubin(source(name), name=kernel, arch=90, defines=launch.defines())
    assert made.image[:4] == b"\x7fELF"
    return usage(made.log)


@needs_nvrtc
@pytest.mark.parametrize(("name", "direction"), WAYS)
def test_what_is_held_stays_in_registers(name: str, direction: str) -> None:
    toy = TOYS[name]
    found = compiled(name, toy.kernels[direction == "backward"], torch.float32)
    assert set(found) == {f"seqc_{s}" for s in (["march"] if toy.inner else ["march", "scan"])}
    for function, used in found.items():
        assert used.registers <= 168, function
        # A thread's part of a plane is looked up at places which the compiler does not all find.
        stack = 192 if (name, direction) == ("plane", "backward") else 0
        assert (used.spill_stores, used.spill_loads) == (0, 0), (function, used)
        assert used.stack <= stack, (function, used)


@needs_nvrtc
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("name", "direction"), WAYS)
def test_other_dtypes_compile(name: str, direction: str, dtype: torch.dtype) -> None:
    assert compiled(name, TOYS[name].kernels[direction == "backward"], dtype)


@needs_nvrtc
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_time_is_cut_along_an_inner_axis_too(direction: str) -> None:
    toy = TOYS["ssm"]
    launch = Launch(
        "ssm", toy.kernels[direction == "backward"], torch.float32, 1, 1, {"h": 4, "s": 16}, "h",
        (), inner="s", parts=16, tile=4, warps=8, look=32,
    )  # fmt: skip
    made = compile_cubin(source("ssm"), name=direction, arch=90, defines=launch.defines())
    used = usage(made.log)["seqc_scan"]
    assert (used.spill_stores, used.spill_loads, used.stack) == (0, 0, 0), used


@needs_nvrtc
def test_a_kernel_that_cannot_be_cut_is_refused() -> None:
    launch = Launch(
        "ssm", "SsmForward", torch.float32, 1, 1, {"h": 4, "s": 16}, "h", (), inner="s", parts=1,
    )  # fmt: skip
    with pytest.raises(Exception, match="time cannot be cut for this kernel"):
        compile_cubin(source("ssm"), name="ssm", arch=90, defines=launch.defines())
