"""Products with matrices in a kernel's step: its adjoint and tangent, and the passes of a step."""

from __future__ import annotations

import dataclasses

import pytest

import seqc
from seqc.codegen.passes import Passes
from seqc.ir.kernel import Kernel
from seqc.ir.plan import KernelStage
from seqc.passes.pipeline import problems, run

ELMAN = """layer Case
size input, hidden
input x[t]: input
state h[t]: hidden
h[t] = tanh(linear(x[t]) + linear(h[t-1], bias = false))
output h[t]
"""
HEADS = """layer Case
size heads, hidden, src = hidden
input x[t]: (heads, hidden)
param w: (heads, src, hidden) = normal(0, 1)
state h[t]: (heads, hidden)
h[t] = tanh(x[t] + sum(w * rename(h[t-1], hidden = src), src))
output h[t]
"""
MGU = """layer Case
size hidden
input x[t]: hidden
state h[t]: hidden
f[t]: hidden = sigmoid(linear(x[t], h[t-1]))
r[t] = f[t] * h[t-1]
n[t]: hidden = tanh(linear(x[t], r[t]))
h[t] = (1 - f[t]) * h[t-1] + f[t] * n[t]
output h[t]
"""


def stage_of(spec: str) -> KernelStage:
    (plan,) = run(seqc.diagnostics.Source(spec)).plans
    assert not list(problems(plan))
    (stage,) = (s for s in plan.stages if isinstance(s, KernelStage))
    return stage


def lines_of(kernel: Kernel, *words: str) -> list[str]:
    return [x.strip() for x in str(kernel).split("\n") if any(w in x for w in words)]


TABLE = {
    "a matrix": (
        ELMAN,
        ["%2 = matrix(0)", "%3 = product(False, hidden, %1, %2): hidden"],
        ["product(True, hidden, ", "outer d_h_h_weight0 += "],
    ),
    "a block a head, its columns first": (
        HEADS,
        ["product(False, heads, hidden, "],
        ["product(True, heads, hidden, ", "outer d_c0_value1 += "],
    ),
}


@pytest.mark.parametrize("name", list(TABLE))
def test_a_kernel_and_its_adjoint(name: str) -> None:
    spec, forward, back = TABLE[name]
    stage = stage_of(spec)
    there, home = str(stage.kernel), str(stage.adjoint)
    assert all(x in there for x in forward), there
    assert all(x in home for x in back), home
    # Its own products are held, not taken again.
    assert "product(False" not in home
    assert [h.node for h in stage.forward.held] == [h.node for h in stage.adjoint.held]


def test_the_tangent_takes_both_products_and_its_adjoint_both_matrices() -> None:
    stage = stage_of(ELMAN)
    assert stage.tangent is not None
    kernel, adjoint = stage.tangent.kernel, stage.tangent.adjoint
    assert len(lines_of(kernel, "= product(False")) == 3  # W h, W h', W' h
    assert [c.name for c in kernel.constants] == ["h_h_weight0", "h_h_weight0_dot"]
    assert sorted(o.constant for o in adjoint.outers) == [0, 0, 1]


@pytest.mark.parametrize(
    "spec, forward, back",
    [
        (ELMAN, [(0, ("hidden",), 1, ["carry", "output", "held"])],
         [(0, ("hidden",), 0, ["output", "side", "vector"]),
          (1, ("hidden",), 1, ["carry"])]),
        (MGU, [(0, ("hidden",), 1, ["held", "vector", "vector", "vector"]),
               (1, ("hidden",), 1, ["carry", "output", "held"])], None),
    ],
)  # fmt: skip
def test_the_passes_of_a_step(spec: str, forward: list[object], back: list[object] | None) -> None:
    """What is taken, computed and handed out when: one meeting for each product of what a pass
    computes."""

    def shown(passes: Passes) -> list[object]:
        return [
            (p.phase, p.axes, len(p.products), sorted(s.kind for s in p.sinks))
            for p in passes.passes
        ]

    stage = stage_of(spec)
    ordered = [(*x[:3], sorted(x[3])) for x in forward]  # type: ignore[index]
    assert shown(Passes(stage.forward)) == ordered
    if back is not None:
        ordered = [(*x[:3], sorted(x[3])) for x in back]  # type: ignore[index]
        assert shown(Passes(stage.backward)) == ordered


def test_a_kernel_that_does_not_step_has_no_products() -> None:
    kernel = dataclasses.replace(stage_of(ELMAN).kernel, stepped=False)
    assert "products in a kernel that does not step" in list(kernel.problems())


def test_a_matrix_that_is_not_there_is_found() -> None:
    kernel = dataclasses.replace(stage_of(ELMAN).kernel, constants=())
    assert "matrix(0): no such entry" in list(kernel.problems())


def test_a_matrix_of_other_axes_is_found() -> None:
    kernel = stage_of(HEADS).kernel
    wrong = tuple(dataclasses.replace(c, columns=("heads",)) for c in kernel.constants)
    assert any(
        "the matrix is over" in p for p in dataclasses.replace(kernel, constants=wrong).problems()
    )
