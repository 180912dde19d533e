"""How much a fused kernel moves and computes, counted off its body and its adjoint's."""

from __future__ import annotations

from collections.abc import Iterable

from seqc.ir.costs import KernelCost, StepCost, Traffic, Work
from seqc.ir.graph import reachable
from seqc.ir.kernel import Kernel
from seqc.ir.operations import OPERATIONS
from seqc.ir.operations.record import ARITHMETIC, SELECTION, TRANSCENDENTAL
from seqc.ir.ops import KERNEL_LEAVES
from seqc.ir.plan import KernelStage

#: In the order of Work's fields.
_COSTS = (ARITHMETIC, TRANSCENDENTAL, SELECTION)
#: Bytes of a float32, and of a dropout mask's element.
_FLOAT, _MASK = 4, 1


def kernel_cost(stage: KernelStage) -> KernelCost:
    """What a stage's kernel costs forward, with what backward needs kept, and backward.

    Constants and carries stay in the caches and are not counted; resets neither.
    """
    kernel, adjoint = stage.kernel, stage.adjoint
    after = [c.after for c in kernel.carries]
    held = {o.node for o in kernel.outputs}
    stored = [(o.name, o.axes, _FLOAT) for o in kernel.outputs]
    # A saved state that is an output too is stored once.
    saved = [
        (f"{kernel.carries[i].name} (saved)", kernel.carries[i].axes, _FLOAT)
        for i in stage.forward.kept
    ]
    before = [
        (f"{c.state}[t-{c.lag}]", c.axes, _FLOAT)
        for c in (kernel.carries[b.carry] for b in adjoint.befores)
    ]
    sinks = [(o.name, o.axes, _FLOAT) for o in adjoint.outputs]
    back = [o.node for o in adjoint.results]
    back += [c.after for c in adjoint.carries]
    again: list[int] = []
    if kernel.stepped:
        saved += [(h.name, h.axes, _FLOAT) for h in stage.forward.held]
        before += [(h.name, h.axes, _FLOAT) for h in adjoint.held]
        sinks += [(f"side{i}", axes, _FLOAT) for i, (_, axes) in enumerate(adjoint.sides)]
        back += [n for n, _ in adjoint.sides]
        after += [h.node for h in stage.forward.held]
    elif not kernel.inner:
        # A gradient of a stream with fewer axes is written whole and summed afterwards.
        sinks = [(name, kernel.axes, size) for name, _, size in sinks]
    else:
        # Carries are stored once in some dozen steps, and those between computed again.
        again = after if adjoint.befores else []
        kept = [kernel.carries[b.carry] for b in adjoint.befores]
        saved = [(f"{c.name} (at times)", c.axes, 0) for c in kept]
        before = []
    forward = StepCost(
        read=_traffic(stage, _reads(kernel, [*after, *held])),
        written=_traffic(stage, stored + saved),
        kept=sum(size for _, _, size in saved),
        work=_work(stage, (kernel, [*after, *held])),
    )
    backward = StepCost(
        read=_traffic(stage, _reads(adjoint, back) + before),
        written=_traffic(stage, sinks),
        kept=0,
        work=_work(stage, (adjoint, back), (kernel, again)),
    )
    return KernelCost(kernel.name, kernel.axes, forward, backward)


_Item = tuple[str, tuple[str, ...], int]


def _reads(kernel: Kernel, roots: Iterable[int]) -> list[_Item]:
    """What a march of these roots loads at each step, each once."""
    found: dict[_Item, None] = {}
    for n in sorted(reachable(kernel.body, roots)):
        node = kernel.body[n]
        match node.op:
            case "load":
                s = kernel.streams[int(node.attrs[0])]
                found[s.name, s.axes, _FLOAT] = None
            case "keep":
                m = kernel.masks[int(node.attrs[0])]
                found[m.name, m.axes, _MASK] = None
    return list(found)


def _traffic(stage: KernelStage, items: list[_Item]) -> tuple[Traffic, ...]:
    groups: dict[tuple[str, ...], list[_Item]] = {stage.kernel.axes: []}
    for item in items:
        groups.setdefault(item[1], []).append(item)
    return tuple(
        Traffic(axes, sum(size for _, _, size in of), tuple(name for name, _, _ in of))
        for axes, of in groups.items()
    )


def _work(stage: KernelStage, *marches: tuple[Kernel, list[int]]) -> tuple[Work, ...]:
    """The operations of what the roots need, by the axes that they are done over.

    A kernel does everything for each of its elements; but one that sums over an axis does
    outside of the sum what has not that axis.
    """
    kernel = stage.kernel
    around = tuple(a for a in kernel.axes if a not in kernel.inner)
    counts = {kernel.axes: [0, 0, 0]}
    for march, roots in marches:
        body = march.body
        for n in reachable(body, roots):
            node = body[n]
            if node.op in KERNEL_LEAVES:
                continue
            if node.op == "product":  # a multiplication and an addition for each of its entries
                matrix = march.constants[int(body[node.args[1]].attrs[0])]
                counts.setdefault(matrix.whole, [0, 0, 0])[0] += 2
                continue
            # A sum is an addition for each element of what it sums.
            axes = body[node.args[0]].axes if node.op == "reduce" else node.axes
            within = not kernel.inner or any(a in axes for a in kernel.inner)
            over = kernel.axes if within else around
            row = counts.setdefault(axes if kernel.stepped else over, [0, 0, 0])
            cost = OPERATIONS[node.op].cost if node.op in OPERATIONS else ARITHMETIC
            row[_COSTS.index(cost)] += 1
    return tuple(Work(axes, *row) for axes, row in counts.items())
