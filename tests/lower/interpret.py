"""Kernels in plain Python floats, a channel by itself: what passes are held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seqc.ir.graph import Graph
from seqc.ir.kernel import Kernel
from seqc.ir.schedule import Function, Segment, Step
from seqc.symbolic.evaluate import evaluate

Row = dict[tuple[str, int], float]


def values(graph: Graph, leaves: Mapping[tuple[str, int], float]) -> list[float]:
    """The value of every node, from those of the leaves (op, position)."""
    numeric = {"load", "constant", "scalar", "prev", "before", "element"}
    known = {i: leaves[n.op, int(n.attrs[0])] for i, n in enumerate(graph) if n.op in numeric}
    return evaluate(graph, known)


def march(
    kernel: Kernel, rows: Sequence[Row], starts: Sequence[float]
) -> tuple[list[list[float]], list[float], list[float]]:
    """Outputs by step, totals, and the last carries; ``rows`` holds the leaves of each step."""
    carries, outputs = list(starts), [[] for _ in rows]
    totals = [0.0] * len(kernel.totals)
    order = range(len(rows))
    for t in reversed(order) if kernel.backward else order:
        found = values(kernel.body, rows[t] | {("prev", i): c for i, c in enumerate(carries)})
        outputs[t] = [found[o.node] for o in kernel.outputs]
        totals = [total + found[x.node] for total, x in zip(totals, kernel.totals, strict=True)]
        carries = [found[c.after] for c in kernel.carries]
    return outputs, totals, carries


def lifted(
    step: Step, segment: Segment, rows: Sequence[Row], running: Sequence[float]
) -> list[float]:
    """The function of a stretch: its parts, after all the rows' steps."""
    carries = [*running, *segment.identity]
    for row in reversed(rows) if step.backward else rows:
        found = values(step.body, row | {("prev", i): c for i, c in enumerate(carries)})
        carries = [found[c.after] for c in step.carries]
    return carries[len(running) :]


def call(function: Function, *arguments: float) -> list[float]:
    """A function's values."""
    found = values(function.body, {("element", i): a for i, a in enumerate(arguments)})
    return [found[r] for r in function.roots]
