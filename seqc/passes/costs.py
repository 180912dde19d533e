"""How much a fused kernel moves and computes, counted off its body and its adjoint's."""

from __future__ import annotations

from collections.abc import Iterable

from seqc.ir.costs import KernelCost, StepCost, Traffic, Work
from seqc.ir.graph import Graph, reachable
from seqc.ir.ops import CONDITIONS, KERNEL_LEAVES
from seqc.ir.plan import KernelStage

_TRANSCENDENTAL = frozenset(
    "pow exp expm1 log log1p logaddexp tanh sigmoid softplus normcdf sin cos".split()
)
#: Free of rounding: what is chosen, compared or cut, not computed.
_SELECTIONS = CONDITIONS | {"where", "sign", "floor"}
#: Bytes of a float32, and of a dropout mask's element.
_FLOAT, _MASK = 4, 1


def kernel_cost(stage: KernelStage) -> KernelCost:
    """What a stage's kernel costs forward, with what backward needs kept, and backward.

    Constants and carries stay in the caches and are not counted; resets neither.
    """
    kernel, adjoint = stage.kernel, stage.adjoint
    after = [c.after for c in kernel.carries]
    held = {o.node for o in kernel.outputs}
    # A saved state that is an output too is stored once.
    extra = [kernel.carries[i] for i in adjoint.saved if kernel.carries[i].after not in held]
    stored = [(o.name, o.axes, _FLOAT) for o in kernel.outputs]
    saved = [(f"{c.name} (saved)", c.axes, _FLOAT) for c in extra]
    before = [
        (f"{c.state}[t-{c.lag}]", c.axes, _FLOAT)
        for c in map(kernel.carries.__getitem__, adjoint.saved)
    ]
    sinks = [
        (f"d_{s.name}", s.axes, _FLOAT)
        for s, n in zip(kernel.streams, adjoint.streams, strict=True)
        if n is not None
    ]
    back = [n for n in (*adjoint.streams, *adjoint.constants, *adjoint.carried) if n is not None]
    again: list[int] = []
    if kernel.inner is None:
        # A gradient of a stream with fewer axes is written whole and summed afterwards.
        sinks = [(name, kernel.axes, size) for name, _, size in sinks]
    else:
        # Carries are stored once in some dozen steps, and those between computed again.
        again = after if adjoint.saved else []
        saved = [
            (f"{name.removesuffix(' (saved)')} (at times)", axes, 0) for name, axes, _ in saved
        ]
        before = []
    forward = StepCost(
        read=_traffic(stage, _reads(stage, kernel.body, [*after, *held])),
        written=_traffic(stage, stored + saved),
        kept=sum(size for _, _, size in saved),
        work=_work(stage, (kernel.body, [*after, *held])),
    )
    backward = StepCost(
        read=_traffic(stage, _reads(stage, adjoint.body, back) + before),
        written=_traffic(stage, sinks),
        kept=0,
        work=_work(stage, (adjoint.body, back), (kernel.body, again)),
    )
    return KernelCost(kernel.name, kernel.axes, forward, backward)


_Item = tuple[str, tuple[str, ...], int]


def _reads(stage: KernelStage, body: Graph, roots: Iterable[int]) -> list[_Item]:
    """What a march of these roots loads at each step, each once."""
    kernel = stage.kernel
    found: dict[_Item, None] = {}
    for n in sorted(reachable(body, roots)):
        node = body[n]
        match node.op:
            case "load":
                s = kernel.streams[int(node.attrs[0])]
                found[s.name, s.axes, _FLOAT] = None
            case "grad":
                o = kernel.outputs[int(node.attrs[0])]
                found[f"d_{o.name}", o.axes, _FLOAT] = None
            case "keep":
                found[kernel.masks[int(node.attrs[0])], node.axes, _MASK] = None
    return list(found)


def _traffic(stage: KernelStage, items: list[_Item]) -> tuple[Traffic, ...]:
    groups: dict[tuple[str, ...], list[_Item]] = {stage.kernel.axes: []}
    for item in items:
        groups.setdefault(item[1], []).append(item)
    return tuple(
        Traffic(axes, sum(size for _, _, size in of), tuple(name for name, _, _ in of))
        for axes, of in groups.items()
    )


def _work(stage: KernelStage, *marches: tuple[Graph, list[int]]) -> tuple[Work, ...]:
    """The operations of what the roots need, by the axes that they are done over.

    A kernel does everything for each of its elements; but one that sums over an axis does
    outside of the sum what has not that axis.
    """
    kernel = stage.kernel
    around = tuple(a for a in kernel.axes if a != kernel.inner)
    counts = {kernel.axes: [0, 0, 0]}
    for body, roots in marches:
        for n in reachable(body, roots):
            node = body[n]
            if node.op in KERNEL_LEAVES:
                continue
            # A sum is an addition for each element of what it sums.
            axes = body[node.args[0]].axes if node.op == "reduce" else node.axes
            within = kernel.inner is None or kernel.inner in axes
            row = counts.setdefault(kernel.axes if within else around, [0, 0, 0])
            row[1 if node.op in _TRANSCENDENTAL else 2 if node.op in _SELECTIONS else 0] += 1
    return tuple(Work(axes, *row) for axes, row in counts.items())
