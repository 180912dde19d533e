"""The checks of ``seqc verify``: every backend against plain PyTorch in float64.

The oracle is the layer's own ``reference`` backend, plain PyTorch step by step, in float64, on the
numbers that the layer under test saw (parameters and inputs rounded to its dtype first). The
reference itself is held to finite differences.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqc.commands import verify_gradients
from seqc.commands.verify_accuracy import Oracles, accuracy
from seqc.commands.verify_judging import (
    BFLOAT16,
    FLOAT32,
    FLOAT64,
    NAMES,
    Make,
    guard,
    judge,
)
from seqc.commands.verify_report import Check, Status
from seqc.commands.verify_subject import (
    SMALL,
    WIDE,
    Feed,
    Mode,
    Subject,
    as_tuple,
    comparable_gradients,
    discrepancy,
    execute,
    gradients_of,
    widen,
)
from seqc.runtime.build import find_compiler


@dataclass(frozen=True)
class Plan:
    """What to check: subjects, the cases (subject, batch, time), and which extras."""

    small: Subject
    cases: tuple[tuple[Subject, int, int], ...]
    dtypes: tuple[torch.dtype, ...]
    quick: bool
    exact_gradients: bool
    backends: tuple[str, ...]


def make_plan(
    layer_class: type[Any],
    *,
    quick: bool,
    seed: int,
    sizes: dict[str, int],
    exact_gradients: bool,
    backends: tuple[str, ...],
    emulated: bool,
) -> Plan:
    """The cases: short and long, one sequence and several, narrow and wide.

    ``emulated``: the kernels of the CPU have been replaced by emulated ones of CUDA.
    """
    small = Subject(layer_class, SMALL, seed, sizes, emulated)
    cases: list[tuple[Subject, int, int]] = [(small, 2, 7), (small, 3, 67)]
    if not quick:
        wide = Subject(layer_class, WIDE, seed, sizes, emulated)
        cases += [(wide, 3, 33), (wide, 1, 1031)]
    return Plan(small, tuple(cases), (FLOAT64, FLOAT32, BFLOAT16), quick, exact_gradients, backends)


def checks(plan: Plan) -> Iterator[Check]:
    """Every check, as it is made."""
    usable = ["reference"]
    for backend in plan.backends:
        absent = _absent(plan.small, backend)
        if absent is None:
            usable.append(backend)
        else:
            yield Check("kernels", backend, "", absent[0], detail=absent[1])
    yield guard("defined on normal inputs", "reference", "float64", _defined(plan))
    oracles: Oracles = {}
    for backend in usable[1:]:
        for dtype in plan.dtypes:
            yield from accuracy(plan.cases, backend, dtype, oracles)
    streams = getattr(plan.small.layer_class, "STREAMS", True)
    for backend in usable if streams else ():  # else the future is looked at: one call or none
        for mode in ("step", "chunked"):
            yield guard(f"{mode} = parallel", backend, "float64", _same(plan, backend, mode))
    if "resets" in inspect.signature(plan.small.layer_class.forward).parameters:
        for backend in usable if streams else ():
            yield guard("resets = separate calls", backend, "float64", _resets(plan, backend))
    for backend in usable:
        yield guard("no steps (T = 0)", backend, "float32", _no_steps(plan, backend))
        yield guard("one step (T = 1)", backend, "float64", _one_step(plan, backend))
    for backend in usable:
        for dtype in (FLOAT32, FLOAT64):
            check = _extreme(plan, backend, dtype)
            yield guard("inputs of ±1e4 stay finite", backend, NAMES[dtype], check)
    for backend in usable if streams else ():
        yield guard("state gradients", backend, "float64", _state_gradients(plan, backend))
    for backend in usable:
        yield from _derivatives(plan, backend)


def _absent(subject: Subject, backend: str) -> tuple[Any, str] | None:
    """Why a backend cannot be checked, with its status; None where it runs."""
    if not getattr(subject.layer_class, "PARALLEL", True):
        return "n/a", "the layer has no parallel form, so it has no kernels"
    kernels = getattr(subject.layer_class, "KERNELS", ())
    if kernels and (backend == "cpp" or subject.emulated) and find_compiler() is None:
        return "n/a", "there is no C++ compiler here"

    def probe() -> Check:
        layer = subject.layer(backend, FLOAT32)
        with torch.no_grad():
            layer(*subject.inputs(1, 2, FLOAT32))
        return Check("kernels", backend, "", "ok")

    check = guard("kernels", backend, "", probe)
    return None if check.status == "ok" else (check.status, check.detail)


def _defined(plan: Plan) -> Make:
    """Comparisons leave out what is NaN in the truth: then the table must say so."""

    def make() -> Check:
        run = execute(plan.small.layer("reference", FLOAT64), plan.small.feed(2, 7, FLOAT64))
        bad = [n for n, v in run.everything().items() if bool(torch.isnan(v).any())]
        status: Status = "n/a" if bad else "ok"
        text = f"NaN in {', '.join(bad)}: left out of the comparisons" if bad else ""
        return Check("defined on normal inputs", "reference", "float64", status, detail=text)

    return make


def _same(plan: Plan, backend: str, mode: str) -> Make:
    def make() -> Check:
        way: Mode = "step" if mode == "step" else "chunked"
        feed = plan.small.feed(2, 13, FLOAT64)
        truth = execute(plan.small.layer("reference", FLOAT64), feed).everything()
        got = execute(plan.small.layer(backend, FLOAT64), feed, way).everything()
        error, where = discrepancy(got, truth)
        return judge(f"{mode} = parallel", backend, FLOAT64, error, 1e-9, where)

    return make


def _resets(plan: Plan, backend: str) -> Make:
    """A reset inside a sequence against a call that starts there, with no state."""

    def make() -> Check:
        batch, time, cut = 2, 11, 5
        feed = plan.small.feed(batch, time, FLOAT64)
        mask = torch.zeros(batch, time, dtype=torch.bool)
        mask[:, cut] = True
        got = execute(plan.small.layer(backend, FLOAT64), feed, resets=mask)
        want = execute(plan.small.layer("reference", FLOAT64), feed, restart=cut)
        error, where = discrepancy(got.everything(), want.everything())
        return judge("resets = separate calls", backend, FLOAT64, error, 1e-9, where)

    return make


def _no_steps(plan: Plan, backend: str) -> Make:
    def make() -> Check:
        name = "no steps (T = 0)"
        feed = plan.small.feed(2, 0, FLOAT32)
        run = execute(plan.small.layer(backend, FLOAT32), feed)
        for y, shape in zip(run.outputs.values(), plan.small.output_shapes(2, 0), strict=True):
            if tuple(y.shape) != shape:
                text = f"an output is {tuple(y.shape)}, not {shape}"
                return Check(name, backend, "float32", "FAIL", detail=text)
        given = dict(zip(run.states, feed.state or (), strict=True))
        error, where = discrepancy(run.states, given)
        return judge(name, backend, FLOAT32, error, 0.0, f"{where}: not the state passed in")

    return make


def _one_step(plan: Plan, backend: str) -> Make:
    def make() -> Check:
        truth = plan.small.layer("reference", FLOAT64)
        layer = plan.small.layer(backend, FLOAT64)
        x = plan.small.inputs(2, 1, FLOAT64)
        # No state passed in: every state at its init, every lagged read before the first step.
        want = execute(truth, Feed(x, None)).everything()
        error, where = discrepancy(execute(layer, Feed(x, None)).everything(), want)
        if getattr(layer, "STREAMS", True):
            with comparable_gradients(layer):
                y, _ = layer.step(*(v[:, 0] for v in x), None)
            shapes = plan.small.output_shapes(2, 1)
            for i, (value, shape) in enumerate(zip(as_tuple(y), shapes, strict=True)):
                if tuple(value.shape) != (shape[0], *shape[2:]):
                    error, where = math.inf, f"output {i} of step is {tuple(value.shape)}"
        return judge("one step (T = 1)", backend, FLOAT64, error, 1e-9, where)

    return make


def _extreme(plan: Plan, backend: str, dtype: torch.dtype) -> Make:
    def make() -> Check:
        subject, largest = plan.small, torch.finfo(dtype).max
        truth = subject.layer("reference", FLOAT64, values=dtype)
        layer = subject.layer(backend, dtype)
        lost, where = 0, ""
        base = subject.feed(2, 11, dtype)
        spread = tuple(1e4 * x for x in base.inputs)
        high, low = (tuple(torch.full_like(x, s * 1e4) for x in base.inputs) for s in (1, -1))
        for inputs in (spread, high, low):
            feed = Feed(inputs, base.state)
            want = execute(truth, widen(feed)).everything()
            got = execute(layer, feed).everything()
            for name, value in want.items():
                # A tenth of the range: sums that only just fit may round over its edge.
                fits = torch.isfinite(value) & (value.abs() < 0.1 * largest)
                bad = fits & ~torch.isfinite(got[name]) if name in got else fits & (value != 0)
                if count := int(bad.sum()):
                    lost, where = lost + count, name
        return judge("inputs of ±1e4 stay finite", backend, dtype, lost, 0, where)

    return make


def _state_gradients(plan: Plan, backend: str) -> Make:
    """Gradients through a state alone: from the last state back to the first inputs."""

    def gradients(layer: Any, feed: Feed) -> dict[str, Tensor]:
        x = tuple(v.clone().requires_grad_() for v in feed.inputs)
        with comparable_gradients(layer):
            _, state = layer(*x)
            later = (v.new_full((v.shape[0], 2, *v.shape[2:]), 0.5) for v in x)
            y, last = layer(*later, state=state)
        leaves = {f"d {n}": v for n, v in zip(type(layer).INPUTS, x, strict=True)}
        leaves |= {f"d {n}": p for n, p in layer.named_parameters()}
        return gradients_of([*as_tuple(y), *last], leaves)

    def make() -> Check:
        feed = Feed(plan.small.inputs(2, 5, FLOAT64), None)
        want = gradients(plan.small.layer("reference", FLOAT64), feed)
        got = gradients(plan.small.layer(backend, FLOAT64), feed)
        error, where = discrepancy(got, want)
        return judge("state gradients", backend, FLOAT64, error, 1e-9, where)

    return make


def _derivatives(plan: Plan, backend: str) -> Iterator[Check]:
    """gradcheck and gradgradcheck, in float64."""
    names = ("gradients = differences", "second derivatives")
    if not plan.exact_gradients:
        for name in names:
            text = "the spec states its own gradient"
            yield Check(name, backend, "float64", "n/a", detail=text)
        return

    def first() -> Check:
        feed = plan.small.feed(2, 3, FLOAT64)
        layer = plan.small.layer(backend, FLOAT64)
        error, complaint = verify_gradients.first_order(layer, feed, fast=plan.quick)
        check = judge(names[0], backend, FLOAT64, error, 1e-6, "in a random direction")
        if complaint:
            return Check(names[0], backend, "float64", "FAIL", error, 1e-6, complaint)
        return check

    def second() -> Check:
        feed = plan.small.feed(1, 3, FLOAT64)
        layer = plan.small.layer(backend, FLOAT64)
        status, detail = verify_gradients.second_order(layer, feed)
        return Check(names[1], backend, "float64", status, detail=detail)

    yield guard(names[0], backend, "float64", first)
    yield guard(names[1], backend, "float64", second)
