"""Every algebra where time is cut into chunks: the kernels against the loop, forward and back."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import seqc
from tests.laws import GROWING, KNOWN, LAWS, MARCHES
from tests.layer.support import build, leaf, randn, relative_error

#: One sequence of few channels and enough steps that four threads cut it up.
B, T, HIDDEN = 1, 2_800, 12

LATTICES = ("max-min", "block-max-min", "block-min-max")


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def compiled(spec: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", seqc.SeqcWarning)
        return seqc.compile(spec)


def everything(layer: Any, inputs: list[Tensor], resets: Tensor | None) -> list[Tensor]:
    """Outputs, last states, and gradients of inputs and of the state handed in."""
    with torch.no_grad():
        _, start = layer(*(x[:, :0] for x in inputs))
    state = type(start)(*(leaf(f) for f in start))
    given = [leaf(x) for x in inputs]
    y, last = layer(*given, state=state, resets=resets)
    results = [*(y if isinstance(y, tuple) else (y,)), *last]
    total = sum((r * randn(*r.shape, seed=k)).sum() for k, r in enumerate(results))
    return [*results, *torch.autograd.grad(total, [*given, *state])]


def inputs_of(T: int) -> list[Tensor]:
    return [randn(B, T, HIDDEN, seed=5), randn(B, T, HIDDEN, seed=6)]


@pytest.mark.parametrize("name", list(LAWS))
def test_the_algebra_is_found(name: str) -> None:
    algebra, spec = LAWS[name]
    stratum = seqc.check(spec)["L"].strata[0]
    assert (stratum.algebra, str(stratum.verdict), stratum.method) == (algebra, "proved", "scan")


@pytest.mark.parametrize("resets", [False, True], ids=["whole", "resets"])
@pytest.mark.parametrize("name", list(LAWS))
def test_cut_into_chunks(name: str, resets: bool) -> None:
    layer = build(compiled(LAWS[name][1]), "cpp", hidden=HIDDEN)
    mask = torch.rand(B, T, generator=torch.Generator().manual_seed(3)) < 1e-3 if resets else None
    got = everything(layer, inputs_of(T), mask)
    layer.backend = "reference"
    want = everything(layer, inputs_of(T), mask)
    for k, (x, y) in enumerate(zip(got, want, strict=True)):
        assert relative_error(x, y) < 1e-10, f"result {k}"


@pytest.mark.parametrize("name", [n for n, (a, _) in LAWS.items() if a in LATTICES])
def test_ties_share_a_gradient(name: str) -> None:
    """Minima of maxima choose among few numbers, which are often the same."""
    layer = build(compiled(LAWS[name][1]), "cpp", hidden=HIDDEN)
    inputs = [x[:, :200].round() for x in inputs_of(T)]
    got = everything(layer, inputs, None)
    layer.backend = "reference"
    want = everything(layer, inputs, None)
    for k, (x, y) in enumerate(zip(got, want, strict=True)):
        assert relative_error(x, y) < 1e-12, f"result {k}"


@pytest.mark.parametrize("name", [*MARCHES, *KNOWN])
def test_what_marches(name: str) -> None:
    algebra, spec = KNOWN[name] if name in KNOWN else ("nonlinear", MARCHES[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", seqc.SeqcWarning)
        stratum = seqc.check(spec)["L"].strata[0]
    assert (stratum.algebra, stratum.method) == (algebra, "march")
    assert stratum.verdict == ("proved" if name in KNOWN else "unknown")
    layer = build(compiled(spec), "cpp", hidden=HIDDEN)
    mask = torch.rand(B, 300, generator=torch.Generator().manual_seed(3)) < 0.02
    got = everything(layer, inputs_of(300), mask)
    layer.backend = "reference"
    for k, (x, y) in enumerate(zip(got, everything(layer, inputs_of(300), mask), strict=True)):
        assert relative_error(x, y) < 1e-10, f"result {k}"


@pytest.mark.parametrize("domain", ["linear", "log"])
def test_both_domains(domain: str) -> None:
    """Signed offsets, coefficients on both sides of one."""
    spec = GROWING.format(solve=f"solve h scan(domain = {domain})")
    assert seqc.check(spec)["L"].strata[0].domain == domain
    layer = build(compiled(spec), "cpp", hidden=HIDDEN)
    x, w = inputs_of(T)
    got = everything(layer, [x, 0.1 * w], None)
    layer.backend = "reference"
    for k, (y, z) in enumerate(zip(got, everything(layer, [x, 0.1 * w], None), strict=True)):
        assert relative_error(y, z) < 1e-10, f"result {k}"


def test_the_log_domain_is_chosen_where_products_overflow() -> None:
    """exp(800) is more than float64 holds; exp(800) * 1e-300 is not."""
    stratum = seqc.check(GROWING.format(solve=""))["L"].strata[0]
    assert stratum.domain == "log"
    assert "sums of logarithms" in stratum.domain_reason
    x, w = torch.zeros(B, T, HIDDEN, dtype=torch.float64), torch.zeros(B, T, HIDDEN)
    x[:, 0] = 1e-300
    w = w.double()
    w[:, 1500:1580] = 10.0
    found = {}
    for domain in ("log", "linear"):
        spec = GROWING.format(solve=f"solve scan(domain = {domain})")
        layer = build(compiled(spec), "cpp", hidden=HIDDEN)
        with torch.no_grad():
            found[domain] = layer(x, w)[0][0, -1, 0].item()
    assert found["log"] == pytest.approx(1e-300 * math.exp(400) * math.exp(400), rel=1e-10)
    assert found["linear"] == math.inf  # why there is a log domain


def test_a_coefficient_that_may_be_negative_has_no_logarithm() -> None:
    spec = GROWING.replace("exp(w[t])", "w[t]").format(solve="solve h scan(domain = log)")
    with pytest.raises(seqc.SeqcError, match="may be negative"):
        seqc.check(spec)


def test_step_by_step_where_the_spec_asks_for_it() -> None:
    stratum = seqc.check(GROWING.format(solve="solve sequential"))["L"].strata[0]
    assert (stratum.algebra, stratum.method) == ("affine", "march")
