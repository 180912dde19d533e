"""One fused kernel: the cone of pointwise values and scans above a group's roots."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.ir.graph import GraphBuilder
from seqc.ir.kernel import Carry, Constant, Kernel, Operand, Output, Stream
from seqc.ir.ops import CONDITIONS
from seqc.passes.layout import Layout


@dataclass(frozen=True)
class Fused:
    """A kernel and the recurrence's nodes behind the entries of its tables."""

    kernel: Kernel
    operands: tuple[int | str, ...]
    constants: tuple[int, ...]
    masks: tuple[int, ...]


class _Fusion:
    """Translates nodes of the recurrence into a kernel's body, table by table."""

    def __init__(
        self, layout: Layout, axes: tuple[str, ...], states: list[str], roots: list[int],
        packed: dict[int, tuple[str, int]],
    ) -> None:  # fmt: skip
        self.layout = layout
        self.nodes = layout.recurrence.nodes
        self.states = states
        self.roots = set(roots)
        self.packed = packed
        self.body = GraphBuilder(layout.recurrence.axes)
        self.operands: list[Operand] = []
        self.operand_keys: list[int | str] = []
        self.streams: list[Stream] = []
        self.constants: list[int] = []
        self.scalars: list[str] = []
        self.masks: list[int] = []
        self.carries: dict[str, Carry] = {}
        self.done: dict[int, int] = {}
        self.level = 0

    def leaf(self, n: int) -> int | None:
        """The body's leaf for a node that the kernel reads; None for one it computes."""
        node = self.nodes[n]
        state = self.layout.carried(n)
        if state in self.states:
            return self.body.add(
                "prev", axes=node.axes, attrs=(self.states.index(state),), span=node.span
            )
        if not self.layout.timed[n]:
            return self.constant(n)
        if node.op == "keep":
            if n not in self.masks:
                self.masks.append(n)
            return self.body.add("keep", axes=node.axes, attrs=(self.masks.index(n),))
        own = set(self.layout.scans.get(n, ())) & set(self.states)
        foreign = n in self.layout.scans or self.layout.levels[n] < self.level
        if not self.layout.fused(n) or (foreign and not own and n not in self.roots):
            return self.stream(n)
        return None

    def constant(self, n: int) -> int | None:
        """A value constant in time: a number, a scalar known at the call, or a tensor."""
        node = self.nodes[n]
        if node.op == "const":
            return self.body.const(float(node.attrs[0]), node.span)
        if node.op in ("hyper", "size"):
            name = str(node.attrs[0])
            if name not in self.scalars:
                self.scalars.append(name)
            return self.body.add("scalar", axes=(), attrs=(self.scalars.index(name),))
        if node.op in CONDITIONS or self.scalar(n):
            # Computed in the kernel: a tensor of constants holds numbers, never truth values.
            return None
        if n not in self.constants:
            self.constants.append(n)
        return self.body.add("constant", axes=node.axes, attrs=(self.constants.index(n),))

    def scalar(self, n: int) -> bool:
        """Whether the node is arithmetic of numbers, sizes and hypers alone."""
        stack = [n]
        while stack:
            node = self.nodes[stack.pop()]
            if node.op not in ("const", "hyper", "size") and not node.args:
                return False
            if node.op in ("map", "reduce", "cumsum", "shift", "keep"):
                return False
            stack.extend(node.args)
        return True

    def stream(self, n: int) -> int:
        """The leaf that loads a value which exists before the kernel runs."""
        node = self.nodes[n]
        key, position = self.packed.get(n, (n, 0))
        if key not in self.operand_keys:
            self.operand_keys.append(key)
            self.operands.append(self.operand(key))
        entry = Stream(self.describe(n), self.operand_keys.index(key), position, node.axes)
        if entry not in self.streams:
            self.streams.append(entry)
        index = self.streams.index(entry)
        return self.body.add("load", axes=node.axes, attrs=(index,), span=node.span)

    def operand(self, key: int | str) -> Operand:
        if isinstance(key, str):
            members = [(i, n) for n, (k, i) in self.packed.items() if k == key]
            return Operand(key, tuple(self.nodes[n].axes for _, n in sorted(members)), packed=True)
        return Operand(self.describe(key), (self.nodes[key].axes,))

    def describe(self, n: int) -> str:
        """A name for the value, unique and readable: the equation's, the map's, the read's."""
        node = self.nodes[n]
        recurrence = self.layout.recurrence
        if node.op == "read":
            return (
                str(node.attrs[0]) if node.attrs[1] == 0 else f"{node.attrs[0]}_lag{node.attrs[1]}"
            )
        if node.op == "map":
            prefix = recurrence.maps[int(node.attrs[0])].prefix
            return prefix.replace(".", "_") + "_pre"
        for e in recurrence.equations:
            if e.node == n:
                return e.name
        for s in recurrence.states:
            if s.update == n:
                return s.name
        return f"value{n}"

    def visit(self, root: int) -> int:
        """The body's node for a node of the recurrence, building what it needs first."""
        stack = [root]
        while stack:
            n = stack[-1]
            if n in self.done:
                stack.pop()
                continue
            leaf = self.leaf(n)
            if leaf is not None:
                self.done[n] = leaf
                continue
            waiting = [a for a in self.layout.arguments(n) if a not in self.done]
            if waiting:
                stack.extend(reversed(waiting))
                continue
            self.done[n] = self.compute(n)
        return self.done[root]

    def compute(self, n: int) -> int:
        """The body's node once everything it needs is there."""
        node = self.nodes[n]
        mine = [s for s in self.layout.scans.get(n, ()) if s in self.states]
        if not mine:
            args = tuple(self.done[a] for a in node.args)
            return self.body.add(node.op, *args, attrs=node.attrs, span=node.span, axes=node.axes)
        for state in mine:
            a, b = (self.done[i] for i in self.layout.coefficients[state])
            prev = self.body.add("prev", axes=node.axes, attrs=(self.states.index(state),))
            product = self.body.add("mul", a, prev, span=node.span)
            after = self.body.add("add", product, b, span=node.span)
            self.carries[state] = Carry(state, a, b, after)
        return self.carries[mine[0]].after


def fuse(
    layout: Layout, name: str, axes: tuple[str, ...], states: list[str], outputs: list[int],
    packed: dict[int, tuple[str, int]],
) -> Fused:  # fmt: skip
    """The kernel that runs the scans of ``states`` and stores ``outputs``."""
    fusion = _Fusion(layout, axes, states, outputs, packed)
    scans = [n for n in layout.order if set(layout.scans.get(n, ())) & set(states)]
    fusion.level = max((layout.levels[n] for n in [*scans, *outputs]), default=0)
    for n in [*scans, *outputs]:
        fusion.visit(n)
    constants = tuple(
        Constant(f"c{i}_{fusion.describe(n)}", fusion.nodes[n].axes)
        for i, n in enumerate(fusion.constants)
    )
    masks = tuple(f"keep_{fusion.nodes[n].attrs[0]}" for n in fusion.masks)
    kernel = Kernel(
        name=name,
        axes=axes,
        operands=tuple(fusion.operands),
        streams=tuple(fusion.streams),
        constants=constants,
        scalars=tuple(fusion.scalars),
        masks=masks,
        carries=tuple(fusion.carries[s] for s in states),
        outputs=tuple(Output(fusion.describe(n), fusion.done[n]) for n in outputs),
        body=fusion.body.graph,
    )
    return Fused(kernel, tuple(fusion.operand_keys), tuple(fusion.constants), tuple(fusion.masks))
