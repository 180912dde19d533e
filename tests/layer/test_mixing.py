"""Steps that mix the channels of a state, fused: products over semirings, against the reference."""

from __future__ import annotations

import pytest
import torch

import seqc
from tests.layer.support import CPP, build, leaf
from tests.mixing import SPECS, forbid, inputs_with_gaps, sizes
from tests.runtime.test_kernels import everything, fields_of, inputs_of, same, some_resets

every = pytest.mark.parametrize("name", SPECS)
pytestmark = pytest.mark.filterwarnings("ignore::seqc.SeqcWarning")


@every
def test_it_is_marched_by_one_kernel(name: str) -> None:
    stratum = seqc.check(SPECS[name])[name.title()].strata[0]
    assert (stratum.method, str(stratum.verdict), stratum.jacobian) == ("march", "proved", "full")
    assert stratum.algebra in ("log-affine", "max-plus", "min-plus", "max-min")


@every
@pytest.mark.parametrize("backend", [CPP])
@pytest.mark.parametrize("T", [0, 1, 2, 7, 70])
def test_float64_is_the_reference(name: str, T: int, backend: str) -> None:
    for extents in ((5, 3), (1, 1), (2, 67)):
        layer = build(SPECS[name], "reference", **sizes(name, *extents))
        inputs, state = inputs_of(layer, 2, T), fields_of(layer, 2)
        for mask in (None, some_resets(2, T, 0.2)):
            layer.backend = "reference"
            want = everything(layer, inputs, state, mask)
            layer.backend = backend
            same(everything(layer, inputs, state, mask), want)


@pytest.mark.parametrize("name", ["HEADS", "VITERBI"])
@pytest.mark.parametrize("backend", [CPP])
def test_what_does_not_occur_has_no_gradient(name: str, backend: str) -> None:
    """Minus infinity among transitions and observations: gradients of zero."""
    layer = build(SPECS[name], "reference", **sizes(name))
    forbid(layer)
    inputs, state = inputs_with_gaps(inputs_of(layer, 2, 9)), fields_of(layer, 2)
    want = everything(layer, inputs, state)
    layer.backend = backend
    got = everything(layer, inputs, state)
    same(got, want)
    assert all(bool(g.isfinite().all()) for g in got[1].values())


@every
@pytest.mark.parametrize("backend", [CPP])
def test_gradients_are_those_of_small_steps(name: str, backend: str) -> None:
    layer = build(SPECS[name], backend, **sizes(name, 3, 2))
    inputs = [leaf(x) for x in inputs_of(layer, 1, 4)]
    mask = torch.tensor([[False, False, True, False]])
    assert torch.autograd.gradcheck(lambda *xs: layer(*xs, resets=mask)[0], inputs, fast_mode=True)


@pytest.mark.parametrize("backend", [CPP])
def test_ties_share_a_gradient(backend: str) -> None:
    layer = build(SPECS["VITERBI"], "reference", **sizes("VITERBI", 4))
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
    inputs, state = [torch.zeros(2, 5, 4, dtype=torch.float64)], None
    want = everything(layer, inputs, state)
    layer.backend = backend
    same(everything(layer, inputs, state), want)


@pytest.mark.parametrize("backend", [CPP])
def test_float32_is_close_to_float64(backend: str) -> None:
    wide = build(seqc.zoo.HMMForward, "reference", tags=16)
    inputs, state = inputs_of(wide, 2, 200), fields_of(wide, 2)
    layer = build(seqc.zoo.HMMForward, backend, dtype=torch.float32, tags=16)
    narrow = type(state)(*(f.float() for f in state))
    got = everything(layer, [x.float() for x in inputs], narrow)
    same(got, everything(wide, inputs, state), 2e-5)
