"""One fused kernel: the cone of pointwise values and scans above a group's roots."""

from __future__ import annotations

from seqc.ir.algebra import Algebra, substitute
from seqc.ir.graph import GraphBuilder
from seqc.ir.kernel import Carry, Constant, Kernel, Mask, Output, Scan, Stream
from seqc.ir.ops import CONDITIONS
from seqc.ir.plan import FusedStage, MapPart, Operand
from seqc.lower.layout import Layout, axes_of, by_law


class Fusion:
    """Translates nodes of the recurrence into a kernel's body, table by table."""

    def __init__(
        self, layout: Layout, axes: tuple[str, ...], strata: list[int], roots: list[int],
        packed: dict[int, tuple[str, int]],
    ) -> None:  # fmt: skip
        self.layout = layout
        self.nodes = layout.recurrence.nodes
        self.axes = axes
        #: where in the kernel's carries those of each stratum begin
        self.first: dict[int, int] = {}
        for s in strata:
            self.first[s] = sum(len(layout.strata[x].carries) for x in self.first)
        self.roots = set(roots)
        self.packed = packed
        self.body = GraphBuilder(layout.recurrence.axes)
        self.operands: list[Operand] = []
        self.streams: list[Stream] = []
        self.sources: list[tuple[int, int]] = []
        self.constants: list[int | MapPart] = []
        self.scalars: list[str] = []
        self.masks: list[int] = []
        self.carries: dict[int, Carry] = {}
        self.scans: dict[int, Scan] = {}
        self.done: dict[int, int] = {}
        self.level = 0

    def leaf(self, n: int) -> int | None:
        """The body's leaf for a node that the kernel reads; None for one it computes."""
        node = self.nodes[n]
        carried = self.layout.carried(n)
        if carried is not None and carried[0] in self.first:
            return self.prev(*carried)
        if not self.layout.timed[n]:
            return self.constant(n)
        if node.op == "keep":
            if n not in self.masks:
                self.masks.append(n)
            return self.body.add("keep", axes=node.axes, attrs=(self.masks.index(n),))
        if not self.layout.fused(n) or (n not in self.roots and self.foreign(n)):
            return self.stream(n)
        return None

    def foreign(self, n: int) -> bool:
        """Whether another kernel computes the node, and stores it."""
        layout = self.layout
        if n in layout.updates:
            return not any(s in self.first for s, _ in layout.updates[n])
        if layout.levels.get(n, self.level) < self.level:
            return True
        return n in layout.absorbed and layout.homes.get(n, self.axes) != self.axes

    def prev(self, stratum: int, carry: int) -> int:
        """The leaf of a carry before the step."""
        state, _ = self.layout.strata[stratum].carries[carry]
        axes = self.layout.recurrence.state(state).axes
        return self.body.add("prev", axes=axes, attrs=(self.first[stratum] + carry,))

    def constant(self, n: int) -> int | None:
        """A value constant in time: a number, a scalar known at the call, or a tensor."""
        node = self.nodes[n]
        if node.op == "const":
            return self.body.const(float(node.attrs[0]), node.span)
        if node.op in ("hyper", "size"):
            return self.scalar_leaf(str(node.attrs[0]))
        if node.op in CONDITIONS or self.scalar(n):
            # Computed in the kernel: a tensor of constants holds numbers, never truth values.
            return None
        return self.tensor(n)

    def tensor(self, n: int) -> int:
        """The leaf of a tensor constant in time."""
        if n not in self.constants:
            self.constants.append(n)
        axes = self.nodes[n].axes
        return self.body.add("constant", axes=axes, attrs=(self.constants.index(n),))

    def scalar_leaf(self, name: str) -> int:
        """The leaf of a hyper or size."""
        if name not in self.scalars:
            self.scalars.append(name)
        return self.body.add("scalar", axes=(), attrs=(self.scalars.index(name),))

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
        keys = [o.value for o in self.operands]
        if key not in keys:
            keys.append(key)
            self.operands.append(self.operand(key))
        source = (keys.index(key), position)
        if source not in self.sources:
            self.sources.append(source)
            self.streams.append(Stream(self.describe(n), node.axes))
        index = self.sources.index(source)
        return self.body.add("load", axes=node.axes, attrs=(index,), span=node.span)

    def operand(self, key: int | str) -> Operand:
        if isinstance(key, str):
            members = [(i, n) for n, (k, i) in self.packed.items() if k == key]
            return Operand(key, tuple(self.nodes[n].axes for _, n in sorted(members)), key)
        return Operand(self.describe(key), (self.nodes[key].axes,), key)

    def describe(self, n: int) -> str:
        """A name for the value, unique and readable: the equation's, the map's, the read's."""
        node = self.nodes[n]
        recurrence = self.layout.recurrence
        if node.op == "read":
            return (
                str(node.attrs[0]) if node.attrs[1] == 0 else f"{node.attrs[0]}_lag{node.attrs[1]}"
            )
        if node.op == "map":
            prefix = recurrence.map_of(node).label
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
            waiting = [a for a in self.needs(n) if a not in self.done]
            if waiting:
                stack.extend(reversed(waiting))
                continue
            self.done[n] = self.compute(n)
        return self.done[root]

    def needs(self, n: int) -> tuple[int, ...]:
        """What the body's node is made of: a scan's parts, else the node's own arguments."""
        if any(by_law(self.layout.strata[s]) for s, _ in self.mine(n)):
            return self.layout.arguments(n)
        return self.nodes[n].args

    def mine(self, n: int) -> list[tuple[int, int]]:
        """The (stratum, carry) pairs of this kernel that the node updates."""
        return [(s, j) for s, j in self.layout.updates.get(n, ()) if s in self.first]

    def compute(self, n: int) -> int:
        """The body's node once everything it needs is there."""
        node = self.nodes[n]
        for s, j in self.mine(n):
            stratum = self.layout.strata[s]
            if stratum.law is not None and by_law(stratum):
                return self.applied(stratum.law, s)[j]
        args = tuple(self.done[a] for a in node.args)
        if node.op == "reduce":
            kind = "sum" if node.attrs[0] == "mean" else node.attrs[0]
            total = self.body.add(
                "reduce", *args, axes=node.axes, attrs=(kind, node.attrs[1]), span=node.span
            )
            return self.shared(n, total)
        return self.body.add(node.op, *args, attrs=node.attrs, span=node.span, axes=node.axes)

    def shared(self, n: int, total: int) -> int:
        """A total, or of a mean its share (of a term, too: then the total is the mean)."""
        node = self.nodes[n]
        if node.attrs[0] != "mean":
            return total
        extent = self.scalar_leaf(str(node.attrs[1]))
        return self.body.add("div", total, extent, span=node.span)

    def applied(self, law: Algebra, s: int) -> list[int]:
        """The carries of a stratum after the step: its law's function, applied to those before."""
        stratum = self.layout.strata[s]
        parts = tuple(self.done[p] for p in stratum.parts)
        span = self.nodes[stratum.after[0]].span
        symbols = dict(zip(law.parts, parts, strict=True))
        prevs = [self.prev(s, j) for j in range(len(stratum.carries))]
        symbols.update(zip(law.arguments, prevs, strict=True))
        return substitute(law, law.applied, symbols, self.body, span)

    def close(self, s: int) -> None:
        """Enter a stratum's carries and its scan, once all is computed."""
        stratum = self.layout.strata[s]
        after = (
            self.applied(stratum.law, s)
            if stratum.law is not None and by_law(stratum)
            else [self.done[n] for n in stratum.after]
        )
        places = range(self.first[s], self.first[s] + len(after))
        for place, (state, lag), node in zip(places, stratum.carries, after, strict=True):
            name = state if lag == 1 else f"{state}_lag{lag}"
            axes = self.layout.recurrence.state(state).axes
            self.carries[place] = Carry(name, state, lag, axes, node)
        parts = tuple(self.done[p] for p in stratum.parts) if stratum.law else ()
        self.scans[s] = Scan(tuple(places), stratum.law, parts)


def fuse(
    layout: Layout, name: str, axes: tuple[str, ...], strata: list[int], outputs: list[int],
    packed: dict[int, tuple[str, int]],
) -> FusedStage:  # fmt: skip
    """The kernel that runs the scans of ``strata`` and stores ``outputs``."""
    fusion = Fusion(layout, axes, strata, outputs, packed)
    updates = [n for s in strata for n in layout.strata[s].after]
    folds = [n for n in outputs if n in layout.folds]
    own = [n for n in [*updates, *outputs] if n in layout.levels and n not in folds]
    fusion.level = max(
        [*(layout.levels[n] for n in own), *(layout.folds[n][0] for n in folds)], default=0
    )
    # What a scan is made of; its own update follows from that.
    for s in strata:
        stratum = layout.strata[s]
        for n in stratum.parts if by_law(stratum) else (*stratum.parts, *stratum.after):
            fusion.visit(n)
        fusion.close(s)
    for n in outputs:
        if n in folds:
            fusion.done[n] = fusion.shared(n, fusion.visit(fusion.nodes[n].args[0]))
        else:
            fusion.visit(n)
    constants = tuple(
        Constant(f"c{i}_{fusion.describe(n)}", fusion.nodes[n].axes)
        for i, n in enumerate(fusion.constants)
        if isinstance(n, int)
    )
    masks = tuple(
        Mask(f"keep_{fusion.nodes[n].attrs[0]}", fusion.nodes[n].axes) for n in fusion.masks
    )
    summed = layout.inner.get((fusion.level, axes), frozenset())
    inner = tuple(a for a in axes if a in summed)
    kernel = Kernel(
        name=name,
        axes=axes,
        streams=tuple(fusion.streams),
        constants=constants,
        scalars=tuple(fusion.scalars),
        masks=masks,
        carries=tuple(fusion.carries[i] for i in range(len(fusion.carries))),
        scans=tuple(fusion.scans[s] for s in strata),
        outputs=tuple(
            Output(fusion.describe(n), fusion.done[n], output_axes(layout, n, axes, inner))
            for n in outputs
        ),
        body=fusion.body.graph,
        inner=inner,
    )
    return FusedStage(
        kernel, tuple(fusion.operands), tuple(fusion.sources), tuple(fusion.constants),
        tuple(fusion.masks), tuple(outputs),
    )  # fmt: skip


def output_axes(
    layout: Layout, n: int, axes: tuple[str, ...], inner: tuple[str, ...]
) -> tuple[str, ...]:
    """The axes that a value is stored over: the kernel's, less those it was summed over."""
    if n in layout.folds:
        (terms,) = layout.recurrence.nodes[n].args
        lane = layout.recurrence.nodes[n].attrs[1]
        return tuple(a for a in output_axes(layout, terms, axes, inner) if a != lane)
    own = axes_of(layout, n) if n in layout.updates else layout.recurrence.nodes[n].axes
    return tuple(a for a in axes if a in own or a not in inner)
