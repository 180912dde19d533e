"""Newton's iterations held to steps: states, gradients, certificates, what becomes of failures."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

import seqc
from seqc.runtime import backends, jacobians
from seqc.runtime.recurrences import adjoint_scan, affine_scan
from tests.layer.support import assert_all_close, assert_close, build, leaf, randn
from tests.passes.support import HEAD as LOOP_HEAD
from tests.passes.support import random_arguments, values_and_gradients
from tests.passes.test_loops import SPECS
from tests.solving.support import CELLS, HEAD, LOOPS, cell, compiled

#: A cell's name, the Jacobian that its iterations go by, and how its channels meet.
FORMS = [
    ("elman", "auto", "full"),
    ("gru", "auto", "full"),
    ("lstm", "full", "full"),
    ("diagonal", "auto", "diagonal"),
    ("diagonal", "block", "diagonal"),
    ("diagonal", "full", "diagonal"),
    ("pair", "auto", "block"),
    ("pair", "full", "block"),
    # parts of the Jacobian, with gradients by the whole
    ("pair", "diagonal", "block"),
    ("gru", "diagonal", "full"),
    ("lstm", "block", "full"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _quick_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of a moment's use are not worth optimising; and each test is warned anew."""
    monkeypatch.setenv("SEQC_CXXFLAGS", "-O0")
    monkeypatch.setattr(backends, "_WARNED", set())


def newton(name: str, jacobian: str = "auto", more: str = "", most: int = 300, **sizes: Any) -> Any:
    statement = f"solve newton(jacobian = {jacobian}, tolerance = 1e-12, iterations = {most}{more})"
    return cell(name, statement, **sizes)


def everything(layer: Any, x: Tensor, state: Any, resets: Tensor | None) -> dict[str, Tensor]:
    """Outputs, last states and all gradients of a call."""
    given = leaf(x)
    start = None if state is None else layer.State(*map(leaf, state))
    y, last = layer(given, start, resets=resets)
    named = dict(enumerate((*((y,) if isinstance(y, Tensor) else y), *last)))
    loss = sum((v * randn(*v.shape, seed=40 + i)).sum() for i, v in named.items())
    leaves = {"x": given, **dict(layer.named_parameters())}
    leaves |= {f"past {i}": s for i, s in enumerate(start or ())}
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    result = {n: torch.zeros_like(v) if g is None else g
              for (n, v), g in zip(leaves.items(), found, strict=True)}  # fmt: skip
    return result | {f"value {i}": v for i, v in named.items()}


@pytest.mark.parametrize("steps", [0, 1, 17, 200])
@pytest.mark.parametrize("name, jacobian, structure", FORMS)
def test_iterations_find_the_steps(name: str, jacobian: str, structure: str, steps: int) -> None:
    layer = newton(name, jacobian)
    x = randn(3, steps, 2)
    state = layer.State(*(randn(3, 3, seed=7 + i) for i in range(len(layer.FIELDS))))
    resets = torch.rand(3, steps, generator=torch.Generator().manual_seed(5)) < 0.1
    found = {}
    for backend in ("auto", "reference"):
        layer.backend = backend
        found[backend] = everything(layer, x, state, resets)
        if backend == "auto" and steps:
            assert set(layer.solution) == {f.name for f in layer.FIELDS}
            solution = layer.solution["h"]
            assert solution.converged.all()
            assert (solution.residual < 1e-10).all()
            assert (solution.iterations <= 300).all()
        else:
            assert layer.solution == {}
    assert_all_close(found["auto"], found["reference"], 1e-10)


@pytest.mark.parametrize("name, jacobian, structure", FORMS)
def test_what_is_reported(name: str, jacobian: str, structure: str) -> None:
    statement = f"solve newton(jacobian = {jacobian})"
    (stratum,) = seqc.check(f"{HEAD}{CELLS[name]}{statement}\n")["Cell"].strata
    assert stratum.method == "newton"
    assert stratum.jacobian == structure
    assert stratum.newton is not None
    assert stratum.newton.jacobian == (structure if jacobian == "auto" else jacobian)


@pytest.mark.parametrize("name", LOOPS)
def test_whatever_a_step_reads(name: str) -> None:
    spec = LOOP_HEAD + SPECS[name][1]
    kind = compiled(f"{spec}solve newton(tolerance = 1e-12, iterations = 200)\n")
    need = [s for s, default in kind.SIZES.items() if default is None]
    layer = build(kind, "auto", **{s: 3 + i for i, s in enumerate(need)})
    inputs, state, resets = random_arguments(layer)
    found = [
        values_and_gradients(layer, b, inputs, state, resets, steps=True)
        for b in ("auto", "reference")
    ]
    for got, want in zip(*found, strict=True):
        assert_all_close(got, want, 1e-9)


def test_a_scan_stays_one() -> None:
    (stratum,) = seqc.check(f"{HEAD}{CELLS['scan']}solve newton\n")["Cell"].strata
    assert (stratum.method, stratum.newton) == ("scan", None)


@pytest.mark.parametrize("m", [1, 2, 33])
@pytest.mark.parametrize("steps", [1, 2, 10, 17])
def test_scans_of_matrices(steps: int, m: int) -> None:
    matrices, v = randn(2, steps, 3, m, m) / m**0.5, randn(2, steps, 3, m, seed=4)
    y, g = v.clone(), v.clone()
    for t in range(1, steps):
        y[:, t] += torch.einsum("bgij,bgj->bgi", matrices[:, t], y[:, t - 1])
        s = steps - 1 - t
        g[:, s] += torch.einsum("bgji,bgj->bgi", matrices[:, s + 1], g[:, s + 1])
    assert_close(affine_scan(matrices, v), y, 1e-12)
    assert_close(adjoint_scan(matrices, v), g, 1e-12)


@pytest.mark.parametrize("name", ["gru", "lstm", "pair", "diagonal"])
def test_gradcheck(name: str) -> None:
    layer = newton(name, input=1, hidden=2)
    x = leaf(randn(2, 5, 1))
    state = [leaf(randn(2, 2, seed=i)) for i in range(len(layer.FIELDS))]

    def run(x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        y, last = layer(x, layer.State(*state))
        return (*((y,) if isinstance(y, Tensor) else y), *last)

    assert torch.autograd.gradcheck(run, (x, *state))


def test_the_tolerance_of_the_dtype() -> None:
    """As published, for each dtype; convergence being quadratic, errors are smaller by far."""
    for dtype, error in ((torch.float32, 2e-6), (torch.float64, 1e-7), (torch.bfloat16, 1e-2)):
        layer, x = cell("gru", "solve newton", dtype=dtype), randn(2, 50, 2, dtype=dtype)
        y, _ = layer(x)
        assert y.dtype is dtype
        assert layer.solution["h"].converged.all()
        layer.backend = "reference"
        assert_close(y, layer(x)[0], error)


def exploding(name: str, more: str = "") -> Any:
    """A cell whose steps are chaos, so that iterations find about a step each."""
    layer = newton(name, "auto", more, 12, hidden=8)
    with torch.no_grad():
        for n, p in layer.named_parameters():
            if n.endswith("h.weight"):
                p.mul_(100)
    return layer


@pytest.mark.parametrize("name", ["elman", "lstm"])
def test_what_does_not_converge_is_stepped(name: str) -> None:
    layer = exploding(name, ", guess = input")
    x = randn(4, 60, 2)
    x[1::2, 1:] = 0  # the others are at rest after a reset
    resets = torch.zeros(4, 60, dtype=torch.bool)
    resets[1::2] = True
    with pytest.warns(seqc.SeqcWarning, match="did not converge for some sequences"):
        y, _ = layer(x, resets=resets)
    solution = layer.solution["h"]
    assert solution.converged.tolist() == [False, True, False, True]
    assert (solution.iterations[1::2] < 5).all()
    layer.backend = "reference"
    want, _ = layer(x, resets=resets)
    for a, b in zip(*((v if isinstance(v, tuple) else (v,)) for v in (y, want)), strict=True):
        assert_close(a, b, 1e-9)


def test_no_number_is_hidden() -> None:
    """What is no number where steps are taken is none here, and other sequences keep theirs."""
    layer, x = newton("gru"), randn(3, 10, 2)
    x[1, 4] = float("nan")
    with pytest.warns(seqc.SeqcWarning, match="did not converge"):
        y, _ = layer(x)
    assert layer.solution["h"].converged.tolist() == [True, False, True]
    layer.backend = "reference"
    assert_close(y, layer(x)[0], 1e-10)
    assert y[1, 4:].isnan().all()


def test_too_few_iterations() -> None:
    layer = cell("gru", "solve newton(tolerance = 1e-12, iterations = 1)")
    x = randn(2, 40, 2)
    with pytest.warns(seqc.SeqcWarning, match=r"at most 1 were asked for"):
        got = everything(layer, x, None, None)
    assert layer.solution["h"].iterations.tolist() == [1, 1]
    layer.backend = "reference"
    assert_all_close(got, everything(layer, x, None, None), 1e-12)


def test_guesses() -> None:
    """A call like the one before it starts from its solution; from inputs, one iteration in."""
    x = randn(2, 60, 2)
    counts = {}
    for guess in ("zero", "input", "previous"):
        layer = newton("gru", more=f", guess = {guess}")
        y, _ = layer(x)
        first = int(layer.solution["h"].iterations.max())
        again, _ = layer(x)
        counts[guess] = first, int(layer.solution["h"].iterations.max())
        assert_close(again, y, 1e-12)
        other, _ = layer(randn(2, 30, 2))  # of another shape: from zero again
        assert other.isfinite().all()
        assert "_previous" not in copy.deepcopy(layer).__dict__
    assert counts["zero"][0] == counts["zero"][1] == counts["previous"][0]
    assert counts["previous"][1] == 1
    assert counts["input"][0] <= counts["zero"][0]


def test_damping() -> None:
    layer = newton("diagonal", more=", damping = 0.5")
    x = randn(2, 40, 2)
    got = everything(layer, x, None, None)
    damped = int(layer.solution["h"].iterations.max())
    layer.backend = "reference"
    assert_all_close(got, everything(layer, x, None, None), 1e-10)
    plain = newton("diagonal")
    plain(x)
    assert damped > int(plain.solution["h"].iterations.max())


def test_packed_sequences() -> None:
    """A certificate each, in the order of the sequences, however they are cut into pieces."""
    layer = newton("elman")
    x = randn(1, 30, 2)
    x[0, 12] = float("nan")
    edges = torch.tensor([0, 10, 10, 13, 30])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", seqc.SeqcWarning)
        y, _ = layer(x, cu_seqlens=edges)
    solution = layer.solution["h"]
    assert solution.converged.tolist() == [True, True, False, True]
    assert solution.iterations[1] == 0
    assert (solution.iterations[[0, 2, 3]] > 0).all()
    assert solution.residual[2].isnan()
    layer.backend = "reference"
    assert_close(y, layer(x, cu_seqlens=edges)[0], 1e-10)


def test_other_gradients() -> None:
    """How states are found says nothing of how gradients come back."""
    x = randn(2, 20, 2)
    for way in ("stationary(0, 0.5)", "truncated(3)"):
        found = []
        for solve in ("solve newton(tolerance = 1e-12)", "solve sequential"):
            layer = cell("lstm", f"{solve}\ngradient {way}")
            found.append(everything(layer, x, None, None))
            assert bool(layer.solution) == ("newton" in solve)
        assert_all_close(*found, 1e-10)


def test_transforms_and_higher_orders() -> None:
    """Under transforms steps are taken one by one; a second derivative by itself is refused."""
    layer, x, v = newton("gru"), randn(2, 4, 2), randn(2, 4, 2, seed=9)
    found = []

    def run(u: Tensor) -> Tensor:
        y: Tensor = layer(u)[0]
        return y

    for backend in ("auto", "reference"):
        layer.backend = backend
        twice = torch.func.jvp(torch.func.grad(lambda u: run(u).square().sum()), (x,), (v,))
        each = torch.func.vmap(run)(torch.stack([x, v]))
        found.append(dict(zip("abc", (*twice, each), strict=True)))
    assert_all_close(*found, 1e-12)
    layer.backend = "auto"
    given = leaf(x)
    (first,) = torch.autograd.grad(layer(given)[0].sum(), given, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives"):
        first.sum().backward()
    with torch.inference_mode():
        assert_close(layer(x)[0].clone(), run(x).detach(), 1e-10)


def test_slopes_without_a_batching_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch cannot differentiate for many cotangents at once goes one by one."""
    layer, x = newton("lstm"), randn(2, 20, 2)
    want = everything(layer, x, None, None)
    whole = jacobians._gradients

    def refusing(value: Any, lags: Any, cotangents: Any, batched: bool) -> Any:
        if batched:
            raise RuntimeError("Batching rule not implemented")
        return whole(value, lags, cotangents, batched)

    monkeypatch.setattr(jacobians, "_gradients", refusing)
    assert_all_close(everything(layer, x, None, None), want, 1e-12)
    monkeypatch.setattr(jacobians, "_gradients", whole)
    monkeypatch.setattr(jacobians, "AT_ONCE", 2 * x.shape[0] * 20 * 3)  # two of three
    assert_all_close(everything(layer, x, None, None), want, 1e-12)


def test_a_layer_of_some_size() -> None:
    """Products that are large enough to run as convolutions have no part in the slopes."""
    layer = build(compiled(f"{HEAD}{CELLS['gru']}solve newton(tolerance = 1e-6)\n"), "auto",
                  torch.float32, input=16, hidden=64)  # fmt: skip
    x = randn(2, 40, 16, dtype=torch.float32)
    got = everything(layer, x, None, None)
    assert layer.solution["h"].converged.all()
    layer.backend = "reference"
    assert_all_close(got, everything(layer, x, None, None), 1e-5)
