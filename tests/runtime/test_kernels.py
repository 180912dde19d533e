"""What the kernels do with time: chunks of it run by several threads, resets, packed sequences.

The numbers of a kernel do not depend on how it was cut, so one thread and the reference backend are
what every cut is held to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.layer.support import (
    CPP,
    assert_all_close,
    assert_close,
    build,
    gradients,
    leaf,
    outputs_of,
    randn,
)

Values = dict[str, Tensor]

#: Fewer rows than half the threads, and this many channel steps: then time is cut into chunks.
WORK = 1 << 15

ONE = """
layer One
size  hidden
input x[t]: hidden
state h[t]: hidden
z[t] = sigmoid(x[t])
h[t] = z[t] * h[t-1] + (1 - z[t]) * tanh(x[t])
output h[t]
"""
# Later states read earlier ones now and one step ago; what is put out is no state.
STRATA = """
layer Strata
size  hidden
hyper keep = 0.9
input x[t]: hidden
input u[t]: hidden
param p: hidden = 0.5
param q: 1 = 0.5
state c[t]: hidden = learned
state n[t]: hidden = 0.3
state m[t]: hidden = learned
state k[t]: hidden
c[t] = sigmoid(x[t]) * c[t-1] + u[t] * p
n[t] = sigmoid(u[t] + c[t-1]) * n[t-1] + c[t] * q
m[t] = keep * m[t-1] + n[t-1] * sin(c[t-1])
k[t] = tanh(p) * k[t-1] + m[t]
y[t] = tanh(n[t]) * k[t] + keep
v[t] = n[t] - k[t-1]
output y[t], v[t]
"""
POINTWISE = """
layer Pointwise
size  hidden
input x[t]: hidden
param p: hidden = 0.5
param q: 1 = 0.5
y[t] = tanh(x[t] * p) + q * x[t]
output y[t]
"""
ROWS = """
layer Rows
size  slots, hidden
input x[t]: hidden
input w[t]: slots
param p: (slots, hidden) = 0.5
param r: slots = 0.5
state s[t]: (slots, hidden) = learned
s[t] = sigmoid(w[t] * r) * s[t-1] + p * x[t]
y[t] = s[t] * s[t]
output y[t]
"""
NUMBER = """
layer Number
input x[t]: 1
state h[t]: 1 = learned
param p: 1 = 0.5
h[t] = sigmoid(x[t]) * h[t-1] + p * x[t]
output h[t]
"""
SHAPES = [(1, 1), (1, 3), (2, 16), (3, 17), (1, 130)]
SPLIT = {"ONE": ONE, "STRATA": STRATA, "POINTWISE": POINTWISE}


@pytest.fixture
def threads() -> Iterator[Any]:
    """Sets the number of threads, for this test alone."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def inputs_of(layer: Any, batch: int, steps: int, seed: int = 1) -> list[Tensor]:
    """Random inputs of a layer."""
    shapes = [layer._shape(axes) or (1,) for axes in layer.INPUTS.values()]
    return [randn(batch, steps, *s, seed=seed + i) for i, s in enumerate(shapes)]


def fields_of(layer: Any, batch: int, seed: int = 20) -> Any:
    """A state with random fields."""
    tails = [() if f.axes else (1,) for f in layer.FIELDS]
    shapes = [(*layer._field_shape(f, batch), *t) for f, t in zip(layer.FIELDS, tails, strict=True)]
    return layer.State(*(randn(*s, seed=seed + i) for i, s in enumerate(shapes)))


def some_resets(batch: int, steps: int, share: float, seed: int = 5) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(batch, steps, generator=draw) < share


def everything(
    layer: Any,
    inputs: Sequence[Tensor],
    state: Any = None,
    resets: Tensor | None = None,
    lengths: Sequence[int] | None = None,
) -> tuple[Values, Values]:
    """Outputs and final state, and the gradients of all that goes in; in calls of these lengths."""
    xs = [leaf(x) for x in inputs]
    given = None if state is None else layer.State(*(leaf(f) for f in state))
    parts: list[tuple[Tensor, ...]] = []
    start, now = 0, given
    for length in lengths or [xs[0].shape[1]]:
        cut = slice(start, start + length)
        mask = None if resets is None else resets[:, cut]
        y, now = layer(*(x[:, cut] for x in xs), state=now, resets=mask)
        parts.append(outputs_of(y))
        start += length
    assert now is not None
    values = {f"output {i}": torch.cat(p, 1) for i, p in enumerate(zip(*parts, strict=True))}
    values |= {f"final {n}": v for n, v in now._asdict().items()}
    leaves = {f"input {i}": x for i, x in enumerate(xs)} | dict(layer.named_parameters())
    leaves |= {} if given is None else {f"state {n}": v for n, v in given._asdict().items()}
    return values, gradients(list(values.values()), leaves)


def same(got: tuple[Values, Values], want: tuple[Values, Values], tolerance: float = 1e-12) -> None:
    for a, b in zip(got, want, strict=True):
        assert_all_close(a, b, tolerance)


# --- time cut into chunks ------------------------------------------------------------------------


@pytest.mark.cpp
@pytest.mark.parametrize("resets", [0.0, 0.01], ids=["whole", "resets"])
@pytest.mark.parametrize("name", list(SPLIT))
@pytest.mark.parametrize(
    "count, B, D",
    [(n, B, D) for n in (2, 4, 8) for B, D in SHAPES if n >= 2 * B],  # else a row a thread
)
def test_chunks_of_time_give_what_one_thread_gives(
    name: str, B: int, D: int, count: int, resets: float, threads: Any
) -> None:
    steps = WORK // D + 7
    layer = build(SPLIT[name], "cpp", hidden=D)
    xs, state = inputs_of(layer, B, steps), fields_of(layer, B)
    mask = some_resets(B, steps, resets) if resets else None
    threads(1)
    want = everything(layer, xs, state, mask)
    threads(count)
    same(everything(layer, xs, state, mask), want)


@pytest.mark.cpp
@pytest.mark.parametrize("name, sizes", [("ROWS", {"slots": 2, "hidden": 40}), ("NUMBER", {})])
def test_chunks_of_rows_and_of_a_value_without_axes(
    name: str, sizes: dict[str, Any], threads: Any
) -> None:
    layer = build({"ROWS": ROWS, "NUMBER": NUMBER}[name], "cpp", **sizes)
    steps = WORK // int(sizes.get("hidden", 1)) + 3
    xs, state = inputs_of(layer, 1, steps), fields_of(layer, 1)
    mask = some_resets(1, steps, 0.005)
    threads(1)
    want = everything(layer, xs, state, mask)
    for count in (2, 4, 8):
        threads(count)
        same(everything(layer, xs, state, mask), want)


@pytest.mark.cpp
@pytest.mark.slow
@pytest.mark.parametrize("name", list(SPLIT))
def test_chunks_of_time_against_the_reference(name: str, threads: Any) -> None:
    layer = build(SPLIT[name], "reference", hidden=32)
    steps = WORK // 32
    xs, state, mask = inputs_of(layer, 1, steps), fields_of(layer, 1), some_resets(1, steps, 0.01)
    want = everything(layer, xs, state, mask)
    layer.backend = "cpp"
    threads(4)
    same(everything(layer, xs, state, mask), want)


@pytest.mark.cpp
@pytest.mark.parametrize("count", [2, 4, 8])
def test_chunks_give_the_same_bits_from_run_to_run(count: int, threads: Any) -> None:
    threads(count)
    layer = build(STRATA, "cpp", hidden=5)
    xs = inputs_of(layer, 1, WORK // 4)
    first = everything(layer, xs, fields_of(layer, 1), some_resets(1, WORK // 4, 0.001))
    for _ in range(3):
        again = everything(layer, xs, fields_of(layer, 1), some_resets(1, WORK // 4, 0.001))
        for a, b in zip(first, again, strict=True):
            assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.cpp
@pytest.mark.parametrize("count", [1, 8])
def test_nan_stays_in_its_own_stretch_between_resets(count: int, threads: Any) -> None:
    threads(count)
    layer = build(ONE, "cpp", hidden=1)
    steps = WORK
    (x,) = inputs_of(layer, 1, steps)
    x[0, 100] = x[0, steps - 100] = float("nan")
    mask = torch.zeros(1, steps, dtype=torch.bool)
    mask[0, 200] = mask[0, steps - 200] = True
    x.requires_grad_()
    y, _ = layer(x, resets=mask)
    (grad,) = torch.autograd.grad(y.sum(), x)
    bad = y.isnan()[0, :, 0].nonzero()[:, 0]
    assert bad.tolist() == [*range(100, 200), *range(steps - 100, steps)]
    assert not grad[0, 200 : steps - 200].isnan().any()


@pytest.mark.cpp
def test_a_product_that_overflows_leaves_a_zero_alone(threads: Any) -> None:
    threads(8)
    spec = """
layer Grows
size  hidden
input x[t]: hidden
state h[t]: hidden
h[t] = 2 * h[t-1] + x[t]
output h[t]
"""
    layer = build(spec, "cpp", hidden=1)
    x = torch.zeros(1, WORK, 1, dtype=torch.float64)
    x[0, -3] = 1.0
    y, _ = layer(x)
    assert y[0, -3:, 0].tolist() == [1.0, 2.0, 4.0]
    assert not y[0, :-3].any()


# --- resets --------------------------------------------------------------------------------------

HISTORIES = """
layer Histories
size  input, hidden, k = 3, w = 4
input x[t]: input
state h[t]: hidden = learned
state g[t]: hidden = 0.5
state s[t]: (input, hidden) = learned
state p[t]: hidden = learned
a[t]: hidden = sigmoid(conv(x[t], w))
b[t]: hidden = conv(x[t], 1)
e[t]: input = x[t-2] + conv(x[t], 2, depthwise = true)
h[t] = a[t] * h[t-1] + b[t]
g[t] = tanh(h[t-1]) * g[t-1] + h[t-k]
s[t] = 0.5 * s[t-1] + x[t] * h[t]
p[t] = tanh(b[t])
v[t] = a[t-1] + p[t-1] * g[t-2]
c[t]: hidden = conv(h[t], 3)
r[t]: hidden = conv(s[t], 2)
m[t]: hidden = linear(h[t-1], e[t])
y[t] = v[t] * c[t] + m[t]
output y[t], r[t], e[t]
"""
AHEAD = """
layer Ahead
size  input, hidden, w = 4
input x[t]: input
state h[t]: hidden = learned
a[t]: hidden = sigmoid(conv(x[t-1], w, causal = false))
b[t]: hidden = conv(tanh(x[t]), 3, causal = false)
h[t] = a[t] * h[t-1] + b[t]
output h[t]
"""
BACKENDS = [pytest.param("reference"), CPP]


def separately(
    layer: Any, inputs: Sequence[Tensor], state: Any, resets: Tensor
) -> tuple[list[Tensor], Any]:
    """Outputs and final states of one call for each stretch between resets, row by row."""
    rows: list[list[Tensor]] = []
    finals: list[Any] = []
    for b in range(resets.shape[0]):
        starts = resets[b].nonzero()[:, 0].tolist()
        now = layer.State(*(f[b : b + 1] for f in state))
        edges = [0, *starts, resets.shape[1]]
        parts: list[tuple[Tensor, ...]] = []
        for i, (first, last) in enumerate(pairwise(edges)):
            y, now = layer(*(x[b : b + 1, first:last] for x in inputs), state=None if i else now)
            parts.append(outputs_of(y))
        rows.append([torch.cat(p, 1) for p in zip(*parts, strict=True)])
        finals.append(now)
    outputs = [torch.cat(p) for p in zip(*rows, strict=True)]
    return outputs, layer.State(*(torch.cat(f) for f in zip(*finals, strict=True)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("spec", [HISTORIES, AHEAD, STRATA], ids=["past", "future", "strata"])
def test_resets_are_separate_calls(spec: str, backend: str) -> None:
    sizes: dict[str, Any] = {} if spec is STRATA else {"input": 2}
    layer = build(spec, backend, hidden=3, **sizes)
    steps = 11
    xs = [leaf(x) for x in inputs_of(layer, 3, steps)]
    state = layer.State(*(leaf(f) for f in fields_of(layer, 3)))
    mask = some_resets(3, steps, 0.3)
    mask[0, 0] = mask[1, steps - 1] = mask[2, 4] = mask[2, 5] = True
    leaves = {f"input {i}": x for i, x in enumerate(xs)} | dict(layer.named_parameters())
    leaves |= {f"state {n}": v for n, v in state._asdict().items()}
    y, final = layer(*xs, state=state, resets=mask)
    got = [*outputs_of(y), *final]
    ys, last = separately(layer, xs, state, mask)
    want = [*ys, *last]
    names = [*(f"output {i}" for i in range(len(ys))), *final._fields]
    same(
        (dict(zip(names, got, strict=True)), gradients(got, leaves)),
        (dict(zip(names, want, strict=True)), gradients(want, leaves)),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_reset_at_once_leaves_nothing_of_the_state(backend: str) -> None:
    layer = build(HISTORIES, backend, input=2, hidden=3)
    xs = inputs_of(layer, 2, 6)
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[:, 0] = True
    values, grads = everything(layer, xs, fields_of(layer, 2), mask)
    fresh, expected = everything(layer, xs)
    assert_all_close(values, fresh, 1e-12)
    for name, grad in grads.items():
        if name.startswith("state "):
            assert not grad.any(), name
        else:
            assert_close(grad, expected[name], 1e-12, name)
    assert all(grads[f"{n}.init"].any() for n in ("h", "s", "p"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("lengths", [[4, 7], [1, 1, 0, 3, 6], [2, 9]])
def test_resets_in_several_calls(lengths: list[int], backend: str) -> None:
    layer = build(HISTORIES, backend, input=2, hidden=3)
    xs, state = inputs_of(layer, 3, 11), fields_of(layer, 3)
    mask = some_resets(3, 11, 0.25)
    mask[0, 4] = mask[1, 0] = mask[2, 10] = True
    same(everything(layer, xs, state, mask, lengths), everything(layer, xs, state, mask))


@pytest.mark.parametrize("backend", BACKENDS)
def test_resets_of_a_step(backend: str) -> None:
    layer = build(HISTORIES, backend, input=2, hidden=3)
    (x,), state = inputs_of(layer, 3, 9), fields_of(layer, 3)
    mask = some_resets(3, 9, 0.3)
    want, last = layer(x, state, resets=mask)
    now = state
    for t in range(9):
        y, now = layer.step(x[:, t], now, resets=mask[:, t])
        for a, b in zip(y, want, strict=True):
            assert_close(a, b[:, t], 1e-12)
    for a, b in zip(now, last, strict=True):
        assert_close(a, b, 1e-12)


@pytest.mark.parametrize(
    "resets, words",
    [
        (torch.zeros(3, 9, dtype=torch.bool), "(2, 9)"),
        (torch.zeros(9, dtype=torch.bool), "(2, 9)"),
        (torch.zeros(2, 9), "bool"),
        ([True], "list"),
        (torch.zeros(2, 9, dtype=torch.bool, device="meta"), "meta"),
    ],
)
def test_bad_resets(resets: Any, words: str) -> None:
    layer = build(ONE, hidden=3)
    with pytest.raises((TypeError, ValueError)) as caught:
        layer(randn(2, 9, 3), resets=resets)
    assert words in str(caught.value)


def test_bad_resets_of_a_step() -> None:
    layer = build(ONE, hidden=3)
    with pytest.raises(ValueError, match=r"\(B,\) = \(2,\)"):
        layer.step(randn(2, 3), resets=torch.zeros(2, 1, dtype=torch.bool))
    with pytest.raises(TypeError, match="bool"):
        layer.step(randn(2, 3), resets=torch.zeros(2))


def test_inputs_of_a_step_have_one_batch() -> None:
    layer = build(STRATA, hidden=3)
    with pytest.raises(ValueError, match="u has batch 1, but x has 2"):
        layer.step(randn(2, 3), randn(1, 3))


# --- masks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_kernel_that_reads_masks_alone(dtype: torch.dtype) -> None:
    """Nothing that it reads says in what to compute: the layer does."""
    layer = build(
        "layer L\nsize a\nhyper share = 0.5\ninput x[t]: a\nstate h[t]: a\n"
        "e[t]: 1 = sigmoid(drop(-1, share))\nh[t] = 0.5 * h[t-1] + x[t]\noutput e[t], h[t]\n",
        "cpp", dtype, a=3,
    ).train()  # fmt: skip
    (e, _), _ = layer(torch.ones(2, 50, 3, dtype=dtype))
    assert e.dtype == dtype
    kept = torch.sigmoid(torch.tensor(-1.0, dtype=dtype)).item()
    assert {round(v, 6) for v in e.flatten().tolist()} == {0.5, round(kept, 6)}
