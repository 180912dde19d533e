"""A guard against a wrong rule: a stratum's update against its algebra, in numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from seqc.ir.algebra import Algebra
from seqc.ir.graph import Graph, Node, reachable
from seqc.ir.ops import POINTWISE
from seqc.symbolic.actions import apply
from seqc.symbolic.evaluate import evaluate
from seqc.symbolic.intervals import Ranges


def disagreement(
    nodes: Graph,
    reads: Sequence[int],
    after: Sequence[int],
    law: Algebra,
    parts: Sequence[int],
    ranges: Ranges,
    trials: int = 6,
) -> dict[str, float] | None:
    """Numbers at which ``after`` and law.apply(parts, reads) differ, where any are found.

    Everything that is not pointwise gets a random value; a hyper or size one of its domain, which
    the rules that built the parts may have relied on.
    """
    needed = sorted(reachable(nodes, (*reads, *after, *parts)))
    moved = {n: i for i, n in enumerate(needed)}
    graph = tuple(
        Node(nodes[n].op, tuple(moved[a] for a in nodes[n].args), (), nodes[n].attrs)
        for n in needed
    )
    numbers = random.Random(20250807)
    leaves = [i for i, n in enumerate(graph) if n.op not in POINTWISE and n.op != "const"]
    for _ in range(trials):
        values = {i: _draw(numbers, ranges, needed[i], graph[i]) for i in leaves}
        out = evaluate(graph, values)
        left = [out[moved[n]] for n in after]
        right = apply(law, tuple(out[moved[p]] for p in parts), tuple(out[moved[r]] for r in reads))
        for x, y in zip(left, right, strict=True):
            if math.isfinite(x) and not math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-6):
                return {f"%{needed[i]}": float(v) for i, v in values.items()}
    return None


def _draw(numbers: random.Random, ranges: Ranges, position: int, node: Node) -> float:
    """A value that a leaf may have."""
    if node.op == "keep":
        return numbers.random() < 0.5
    value = numbers.gauss(0.0, 1.5)
    if node.op not in ("hyper", "size"):
        return value
    lo, hi = ranges[position]
    if math.isfinite(lo) and math.isfinite(hi):
        return lo + (hi - lo) * (0.05 + 0.9 * numbers.random())
    if math.isfinite(lo):
        return lo + abs(value)
    return hi - abs(value) if math.isfinite(hi) else value
