"""A plan: what is staged, its kernels and their derivatives scheduled, ready to be printed."""

from __future__ import annotations

from seqc.ir.plan import Derived, DerivedStage, KernelStage, Plan
from seqc.lower.schedule import schedule_adjoint, schedule_forward


def plan(derived: Derived) -> Plan:
    """The same stages, with what each kernel keeps and how its time can be cut."""
    stages = tuple(_scheduled(s) if isinstance(s, DerivedStage) else s for s in derived.stages)
    return Plan(derived.analysis, derived.histories, stages)


def _scheduled(stage: DerivedStage) -> KernelStage:
    return KernelStage(
        stage.kernel, stage.operands, stage.sources, stage.constants, stage.masks, stage.outputs,
        adjoint=stage.adjoint,
        forward=schedule_forward(stage.kernel, stage.adjoint),
        backward=schedule_adjoint(stage.adjoint, stage.kernel),
        tangent=None if stage.tangent is None else _scheduled(stage.tangent),
    )  # fmt: skip
