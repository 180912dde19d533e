"""``blockwise``: a matrix of its own for each head, as torch's grouped convolution of width 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import seqc
from tests.layer.support import (
    DTYPES,
    assert_all_close,
    assert_streams,
    build,
    hold_to,
    randn,
    random_state,
)

pytestmark = pytest.mark.filterwarnings("ignore::seqc.SeqcWarning")

HEADS, IN, OUT = 3, 2, 4
SIZES = {"heads": HEADS, "inner": IN, "hidden": OUT}
HEAD = "layer L\nsize heads, inner, hidden\n"
#: Around a scan, the blocks second in one argument and in one result, two maps of one argument.
SCANNED = HEAD + (
    "input x[t]: (inner, heads)\nstate h[t]: (heads, hidden)\n"
    "z[t]: (hidden, heads) = sigmoid(blockwise(x[t], heads))\n"
    "v[t]: (heads, hidden) = blockwise(x[t], heads, bias = false)\n"
    "h[t] = (1 - z[t]) * h[t-1] + z[t] * v[t]\n"
    "y[t]: (heads, inner) = blockwise(h[t-1], axis = heads)\noutput h[t], y[t]\n"
)
#: On a state: a loop in torch, where the heads never meet.
LOOPED = HEAD + (
    "input x[t]: (heads, inner)\nstate h[t]: (hidden, heads)\n"
    "h[t]: (hidden, heads) = tanh(blockwise(x[t], heads) + "
    "blockwise(h[t-1], heads, bias = false))\n"
    "output h[t]\n"
)


def grouped(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(B, T, heads, in) through ``torch.nn.Conv1d`` of width 1: (B, T, heads, out)."""
    if not x.shape[1]:
        return x.new_zeros(x.shape[0], 0, HEADS, weight.shape[0] // HEADS)
    channels = x.flatten(2).transpose(1, 2)
    out = F.conv1d(channels, weight[:, :, None], bias, groups=HEADS)
    return out.transpose(1, 2).unflatten(2, (HEADS, -1))


def scanned(p: Mapping[str, Tensor], xs: Sequence[Tensor], s: Any) -> Any:
    x = xs[0].transpose(2, 3)
    h = x.new_zeros(x.shape[0], HEADS, OUT) if s is None else s["h"]
    z = torch.sigmoid(grouped(x, p["z.weight"], p["z.bias"]))
    v = grouped(x, p["v.weight"], None)
    before, hs = [], []
    for z_t, v_t in zip(z.unbind(1), v.unbind(1), strict=True):
        before.append(h)
        h = (1 - z_t) * h + z_t * v_t
        hs.append(h)
    past = torch.stack(before, 1) if before else v
    y = grouped(past, p["y.weight"], p["y.bias"])
    return (torch.stack(hs, 1) if hs else v, y), {"h": h}


def looped(p: Mapping[str, Tensor], xs: Sequence[Tensor], s: Any) -> Any:
    x = xs[0]
    h = x.new_zeros(x.shape[0], OUT, HEADS) if s is None else s["h"]
    u = grouped(x, p["h.x.weight"], p["h.x.bias"])
    hs = []
    for u_t in u.unbind(1):
        mixed = grouped(h.transpose(1, 2)[:, None], p["h.h.weight"], None)[:, 0]
        h = torch.tanh(u_t + mixed).transpose(1, 2)
        hs.append(h)
    return (torch.stack(hs, 1) if hs else u.transpose(2, 3),), {"h": h}


CASES = {"scanned": (SCANNED, scanned, (IN, HEADS)), "looped": (LOOPED, looped, (HEADS, IN))}
every = pytest.mark.parametrize("name", CASES)


@every
@pytest.mark.parametrize("T", [0, 1, 7])
def test_values_and_gradients(name: str, T: int, backend: str) -> None:
    spec, reference, shape = CASES[name]
    layer = build(spec, backend, **SIZES)
    xs = [randn(2, T, *shape)]
    hold_to(layer, reference, xs, states=("h",))
    hold_to(layer, reference, xs, random_state(layer, xs), states=("h",))


@every
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(name: str, dtype: torch.dtype) -> None:
    spec, reference, shape = CASES[name]
    layer = build(spec, "reference", dtype, **SIZES)
    hold_to(layer, reference, [randn(2, 5, *shape, dtype=dtype)], states=("h",))


@every
def test_it_streams_and_resets(name: str, backend: str) -> None:
    spec, _, shape = CASES[name]
    layer = build(spec, backend, **SIZES)
    x = randn(2, 7, *shape)
    assert_streams(layer, [x], (3, 1, 0, 3), random_state(layer, [x]))
    mask = torch.zeros(2, 7, dtype=torch.bool)
    mask[:, 4] = True
    whole, after = layer(x, resets=mask)
    second, last = layer(x[:, 4:])
    got, want = (y if isinstance(y, tuple) else (y,) for y in (whole, second))
    assert_all_close(
        {str(i): y[:, 4:] for i, y in enumerate(got)} | {"h": after.h},
        {str(i): y for i, y in enumerate(want)} | {"h": last.h}, 1e-12,
    )  # fmt: skip


def test_parameters_are_those_of_a_grouped_convolution() -> None:
    torch.manual_seed(0)
    layer = build(SCANNED, spread=None, dtype=torch.float32, heads=2, inner=100, hidden=50)
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert shapes == {
        "z.weight": (100, 100), "z.bias": (100,), "v.weight": (100, 100),
        "y.weight": (200, 50), "y.bias": (200,),
    }  # fmt: skip
    conv = nn.Conv1d(200, 100, 1, groups=2)
    assert layer.z.weight.shape == conv.weight.shape[:2]
    for p in (layer.z.weight, layer.z.bias, conv.weight, conv.bias):  # both start within 1/√100
        assert 0.09 < float(p.abs().max()) <= 0.1


def test_a_head_sees_itself_alone(backend: str) -> None:
    layer = build(LOOPED, backend, **SIZES)
    x = randn(1, 5, HEADS, IN).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x)[0][..., 1].sum(), x)
    assert gradient[:, :, 1].abs().min() > 0
    assert not gradient[:, :, [0, 2]].any()


def test_one_number_a_head(backend: str) -> None:
    spec = (
        "layer L\nsize heads\ninput x[t]: heads\nstate h[t]: heads\n"
        "v[t]: heads = blockwise(x[t], heads)\nh[t] = 0.5 * h[t-1] + v[t]\noutput v[t], h[t]\n"
    )
    layer = build(spec, backend, heads=4)
    x = randn(2, 3, 4)
    assert_all_close(
        {"v": layer(x)[0][0]}, {"v": x * layer.v.weight[:, 0] + layer.v.bias}, 1e-12
    )  # fmt: skip


def test_transforms() -> None:
    layer = build(SCANNED, "reference", **SIZES)
    x, v = randn(2, 4, IN, HEADS), randn(2, 4, IN, HEADS, seed=3)
    _, tangent = torch.func.jvp(lambda x: layer(x)[0][1], (x,), (v,))
    step = 1e-6
    near = (layer(x + step * v)[0][1] - layer(x - step * v)[0][1]) / (2 * step)
    torch.testing.assert_close(tangent, near, rtol=1e-6, atol=1e-8)
    parameters = dict(layer.named_parameters())
    scaled = {n: torch.stack([p, 2 * p]) for n, p in parameters.items()}
    both = torch.func.vmap(lambda p: torch.func.functional_call(layer, p, (x,))[0][1])(scaled)
    doubled = {n: 2 * p for n, p in parameters.items()}
    want = torch.func.functional_call(layer, doubled, (x,))[0][1]
    torch.testing.assert_close(both[1], want, rtol=1e-10, atol=1e-12)


def test_standalone(tmp_path: Any) -> None:
    file = tmp_path / "blocks.py"
    file.write_text(seqc.build(SCANNED, standalone=True))
    scope: dict[str, Any] = {"__name__": "blocks", "__file__": str(file)}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    layer = build(SCANNED, "reference", **SIZES)
    other = scope["L"](**SIZES, dtype=torch.float64)
    other.load_state_dict(layer.state_dict())
    other.backend = "reference"
    x = randn(2, 4, IN, HEADS)
    torch.testing.assert_close(other.eval()(x)[0], layer(x)[0])


def test_autocast() -> None:
    layer = build(LOOPED, "reference", torch.float32, **SIZES)
    x = randn(2, 4, HEADS, IN, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)[0]
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x)[0], rtol=0.05, atol=0.05)
