"""Packed sequences: as separate calls, in values, states and gradients."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqc import zoo
from seqc.runtime.emulator import emulating
from seqc.runtime.packed import order_of, rectangles
from tests.layer.support import assert_close, build, gradients, leaf, outputs_of, randn
from tests.runtime.test_kernels import (
    AHEAD,
    BACKENDS,
    HISTORIES,
    NUMBER,
    ONE,
    ROWS,
    STRATA,
    fields_of,
    inputs_of,
    same,
    some_resets,
)

ELMAN = """
layer Elman
size n
input x[t]: n
state h[t]: n = learned
h[t] = tanh(linear(x[t], h[t-1]))
output h[t]
"""
LAYERS: dict[str, tuple[Any, dict[str, int]]] = {
    "past": (HISTORIES, {"input": 2, "hidden": 3}),
    "future": (AHEAD, {"input": 2, "hidden": 3}),
    "strata": (STRATA, {"hidden": 3}),
    "rows": (ROWS, {"slots": 2, "hidden": 3}),
    "number": (NUMBER, {}),
    "elman": (ELMAN, {"n": 3}),
    "S6": ("S6", {}),
    "SLSTM": ("SLSTM", {}),
    "DeltaNet": ("DeltaNet", {}),
    "RunningMax": ("RunningMax", {}),
}
#: Whole lengths, one row of each length, powers of two, empty ones at either end and between.
EDGES = [
    [0, 4, 5, 12],
    [0, 0, 3, 3, 9, 9],
    [0, 3, 6, 9],
    [0, 1, 3, 6, 10, 15, 21],
    [0, 0, 0],
]


def make(name: str, backend: str) -> Any:
    spec, sizes = LAYERS[name]
    if spec in zoo.names():
        kind = getattr(zoo, spec)
        spec, sizes = kind, {s: 2 for s, d in kind.SIZES.items() if d is None}
    return build(spec, backend, **sizes)


def separately(
    layer: Any, xs: Any, state: Any, resets: torch.Tensor | None, edges: list[int]
) -> Any:
    """One call a sequence."""
    ys, finals = [], []
    for i, (a, b) in enumerate(pairwise(edges)):
        row = None if state is None else layer.State(*(f[i : i + 1] for f in state))
        mask = None if resets is None else resets[:, a:b]
        y, final = layer(*(x[:, a:b] for x in xs), state=row, resets=mask)
        ys.append(outputs_of(y))
        finals.append(final)
    return [torch.cat(y, 1) for y in zip(*ys, strict=True)], [
        torch.cat(f) for f in zip(*finals, strict=True)
    ]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("edges", EDGES, ids=lambda e: "-".join(map(str, e)))
@pytest.mark.parametrize("name", LAYERS)
def test_packed_sequences_are_separate_calls(name: str, edges: list[int], backend: str) -> None:
    """With and without states and resets: everything that comes out, and every gradient."""
    layer = make(name, backend)
    count, steps = len(edges) - 1, edges[-1]
    for states, marked in ((False, False), (True, False), (True, True)):
        xs = [leaf(x) for x in inputs_of(layer, 1, steps)]
        state = layer.State(*(leaf(f) for f in fields_of(layer, count))) if states else None
        mask = some_resets(1, steps, 0.3) if marked else None
        leaves = {f"input {i}": x for i, x in enumerate(xs)} | dict(layer.named_parameters())
        leaves |= {} if state is None else {f"state {n}": v for n, v in state._asdict().items()}
        y, final = layer(*xs, state=state, resets=mask, cu_seqlens=torch.tensor(edges))
        assert isinstance(final, layer.State)
        got = [*outputs_of(y), *final]
        ys, last = separately(layer, xs, state, mask, edges)
        want = [*ys, *last]
        names = [*(f"output {i}" for i in range(len(ys))), *final._fields]
        same(
            (dict(zip(names, got, strict=True)), gradients(got, leaves)),
            (dict(zip(names, want, strict=True)), gradients(want, leaves)),
        )


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.booleans())
def test_rectangles_cover_every_step_once_and_in_order(lengths: list[int], cut: bool) -> None:
    edges = [0]
    for n in lengths:
        edges.append(edges[-1] + n)
    found = rectangles(edges, cut)
    if found:
        assert sorted(order_of(found).tolist()) == list(range(edges[-1]))
    reached = edges[:-1]
    for r in found:
        for row, start in zip(r.rows, r.starts, strict=True):
            assert start == reached[row]
            reached[row] += r.length
    assert reached == edges[1:]
    kinds = len({n for n in lengths if n})
    assert len(found) <= (min(kinds, max(lengths).bit_length()) if cut else kinds)


def test_many_sequences_are_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = build(ONE, "reference", hidden=3)
    calls = []
    real = layer._run
    monkeypatch.setattr(layer, "_run", lambda *a: calls.append(a[0][0].shape) or real(*a))
    edges = torch.tensor([0, *range(3, 3 + 50)]).cumsum(0)
    layer(randn(1, int(edges[-1]), 3), cu_seqlens=edges)
    assert len(calls) == 6
    assert sum(b * t for b, t, _ in calls) == edges[-1]


def test_dtypes_of_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = build(ONE, "reference", torch.bfloat16, hidden=3)
    x = randn(1, 9, 3).bfloat16()
    edges = torch.tensor([0, 2, 9], dtype=torch.int32)
    _, state = layer(x, cu_seqlens=edges)
    y2, state2 = layer(x, state, cu_seqlens=edges)
    assert y2.dtype == torch.bfloat16
    assert {f.dtype for f in (*state, *state2)} == {torch.float32}
    assert {f.shape[0] for f in state2} == {2}


def test_dropout_draws_for_every_step() -> None:
    layer = build(
        "layer L\nsize a\nhyper p = 0.5\ninput x[t]: a\nstate h[t]: a\n"
        "h[t] = 0 * h[t-1] + drop(x[t], p)\noutput h[t]\n",
        "reference", a=64,
    ).train()  # fmt: skip
    y, _ = layer(torch.ones(1, 13, 64, dtype=torch.float64), cu_seqlens=torch.tensor([0, 3, 5, 13]))
    share = y.mean(-1)[0]
    assert ((share > 0.1) & (share < 0.9)).all()


WRONG = [
    ([0, 6], TypeError, "not list; e.g. torch.tensor"),
    (torch.tensor([0.0, 6.0]), TypeError, "int32 or int64"),
    (torch.tensor([False, True]), TypeError, "int32 or int64"),
    (torch.tensor([[0, 6]]), ValueError, r"not \(1, 2\)"),
    (torch.tensor([0]), ValueError, r"N >= 1 sequences, not \(1,\)"),
    (torch.tensor([1, 6]), ValueError, "rise from 0 to T = 6, but it begins with 1"),
    (torch.tensor([0, 5]), ValueError, "rise from 0 to T = 6, but it ends with 5"),
    (torch.tensor([0, 4, 2, 6]), ValueError, r"cu_seqlens\[2\] = 2 comes after 4"),
    (torch.tensor([0, -1, 6]), ValueError, r"cu_seqlens\[1\] = -1 comes after 0"),
]


@pytest.mark.parametrize(("edges", "kind", "said"), WRONG)
def test_wrong_edges_are_refused(edges: Any, kind: type[Exception], said: str) -> None:
    layer = build(ONE, hidden=3)
    with pytest.raises(kind, match=said):
        layer(randn(1, 6, 3), cu_seqlens=edges)


def test_other_wrong_calls() -> None:
    layer = build(ONE, hidden=3)
    edges = torch.tensor([0, 2, 6])
    with pytest.raises(ValueError, match="one batch row"):
        layer(randn(2, 6, 3), cu_seqlens=edges)
    with pytest.raises(ValueError, match="resets"):
        layer(randn(1, 6, 3), cu_seqlens=edges, resets=torch.zeros(6, dtype=torch.bool))
    _, one = layer(randn(1, 6, 3))
    with pytest.raises(ValueError, match=r"state\.\w+ must be \(2, 3\), not \(1, 3\)"):
        layer(randn(1, 6, 3), one, cu_seqlens=edges)


@pytest.mark.cpp
def test_the_cuda_kernels_under_the_emulator() -> None:
    layer = make("rows", "cpp")
    edges = [0, 1, 3, 3, 10]
    xs, state = inputs_of(layer, 1, 10), fields_of(layer, 4)
    y, final = layer(*xs, state=state, cu_seqlens=torch.tensor(edges))
    with emulating(layer) as kernels:
        got, last = layer(*xs, state=state, cu_seqlens=torch.tensor(edges))
    assert any(k.launched for k in kernels)
    for a, b in zip((*outputs_of(got), *last), (*outputs_of(y), *final), strict=True):
        assert_close(a, b, 1e-12)
