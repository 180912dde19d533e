"""How much a fused kernel moves and computes, counted off its body and its adjoint's."""

from __future__ import annotations

from collections.abc import Iterable

from seqc.ir.costs import KernelCost, StepCost, Traffic
from seqc.ir.graph import Graph, reachable
from seqc.ir.ops import CONDITIONS, KERNEL_LEAVES, POINTWISE
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
    roots = [*(c.after for c in kernel.carries), *(o.node for o in kernel.outputs)]
    held = {o.node for o in kernel.outputs}
    # A saved state that is an output too is stored once.
    extra = [kernel.carries[i] for i in adjoint.saved if kernel.carries[i].after not in held]
    outputs = [(o.name, kernel.axes, _FLOAT) for o in kernel.outputs]
    saves = [(f"{c.name} (saved)", kernel.axes, _FLOAT) for c in extra]
    forward = StepCost(
        read=_traffic(stage, _reads(stage, kernel.body, roots)),
        written=_traffic(stage, outputs + saves),
        kept=_FLOAT * len(extra),
        **_operations(kernel.body, roots),
    )

    back = [n for n in (*adjoint.streams, *adjoint.constants, *adjoint.carried) if n is not None]
    saved = [(f"{kernel.carries[i].name}[t-1]", kernel.axes, _FLOAT) for i in adjoint.saved]
    # A gradient of a stream with fewer axes is written whole and summed afterwards.
    sinks = [
        (f"d_{s.name}", kernel.axes, _FLOAT)
        for s, n in zip(kernel.streams, adjoint.streams, strict=True)
        if n is not None
    ]
    backward = StepCost(
        read=_traffic(stage, _reads(stage, adjoint.body, back) + saved),
        written=_traffic(stage, sinks),
        kept=0,
        **_operations(adjoint.body, back),
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
                found[f"d_{kernel.outputs[int(node.attrs[0])].name}", kernel.axes, _FLOAT] = None
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


def _operations(body: Graph, roots: Iterable[int]) -> dict[str, int]:
    counts = {"arithmetic": 0, "transcendental": 0, "selections": 0}
    for n in reachable(body, roots):
        op = body[n].op
        if op in _TRANSCENDENTAL:
            counts["transcendental"] += 1
        elif op in _SELECTIONS:
            counts["selections"] += 1
        elif op in POINTWISE or op not in KERNEL_LEAVES:
            # Whatever else a kernel computes across an axis is one operation an element.
            counts["arithmetic"] += 1
    return counts
