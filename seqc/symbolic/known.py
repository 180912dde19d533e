"""Strata whose algebra is known and proved, and that are taken step by step all the same."""

from __future__ import annotations

from seqc.ir.graph import Graph
from seqc.ir.ops import GATHERED, POINTWISE
from seqc.ir.plan import Stratum
from seqc.ir.verdict import Verdict
from seqc.symbolic.base import RangeBuilder
from seqc.symbolic.semirings import semiring_of
from seqc.symbolic.step import Step


def marched(step: Step, title: str, verdict: Verdict, why: str) -> Stratum:
    """Carries that a scan would take, but at a price: ``why`` says which."""
    return _stratum(step, title, verdict, "march", step.jacobian, why)


def along_axes(step: Step, nodes: Graph) -> Stratum | None:
    """Linear, where channels meet in sums along axes of the state: each step is a kernel's."""
    axes = {s.axes for s in step.recurrence.states if s.name in step.component.states}
    met: list[str] = []
    for n in step.past.past:
        node = nodes[n]
        if node.op == "reduce":
            met.append(str(node.attrs[1]))
        elif node.op not in POINTWISE and n not in step.reads:
            met.append("")
    over = tuple(dict.fromkeys(met))
    if not step.carries or len(axes) != 1 or not over or not set(over) <= set(next(iter(axes))):
        return None
    names = " and ".join(over)
    reason = (
        f"sums over {names}, and products with factors free of the past: each step is "
        "linear by induction over its operations"
    )
    title = f"block-affine over {names}"
    return _stratum(step, title, Verdict("proved", reason), "march", "block", reason)


def over_semiring(step: Step, builder: RangeBuilder) -> Stratum | None:
    """Channels that meet in another semiring, a full matrix a step: one kernel's, step by step.

    But where the reference point of a logsumexp looks along an axis in a way that no kernel does.
    """
    if step.past.mixing is None or not step.carries:
        return None
    title = semiring_of(builder.graph, step.reads, step.past.past, step.after, builder.nonnegative)
    if title is None:
        return None
    reason = (
        "each channel joins the others, each times what is free of the past: each step is "
        "linear over this semiring by induction over its operations"
    )
    nodes = builder.graph
    plain = all(
        n in step.reads or nodes[n].op in POINTWISE or nodes[n].op in GATHERED
        for n in step.past.past
    )
    method = "march" if plain else "sequential"
    return _stratum(step, title, Verdict("proved", reason), method, "full", reason)


def _stratum(
    step: Step, title: str, verdict: Verdict, method: str, jacobian: str, reason: str
) -> Stratum:
    marches = method == "march"
    return Stratum(
        states=step.names,
        algebra=title,
        verdict=verdict,
        method=method,
        jacobian=jacobian,
        domain_reason="nothing is composed over time",
        carries=step.carries if marches else (),
        after=step.after if marches else (),
        reason=reason,
    )
