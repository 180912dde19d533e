"""A fault planted in the CUDA schedules must be seen: as other values, or as what the emulator says."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch

from seqc.runtime.emulator import EmulatorError
from tests.cuda.schedules import source
from tests.cuda.test_schedules import SIZES, check
from tests.cuda.toy_cases import make
from tests.cuda.toy_kernels import TOYS

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="no g++")

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
    "two of a law's arrays overlap": ("coupled", "forward", "scan", "view<u8>(arena, A::kSeenBegins,", "view<u8>(arena, A::kOwnBegins,", RACE),
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
            check(toy, case, direction, schedule, 5, source=broken, seeds=range(8), **how)
    else:
        with pytest.raises(EmulatorError, match=seen):
            check(toy, case, direction, schedule, 5, source=broken, **how)
