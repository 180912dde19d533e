"""Forward mode and second derivatives run through kernels, and are the step-by-step backend's.

That backend is plain torch, differentiated by torch itself. The kernels' mirrors, which would give
the same, are forbidden here wherever a kernel can do it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from seqc import zoo
from seqc.runtime.cpp import CppKernel
from tests.layer.support import HAVE_CXX, assert_close, build, leaf, outputs_of, randn, random_state
from tests.layer.test_stated_gradients import QUANTISED

pytestmark = [pytest.mark.cpp, pytest.mark.skipif(not HAVE_CXX, reason="no C++ compiler")]

# Two states that read one another's past under a condition, a constant, a hyper, a second stratum
# above the first, a lag of two: what the layers of the zoo have not together.
COUPLED = """
layer Coupled
size  hidden
hyper decay = 0.7
input x[t]: hidden, u[t]: hidden
param w: hidden = 0.5
state a[t]: hidden = w, b[t]: hidden, c[t]: hidden, d[t]: hidden
a[t] = decay * a[t-1] - sigmoid(u[t]) * b[t-1] + x[t]
b[t] = where(u[t] > 0, tanh(u[t]) * a[t-1], w * b[t-1]) + x[t] * w
c[t] = sigmoid(a[t]) * c[t-1] + b[t] ^ 2
d[t] = 0.5 * d[t-2] + c[t] * x[t]
output c[t], d[t]
"""
# A semiring's law, whose composition is not affine: its tangent's is.
TROPICAL = """
layer Tropical
size  hidden
input x[t]: hidden, f[t]: hidden
state m[t]: hidden
m[t] = max(m[t-1] + f[t], x[t])
output m[t]
"""
MARCH = """
layer March
size  hidden
input x[t]: hidden
param w: hidden = 0.5
state h[t]: hidden = 0.1
h[t] = tanh(w * h[t-1] + x[t])
output h[t]
"""
#: A spec or a layer of the zoo, and its sizes.
LAYERS: dict[str, tuple[Any, dict[str, int]]] = {
    "MinGRU": ("MinGRU", {"input": 3, "hidden": 5}),
    "Coupled": (COUPLED, {"hidden": 3}),
    "Tropical": (TROPICAL, {"hidden": 3}),
    "March": (MARCH, {"hidden": 3}),
    "Quantised": (QUANTISED, {"hidden": 3}),
    "S6": ("S6", {"hidden": 3, "state": 2, "rank": 2}),
    "S5": ("S5", {"input": 3, "hidden": 2}),
}


def made(name: str) -> Any:
    spec, sizes = LAYERS[name]
    cls = getattr(zoo, spec) if hasattr(zoo, spec) else spec
    known = (
        sizes if not isinstance(cls, type) else {k: v for k, v in sizes.items() if k in cls.SIZES}
    )
    return build(cls, "cpp", **known)


def function_of(
    layer: Any, B: int, T: int, resets: Tensor | None
) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """A weighed sum of all that a layer gives, as a function of inputs, state and parameters."""
    inputs = [
        randn(B, T, *(getattr(layer, a) for a in axes), seed=11 + k)
        for k, axes in enumerate(layer.INPUTS.values())
    ]
    state = random_state(layer, inputs)
    names = [n for n, _ in layer.named_parameters()]
    counts = len(inputs), len(state)

    def call(*given: Tensor) -> list[Tensor]:
        x, fields = given[: counts[0]], given[counts[0] : sum(counts)]
        values = dict(zip(names, given[sum(counts) :], strict=True))
        kwargs = {"state": type(state)(*fields), "resets": resets}
        y, last = torch.func.functional_call(layer, values, tuple(x), kwargs)
        return [*outputs_of(y), *last]

    def loss(*given: Tensor) -> Tensor:
        found = call(*given)
        return sum((r * randn(*r.shape, seed=80 + k)).sin().sum() for k, r in enumerate(found))

    return loss, [leaf(v) for v in (*inputs, *state, *layer.parameters())]


def derivatives(loss: Callable[..., Tensor], at: Sequence[Tensor]) -> dict[str, Sequence[Tensor]]:
    """First and second ones, in every order of forwards and backwards."""
    along = tuple(randn(*a.shape, seed=40 + k) for k, a in enumerate(at))
    plain = tuple(a.detach() for a in at)
    every = tuple(range(len(at)))

    def product(*given: Tensor) -> Tensor:
        grads = torch.autograd.grad(loss(*given), given, create_graph=True, materialize_grads=True)
        return sum((g * v).sin().sum() for g, v in zip(grads, along, strict=True))

    def slope(*given: Tensor) -> Tensor:
        return torch.func.jvp(loss, given, along)[1]

    return {
        "forward": torch.func.jvp(loss, plain, along),
        "reverse of reverse": torch.autograd.grad(product(*at), at, materialize_grads=True),
        "reverse of forward": torch.func.grad(slope, every)(*plain),
        "forward of reverse": torch.func.jvp(torch.func.grad(loss, every), plain, along)[1],
    }


def forbid_mirrors(layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a kernel's mirror an error."""

    def forbidden(*_: Any) -> Any:
        raise AssertionError("a derivative went through the mirror")

    for kernel in layer.KERNELS:
        monkeypatch.setattr(kernel, "mirror", forbidden)


def held(layer: Any, B: int, T: int, resets: Tensor | None) -> None:
    """Every derivative on both backends."""
    loss, at = function_of(layer, B, T, resets)
    layer.backend = "reference"
    want = derivatives(loss, at)
    layer.backend = "cpp"
    got = derivatives(loss, at)
    for way, tensors in want.items():
        for k, (a, b) in enumerate(zip(got[way], tensors, strict=True)):
            assert_close(a, b, 1e-11, f"{way}, {k}")


def some_resets(B: int, T: int) -> Tensor:
    resets = torch.zeros(B, T, dtype=torch.bool)
    resets[0, [0, T // 2]] = True
    resets[-1, [T - 1]] = True
    return resets


@pytest.mark.parametrize("resets", [False, True], ids=["whole", "resets"])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "S5" else n for n in LAYERS]
)
def test_every_order(name: str, resets: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = made(name)
    if name != "Quantised":  # a stated derivative need not be symmetric: forward of reverse
        forbid_mirrors(layer, monkeypatch)
    held(layer, 2, 5, some_resets(2, 5) if resets else None)


@pytest.mark.parametrize("T", [0, 1])
@pytest.mark.parametrize("name", ["MinGRU", "S6"])
def test_hardly_any_steps(name: str, T: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = made(name)
    forbid_mirrors(layer, monkeypatch)
    held(layer, 3, T, None)


def test_without_a_compiler_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that came compiled have no tangent with them: their mirror has."""
    layer = made("MinGRU")
    layer(randn(2, 5, 3))
    monkeypatch.setattr(CppKernel, "have", lambda self, dtype: self.loaded(dtype))
    for kernel in layer.KERNELS:
        tangent = type(kernel)(kernel.tangent.spec, dict.fromkeys(("cpp", "cuda"), ""), None)
        monkeypatch.setattr(kernel, "_doubled", tangent)
    held(layer, 2, 5, some_resets(2, 5))


def test_the_third_order() -> None:
    layer = made("MinGRU")
    loss, at = function_of(layer, 1, 3, None)
    along = tuple(randn(*a.shape, seed=40 + k) for k, a in enumerate(at))

    def slope(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *given: torch.func.jvp(f, given, along)[1]

    def reverse(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*given: Tensor) -> Tensor:
            grads = torch.func.grad(f, tuple(range(len(given))))(*given)
            return sum((g * v).sin().sum() for g, v in zip(grads, along, strict=True))

        return call

    plain = [a.detach() for a in at]
    for thrice in (
        slope(slope(slope(loss))), slope(reverse(reverse(loss))), reverse(reverse(slope(loss))),
        reverse(slope(reverse(loss))),
    ):  # fmt: skip
        found = []
        for backend in ("reference", "cpp"):
            layer.backend = backend
            found.append(thrice(*plain))
        assert_close(found[1], found[0], 1e-11)


@pytest.mark.parametrize("backend", ["reference", "cpp"])
@pytest.mark.parametrize("name", ["MinGRU", "Quantised"])
def test_forward_of_forward_is_reverse_of_forward(name: str, backend: str) -> None:
    """Inside the jvp of an autograd.Function torch drops the tangents of plain operators."""
    layer = made(name)
    layer.backend = backend
    loss, at = function_of(layer, 1, 3, None)
    along = tuple(randn(*a.shape, seed=40 + k) for k, a in enumerate(at))
    plain = tuple(a.detach() for a in at)

    def slope(*given: Tensor) -> Tensor:
        return torch.func.jvp(loss, given, along)[1]

    got = torch.func.jvp(slope, plain, along)[1]
    grads = torch.func.grad(slope, tuple(range(len(plain))))(*plain)
    assert_close(got, sum((g * v).sum() for g, v in zip(grads, along, strict=True)), 1e-11)


def test_a_third_backward() -> None:
    layer, found = made("MinGRU"), []
    for backend in ("reference", "cpp"):
        loss, at = function_of(layer, 1, 3, None)
        layer.backend = backend
        total = loss(*at)
        for _ in range(3):
            grads = torch.autograd.grad(total, at, create_graph=True)
            total = sum(g.sin().sum() for g in grads)
        found.append(grads)
    for want, got in zip(*found, strict=True):
        assert_close(got, want, 1e-11)


@pytest.mark.parametrize("name", ["MinGRU", "S6"])
def test_a_batch_of_cotangents(name: str) -> None:
    """Rows of a Jacobian at once, and of a Hessian."""
    layer, found = made(name), []
    x = randn(1, 3, 3)
    for backend in ("reference", "cpp"):
        layer.backend = backend
        leaf = x.clone().requires_grad_()
        y, _ = layer(leaf)
        rows = torch.eye(y.numel(), dtype=y.dtype).unflatten(1, y.shape)
        pull = functools.partial(torch.autograd.grad, y, leaf, retain_graph=True)
        (jacobian,) = torch.func.vmap(pull)(rows)
        hessian = torch.func.hessian(lambda v: layer(v)[0].sin().sum())(x)
        twice = torch.func.jacrev(torch.func.jacrev(lambda v: layer(v)[0].sin().sum()))(x)
        found.append((jacobian, hessian, twice))
    for want, got in zip(*found, strict=True):
        assert_close(got, want, 1e-11)


def test_a_sample_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Constants that are mapped over too, and gradients a sample of one that is not."""
    layer = made("Coupled")
    forbid_mirrors(layer, monkeypatch)
    x, u, w = randn(3, 2, 5, 3), randn(3, 2, 5, 3, seed=2), randn(3, 3, seed=3)
    params = {n: p.detach() for n, p in layer.named_parameters()}

    def loss(x: Tensor, u: Tensor, w: Tensor) -> Tensor:
        ys, last = torch.func.functional_call(layer, params | {"w": w}, (x, u))
        return sum(v.sin().sum() for v in (*outputs_of(ys), *last))

    def once(x: Tensor, u: Tensor, w: Tensor) -> Any:
        return torch.func.grad(loss, (0, 1, 2))(x, u, w)

    each = torch.func.vmap(once)(x, u, w)
    same = torch.func.vmap(once, in_dims=(1, 1, None))(x.movedim(0, 1), u.movedim(0, 1), w[0])
    for i in range(3):
        for a, b in zip(each, once(x[i], u[i], w[i]), strict=True):
            assert_close(a[i], b, 1e-12)
        for a, b in zip(same, once(x[i], u[i], w[0]), strict=True):
            assert_close(a[i], b, 1e-12)


@pytest.mark.parametrize("name", ["Coupled", "S6"])
def test_dual_numbers_without_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no way back is asked for, no states are kept."""
    layer = made(name).requires_grad_(False)
    assert any(k.spec.extra for k in layer.KERNELS)
    forbid_mirrors(layer, monkeypatch)
    loss, at = function_of(layer, 2, 5, None)
    at = [a.detach() for a in at]
    found = []
    for backend in ("reference", "cpp"):
        layer.backend = backend
        with torch.autograd.forward_ad.dual_level():
            duals = [
                torch.autograd.forward_ad.make_dual(a, randn(*a.shape, seed=40 + k))
                for k, a in enumerate(at)
            ]
            found.append(torch.autograd.forward_ad.unpack_dual(loss(*duals)))
    for want, got in zip(*found, strict=True):
        assert_close(got, want, 1e-12)
