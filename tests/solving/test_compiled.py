"""Solved strata under torch.compile: by steps, or refused; never without their gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.layer.support import assert_close, leaf, randn
from tests.solving.support import cell


@pytest.mark.slow
@pytest.mark.parametrize("statement", ["solve newton(tolerance = 1e-12)", "gradient stationary"])
def test_torch_compile(statement: str) -> None:
    layer, x = cell("gru", statement), leaf(randn(2, 4, 2))

    def run(v: Tensor) -> Tensor:
        y: Tensor = layer(v)[0]
        return y

    want = run(x)
    (slope,) = torch.autograd.grad(want.sum(), x)
    whole = torch.compile(run, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert_close(whole(x), want, 1e-12)
    if "newton" in statement:
        assert_close(torch.autograd.grad(whole(x).sum(), x)[0], slope, 1e-10)
    else:
        with pytest.raises(torch._dynamo.exc.Unsupported):
            whole(x)
    # Without fullgraph torch runs as it is what it cannot compile.
    found = torch.compile(run, backend="aot_eager")(x)
    assert_close(found, want, 1e-12)
    assert_close(torch.autograd.grad(found.sum(), x)[0], slope, 1e-10)
