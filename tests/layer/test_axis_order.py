"""Declared axes come in the order in which the declaration names them, on every backend.

Each spec is written twice, with axes in the order of the sizes and in another one (three axes, so
that a permutation taken for its inverse is seen), and must be the same layer up to that order.
"""

from __future__ import annotations

import copy
import importlib
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import seqc
from tests.layer.support import (
    BACKENDS,
    assert_all_close,
    assert_streams,
    build,
    leaf,
    outputs_of,
    randn,
    random_state,
)

SIZES = {"a": 2, "b": 3, "c": 4, "p": 5}
STRAIGHT, OTHER = "(a, b, c)", "(c, a, b)"

SPECS = {
    "a scan": """
layer Scan
size  a, b, c, p
input u[t]: AXES, x[t]: p
state h[t]: AXES = learned
param w: AXES = normal(0, 1)
f[t]: AXES = sigmoid(linear(u[t], x[t]) + w)
z[t]: AXES = linear(u[t], x[t])
h[t] = f[t] * h[t-1] + u[t] * z[t] * index(c) + w
s[t] = sum(h[t], b)
d[t]: p = linear(h[t])
output h[t], s[t], d[t]
""",
    "windows and delays": """
layer Windows
size  a, b, c, p
input u[t]: AXES, x[t]: p
state h[t]: AXES
v[t]: AXES = conv(u[t], 3, depthwise = true)
z[t]: AXES = conv(u[t], 2)
q[t]: AXES = conv(x[t], 2)
h[t] = 0.3 * h[t-1] - 0.2 * h[t-2] + z[t] * v[t] + u[t-2] * q[t]
y[t]: AXES = conv(h[t], 2, depthwise = true) + v[t-1]
output y[t], h[t]
""",
    "a march": """
layer March
size  a, b, c, p
input u[t]: AXES, x[t]: p
state h[t]: AXES = g
param g: AXES = uniform(-1, 1)
k[t]: AXES = linear(x[t])
h[t] = tanh(h[t-1] * g + k[t]) + u[t]
y[t]: AXES = h[t] * sum(u[t], a)
output y[t]
""",
    "step by step": """
layer Steps
size  a, b, c, p, src = c
input u[t]: AXES, x[t]: p
state h[t]: AXES
param m: (src, c) = normal(0, 0.3)
r[t]: AXES = linear(h[t-1], x[t])
h[t] = tanh(sum(m * rename(h[t-1], c = src), src) + r[t]) + u[t]
output h[t]
""",
    "complex": """
layer Complex
size  a, b, c, p
input u[t]: AXES, x[t]: p
state z[t]: complex AXES = learned
param w: complex AXES = normal(0, 1)
b_in[t]: complex AXES = linear(u[t], x[t])
z[t] = 0.5 * cis(0.3 * index(b)) * z[t-1] + w * b_in[t]
y[t]: AXES = re(z[t]) + im(z[t])
output y[t]
""",
}


#: The kernels of the complex one are as of two real states.
CASES = [
    pytest.param(name, *backend.values, marks=backend.marks, id=f"{name}-{backend.values[0]}")
    for name in SPECS
    for backend in BACKENDS
    if backend.values[0] != "cpp" or name != "complex"
]


def turn(x: Tensor, lead: int) -> Tensor:
    """(…, a, b, c) as (…, c, a, b), with ``lead`` dimensions before the axes."""
    assert x.shape[lead : lead + 3] == (2, 3, 4), tuple(x.shape)
    return x.permute(*range(lead), lead + 2, lead, lead + 1, *range(lead + 3, x.dim()))


def turn_flat(x: Tensor, dim: int) -> Tensor:
    """The same of axes that lie flat in one dimension, if there are as many; others may follow."""
    if x.shape[dim] < 24:
        return x
    axes, rest = x.narrow(dim, 0, 24), x.narrow(dim, 24, x.shape[dim] - 24)
    return torch.cat((turn(axes.unflatten(dim, (2, 3, 4)), dim).flatten(dim, dim + 2), rest), dim)


def turned(name: str, x: Tensor) -> Tensor:
    """A parameter of the straight layer as the other has it."""
    if name.endswith((".weight", ".bias")):
        x = turn_flat(x, 0)
        return turn_flat(x, 1) if x.dim() > 1 else x
    return turn(x, 0) if x.dim() == 3 else x.t()  # m: (src, c), where src comes after c


def pair(name: str, backend: str) -> tuple[Any, Any]:
    """The straight layer and the other one, with the same parameters up to the order."""
    straight = build(SPECS[name].replace("AXES", STRAIGHT).replace("(src, c)", "(c, src)"),
                     backend, **SIZES)  # fmt: skip
    other = build(SPECS[name].replace("AXES", OTHER), backend, **SIZES)
    with torch.no_grad():
        for key, p in other.named_parameters():
            p.copy_(turned(key, straight.get_parameter(key)))
    return straight, other


def moved(x: Tensor) -> Tensor:
    """A sequence or field with its three axes, if it has them, in the other order."""
    return turn(x, x.dim() - 3) if x.shape[-3:] == (2, 3, 4) else x


@pytest.mark.parametrize("name, backend", CASES)
def test_axes_come_in_the_order_named(name: str, backend: str) -> None:
    straight, other = pair(name, backend)
    resets = torch.zeros(2, 9, dtype=torch.bool)
    resets[1, 4] = resets[0, 7] = True
    inputs = randn(2, 9, 2, 3, 4), randn(2, 9, 5, seed=3)
    given = random_state(straight, inputs)

    def run(layer: Any, way: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        xs = [leaf(way(x)) for x in inputs]
        first = layer(*(x[:, :0] for x in xs))[1]
        state = type(first)(*(leaf(way(f)) for f in given))
        y, final = layer(*xs, state=state, resets=resets)
        values = {f"output {k}": v for k, v in enumerate(outputs_of(y))} | final._asdict()
        leaves = {"u": xs[0], "x": xs[1], **state._asdict(), **dict(layer.named_parameters())}
        # Weighed by what does not tell one order from the other but by its place.
        weights = [way(randn(*shape, seed=5)) for shape in shapes]
        loss = sum((v * w).sum() for v, w in zip(values.values(), weights, strict=True))
        assert isinstance(loss, Tensor)
        return values, dict(
            zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True)
        )

    y, final = straight(*inputs, state=given)
    shapes = [tuple(v.shape) for v in (*outputs_of(y), *final)]
    want, want_grads = run(straight, lambda x: x)
    got, got_grads = run(other, moved)
    assert_all_close(got, {k: moved(v) for k, v in want.items()}, 1e-12)
    params = dict(straight.named_parameters())
    turned_grads = {
        k: turned(k, g) if k in params else moved(g) for k, g in want_grads.items()
    }  # fmt: skip
    assert_all_close(got_grads, turned_grads, 1e-12)


@pytest.mark.parametrize("name, backend", CASES)
def test_they_stream(name: str, backend: str) -> None:
    _, other = pair(name, backend)
    inputs = randn(2, 7, 4, 2, 3), randn(2, 7, 5, seed=3)
    assert_streams(other, inputs, [3, 0, 1, 3], random_state(other, inputs))
    y, _ = other(*(x[:, :0] for x in inputs))
    assert outputs_of(y)[0].shape == (2, 0, 4, 2, 3)


def test_packed_sequences_copies_and_transforms() -> None:
    _, other = pair("a scan", "reference")
    x = randn(1, 6, 4, 2, 3), randn(1, 6, 5, seed=3)
    y, _ = other(*x, cu_seqlens=torch.tensor([0, 2, 6]))
    alone, _ = other(*(v[:, 2:] for v in x))
    assert_all_close({"y": y[0][:, 2:]}, {"y": alone[0]}, 1e-12)
    for twin in (copy.deepcopy(other), pickle.loads(pickle.dumps(other))):
        assert torch.equal(twin(*x)[0][0], other(*x)[0][0])
    call = torch.func.vmap(lambda u, v: other(u[None], v[None])[0][0][0])
    many = [torch.cat([v, v + 1]) for v in x]
    assert torch.allclose(call(*many), other(*many)[0][0])


def test_shapes_are_told_in_the_declared_order() -> None:
    _, other = pair("a march", "reference")
    with pytest.raises(ValueError, match=r"u must be \(B, T, c=4, a=2, b=3\)"):
        other(randn(1, 2, 2, 3, 4), randn(1, 2, 5))
    assert other.g.shape == (4, 2, 3)
    assert other.INPUTS["u"] == ("c", "a", "b")


def test_flat_sources_take_the_order_of_the_arguments_declaration() -> None:
    """Two names of one value, declared in two orders, flatten each in its own."""
    layer = build(
        """
layer Flat
size  a, b, o
input u[t]: (b, a)
v[t]: (a, b) = u[t]
p[t]: o = linear(u[t], bias = false)
q[t]: o = linear(v[t], bias = false)
r[t]: o = linear(2 * u[t], bias = false)
output p[t], q[t], r[t]
""",
        "reference", a=2, b=3, o=4,
    )  # fmt: skip
    x = randn(2, 5, 3, 2)
    want = (
        x.flatten(2) @ layer.p.weight.t(),
        x.transpose(-1, -2).flatten(2) @ layer.q.weight.t(),
        2 * x.transpose(-1, -2).flatten(2) @ layer.r.weight.t(),  # no declaration: sizes' order
    )
    for y, w in zip(layer(x)[0], want, strict=True):
        assert torch.allclose(y, w)


def test_it_stands_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, other = pair("a scan", "reference")
    inputs = randn(2, 4, 4, 2, 3), randn(2, 4, 5, seed=3)
    text = seqc.build(SPECS["a scan"].replace("AXES", OTHER), standalone=True)
    (tmp_path / "turned_alone.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("turned_alone")
    alone = module.Scan(**SIZES, dtype=torch.float64, backend="reference")
    alone.load_state_dict(other.state_dict())
    for got, want in zip(alone(*inputs)[0], other(*inputs)[0], strict=True):
        assert torch.equal(got, want)


def test_an_equation_of_a_state_keeps_to_its_order() -> None:
    spec = """
layer L
size  a, b
input u[t]: (b, a)
state h[t]: (b, a)
h[t]: (a, b) = u[t]
output h[t]
"""
    with pytest.raises(seqc.SeqcError) as caught:
        seqc.check(spec)
    assert [d.code for d in caught.value.diagnostics] == ["E048"]
