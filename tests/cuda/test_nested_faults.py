"""A fault planted in a kernel that sums over an axis must be seen."""

from __future__ import annotations

import shutil

import pytest

from seqc.runtime.emulator import EmulatorError
from tests.cuda.nested_specs import make
from tests.cuda.support import Emulate
from tests.runtime.test_kernels import everything, fields_of, inputs_of, same, some_resets

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="no g++")

WRONG = "values differ"
RACE = "no barrier lies between|before it is written"
FAULTS = {
    "a barrier before reading the warps' sums is gone": ("// Row j of what is staged is step t + staged - 1 - j.\n          __syncthreads();", "", RACE),
    "a barrier after reading the warps' sums is gone": ("__syncthreads();\n          staged = 0;", "staged = 0;", RACE),
    "a piece ends a step early": ("for (int j = end - 1; j >= first; --j)", "for (int j = end - 2; j >= first; --j)", WRONG),
    "the state before a piece is that of a step later": ("(j + 1) % kPiece == 0", "j % kPiece == 0", WRONG),
    "a chunk's state is that of a step later": ("t % kChunk == 0", "t % kChunk == 1", WRONG),
    "states are kept one step off": ("((j - first) * kRecord", "((j - first) / 2 * kRecord", WRONG),
    "threads past the last lane are counted": ("live ? v", "true ? v", WRONG),
    "a sum is that of one thread of a cell": ("sum += __shfl_xor_sync(~0u, sum, by);", "", WRONG),
    "the halves of a sum over lanes are mixed up": ("keeps + __shfl_xor_sync", "gives + __shfl_xor_sync", WRONG),
    "the sums of a stage are written in the order of time": ("t + staged - 1 - e /", "t + e /", WRONG),
    "an adjoint passes a reset": ("adjoint_h[i] = State(0); at", "at", WRONG),
    "a step computes with the next one's streams": ("from = b__at + (t + 1)", "from = b__at + t", WRONG),
    "a reset begins from the state before it": ("h[i] = h_fresh[at];", "", WRONG),
    "a sum over lanes is taken for another's": ("/ kParts / (kWarpLanes / kCount)", "/ kParts % kCount", WRONG),
    "a stage has room for a step less": ("kWarps * kFoldSteps * kInner)", "kWarps * kFoldSteps * kInner - 1)", "shared array|before it is written"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, emulated: Emulate):
    layer = make("S6", 70, 6)
    inputs, state, mask = inputs_of(layer, 1, 90), fields_of(layer, 1), some_resets(1, 90, 0.05)
    layer.backend = "reference"
    want = everything(layer, inputs, state, mask)
    layer.backend = "cpp"
    (kernel,) = emulated(layer)
    before, after, seen = FAULTS[fault]
    broken = kernel.source.replace(before, after)
    assert broken != kernel.source
    kernel.source = broken
    if seen == WRONG:
        with pytest.raises((AssertionError, EmulatorError)):
            same(everything(layer, inputs, state, mask), want)
    else:
        with pytest.raises(EmulatorError, match=seen):
            everything(layer, inputs, state, mask)
