"""A plan: what is staged, with the kernels' derivatives and schedules."""

from __future__ import annotations

from dataclasses import replace

from seqc.ir.plan import FusedStage, KernelStage, Plan, Staged
from seqc.lower.adjoint import adjoint
from seqc.lower.schedule import schedule_adjoint, schedule_forward
from seqc.lower.tangent import tangent


def plan(staged: Staged) -> Plan:
    """The same stages, each kernel with its adjoint and its tangent, ready to be printed."""
    stages = tuple(_derived(s) if isinstance(s, FusedStage) else s for s in staged.stages)
    return Plan(staged.analysis, staged.histories, stages)


def _derived(stage: FusedStage) -> KernelStage:
    count = len(stage.operands)
    dual = FusedStage(
        tangent(stage.kernel),
        operands=(*stage.operands, *(replace(o, name=f"{o.name}_dot") for o in stage.operands)),
        sources=(*stage.sources, *((operand + count, part) for operand, part in stage.sources)),
        constants=stage.constants * 2,
        masks=stage.masks,
        outputs=stage.outputs * 2,
    )
    return replace(_with_adjoint(stage), tangent=_with_adjoint(dual))


def _with_adjoint(stage: FusedStage) -> KernelStage:
    back = adjoint(stage.kernel)
    return KernelStage(
        stage.kernel, stage.operands, stage.sources, stage.constants, stage.masks, stage.outputs,
        adjoint=back,
        forward=schedule_forward(stage.kernel, back),
        backward=schedule_adjoint(back, stage.kernel),
    )  # fmt: skip
