"""Every layer of the zoo held to a loop of its paper: one set of checks, a case a layer.

A case says how to build a layer with odd sizes, what drives it, and which plain-torch reference it
is held to; the checks are the same for all, on the reference backend and on the default one.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import seqc
from seqc import zoo
from tests.layer.support import (
    assert_all_close,
    assert_streams,
    build,
    gradients,
    hold_to,
    leaf,
    outputs_of,
    randn,
    random_state,
)
from tests.references import Reference

#: The promise of this folder: float64, against a float64 loop.
TOLERANCE = 1e-10

BACKENDS = ("reference", "auto")

#: (B, T): no steps, one, a few; one sequence, a few.
SHAPES = ((1, 0), (3, 0), (1, 1), (3, 1), (1, 7), (3, 7))


@dataclass(frozen=True)
class Case:
    """A layer of the zoo, what it is built with, and the reference that it is held to.

    ``inputs`` names, for each input, the size that is its axis. ``positive`` names the fields of
    the state that no run would leave at or below zero: variances, sums of exponentials.
    """

    layer: str
    reference: Reference
    states: tuple[str, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)
    inputs: tuple[str, ...] = ("input",)
    positive: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.layer

    def build(self, backend: str = "reference", spread: float | None = 1.0, seed: int = 0) -> Any:
        return build(compiled(self.layer), backend, spread=spread, seed=seed, **self.sizes)

    def drive(self, B: int, T: int, seed: int = 11) -> list[Tensor]:
        """Inputs of B sequences of T steps."""
        return [randn(B, T, self.sizes[a], seed=seed + k) for k, a in enumerate(self.inputs)]

    def state(self, layer: Any, inputs: list[Tensor]) -> Any:
        """A random state that a run might have left."""
        found = random_state(layer, inputs)
        return found._replace(**{n: getattr(found, n).abs() + 0.5 for n in self.positive})


@functools.cache
def compiled(name: str) -> type[nn.Module]:
    """The zoo's layer; that some run step by step for now is no news here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", seqc.SeqcWarning)
        return getattr(zoo, name)


# --- the checks ----------------------------------------------------------------------------------


class Checks:
    """To be subclassed in a test module, and parametrised by :func:`over`."""

    @pytest.fixture(params=BACKENDS)
    def backend(self, request: pytest.FixtureRequest) -> str:
        return request.param

    @pytest.mark.parametrize("B, T", SHAPES)
    def test_values_and_gradients(self, case: Case, backend: str, B: int, T: int) -> None:
        layer = case.build(backend)
        x = case.drive(B, T)
        hold_to(layer, case.reference, x, states=case.states, tolerance=TOLERANCE)
        given = case.state(layer, x)
        hold_to(layer, case.reference, x, given, states=case.states, tolerance=TOLERANCE)

    def test_streams(self, case: Case, backend: str) -> None:
        layer = case.build(backend)
        x = case.drive(3, 7)
        assert_streams(layer, x, (2, 0, 1, 4), case.state(layer, x))
        assert_streams(layer, x, (1, 6))

    def test_resets_are_separate_runs(self, case: Case, backend: str) -> None:
        layer = case.build(backend)
        whole = [leaf(x) for x in case.drive(2, 7)]
        state = case.state(layer, whole)
        starts = ((3,), (0, 1, 6))
        resets = torch.zeros(2, 7, dtype=torch.bool)
        for row, steps in enumerate(starts):
            resets[row, list(steps)] = True
        y, final = layer(*whole, state=state, resets=resets)
        got = {f"output {k}": v for k, v in enumerate(outputs_of(y))} | final._asdict()

        apart = [leaf(x) for x in whole]
        rows = [self._by_runs(layer, apart, state, row, starts[row]) for row in (0, 1)]
        want = {n: torch.cat([r[n] for r in rows]) for n in got}
        assert_all_close(got, want, 1e-12)
        params = dict(layer.named_parameters())
        results = [
            gradients([v[n] for n in sorted(got)], {"x": x[0], **params})
            for v, x in ((got, whole), (want, apart))
        ]
        assert_all_close(results[0], results[1], 1e-11)

    @staticmethod
    def _by_runs(
        layer: Any, inputs: list[Tensor], state: Any, row: int, starts: tuple[int, ...]
    ) -> dict[str, Tensor]:
        """One sequence, its parts between the resets run one by one; the first goes on."""
        parts: list[tuple[Tensor, ...]] = []
        carried = type(state)(*(f[row : row + 1] for f in state))
        bounds = [0, *starts, inputs[0].shape[1]]
        for k, (start, stop) in enumerate(itertools.pairwise(bounds)):
            given = carried if k == 0 else None
            y, last = layer(*(x[row : row + 1, start:stop] for x in inputs), state=given)
            parts.append(outputs_of(y))
        found = {f"output {k}": torch.cat(p, 1) for k, p in enumerate(zip(*parts, strict=True))}
        return found | last._asdict()

    def test_a_fresh_layer_is_finite_and_learns(self, case: Case, backend: str) -> None:
        torch.manual_seed(3)
        layer = case.build(backend, spread=None)
        inputs = [leaf(x) for x in case.drive(2, 7)]
        y, _ = layer(*inputs)
        sum((out * out).sum() for out in outputs_of(y)).backward()
        assert all(out.isfinite().all() for out in outputs_of(y))
        read = [(f"input {k}", x) for k, x in enumerate(inputs)]
        for name, p in [*layer.named_parameters(), *read]:
            assert p.grad is not None, name
            assert p.grad.isfinite().all(), name
            assert (p.grad != 0).any(), name


def over(cases: tuple[Case, ...]) -> Any:
    """``case``, parametrised: a decorator for a subclass of :class:`Checks`."""
    return pytest.mark.parametrize("case", cases, ids=str)
