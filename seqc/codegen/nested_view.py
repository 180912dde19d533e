"""The view of a kernel that sums over an axis: what it touches, and its steps as phases."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.codegen.names import Namer
from seqc.codegen.nested import Leaf, Phase, Phases, Place, Sink, placed
from seqc.codegen.steps import RESERVED, Rows, own_name
from seqc.codegen.templates import environment
from seqc.ir.kernel import Adjoint, Kernel


@dataclass(frozen=True)
class Array:
    """A tensor that the kernel reads or writes: its name, element type, and where elements live.

    ``blocks``: it has an entry a block of lanes in their stead, to be summed afterwards.
    """

    name: str
    type: str
    lane: bool
    inner: bool
    blocks: bool = False


@dataclass(frozen=True)
class NestedView:
    """What a target's template of nested kernels reads as ``k``."""

    name: str
    axes: tuple[str, ...]
    outer: tuple[str, ...]
    lane: str | None
    inner: str
    streams: list[Array]
    constants: list[Array]
    masks: list[Array]
    scalars: list[str]
    carries: list[Array]
    adjoints: list[Array]
    outputs: list[Array]
    grads: list[Array]
    stream_grads: list[Array]
    constant_grads: list[Array]
    forward: list[Phase]
    replay: list[Phase]
    backward: list[Phase]


class _Names:
    """Names everything a nested kernel touches."""

    def __init__(self, kernel: Kernel, adjoint: Adjoint) -> None:
        self.kernel, self.adjoint = kernel, adjoint
        namer = Namer(RESERVED)

        def own(name: str) -> str:
            return own_name(namer, name)

        def array(name: str, kind: str, axes: tuple[str, ...], folds: bool = False) -> Array:
            p = self.place(axes)
            return Array(name, kind, p.lane, p.inner, folds and not p.lane)

        k = kernel
        self.streams = [array(own(s.name), "Storage", s.axes) for s in k.streams]
        self.constants = [array(own(c.name), "State", c.axes) for c in k.constants]
        mask_axes = {int(n.attrs[0]): n.axes for n in k.body if n.op == "keep"}
        self.masks = [array(own(m), "u8", mask_axes[i]) for i, m in enumerate(k.masks)]
        self.scalars = [own(s) for s in k.scalars]
        self.carries = [array(own(c.name), "State", c.axes) for c in k.carries]
        self.adjoints = [
            array(namer.fresh(f"adjoint_{c.name}"), "State", k.carries[i].axes)
            for i, c in enumerate(self.carries)
        ]
        self.outputs = [array(namer.fresh(f"{o.name}_out"), "Storage", o.axes) for o in k.outputs]
        self.grads = [array(namer.fresh(f"d_{o.name}"), "Storage", o.axes) for o in k.outputs]
        self.stream_grads = [
            array(
                namer.fresh(f"d_{s.name}_out"), "Storage" if whole(k, s.axes) else "State", s.axes,
                folds=True,
            )
            for s, node in zip(k.streams, adjoint.streams, strict=True)
            if node is not None
        ]  # fmt: skip
        self.constant_grads = [
            array(namer.fresh(f"sum_d_{c.name}"), "State", c.axes)
            for c, node in zip(k.constants, adjoint.constants, strict=True)
            if node is not None
        ]
        self.taken = RESERVED | frozenset(namer._taken)

    def place(self, axes: tuple[str, ...]) -> Place:
        inner = self.kernel.inner
        assert inner is not None
        return placed(axes, inner, self.kernel.lane)

    def leaves(self, backward: bool) -> dict[tuple[str, int], Leaf]:
        """How steps name what they read."""
        found: dict[tuple[str, int], Leaf] = {}
        for op, arrays, moves in (
            ("load", self.streams, True), ("constant", self.constants, False),
            ("keep", self.masks, True), ("grad", self.grads, True),
            ("prev", self.carries, False), ("adjoint", self.adjoints, False),
        ):  # fmt: skip
            for i, a in enumerate(arrays):
                name = f"{a.name}_before" if op == "prev" and backward else a.name
                found[op, i] = Leaf(name, Place(a.lane, a.inner), moves)
        for i, name in enumerate(self.scalars):
            found["scalar", i] = Leaf(name, Place(False, False))
        return found

    def forward(self, stores: bool) -> list[Sink]:
        """What a step hands out: carries, and outputs unless it only replays."""
        k = self.kernel
        sinks = [
            Sink("carry", a.name, c.after, Place(a.lane, a.inner))
            for a, c in zip(self.carries, k.carries, strict=True)
        ]
        if stores:
            sinks += [
                Sink("store", a.name, o.node, Place(a.lane, a.inner))
                for a, o in zip(self.outputs, k.outputs, strict=True)
            ]
        return sinks

    def backward(self) -> list[Sink]:
        """What a step back hands out: gradients, and the adjoints that go on."""
        a = self.adjoint
        sinks: list[Sink] = []
        found = iter(self.stream_grads)
        for node in a.streams:
            if node is not None:
                to = next(found)
                sinks.append(Sink("store", to.name, node, Place(to.lane, to.inner), not to.lane))
        sums = iter(self.constant_grads)
        for node in a.constants:
            if node is not None:
                to = next(sums)
                sinks.append(Sink("add", to.name, node, Place(True, to.inner)))
        for to, node in zip(self.adjoints, a.carried, strict=True):
            if node is not None:
                sinks.append(Sink("carry", to.name, node, Place(to.lane, to.inner)))
        return sinks


def whole(kernel: Kernel, axes: tuple[str, ...]) -> bool:
    """Whether a stream's gradient is a cell's own: it has the lane and all outer axes."""
    needed = {*kernel.outer, *([kernel.lane] if kernel.lane else [])}
    return needed <= set(axes)


def render_nested(template: str, kernel: Kernel, adjoint: Adjoint, dialect: Rows) -> str:
    """A target's template for nested kernels, filled in."""
    names = _Names(kernel, adjoint)
    inner = kernel.inner
    assert inner is not None

    def phases(backward: bool, sinks: list[Sink]) -> tuple[list[Phase], list[str]]:
        graph = adjoint.body if backward else kernel.body
        leaves = names.leaves(backward)
        found = Phases(graph, inner, kernel.lane, leaves, sinks, names.taken, dialect)
        return found.build(), list(found.used)

    forward, forward_reads = phases(False, names.forward(True))
    replay, replay_reads = phases(False, names.forward(False))
    backward, backward_reads = phases(True, names.backward())

    dropped = [
        a.name for a, node in zip(names.adjoints, adjoint.carried, strict=True) if node is None
    ]
    view = NestedView(
        name=kernel.name, axes=kernel.axes, outer=kernel.outer, lane=kernel.lane, inner=inner,
        streams=names.streams, constants=names.constants, masks=names.masks,
        scalars=names.scalars, carries=names.carries, adjoints=names.adjoints,
        outputs=names.outputs, grads=names.grads, stream_grads=names.stream_grads,
        constant_grads=names.constant_grads, forward=forward, replay=replay, backward=backward,
    )  # fmt: skip
    return (
        environment()
        .get_template(template)
        .render(
            k=view,
            dropped=dropped,
            forward_reads=forward_reads,
            replay_reads=replay_reads,
            backward_reads=backward_reads,
        )
    )
