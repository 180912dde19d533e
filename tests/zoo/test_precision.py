"""float32 over a long sequence: 65,536 steps against float64 on the same numbers."""

from __future__ import annotations

import pytest
import torch

from tests.layer.support import build, outputs_of, relative_error
from tests.zoo.expected import rows
from tests.zoo.harness import Case, compiled
from tests.zoo.test_derivatives import CASES as ALL

#: Every layer that runs in kernels; a loop of so many steps takes too long.
CASES = tuple(c for c in ALL if all(r.method != "sequential" for r in rows(c.layer)))
#: A running sum of logarithms grows with the steps, and its rounding with it.
GROWING = {
    "SLSTM": 2e-5,
    "HMMForward": 1e-4,  # to 16,400, and as far off as the reference in float32, to the bit
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_65536_steps(case: Case) -> None:
    found = []
    for dtype in (torch.float64, torch.float32):
        layer = build(compiled(case.layer), "cpp", dtype, **case.sizes)
        inputs = [x.float().to(dtype) for x in case.drive(1, 65_536)]
        with torch.no_grad():
            y, state = layer(*inputs)
        found.append((*outputs_of(y), *state))
    for k, (want, got) in enumerate(zip(*found, strict=True)):
        assert relative_error(got, want) < GROWING.get(case.layer, 2e-6), f"result {k}"
