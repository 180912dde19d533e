"""Sequences that start from zeros which nobody made: the same numbers as from zeros passed in."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from seqc import zoo
from tests.layer.support import CPP, build, gradients, leaf, outputs_of, randn
from tests.runtime.test_kernels import HISTORIES, ONE, STRATA, everything, inputs_of, some_resets

#: A sum over an axis, so that states are kept once in a while; a state of two axes.
ROWS = """
layer Rows
size  hidden, slots
input x[t]: hidden
input w[t]: slots
state s[t]: (hidden, slots)
s[t] = sigmoid(x[t]) * s[t-1] + x[t] * w[t]
y[t] = sum(s[t] * w[t], slots)
output y[t]
"""
#: Strata that read each other's states of the step before.
TWO = """
layer Two
size  hidden
input x[t]: hidden
state c[t]: hidden
state m[t]: hidden
c[t] = sigmoid(x[t]) * c[t-1] + x[t]
m[t] = 0.9 * m[t-1] + sin(c[t-1])
output m[t]
"""
#: A product of what was before the step: torch reads the start, not a kernel alone.
LAGGED = """
layer Lagged
size  hidden
input x[t]: hidden
state h[t]: hidden
h[t] = sigmoid(x[t]) * h[t-1] + x[t]
y[t]: hidden = linear(h[t-1])
output y[t]
"""
SIZES = {"ROWS": {"hidden": 3, "slots": 4}}
SPECS = {"ONE": ONE, "ROWS": ROWS, "TWO": TWO, "MinGRU": zoo.MinGRU, "MinLSTM": zoo.MinLSTM}


def make(name: str, backend: str = "cpp") -> Any:
    sizes = SIZES.get(name, {"hidden": 3})
    if name.startswith("Min"):
        sizes = {"input": 2, "hidden": 3}
    return build(SPECS[name], backend, **sizes)


def zeros_of(layer: Any, batch: int) -> Any:
    return layer.State(*(torch.zeros(layer._field_shape(f, batch)).double() for f in layer.FIELDS))


@pytest.mark.parametrize(
    "spec, whether",
    [(ONE, True), (ROWS, True), (TWO, True), (STRATA, False), (LAGGED, False), (HISTORIES, False)],
)
def test_which_layers_start_from_zeros_unmade(spec: str, whether: bool) -> None:
    sizes = {n: 2 for n in ("input", "hidden", "slots") if n in spec.split("\n")[2]}
    assert build(spec, **sizes).FROM_ZEROS is whether


@pytest.mark.parametrize("backend", [CPP])
@pytest.mark.parametrize("resets", [0.0, 0.3], ids=["whole", "resets"])
@pytest.mark.parametrize("steps", [0, 1, 7])
@pytest.mark.parametrize("name", list(SPECS))
def test_values_and_gradients_to_the_bit(
    name: str, steps: int, resets: float, backend: str
) -> None:
    layer = make(name, backend)
    assert layer.FROM_ZEROS
    inputs, mask = inputs_of(layer, 2, steps), some_resets(2, steps, resets) if resets else None
    values, slopes = everything(layer, inputs, zeros_of(layer, 2), mask)
    for _ in range(2):  # the second call is like the one before, and looked at less
        got, grads = everything(layer, inputs, None, mask)
        assert all(torch.equal(got[n], values[n]) for n in values)
        assert all(torch.equal(grads[n], slopes[n]) for n in grads)
        with torch.no_grad():
            y, state = layer(*inputs, resets=mask)
        alone = (*outputs_of(y), *state)
        assert all(torch.equal(a, b) for a, b in zip(alone, values.values(), strict=True))


@pytest.mark.parametrize("backend", [CPP])
def test_nobody_makes_them(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = make("MinGRU", backend)
    x = randn(2, 5, 2)
    y, _ = layer(x)
    y.sum().backward()
    want = layer.v.weight.grad.clone()

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("zeros")

    monkeypatch.setattr(torch, "zeros", refuse)
    layer.zero_grad()
    layer(x)[0].sum().backward()
    assert torch.equal(layer.v.weight.grad, want)
    with torch.no_grad():
        layer(x)
        layer.step(x[:, 0])


@pytest.mark.parametrize("backend", [CPP])
def test_a_step_from_nothing(backend: str) -> None:
    layer = make("TWO", backend)
    x = randn(2, 3)
    want, after = layer.step(x, zeros_of(layer, 2))
    for _ in range(2):
        y, state = layer.step(x)
        assert torch.equal(y, want)
        assert all(torch.equal(a, b) for a, b in zip(state, after, strict=True))


@pytest.mark.parametrize("backend", [CPP])
@pytest.mark.parametrize("name", ["ROWS", "MinGRU"])
def test_second_derivatives(name: str, backend: str) -> None:
    layer = make(name, backend)

    def slopes_of_slopes(state: Any) -> dict[str, torch.Tensor]:
        xs = [leaf(x) for x in inputs_of(layer, 2, 4)]
        y, _ = layer(*xs, state=state)
        first = torch.autograd.grad(y.square().sum(), xs, create_graph=True)
        leaves = {f"input {i}": x for i, x in enumerate(xs)} | dict(layer.named_parameters())
        return gradients(list(first), leaves)

    want = slopes_of_slopes(zeros_of(layer, 2))
    for _ in range(2):
        got = slopes_of_slopes(None)
        assert all(torch.equal(got[n], want[n]) for n in want)


@pytest.mark.parametrize("backend", [CPP])
def test_a_backward_pass_that_is_watched(backend: str) -> None:
    """Where somebody looks on, operators run: those take tensors alone."""
    layer = make("TWO", backend)
    x = leaf(randn(2, 4, 3))
    y, _ = layer(x)
    (want,) = torch.autograd.grad(y.sum(), x, retain_graph=True)

    class Onlooker(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[str] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any, kwargs: Any = None) -> Any:
            self.seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with Onlooker() as onlooker:
        (got,) = torch.autograd.grad(y.sum(), x)
        again, _ = layer(x)
    assert torch.equal(got, want)
    assert torch.equal(again, y)
    seen = " ".join(onlooker.seen)
    assert f"{layer.KERNELS[0].op_name}_backward" in seen
    assert f"{layer.KERNELS[0].op_name}_forward" in seen


@pytest.mark.parametrize("backend", [CPP])
def test_transforms_after_a_call_like_theirs(backend: str) -> None:
    layer = make("MinGRU", backend)
    x = randn(3, 2, 4, 2)
    want = torch.stack([layer(part)[0] for part in x])
    assert torch.allclose(torch.func.vmap(lambda part: layer(part)[0])(x), want, rtol=1e-12)
    _, tangent = torch.func.jvp(lambda part: layer(part)[0], (x[0],), (x[1],))
    zeros = zeros_of(layer, 2)
    _, told = torch.func.jvp(lambda part: layer(part, zeros)[0], (x[0],), (x[1],))
    assert torch.equal(tangent, told)


@pytest.mark.parametrize("backend", [CPP])
def test_fake_tensors_after_a_call_like_theirs(backend: str) -> None:
    layer = make("MinGRU", backend)
    layer(randn(2, 4, 2))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        y, state = layer(mode.from_tensor(randn(2, 4, 2)))
    assert (y.shape, state.h.shape) == ((2, 4, 3), (2, 3))


@pytest.mark.parametrize("backend", [CPP])
def test_a_tensor_that_outlived_its_transform(backend: str) -> None:
    """A state kept from within a transform still has that one's wrapper around it."""
    layer, kept = make("MinGRU", backend), []
    x = randn(1, 3, 2)

    def loss(scale: torch.Tensor) -> torch.Tensor:
        y, state = layer(x * scale)
        kept.append(state)
        return y.sum()

    torch.func.grad(loss)(torch.tensor(2.0, dtype=torch.float64))
    want, _ = layer(x, layer(x * 2)[1])
    assert torch.allclose(layer(x, kept[0])[0], want)
    with torch.no_grad():
        assert torch.allclose(layer(x, kept[0])[0], want)


@pytest.mark.parametrize("backend", [CPP])
def test_a_first_call_in_inference_mode_settles_nothing_for_later(backend: str) -> None:
    layer = make("MinGRU", backend)
    x = randn(2, 4, 2)
    for target in (k.targets["cpu"] for k in layer.KERNELS):
        target.forget()
    with torch.inference_mode():
        layer(x)
    with torch.no_grad():
        y, state = layer(x)
    assert not y.is_inference()
    weight = leaf(randn(2, 4, 3))
    (weight * y).sum().backward()  # an inference tensor could not be saved
    layer(x, state)[0].sum().backward()
    assert layer.z.weight.grad is not None


@pytest.mark.parametrize("backend", [CPP])
def test_the_switch_is_seen_at_the_next_call(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = make("MinGRU", "auto")
    x = randn(2, 4, 2)
    used: list[str] = []
    real = layer._run
    monkeypatch.setattr(layer, "_run", lambda *args: used.append(args[-1]) or real(*args))
    layer(x)
    layer(x)
    monkeypatch.setenv("SEQC_BACKEND", "reference")
    layer(x)
    monkeypatch.setenv("SEQC_BACKEND", "tpu")
    with pytest.raises(ValueError, match="SEQC_BACKEND is 'tpu'"):
        layer(x)
    monkeypatch.delenv("SEQC_BACKEND")
    layer(x)
    assert used == ["cpp", "cpp", "reference", "cpp"]


@pytest.mark.parametrize("backend", [CPP])
def test_a_pickled_layer_checks_its_parameters(backend: str) -> None:
    layer = pickle.loads(pickle.dumps(make("MinGRU", backend)))
    x = randn(2, 4, 2)
    layer(x)
    layer(x)
    layer.float()
    with pytest.raises(TypeError, match=r"the parameter z\.weight is torch\.float32"):
        layer(x)
