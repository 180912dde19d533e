"""Building layers and holding them to references: the one place that says what "equal" means.

The relative error of a tensor is max|got − want| / max|want|: one number a tensor, so an entry that
happens to lie near zero is judged by the scale of its tensor. Where the reference is zero
throughout, the result must be exactly zero. Infinities and NaN must stand at the same places.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import seqc
from tests.references import Reference

#: The promises for a float64 and a float32 layer against a float64 loop.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6}

_CXX = os.environ.get("SEQC_CXX") or os.environ.get("CXX")
HAVE_CXX = any(
    shutil.which(c) for c in ([shlex.split(_CXX)[0]] if _CXX else ["c++", "g++", "clang++"])
)
CPP = pytest.param(
    "cpp",
    marks=[pytest.mark.cpp, pytest.mark.skipif(not HAVE_CXX, reason="no C++ compiler")],
)
BACKENDS = [pytest.param("reference"), CPP]
DTYPES = [pytest.param(torch.float64, id="float64"), pytest.param(torch.float32, id="float32")]


@functools.cache
def compiled(spec: str | Path, layer: str | None = None) -> type[nn.Module]:
    """``seqc.compile``, once a spec."""
    return seqc.compile(spec) if layer is None else seqc.compile(spec, layer=layer)


def build(
    spec: str | Path | type[nn.Module],
    backend: str = "reference",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    spread: float | None = 1.0,
    **sizes: float,
) -> Any:
    """A built layer in eval mode, its parameters drawn afresh: biases and inits are not zero.

    Weights have a standard deviation of ``spread / sqrt(fan-in)``, other parameters of ``spread /
    2``. Draws are made in float32, so that a layer of either precision has the same parameters.
    ``spread = None`` leaves them as they were built.
    """
    cls = spec if isinstance(spec, type) else compiled(spec)
    layer: Any = cls(**sizes, dtype=dtype)
    layer.backend = backend
    if spread is not None:
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in layer.parameters():
                fan_in = p[0].numel() if p.dim() > 1 else 4
                p.copy_(torch.randn(p.shape, generator=draw) * (spread / fan_in**0.5))
    return layer.eval()


def randn(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    """Normal numbers, the same ones in every precision."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def random_state(layer: Any, inputs: Sequence[Tensor], seed: int = 2) -> Any:
    """A state of the layer's own type with random fields.

    Only for layers whose state may hold any numbers (states and windows of inputs).
    """
    with torch.no_grad():
        _, state = layer(*(x[:, :0] for x in inputs))
    return type(state)(
        *(randn(*f.shape, dtype=f.dtype, seed=seed + k) for k, f in enumerate(state))
    )


def outputs_of(y: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A layer's outputs as a tuple, one or several."""
    return (y,) if isinstance(y, Tensor) else tuple(y)


def leaf(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A copy that gradients are asked of."""
    return x.detach().to(dtype or x.dtype, copy=True).requires_grad_()


def relative_error(got: Tensor, want: Tensor) -> float:
    """max|got − want| / max|want|, as the head of this file has it."""
    assert got.shape == want.shape, f"shape {tuple(got.shape)}, expected {tuple(want.shape)}"
    if not want.numel():
        return 0.0
    got, want = got.detach().double(), want.detach().double()
    finite = want.isfinite()
    if not torch.equal(got[~finite].nan_to_num(), want[~finite].nan_to_num()) or not torch.equal(
        got.isnan(), want.isnan()
    ):
        return float("inf")
    if not finite.any():
        return 0.0
    difference = float((got[finite] - want[finite]).abs().max())
    scale = float(want[finite].abs().max())
    return difference / scale if scale else (0.0 if difference == 0 else float("inf"))


def assert_close(got: Tensor, want: Tensor, tolerance: float, what: str = "result") -> None:
    """The relative error is within the tolerance."""
    error = relative_error(got, want)
    assert error <= tolerance, f"{what}: relative error {error:.3g}, allowed {tolerance:.3g}"


def assert_all_close(
    got: Mapping[str, Tensor], want: Mapping[str, Tensor], tolerance: float
) -> None:
    """Every tensor of ``want`` is in ``got`` and close; all that differ are named at once."""
    assert set(got) == set(want), f"{sorted(got)}, expected {sorted(want)}"
    errors = {name: relative_error(got[name], want[name]) for name in want}
    wrong = {name: f"{e:.3g}" for name, e in errors.items() if not e <= tolerance}
    assert not wrong, f"relative errors {wrong}, allowed {tolerance:.3g}"


def gradients(
    results: Sequence[Tensor], leaves: Mapping[str, Tensor], seed: int = 7
) -> dict[str, Tensor]:
    """Gradients of a random weighted sum of the results; zeros where there is no way."""
    total = sum((r * randn(*r.shape, seed=seed + k).to(r)).sum() for k, r in enumerate(results))
    if not isinstance(total, Tensor) or not total.requires_grad:
        return {name: torch.zeros_like(x) for name, x in leaves.items()}
    grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return {
        name: torch.zeros_like(x) if g is None else g
        for (name, x), g in zip(leaves.items(), grads, strict=True)
    }


def hold_to(
    layer: Any,
    reference: Reference,
    inputs: Sequence[Tensor],
    state: Any = None,
    *,
    states: Sequence[str],
    tolerance: float | None = None,
) -> None:
    """Outputs, final state and all gradients of the layer are those of the float64 reference.

    ``states`` names the declared states. The layer's state may have other fields, what is read with
    a lag: one of them, a convolution's window, goes by the name "x" in a reference that knows it.
    """
    dtype = inputs[0].dtype
    limit = TOLERANCE[dtype] if tolerance is None else tolerance

    def collect(ys: Sequence[Tensor], final: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {f"output {k}": y for k, y in enumerate(ys)}
        return found | {f"final {name}": x for name, x in sorted(final.items())}

    # The layer.
    xs = [leaf(x) for x in inputs]
    params = dict(layer.named_parameters())
    given = None if state is None else type(state)(*(leaf(f) for f in state))
    y, final = layer(*xs, state=given)
    lagged = [f for f in final._fields if f not in states]
    known = {f: f for f in states} | {f: f"lagged {f}" for f in lagged}
    if len(lagged) == 1:
        known[lagged[0]] = "x"
    fields = {} if given is None else {known[f]: x for f, x in given._asdict().items()}
    assert set(known) == set(final._fields), f"fields {final._fields}, states {states}"
    for k, out in enumerate(outputs_of(y)):
        assert out.dtype == dtype, f"output {k} is {out.dtype}"
    got = collect(outputs_of(y), {known[f]: x for f, x in final._asdict().items()})

    # The reference, on the same numbers in float64.
    wide = torch.float64
    ref_xs = [leaf(x, wide) for x in inputs]
    ref_params = {name: leaf(p, wide) for name, p in params.items()}
    ref_fields = {name: leaf(x, wide) for name, x in fields.items()}
    ys, last = reference(ref_params, ref_xs, ref_fields if given is not None else None)
    want = collect(ys, last)
    assert set(states) <= set(last)

    # A window of no steps may be missing from either; one that the reference doesn't know is not
    # compared (the tests of streaming cover it).
    missing = {n for n in want if n not in got}
    assert all(not want[n].numel() for n in missing), f"the layer gives no {sorted(missing)}"
    compared = sorted(set(got) & set(want))
    assert_all_close({n: got[n] for n in compared}, {n: want[n] for n in compared}, limit)

    def by_name(
        xs: Sequence[Tensor], params: Mapping[str, Tensor], fields: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        found = {f"input {k}": x for k, x in enumerate(xs)}
        found |= {f"param {name}": p for name, p in params.items()}
        return found | {f"state {name}": x for name, x in fields.items()}

    got_grads = gradients([got[n] for n in compared], by_name(xs, params, fields))
    want_grads = gradients([want[n] for n in compared], by_name(ref_xs, ref_params, ref_fields))
    assert_all_close(got_grads, want_grads, limit)


def chunked(layer: Any, inputs: Sequence[Tensor], lengths: Sequence[int], state: Any = None) -> Any:
    """(outputs, state) of calls on chunks of these lengths, each handing its state on."""
    parts: list[tuple[Tensor, ...]] = []
    start = 0
    for length in lengths:
        y, state = layer(*(x[:, start : start + length] for x in inputs), state=state)
        parts.append(outputs_of(y))
        start += length
    assert start == inputs[0].shape[1]
    return tuple(torch.cat(p, 1) for p in zip(*parts, strict=True)), state


def stepped(layer: Any, inputs: Sequence[Tensor], state: Any = None) -> Any:
    """(outputs, state) of one ``step`` after another."""
    parts: list[tuple[Tensor, ...]] = []
    for xs in zip(*(x.unbind(1) for x in inputs), strict=True):
        y, state = layer.step(*xs, state=state)
        parts.append(outputs_of(y))
    return tuple(torch.stack(p, 1) for p in zip(*parts, strict=True)), state


def assert_streams(
    layer: Any, inputs: Sequence[Tensor], lengths: Sequence[int], state: Any = None
) -> None:
    """At once = in chunks = step by step: outputs, states, and gradients through the states."""
    dtype = inputs[0].dtype
    ways: dict[str, Callable[[Sequence[Tensor], Any], Any]] = {
        "at once": lambda xs, s: layer(*xs, state=s),
        "in chunks": lambda xs, s: chunked(layer, xs, lengths, s),
    }
    if inputs[0].shape[1]:
        ways["step by step"] = lambda xs, s: stepped(layer, xs, s)
    found = {}
    params = dict(layer.named_parameters())
    for way, go in ways.items():
        xs = [leaf(x) for x in inputs]
        given = None if state is None else type(state)(*(leaf(f) for f in state))
        y, final = go(xs, given)
        values = {f"output {k}": v for k, v in enumerate(outputs_of(y))} | final._asdict()
        leaves = {f"input {k}": x for k, x in enumerate(xs)} | params
        leaves |= {} if given is None else {f"state {n}": v for n, v in given._asdict().items()}
        grads = gradients(list(values.values()), leaves)
        found[way] = (values, grads)
    for way in list(found)[1:]:
        for got, want in zip(found[way], found["at once"], strict=True):
            assert_all_close(got, want, TOLERANCE[dtype])
