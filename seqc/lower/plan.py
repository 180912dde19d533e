"""A plan: what is staged, with the kernels' derivatives and schedules."""

from __future__ import annotations

from seqc.ir.plan import FusedStage, KernelStage, Plan, Staged
from seqc.lower.adjoint import adjoint
from seqc.lower.schedule import schedule_adjoint, schedule_forward


def plan(staged: Staged) -> Plan:
    """The same stages, each kernel with its adjoint, both ready to be printed."""
    stages = tuple(_derived(s) if isinstance(s, FusedStage) else s for s in staged.stages)
    return Plan(staged.analysis, staged.histories, stages)


def _derived(stage: FusedStage) -> KernelStage:
    back = adjoint(stage.kernel)
    return KernelStage(
        stage.kernel, stage.operands, stage.sources, stage.constants, stage.masks, stage.outputs,
        adjoint=back,
        forward=schedule_forward(stage.kernel, back),
        backward=schedule_adjoint(back, stage.kernel),
    )  # fmt: skip
