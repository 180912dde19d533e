"""The passes after staging: before and after, as they print, and what damage is seen."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from seqc.diagnostics import Source
from seqc.ir.plan import DerivedStage
from seqc.lower.derive import derive
from seqc.lower.plan import plan
from seqc.lower.staging import stage
from seqc.passes import pipeline

LEAK = """
layer Leak
size channels
input a[t]: channels
state h[t]: channels
h[t] = sigmoid(a[t]) * h[t-1] + a[t]
output h[t]
"""
#: A pass's result -> its lines but for those of nodes.
TABLE = {
    "staged": """
        staged Leak
        history h: lags [1] windows []
        operands ['a = 0'] sources [(0, 0)] outputs [4]
        kernel k0 over channels
        load 0 a: channels
        scan h: affine
        carry h
        output h: channels
    """,
    "derived": """
        derived Leak
        history h: lags [1] windows []
        operands ['a = 0'] sources [(0, 0)] outputs [4]
        kernel k0 over channels
        load 0 a: channels
        scan h: affine
        carry h
        output h: channels
        kernel k0_adjoint over channels, backwards
        load 0 a: channels
        load 1 d_h: channels
        before 0 h_before: channels
        scan adjoint_h: affine
        carry adjoint_h
        output d_a: channels
        kernel k0_tangent over channels
        load 0 a: channels
        load 1 a_dot: channels
        scan h: affine
        scan h_dot: affine
        carry h
        carry h_dot
        output h: channels
        output h_dot: channels
        kernel k0_tangent_adjoint over channels, backwards
        load 0 a: channels
        load 1 a_dot: channels
        load 2 d_h: channels
        load 3 d_h_dot: channels
        before 0 h_before: channels
        before 1 h_dot_before: channels
        scan adjoint_h_dot: affine
        scan adjoint_h: affine
        carry adjoint_h
        carry adjoint_h_dot
        output d_a: channels
        output d_a_dot: channels
    """,
}


def passed() -> dict[str, Any]:
    (whole,) = pipeline.run(Source(LEAK, "leak.seq")).plans
    staged = stage(whole.analysis)
    derived = derive(staged)
    return {"staged": staged, "derived": derived, "plan": plan(derived)}


def lines(value: Any) -> list[str]:
    """What a stage prints, without the nodes: another test's matter."""
    found = [line.strip() for line in str(value).split("\n")]
    found = [line for line in found if not line.startswith("%")]
    found = [re.sub(r" (->|=|\+=) %\d+", "", line) for line in found]
    return [re.sub(r"^(scan .*)\(.*", r"\1", line) for line in found]


def test_what_each_pass_prints() -> None:
    got = passed()
    for name, text in TABLE.items():
        assert lines(got[name]) == [line.strip() for line in text.strip().split("\n")]
    # A plan adds to each kernel what a stretch of time is, scan by scan; states are outputs here,
    # so nothing more is kept of them.
    kernels = [x for x in lines(got["plan"]) if x.startswith(("kernel", "keeps", "segment"))]
    assert [line.partition(",")[0] for line in kernels] == [
        "kernel k0 over channels", "segment of scan 0",
        "kernel k0_adjoint over channels", "segment of scan 0",
        "kernel k0_tangent over channels",
        "segment of scan 0", "segment of scan 1",
        "kernel k0_tangent_adjoint over channels", "segment of scan 0", "segment of scan 1",
    ]  # fmt: skip


def test_each_pass_is_in_the_table_of_passes() -> None:
    assert [name for name, _ in pipeline.PASSES] == ["analysis", "staged", "derived", "plan"]


def test_damage_to_any_derived_kernel_is_seen() -> None:
    derived = passed()["derived"]
    (whole,) = derived.stages
    assert isinstance(whole, DerivedStage)
    assert whole.tangent is not None
    assert not list(pipeline.problems(derived))

    def damaged(kernel: Any) -> Any:
        return replace(kernel, scans=kernel.scans[:-1])

    for broken in (
        replace(whole, kernel=damaged(whole.kernel)),
        replace(whole, adjoint=damaged(whole.adjoint)),
        replace(whole, tangent=replace(whole.tangent, kernel=damaged(whole.tangent.kernel))),
        replace(whole, tangent=replace(whole.tangent, adjoint=damaged(whole.tangent.adjoint))),
    ):
        assert list(pipeline.problems(replace(derived, stages=(broken,))))
