"""Stretches of time as functions: lifting, composing and entering are marching, for every law."""

from __future__ import annotations

import random

import pytest

from seqc.diagnostics import Source
from seqc.ir.plan import KernelStage
from seqc.ir.schedule import Scheduled
from seqc.passes.pipeline import run
from tests.laws import LAWS
from tests.lower.interpret import Row, call, lifted, march


def stage_of(spec: str) -> KernelStage:
    (plan,) = run(Source(spec)).plans
    (stage,) = (s for s in plan.stages if isinstance(s, KernelStage))
    return stage


def rows_of(scheduled: Scheduled, steps: int) -> list[Row]:
    kernel, draw = scheduled.kernel, random.Random(4)
    constants = {("constant", i): draw.gauss(0, 1) for i in range(len(kernel.constants))}
    constants |= {("scalar", i): draw.uniform(0.1, 1) for i in range(len(kernel.scalars))}
    return [
        constants
        | {("load", i): draw.gauss(0, 1) for i in range(len(kernel.streams))}
        | {("before", i): draw.gauss(0, 1) for i in range(len(kernel.befores))}
        for _ in range(steps)
    ]


@pytest.mark.parametrize("of", ["kernel", "tangent"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", LAWS)
def test_a_stretch_is_its_steps(name: str, direction: str, of: str) -> None:
    stage = stage_of(LAWS[name][1])
    dual = stage.tangent
    assert dual is not None
    scheduled = getattr(stage if of == "kernel" else dual, direction)
    kernel, rows = scheduled.kernel, rows_of(scheduled, 7)
    draw = random.Random(1)
    starts = [draw.uniform(0.2, 1) for _ in kernel.carries]
    _, _, want = march(kernel, rows, starts)
    early, late = (rows[4:], rows[:4]) if kernel.backward else (rows[:4], rows[4:])
    _, _, between = march(kernel, early, starts)
    assert [s.scan for s in scheduled.segments] == list(range(len(kernel.scans)))
    for segment in scheduled.segments:
        mine = kernel.scans[segment.scan].carries
        along = [c.source for c in segment.lift.carries if c.source is not None]
        first = lifted(segment.lift, segment, early, [starts[i] for i in along])
        second = lifted(segment.lift, segment, late, [between[i] for i in along])
        entered = call(segment.enter, *second, *(between[i] for i in mine))
        assert entered == pytest.approx([want[i] for i in mine], rel=1e-9, abs=1e-12)
        both = call(segment.compose, *second, *first)
        entered = call(segment.enter, *both, *(starts[i] for i in mine))
        assert entered == pytest.approx([want[i] for i in mine], rel=1e-9, abs=1e-12)
        none = call(segment.enter, *segment.identity, *(starts[i] for i in mine))
        assert none == pytest.approx([starts[i] for i in mine])
