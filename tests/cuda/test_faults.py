"""A fault planted in a kernel's source must be seen: as other values, or as what the emulator says."""

from __future__ import annotations

import shutil

import pytest

from seqc.runtime.emulator import EmulatorError
from tests.cuda.support import Emulate, make
from tests.runtime.test_kernels import everything, fields_of, inputs_of, same, some_resets

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="no g++")

WRONG, STUCK = "values differ", "deadlock"
RACE = "no barrier lies between|before it is written"
LOOK_BACK = "seen_parts[(p * kSeen + j) * kLanes + at.lane] = __ldcg"
AFTER_FOLD = "__syncthreads();\n  Carried<L> state;"
FAULTS = {
    "a tile begins a step late": ("* kScanForward;", "* kScanForward + 1;", WRONG),
    "a tile begins a step early, backwards": ("* kScanBackward;", "* kScanBackward - 1;", WRONG),
    "a thread's stretch misses the one before": ("w < at.warp;", "w + 1 < at.warp;", WRONG),
    "the look-back is too short": ("j < between; ++j", "j + 1 < between; ++j", WRONG),
    "the look-back stops at the wrong anchor": ("(anchor / kSeen - 1)", "(at.chunk / kSeen - 1 + (at.chunk > 9))", WRONG),
    "what leaves an anchor lacks the anchor": ("leaving = apply(whole, state, fresh);", "leaving = state;", WRONG),
    "maps are composed the wrong way round": ("then(whole, map_at<L>(parts, begins, w * kLanes + at.lane, kBlock))", "then(map_at<L>(parts, begins, w * kLanes + at.lane, kBlock), whole)", WRONG),
    "the march back reads the state of the step itself": ("(t - 1) * line", "t * line", WRONG),
    "the last state is lost": ("first + count == steps", "first + count == steps - 1", WRONG),
    "nobody waits for a chunk's map": ("await(board.flags + (anchor + j) * at.groups + at.group, 1);", "", WRONG),
    "nobody waits for the anchor": ("await(board.flags + (anchor - 1) * at.groups + at.group, 2);", "", WRONG),
    "a barrier before reading the stretches is gone": ("begins[mine] = own.begins;\n  __syncthreads();", "begins[mine] = own.begins;", RACE),
    "a barrier between carries is gone": ("__syncthreads();  // the call before", "// the call before", RACE),
    "a barrier before the fold is gone": ("__syncthreads();\n  if (at.warp == 0) {\n    Carried<L> state", "if (at.warp == 0) {\n    Carried<L> state", RACE),
    "a barrier after the fold is gone": (AFTER_FOLD, AFTER_FOLD.replace("__syncthreads();\n", ""), RACE),
    "one warp alone comes to a barrier": (AFTER_FOLD, "if (at.warp) " + AFTER_FOLD, "wait at different|ends while others"),
    "a chunk's map is not released": ("release(board.flags + at.chunk * at.groups + at.group, 1);", "{}", STUCK),
    "an anchor is not released": ("release(board.flags + at.chunk * at.groups + at.group, 2);", "{}", STUCK),
    "chunks are taken by block, not by turn": ("ticket[0] = atomicAdd(tickets, 1u)", "ticket[0] = gridDim.x - 1 - blockIdx.x", STUCK),
    "the look-back overruns what is shared": (LOOK_BACK, LOOK_BACK.replace("+ j)", "+ j + 1)"), "shared array seen_parts|before it is written"),
}  # fmt: skip


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_planted_fault_is_caught(fault, emulated: Emulate, short_look):
    layer = make("STRATA", hidden=40)
    inputs, state, mask = inputs_of(layer, 1, 120), fields_of(layer, 1), some_resets(1, 120, 0.02)
    mask[:, 60] = True
    layer.backend = "reference"
    want = everything(layer, inputs, state, mask)
    layer.backend = "cpp"
    (kernel,) = emulated(layer)
    good = kernel.source
    same(everything(layer, inputs, state, mask), want)
    before, after, seen = FAULTS[fault]
    broken = good.replace(before, after)
    assert broken != good
    kernel.source = broken
    if seen == WRONG:
        with pytest.raises((AssertionError, EmulatorError)):
            same(everything(layer, inputs, state, mask), want)
    else:
        with pytest.raises(EmulatorError, match=seen):
            everything(layer, inputs, state, mask)
