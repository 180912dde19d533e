"""The CUDA schedules by themselves: toy kernels, emulated, against torch in double."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch

from seqc.runtime.emulator import EmulatorError
from seqc.runtime.nvrtc import compile_cubin, find_cupy, usage
from tests.cuda.schedules import Launch, source
from tests.cuda.toy_kernels import TOYS, Case, Toy, errors, make, run

needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="no g++")
needs_nvrtc = pytest.mark.skipif(bool(find_cupy()), reason=find_cupy() or "compiles")

SIZES = {"s": 5, "o": 2, "i": 3, "j": 2}
WAYS = [(t, d) for t in TOYS for d in ("forward", "backward") if TOYS[t].kernels[d == "backward"]]
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 0.03, torch.float16: 4e-3}


def schedules(toy: Toy, steps: int) -> list[str]:
    return ["march", "scan"] if toy.forward_scans and steps else ["march"]


def check(toy: Toy, case: Case, direction: str, schedule: str, every: int = 4, **how: Any) -> None:
    """Every result is torch's."""
    how = {"sizes": SIZES, "cut": bool(toy.forward_scans), **how}
    got = run(toy, case, direction, schedule, every, **how)
    found = errors(toy, case, got, every)
    # Not `<=`: a NaN is wrong, too.
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
            check(toy, case, direction, schedule, seed=seed)


@needs_compiler
@pytest.mark.parametrize(("name", "direction"), [w for w in WAYS if TOYS[w[0]].forward_scans])
def test_many_chunks_and_anchors(name: str, direction: str) -> None:
    toy = TOYS[name]
    case = make(toy, torch.float64, 1, 200, 3, 0.02, **SIZES)
    for seed in range(3):
        check(toy, case, direction, "scan", seed=seed)


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
def test_every_way_to_share_a_cell(direction: str, slots: int, parts: int, every: int, more: tuple[str, ...]) -> None:
    toy, sizes = TOYS["ssm"], {"s": slots}
    case = make(toy, torch.float64, 2, 29, 70, 0.1, **sizes)
    for schedule in ("march", "scan"):
        check(toy, case, direction, schedule, every, sizes=sizes, parts=parts, more=more)


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
        name, kernel, dtype, 1, 1, axes, "h", (), inner=toy.inner, parts=parts, tile=4 if back else 8,
        warps=8, look=32, more=more, cut=bool(toy.forward_scans) and not toy.inner,
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
        assert (used.spill_stores, used.spill_loads, used.stack) == (0, 0, 0), (function, used)


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
        "ssm", toy.kernels[direction == "backward"], torch.float32, 1, 1, {"h": 4, "s": 16}, "h", (),
        inner="s", parts=16, tile=4, warps=8, look=32,
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


# --- faults -------------------------------------------------------------------------------------

WRONG, STUCK = "values differ", "deadlock"
RACE = "no barrier lies between|before it is written"
AFTER_FOLD = "__syncthreads();\n  Carried<Law, T> state;"
FAULTS = {
    "a stretch begins a step late": ("coupled", "forward", "scan", ": stretch) * kTile;", ": stretch) * kTile + 1;", WRONG),
    "the look-back is too short": ("coupled", "forward", "scan", "j < between; ++j", "j + 1 < between; ++j", WRONG),
    "maps are composed the wrong way round": ("coupled", "forward", "scan", "then(whole, map_at<Law, T>(parts, begins, w * kLanes + at.lane, kBlock))", "then(map_at<Law, T>(parts, begins, w * kLanes + at.lane, kBlock), whole)", WRONG),
    "nobody waits for a chunk's map": ("coupled", "forward", "scan", "await(board.flags + (anchor + j) * at.groups + at.group, 1);", "", WRONG),
    "a barrier between scans is gone": ("coupled", "forward", "scan", "__syncthreads();  // the call before", "// the call before", RACE),
    "a barrier before reading the stretches is gone": ("coupled", "forward", "scan", "begins[mine] = own.begins;\n  __syncthreads();", "begins[mine] = own.begins;", RACE),
    "a barrier after the fold is gone": ("coupled", "forward", "scan", AFTER_FOLD, AFTER_FOLD.replace("__syncthreads();\n", ""), RACE),
    "an anchor is not released": ("coupled", "forward", "scan", "release(board.flags + at.chunk * at.groups + at.group, 2);", "{}", STUCK),
    "the arena is that of the smallest law": ("coupled", "forward", "scan", "own > arena_bytes<K, q + 1>()", "own < arena_bytes<K, q + 1>()", "does not lie in shared memory"),
    "two of a law's arrays overlap": ("coupled", "forward", "scan", "kSeenBegins = kOwnBegins + kScanThreads", "kSeenBegins = kOwnBegins", RACE),
    "a chunk's sums go to the next one's place": ("strata", "backward", "scan", "store_state<I>(cell, whole, at.chunk *", "store_state<I>(cell, whole, at.chunk / 2 *", WRONG),
    "the state of the step itself is read": ("strata", "backward", "march", "place<x.kept>(t - 1)", "place<x.kept>(t)", WRONG),
    "an adjoint passes a reset": ("strata", "backward", "march", "if (S::kBack && tile.anew[i])", "if (false)", WRONG),
    "a march does not take the next tile over": ("strata", "backward", "march", "take_over<true>(tile, ahead);", "", WRONG),
    "threads past the last lane are counted": ("ssm", "backward", "march", "v = live ? x : S(0);", "v = x;", WRONG),
    "a sum is that of one thread of a cell": ("ssm", "backward", "march", "sum += __shfl_xor_sync(~0u, sum, by);", ";", WRONG),
    "a piece begins from the state a step later": ("ssm", "backward", "march", "j % kPiece != 0", "j % kPiece != 1", WRONG),
    "a barrier before reading the warps' sums is gone": ("ssm", "backward", "march", "__syncthreads();\n      each<K::kOuts>", "each<K::kOuts>", RACE),
    "a barrier after reading the warps' sums is gone": ("ssm", "backward", "march", "__syncthreads();\n      staged = 0;", "staged = 0;", RACE),
    "a tile is computed again from its own start": ("ssm", "backward", "scan", "from = begin / every * every;", "from = begin;", WRONG),
    "states are kept one step off": ("ssm", "forward", "scan", "(first + every - 1) / every", "first / every", WRONG),
}  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault: str) -> None:
    name, direction, schedule, before, after, seen = FAULTS[fault]
    toy = TOYS[name]
    case = make(toy, torch.float64, 1, 61, 35, 0.05, **SIZES)
    how: dict[str, Any] = {"parts": 4 if toy.inner else 1}
    if toy.inner:
        how["more"] = ("SEQC_PIECE=2",)
    check(toy, case, direction, schedule, 5, **how)
    good = source(name)
    broken = good.replace(before, after)
    assert broken != good
    if seen == WRONG:  # by values, or by what the emulator says
        with pytest.raises((AssertionError, EmulatorError)):
            for seed in range(8):
                check(toy, case, direction, schedule, 5, source=broken, seed=seed, **how)
    else:
        with pytest.raises(EmulatorError, match=seen):
            check(toy, case, direction, schedule, 5, source=broken, **how)
