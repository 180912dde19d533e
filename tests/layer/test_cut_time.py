"""Every algebra where time is cut into chunks: the kernels against the loop, forward and back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import seqc
from tests.laws import LAWS, MARCHES
from tests.layer.support import build, leaf, randn, relative_error

#: One sequence of few channels and enough steps that four threads cut it up.
B, T, HIDDEN = 1, 11_000, 3


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
    mask = torch.rand(B, T, generator=torch.Generator().manual_seed(3)) < 3e-4 if resets else None
    got = everything(layer, inputs_of(T), mask)
    layer.backend = "reference"
    want = everything(layer, inputs_of(T), mask)
    for k, (x, y) in enumerate(zip(got, want, strict=True)):
        assert relative_error(x, y) < 1e-10, f"result {k}"


@pytest.mark.parametrize("name", list(MARCHES))
def test_what_marches(name: str) -> None:
    spec = MARCHES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", seqc.SeqcWarning)
        stratum = seqc.check(spec)["L"].strata[0]
    assert (stratum.algebra, stratum.method) == ("nonlinear", "march")
    layer = build(compiled(spec), "cpp", hidden=HIDDEN)
    mask = torch.rand(B, 300, generator=torch.Generator().manual_seed(3)) < 0.02
    got = everything(layer, inputs_of(300), mask)
    layer.backend = "reference"
    for k, (x, y) in enumerate(zip(got, everything(layer, inputs_of(300), mask), strict=True)):
        assert relative_error(x, y) < 1e-10, f"result {k}"
