"""The tangent of a kernel as a pass: from text to text, and in numbers."""

from __future__ import annotations

import random

import pytest

from seqc.lower.adjoint import adjoint
from seqc.lower.tangent import tangent
from tests.laws import LAWS
from tests.lower.interpret import Row, march
from tests.lower.test_adjoint import LEAKY, WAVE, kernel_of, leaves_of, with_states

AFTER = """kernel k0_tangent over hidden
  load 0 f: hidden
  load 1 v: hidden
  load 2 f_dot: hidden
  load 3 v_dot: hidden
  constant 0 c0_value3: hidden
  constant 1 c0_value3_dot: hidden
  %0 = load(0): hidden
  %1 = constant(0): hidden
  %2 = load(1): hidden
  %3 = mul(%1, %2): hidden
  %4 = prev(0): hidden
  %5 = mul(%0, %4): hidden
  %6 = add(%3, %5): hidden
  %7 = load(2): hidden
  %8 = constant(1): hidden
  %9 = load(3): hidden
  %10 = prev(1): hidden
  %11 = mul(%2, %8): hidden
  %12 = mul(%1, %9): hidden
  %13 = add(%11, %12): hidden
  %14 = mul(%4, %7): hidden
  %15 = mul(%0, %10): hidden
  %16 = add(%14, %15): hidden
  %17 = add(%13, %16): hidden
  %18 = add(%13, %14): hidden
  scan h: affine(%0, %3)
  scan h_dot: affine(%0, %18)
  carry h -> %6
  carry h_dot -> %17
  output h = %6: hidden
  output h_dot = %17: hidden"""
SPECS = [LEAKY, WAVE, *(LAWS[name][1] for name in LAWS)]


def test_from_a_kernel_to_its_tangent() -> None:
    found = tangent(kernel_of(LEAKY))
    assert str(found) == AFTER
    assert not list(found.problems())


@pytest.mark.parametrize("spec", SPECS)
def test_it_is_the_slope_along_a_direction(spec: str) -> None:
    """Values as the kernel's, then what differences say."""
    kernel = kernel_of(spec)
    draw = random.Random(3)
    dual, tiny = tangent(kernel), 1e-6
    assert not list(dual.problems())
    rows, starts = leaves_of(dual, 4, draw), [draw.uniform(0.2, 1) for _ in dual.carries]
    n, m, carries = len(kernel.streams), len(kernel.constants), len(kernel.carries)

    def at(by: float) -> tuple[list[list[float]], list[float]]:
        moved: list[Row] = []
        for row in rows:
            new = dict(row)
            for op, count in (("load", n), ("constant", m)):
                for i in range(count):
                    new[op, i] = row[op, i] + by * row[op, count + i]
            moved.append(new)
        begun = [starts[i] + by * starts[carries + i] for i in range(carries)]
        outputs, _, lasts = march(kernel, moved, begun)
        return outputs, lasts

    outputs, _, lasts = march(dual, rows, starts)
    (here, last), (ahead, end), (behind, back) = at(0.0), at(tiny), at(-tiny)
    count = len(kernel.outputs)
    for t, found in enumerate(outputs):
        slopes = [(a - b) / (2 * tiny) for a, b in zip(ahead[t], behind[t], strict=True)]
        assert found[:count] == here[t]
        assert found[count:] == pytest.approx(slopes, rel=1e-6, abs=1e-7)
    assert lasts[:carries] == last
    slopes = [(a - b) / (2 * tiny) for a, b in zip(end, back, strict=True)]
    assert lasts[carries:] == pytest.approx(slopes, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("spec", SPECS)
def test_its_adjoint_is_the_adjoint_s_tangent(spec: str) -> None:
    """For the tangents of what is read the kernel's adjoint, for itself the slope of that."""
    kernel = kernel_of(spec)
    draw = random.Random(5)
    dual, back, tiny = tangent(kernel), adjoint(kernel), 1e-6
    both = adjoint(dual)
    n, carries, outputs = len(kernel.streams), len(kernel.carries), len(kernel.outputs)
    rows, starts = leaves_of(dual, 3, draw), [draw.uniform(0.2, 1) for _ in dual.carries]
    cotangents = [[draw.gauss(0, 1) for _ in range(outputs)] for _ in rows]
    lasts = [draw.gauss(0, 1) for _ in range(carries)]

    def gradients(by: float) -> dict[str, list[float]]:
        moved: list[Row] = []
        for row in rows:
            new = dict(row)
            for op, count in (("load", n), ("constant", len(kernel.constants))):
                for i in range(count):
                    new[op, i] = row[op, i] + by * row[op, count + i]
                    new.pop((op, count + i))
            moved.append(new)
        begun = [starts[i] + by * starts[carries + i] for i in range(carries)]
        given = with_states(kernel, back, moved, begun)
        for t, g in enumerate(cotangents):
            given[t] |= {("load", n + i): x for i, x in enumerate(g)}
        found, _, first = march(back, given, lasts)
        named = {o.name: [f[k] for f in found] for k, o in enumerate(back.outputs)}
        return named | {"starts": first}

    given = with_states(dual, both, rows, starts)
    for t, g in enumerate(cotangents):
        given[t] |= {("load", 2 * n + i): 0.0 for i in range(outputs)}
        given[t] |= {("load", 2 * n + outputs + i): x for i, x in enumerate(g)}
    found, _, first = march(both, given, [0.0] * carries + lasts)
    named = {o.name: [f[k] for f in found] for k, o in enumerate(both.outputs)}
    here, ahead, behind = gradients(0.0), gradients(tiny), gradients(-tiny)
    assert first[carries:] == pytest.approx(here.pop("starts"), rel=1e-12)
    for name, values in here.items():
        assert named[f"{name}_dot"] == pytest.approx(values, rel=1e-9, abs=1e-12)
    named["starts"] = first[:carries]
    for name, values in ahead.items():
        slopes = [(a - b) / (2 * tiny) for a, b in zip(values, behind[name], strict=True)]
        assert named.get(name, [0.0] * len(slopes)) == pytest.approx(slopes, rel=1e-5, abs=1e-6)


def test_an_adjoint_has_no_tangent() -> None:
    with pytest.raises(ValueError, match="take the tangent first"):
        tangent(adjoint(kernel_of(LEAKY)))
