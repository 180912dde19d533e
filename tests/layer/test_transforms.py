"""Layers under torch.compile, torch.func, export, and derivatives of higher order.

The rule is PyTorch's contract or a refusal: a result is right, or there is an exception that says
why not. A silent wrong or zero gradient is the worst bug there is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from seqc import zoo
from tests import references
from tests.layer.support import BACKENDS, CPP, assert_close, build, randn

NAMES = ["MinGRU", "MinLSTM", "QRNN", "SRU"]
STATES = {"MinGRU": "h", "MinLSTM": "h", "QRNN": "c", "SRU": "c"}


def make(name: str, backend: str, dtype: torch.dtype = torch.float64) -> Any:
    sizes = {"hidden": 3} if name == "SRU" else {"input": 3, "hidden": 3}
    return build(getattr(zoo, name), backend, dtype, **sizes)


def loop(name: str, layer: Any) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The reference as a function of (x, initial state), with the layer's parameters."""
    params = dict(layer.named_parameters())

    def call(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        state = {STATES[name]: h}
        if name == "QRNN":
            state["x"] = x.new_zeros(x.shape[0], 1, x.shape[2])
        (y,), final = references.ZOO[name](params, [x], state)
        return y, final[STATES[name]]

    return call


def call_of(name: str, layer: Any) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The layer as the same function."""
    x = torch.zeros(2, 0, 3, dtype=torch.float64)

    def call(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        state = kind(**(empty._asdict() | {STATES[name]: h}))
        y, final = layer(x, state)
        return y, getattr(final, STATES[name])

    _, empty = layer(x)
    kind: Any = type(empty)
    empty = kind(*(f.detach() for f in empty))
    return call


def right_or_refused(got: Callable[[], Any], want: Callable[[], Any], *, must: bool) -> None:
    """``got`` gives what ``want`` gives, or, unless it ``must``, raises what a person can read."""
    try:
        found = got()
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as refusal:
        if must or len(str(refusal)) < 20:  # a refusal says why
            raise
        return
    expected = want()
    for a, b in zip(flat(found), flat(expected), strict=True):
        assert_close(a, b, 1e-11)


def flat(values: Any) -> list[Tensor]:
    return [values] if isinstance(values, Tensor) else [t for v in values for t in flat(v)]


@pytest.mark.parametrize("name", NAMES)
def test_double_backward(name: str, backend: str) -> None:
    # pararnn-torch: runs, and is 133 % off.
    layer = make(name, backend)

    def second(call: Any) -> list[Tensor]:
        x, h = randn(2, 4, 3).requires_grad_(), randn(2, 3, seed=2).requires_grad_()
        leaves = [x, h, *layer.parameters()]
        y, final = call(x, h)
        total = (y.sin() * randn(2, 4, 3, seed=3)).sum() + final.square().sum()
        grads = torch.autograd.grad(total, leaves, create_graph=True)
        penalty = sum(g.square().sum() for g in grads)
        return list(torch.autograd.grad(penalty, leaves))

    right_or_refused(
        lambda: second(call_of(name, layer)),
        lambda: second(loop(name, layer)),
        must=backend == "reference",
    )


@pytest.mark.parametrize("name", NAMES)
def test_gradgradcheck(name: str, backend: str) -> None:
    layer, h = make(name, backend), randn(2, 3, seed=2).requires_grad_()
    x = randn(2, 3, 3).requires_grad_()
    call = call_of(name, layer)
    try:
        assert torch.autograd.gradgradcheck(call, (x, h))
    except torch.autograd.gradcheck.GradcheckError:
        raise  # a RuntimeError too, but a wrong number is no refusal
    except (RuntimeError, NotImplementedError):
        if backend == "reference":
            raise


@pytest.mark.parametrize("name", NAMES)
def test_forward_mode(name: str, backend: str) -> None:
    # A custom op without a jvp gives tangents of zero, silently.
    layer = make(name, backend)
    primals = (randn(2, 4, 3), randn(2, 3, seed=2))
    tangents = (randn(2, 4, 3, seed=5), randn(2, 3, seed=6))
    right_or_refused(
        lambda: torch.func.jvp(call_of(name, layer), primals, tangents),
        lambda: torch.func.jvp(loop(name, layer), primals, tangents),
        must=backend == "reference",
    )


@pytest.mark.parametrize("name", NAMES)
def test_dual_numbers(name: str, backend: str) -> None:
    layer = make(name, backend)
    x, tangent, h = randn(2, 4, 3), randn(2, 4, 3, seed=5), randn(2, 3, seed=2)

    def dual(call: Any) -> list[Tensor]:
        with torch.autograd.forward_ad.dual_level():
            y, final = call(torch.autograd.forward_ad.make_dual(x, tangent), h)
            pairs = [torch.autograd.forward_ad.unpack_dual(v) for v in (y, final)]
            return [torch.zeros_like(p.primal) if p.tangent is None else p.tangent for p in pairs]

    right_or_refused(
        lambda: dual(call_of(name, layer)),
        lambda: dual(loop(name, layer)),
        must=backend == "reference",
    )


@pytest.mark.parametrize("name", NAMES)
def test_functional_gradients(name: str, backend: str) -> None:
    layer = make(name, backend)
    x, h = randn(2, 4, 3), randn(2, 3, seed=2)

    def loss(call: Any) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda x, h: sum(v.sin().sum() for v in call(x, h))

    right_or_refused(
        lambda: torch.func.grad(loss(call_of(name, layer)), argnums=(0, 1))(x, h),
        lambda: torch.func.grad(loss(loop(name, layer)), argnums=(0, 1))(x, h),
        must=backend == "reference",
    )


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_parameters_through_functional_call(name: str, backend: str) -> None:
    layer = make(name, backend)
    x = randn(2, 4, 3)
    params = {n: p.detach() for n, p in layer.named_parameters()}

    def loss(params: dict[str, Tensor]) -> Tensor:
        y, _ = torch.func.functional_call(layer, params, (x,))
        return y.sin().sum()

    def want() -> list[Tensor]:
        total = layer(x)[0].sin().sum()
        return list(torch.autograd.grad(total, list(layer.parameters())))

    def got() -> list[Tensor]:
        grads = torch.func.grad(loss)(params)
        return [grads[n] for n in params]

    right_or_refused(got, want, must=backend == "reference")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axis", [0, 1])
def test_vmap(name: str, axis: int, backend: str) -> None:
    layer = make(name, backend)
    x, h = randn(3, 2, 4, 3).movedim(0, axis), randn(3, 2, 3, seed=2)

    def want() -> list[Tensor]:
        rows = [loop(name, layer)(a, b) for a, b in zip(x.unbind(axis), h, strict=True)]
        return [torch.stack(v) for v in zip(*rows, strict=True)]

    right_or_refused(
        lambda: torch.func.vmap(call_of(name, layer), in_dims=(axis, 0))(x, h), want, must=False
    )


@pytest.mark.parametrize("name", NAMES)
def test_gradients_a_sample(name: str, backend: str) -> None:
    layer = make(name, backend)
    x, h = randn(3, 2, 4, 3), randn(3, 2, 3, seed=2)

    def each(call: Any) -> Callable[[Tensor, Tensor], Tensor]:
        return torch.func.grad(lambda x, h: call(x, h)[0].sin().sum())

    right_or_refused(
        lambda: torch.func.vmap(each(call_of(name, layer)))(x, h),
        lambda: torch.stack([each(loop(name, layer))(a, b) for a, b in zip(x, h, strict=True)]),
        must=False,
    )


@pytest.mark.parametrize("name", NAMES)
def test_jacobians_of_both_modes(name: str, backend: str) -> None:
    layer = make(name, backend)
    x, h = randn(2, 2, 3), randn(2, 3, seed=2)
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        right_or_refused(
            lambda t=transform: t(call_of(name, layer))(x, h),
            lambda: torch.func.jacrev(loop(name, layer))(x, h),
            must=False,
        )


@pytest.mark.parametrize("name", NAMES)
def test_checkpointing(name: str, backend: str) -> None:
    from torch.utils.checkpoint import checkpoint

    layer = make(name, backend)
    call = call_of(name, layer)
    x, h = randn(2, 4, 3).requires_grad_(), randn(2, 3, seed=2).requires_grad_()
    got = torch.autograd.grad(checkpoint(call, x, h, use_reentrant=False)[0].sin().sum(), [x, h])
    want = torch.autograd.grad(call(x, h)[0].sin().sum(), [x, h])
    for a, b in zip(got, want, strict=True):
        assert_close(a, b, 1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_saved_tensor_hooks(name: str, backend: str) -> None:
    layer = make(name, backend)
    x = randn(2, 4, 3).requires_grad_()
    (want,) = torch.autograd.grad(layer(x)[0].sin().sum(), x)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        y, _ = layer(x)
    (got,) = torch.autograd.grad(y.sin().sum(), x)
    assert_close(got, want, 1e-14)


# --- torch.compile -------------------------------------------------------------------------------


def train_step(f: Any, layer: Any, x: Tensor) -> list[Tensor]:
    layer.zero_grad()
    x = x.detach().clone().requires_grad_()
    y, state = f(x)
    (y.square().sum() + state[0].sum()).backward()
    return [y.detach(), *(s.detach() for s in state), x.grad, *(p.grad for p in layer.parameters())]


@pytest.mark.parametrize("backend", [CPP])
@pytest.mark.parametrize("name", NAMES)
def test_compile_without_graph_breaks(name: str, backend: str, dynamo: Any) -> None:
    layer = make(name, backend)
    x = randn(2, 9, 3)
    want = train_step(layer, layer, x)
    got = train_step(torch.compile(layer, backend="aot_eager", fullgraph=True), layer, x)
    for a, b in zip(got, want, strict=True):
        assert_close(a, b, 1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("backend", [CPP])
def test_compile_with_inductor(backend: str, dynamo: Any) -> None:
    layer = make("MinGRU", backend, torch.float32)

    def model(x: Tensor) -> Any:
        y, state = layer(torch.tanh(x) * 2)
        return y * y.sigmoid(), state

    x = randn(2, 9, 3, dtype=torch.float32)
    want = train_step(model, layer, x)
    got = train_step(torch.compile(model, fullgraph=True), layer, x)
    for a, b in zip(got, want, strict=True):
        assert_close(a, b, 5e-6)


@pytest.mark.parametrize("backend", [CPP])
def test_compile_with_a_state_and_a_step(backend: str, dynamo: Any) -> None:
    layer = make("MinGRU", backend)
    x = randn(2, 9, 3)

    def model(x: Tensor) -> Tensor:
        y, state = layer(x[:, :5])
        z, state = layer(x[:, 5:], state)
        last, _ = layer.step(x[:, 0], state)
        return torch.cat([y, z, last.unsqueeze(1)], 1)

    got = torch.compile(model, backend="aot_eager", fullgraph=True)(x)
    assert_close(got, model(x), 1e-13)


@pytest.mark.parametrize("backend", [CPP])
def test_lengths_do_not_recompile(backend: str, dynamo: Any) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    layer = make("MinGRU", backend)
    counter = CompileCounterWithBackend("aot_eager")
    f = torch.compile(layer, backend=counter, fullgraph=True)
    for T in (5, 9, 33, 100, 7):
        x = randn(2, T, 3)
        want = train_step(layer, layer, x)
        for a, b in zip(train_step(f, layer, x), want, strict=True):
            assert_close(a, b, 1e-13)
    assert counter.frame_count <= 2  # the first length, then any


@pytest.mark.parametrize("backend", [CPP])
def test_a_changed_hyper_is_seen_by_compiled_code(backend: str, dynamo: Any) -> None:
    spec = """
layer Leaky
size  hidden
hyper keep = 0.9
input x[t]: hidden
state h[t]: hidden
h[t] = keep * h[t-1] + x[t]
output h[t]
"""
    layer = build(spec, backend, hidden=3)
    f = torch.compile(layer, backend="aot_eager", fullgraph=True)
    x = randn(2, 9, 3)
    for keep in (0.9, 0.5, 0.1):
        layer.keep = keep
        assert_close(f(x)[0], layer(x)[0], 1e-13)


@pytest.mark.parametrize("backend", [CPP])
def test_forward_mode_inside_compile(backend: str, dynamo: Any) -> None:
    # torch.compile(torch.func.jvp(…)) has given zeros for ops that have a jvp.
    layer = make("MinGRU", backend)
    primals = (randn(2, 4, 3), randn(2, 3, seed=2))
    tangents = (randn(2, 4, 3, seed=5), randn(2, 3, seed=6))
    call = call_of("MinGRU", layer)

    def tangent_of(*tangents: Tensor) -> Any:
        return torch.func.jvp(call, primals, tangents)

    def got() -> Any:
        try:
            return torch.compile(tangent_of, backend="aot_eager")(*tangents)
        except Exception as refusal:  # Dynamo has a family of its own
            raise RuntimeError(f"refused: {refusal}") from refusal

    right_or_refused(
        got, lambda: torch.func.jvp(loop("MinGRU", layer), primals, tangents), must=False
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_export(backend: str) -> None:
    layer = make("MinGRU", backend)
    x = randn(2, 4, 3)
    dynamic = None
    if backend == "cpp":  # the step-by-step backend unrolls its loop
        dynamic = {"inputs": ({1: torch.export.Dim("T", min=2)},)}

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, *inputs: Tensor) -> Tensor:
            return self.layer(*inputs)[0]

    program = torch.export.export(Model(), (x,), dynamic_shapes=dynamic)
    assert_close(program.module()(x), layer(x)[0], 1e-13)
    if dynamic:
        longer = randn(2, 17, 3)
        assert_close(program.module()(longer), layer(longer)[0], 1e-13)
