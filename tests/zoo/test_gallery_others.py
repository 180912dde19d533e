"""The gallery's cells that torchrecurrent lacks, held to loops of their papers; none is compiled.

On the reference backend, and on the loops in PyTorch where a layer has no kernels.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import seqc
from benchmarks.gallery_cells import CELLS
from seqc.zoo import gallery
from tests.layer.support import assert_streams, build, hold_to, randn, random_state
from tests.references import Reference
from tests.zoo import references_gallery as ref

TOLERANCE = 1e-10


@dataclass(frozen=True)
class Other:
    """A layer, its loop, its states, and what it is built with."""

    layer: str
    loop: Reference
    states: tuple[str, ...] = ("h",)
    sizes: Mapping[str, int] = field(default_factory=lambda: {"input": 3, "hidden": 5})

    def __str__(self) -> str:
        return self.layer

    def built(self, backend: str) -> Any:
        return build(compiled(self.layer), backend, **self.sizes)

    def inputs(self, B: int, T: int) -> list[Tensor]:
        x = randn(B, T, self.sizes.get("input", self.sizes.get("hidden", 0)), seed=3)
        # Times between steps are positive.
        timed = self.layer in ("LTC", "CfC")
        return [x, randn(B, T, 1, seed=4).abs() + 0.1] if timed else [x]

    def state(self, layer: Any, xs: list[Tensor]) -> Any:
        found = random_state(layer, xs)
        return found._replace(n=found.n.abs() + 0.5) if self.layer == "SLSTM" else found


OTHERS = (
    Other("SLSTM", ref.slstm, ("m", "n", "c", "h"), {"input": 3, "heads": 2, "width": 3}),
    Other("RHN", ref.rhn),
    Other("LTC", ref.ltc),
    Other("CfC", ref.cfc, ("h",), {"input": 3, "hidden": 5, "backbone": 4}),
    Other("ParaGRU", ref.para_gru),
    Other("ParaLSTM", ref.para_lstm, ("h", "c")),
    Other("SRU", ref.sru, ("c",), {"hidden": 5}),
    Other("HamiltonianODE", ref.hamiltonian, ("q", "p"), {"input": 3, "hidden": 5, "width": 4}),
)


@functools.cache
def compiled(name: str) -> type[torch.nn.Module]:
    """The layer; that some run step by step is no news here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", seqc.SeqcWarning)
        return getattr(gallery, name)


def test_every_layer_of_the_gallery_is_held_to_something() -> None:
    assert sorted([*CELLS, *map(str, OTHERS)]) == sorted(gallery.names())


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_a_layer_is_its_papers_loop(other: Other) -> None:
    for backend in ("reference", "auto"):
        if backend == "auto" and compiled(other.layer).KERNELS:
            continue
        layer = other.built(backend)
        for B, T in ((2, 5), (1, 1), (2, 0)):
            xs = other.inputs(B, T)
            given = other.state(layer, xs)
            for state in (None, given):
                hold_to(layer, other.loop, xs, state, states=other.states, tolerance=TOLERANCE)
        xs = other.inputs(2, 5)
        assert_streams(layer, xs, (2, 0, 1, 2), other.state(layer, xs))


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_a_fresh_layer_is_finite_and_learns(other: Other) -> None:
    torch.manual_seed(0)
    layer = compiled(other.layer)(**other.sizes, backend="reference")
    y, _ = layer(*(x.float() for x in other.inputs(2, 6)))
    sum(v.square().sum() for v in (y if isinstance(y, tuple) else (y,))).backward()
    for name, p in layer.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert (p.grad != 0).any(), name
