"""The derivatives of what is staged: of each kernel its adjoint and its tangent, kernels again."""

from __future__ import annotations

from dataclasses import replace

from seqc.ir.plan import Derived, DerivedStage, FusedStage, Staged
from seqc.lower.adjoint import adjoint
from seqc.lower.tangent import tangent


def derive(staged: Staged) -> Derived:
    """The same stages, each kernel with its adjoint, its tangent and that one's adjoint."""
    stages = tuple(_derived(s) if isinstance(s, FusedStage) else s for s in staged.stages)
    return Derived(staged.analysis, staged.histories, stages)


def _derived(stage: FusedStage) -> DerivedStage:
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


def _with_adjoint(stage: FusedStage) -> DerivedStage:
    return DerivedStage(
        stage.kernel, stage.operands, stage.sources, stage.constants, stage.masks, stage.outputs,
        adjoint=adjoint(stage.kernel),
    )  # fmt: skip
