"""The adjoint of a kernel as a pass: from text to text, and again, in numbers."""

from __future__ import annotations

import random

import pytest

from seqc.diagnostics import Source
from seqc.ir.kernel import Kernel, Stream
from seqc.ir.plan import KernelStage
from seqc.lower.adjoint import adjoint
from seqc.passes.pipeline import run
from tests.laws import LAWS
from tests.lower.interpret import Row, march

LEAKY = """layer Leaky
size hidden
input f[t]: hidden, v[t]: hidden
param w: hidden = 1
state h[t]: hidden
h[t] = f[t] * h[t-1] + w * v[t]
output h[t]
"""
#: Nonlinear: a march.
WAVE = """layer Wave
size hidden
hyper p = 0.3
input u[t]: hidden
state a[t]: hidden, b[t]: hidden
a[t] = tanh(a[t-1] + sin(b[t-1]) * u[t])
b[t] = p * b[t-1] + a[t-1] * exp(-u[t] ^ 2)
output a[t], b[t]
"""
AFTER = """kernel k0_adjoint over hidden, backwards
  load 0 f: hidden
  load 1 v: hidden
  load 2 d_h: hidden
  constant 0 c0_value3: hidden
  before 0 h_before: hidden
  %0 = load(0): hidden
  %1 = constant(0): hidden
  %2 = load(1): hidden
  %3 = before(0): hidden
  %4 = load(2): hidden
  %5 = prev(0): hidden
  %6 = add(%4, %5): hidden
  %7 = mul(%3, %6): hidden
  %8 = mul(%0, %6): hidden
  %9 = mul(%2, %6): hidden
  %10 = mul(%1, %6): hidden
  %11 = mul(%0, %4): hidden
  scan adjoint_h: affine(%0, %11)
  carry adjoint_h -> %8
  output d_f = %7: hidden
  output d_v = %10: hidden
  total d_c0_value3 += %9: hidden"""


def kernel_of(spec: str) -> Kernel:
    (plan,) = run(Source(spec)).plans
    (stage,) = (s for s in plan.stages if isinstance(s, KernelStage))
    return stage.kernel


def self_contained(kernel: Kernel) -> Kernel:
    """The same with the states that it reads as streams of their own."""
    from dataclasses import replace

    first = len(kernel.streams)
    body = tuple(
        replace(n, op="load", attrs=(first + int(n.attrs[0]),)) if n.op == "before" else n
        for n in kernel.body
    )
    streams = (*kernel.streams, *(Stream(b.name, b.axes) for b in kernel.befores))
    return replace(kernel, body=body, streams=streams, befores=())


def test_from_a_kernel_to_its_adjoint() -> None:
    found = adjoint(kernel_of(LEAKY))
    assert str(found) == AFTER
    assert not list(found.problems())


def leaves_of(kernel: Kernel, steps: int, draw: random.Random) -> list[Row]:
    constants = {("constant", i): draw.gauss(0, 1) for i in range(len(kernel.constants))}
    constants |= {("scalar", i): 0.3 for i in range(len(kernel.scalars))}
    return [
        constants | {("load", i): draw.gauss(0, 1) for i in range(len(kernel.streams))}
        for _ in range(steps)
    ]


def with_states(kernel: Kernel, back: Kernel, rows: list[Row], starts: list[float]) -> list[Row]:
    """The rows with the kernel's carries before each step, for its adjoint to read."""
    carries, made = list(starts), [dict(r) for r in rows]
    order = list(range(len(rows)))
    for t in reversed(order) if kernel.backward else order:
        for j, b in enumerate(back.befores):
            made[t]["before", j] = carries[b.carry]
        _, _, carries = march(kernel, [rows[t]], carries)
    return made


def weighed(kernel: Kernel, rows: list[Row], starts: list[float], weights: random.Random) -> float:
    """A sum of all that a kernel hands out, with weights."""
    outputs, totals, lasts = march(kernel, rows, starts)
    found = [x for step in outputs for x in step] + totals + lasts
    return sum(weights.gauss(0, 1) * x for x in found)


@pytest.mark.parametrize("spec", [LEAKY, WAVE, LAWS["four of them"][1], LAWS["rotation"][1]])
def test_the_adjoint_and_its_own_adjoint_are_derivatives(spec: str) -> None:
    """Held to differences: every input of the kernel, then every input of its adjoint."""
    kernel = kernel_of(spec)
    for order in (1, 2):
        draw = random.Random(order)
        back = adjoint(kernel)
        steps, count = 3, len(kernel.streams)
        rows = leaves_of(kernel, steps, draw)
        starts = [draw.gauss(0, 1) for _ in kernel.carries]
        weights = random.Random(9)
        cotangents = [[weights.gauss(0, 1) for _ in kernel.outputs] for _ in range(steps)]
        of_totals = [weights.gauss(0, 1) for _ in kernel.totals]
        of_lasts = [weights.gauss(0, 1) for _ in kernel.carries]
        given = with_states(kernel, back, rows, starts)
        for t in range(steps):
            given[t] |= {("load", count + i): g for i, g in enumerate(cotangents[t])}
            given[t] |= {
                ("constant", len(kernel.constants) + i): g for i, g in enumerate(of_totals)
            }
        d_streams, d_constants, d_starts = march(back, given, of_lasts)
        tiny = 1e-5

        def slope(change, rows=rows, starts=starts, kernel=kernel, tiny=tiny) -> float:  # type: ignore[no-untyped-def]
            ends = []
            for by in (tiny, -tiny):
                moved, begun = [dict(r) for r in rows], list(starts)
                change(moved, begun, by)
                ends.append(weighed(kernel, moved, begun, random.Random(9)))
            return (ends[0] - ends[1]) / (2 * tiny)

        names = {f"d_{s.name}": i for i, s in enumerate(kernel.streams)}
        for k, o in enumerate(back.outputs):
            for t in range(steps):

                def change(moved, begun, by, i=names[o.name], t=t):  # type: ignore[no-untyped-def]
                    moved[t]["load", i] += by

                assert d_streams[t][k] == pytest.approx(slope(change), rel=1e-6, abs=1e-7)
        places = {f"d_{c.name}": i for i, c in enumerate(kernel.constants)}
        for k, x in enumerate(back.totals):

            def change(moved, begun, by, i=places[x.name]):  # type: ignore[no-untyped-def]
                for row in moved:
                    row["constant", i] += by

            assert d_constants[k] == pytest.approx(slope(change), rel=1e-6, abs=1e-7)
        for i in range(len(starts)):

            def change(moved, begun, by, i=i):  # type: ignore[no-untyped-def]
                begun[i] += by

            assert d_starts[i] == pytest.approx(slope(change), rel=1e-6, abs=1e-7)
        kernel = self_contained(back)


def test_states_of_another_kernel_must_be_streams_first() -> None:
    with pytest.raises(ValueError, match="make those streams first"):
        adjoint(adjoint(kernel_of(LEAKY)))
