"""A layer's graph as staging sees it: what each value needs, and the level where it can run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from seqc.ir.contraction import Contraction, contractions
from seqc.ir.graph import Node, reachable
from seqc.ir.ops import CONDITIONS, GATHERED, POINTWISE
from seqc.ir.plan import Analysis, History, Stratum
from seqc.ir.recurrence import Recurrence, time_varying
from seqc.lower.loops import Loop, find_loop

#: Operations that look across an axis or a window, so that they run between kernels, but for the
#: sums that a kernel does itself (:func:`absorbed`).
BARRIERS = frozenset({"map", "reduce", "cumsum", "shift", "rename"})

#: Reductions that are sums.
SUMS = ("sum", "mean")


@dataclass
class Layout:
    """The layer's graph as staging sees it: scans in place of state updates.

    ``strata`` are those that kernels run, ``loops`` those that torch does; ``looped`` gives, a node
    that a loop computes, its position.  ``updates`` gives, a node, the (stratum, carry)
    pairs whose value after the step it is.  ``frontier`` is what a stratum is computed from:
    the parts of its law, or of a march what is free of the carries; ``sums`` what a march does
    across axes on the way (sums, maxima, axes called otherwise), ``spans`` all axes of its step;
    ``products`` are sums of products that run as matrix products, unless a kernel does the sum.
    ``levels`` is where a node runs, ``homes`` the axes of the kernel that computes it (its own, or
    those more that the kernel sums over), ``inner`` the axes that a kernel over such axes sums
    over, at its level.
    """

    recurrence: Recurrence
    strata: tuple[Stratum, ...]
    updates: dict[int, list[tuple[int, int]]]
    frontier: list[tuple[int, ...]]
    sums: list[tuple[int, ...]]
    spans: list[tuple[str, ...]]
    timed: list[bool]
    products: dict[int, Contraction]
    loops: tuple[Loop, ...] = ()
    looped: dict[int, int] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    levels: dict[int, int] = field(default_factory=dict)
    homes: dict[int, tuple[str, ...]] = field(default_factory=dict)
    inner: dict[tuple[int, tuple[str, ...]], frozenset[str]] = field(default_factory=dict)
    absorbed: set[int] = field(default_factory=set)
    #: kernels that do more across axes than sum: maxima, axes called otherwise
    mixing: set[tuple[int, tuple[str, ...]]] = field(default_factory=set)
    #: sums that the kernel which has their terms hands out: its level and axes (``folds.py``)
    folds: dict[int, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    #: nodes that depend on a kernel's scan at their own level
    bound: set[int] = field(default_factory=set)

    def fused(self, n: int) -> bool:
        """Whether a kernel computes the node (rather than a map, torch or nobody)."""
        if not self.timed[n] or n in self.looped:
            return False
        op = self.recurrence.nodes[n].op
        return n in self.updates or n in self.absorbed or op in POINTWISE

    def arguments(self, n: int) -> tuple[int, ...]:
        """What the node needs: a scan or loop what it is computed from, a lagged read its value."""
        if n in self.looped:
            return self.loops[self.looped[n]].edge
        if n in self.updates:
            found = (a for s, _ in self.updates[n] for a in self.frontier[s])
            return tuple(dict.fromkeys(found))
        node = self.recurrence.nodes[n]
        if node.op == "read" and node.attrs[1] != 0:
            source = self.recurrence.definition(str(node.attrs[0]))
            return () if source is None else (source,)
        product = self.products.get(n)
        if product is None or n in self.absorbed:
            return node.args
        return (*node.args, *product.factors)

    def wanted(self, n: int) -> tuple[int, ...]:
        """What must be there for torch to compute a node: of a matrix product its factors alone."""
        product = None if n in self.looped else self.products.get(n)
        return self.arguments(n) if product is None else product.factors

    def barrier(self, n: int) -> bool:
        """Whether the node is computed between kernels, for the whole sequence."""
        if not self.timed[n]:
            return False
        across = self.recurrence.nodes[n].op in BARRIERS and n not in self.absorbed
        return (across and n not in self.folds) or n in self.looped

    def carried(self, n: int) -> tuple[int, int] | None:
        """The (stratum, carry) whose value before the step the node reads, if it is such a read."""
        node = self.recurrence.nodes[n]
        if node.op == "read" and node.attrs[1] != 0:
            key = (str(node.attrs[0]), node.attrs[1])
            for i, s in enumerate(self.strata):
                if key in s.carries:
                    return i, s.carries.index(key)
        return None

    def stored(self, n: int) -> int | None:
        """The fused node whose whole sequence gives this one's: itself, or the scan it reads."""
        if self.fused(n):
            return n
        return None if self.carried(n) is None else self.arguments(n)[0]


def lay_out(analysis: Analysis, histories: tuple[History, ...]) -> Layout:
    """Order the nodes that the layer needs, and give each its level."""
    recurrence = analysis.recurrence
    # A state that does not depend on its past is its update, a value like any other.
    strata = tuple(s for s in analysis.strata if s.carries and s.parts[1:] != s.after)
    updates: dict[int, list[tuple[int, int]]] = {}
    for i, s in enumerate(strata):
        for j, (_, lag) in enumerate(s.carries):
            if lag == 1:
                updates.setdefault(s.after[j], []).append((i, j))
    inside = [() if by_law(s) else inside_of(recurrence, s) for s in strata]
    frontier = [
        s.parts if by_law(s) else (*s.parts, *edge_of(recurrence, s, within))
        for s, within in zip(strata, inside, strict=True)
    ]
    sums = [tuple(n for n in w if recurrence.nodes[n].op in GATHERED) for w in inside]
    spans = [
        tuple(a for a in recurrence.axes if any(a in recurrence.nodes[n].axes for n in w))
        for w in inside
    ]
    products = contractions(recurrence)
    found = (
        find_loop(recurrence, s, products)
        for s in analysis.strata
        if s.method in ("sequential", "newton")
    )
    loops = tuple(x for x in found if x is not None)
    looped = {
        n: i
        for i, loop in enumerate(loops)
        for n in loop.bound
        if recurrence.nodes[n].op not in CONDITIONS  # no sequence of truths is written down
    }
    layout = Layout(
        recurrence, strata, updates, frontier, sums, spans, time_varying(recurrence), products,
        loops, looped,
    )  # fmt: skip
    layout.absorbed.update(n for found in sums for n in found)
    layout.order = topological(layout, needed(recurrence, histories))
    for n in layout.order:
        place(layout, n)
    return layout


def by_law(stratum: Stratum) -> bool:
    """Whether a step is computed as its law has it, from the law's parts.

    Linear laws are; of any other the spec's own terms are kept, whose slopes at corners are the
    ones that a person expects (relu has 0 at 0, a maximum half).
    """
    law = stratum.law
    if law is None:
        return False
    ops = {law.nodes[n].op for n in reachable(law.nodes, law.applied)}
    return ops <= {"symbol", "const", "add", "sub", "mul", "neg"}


def inside_of(recurrence: Recurrence, stratum: Stratum) -> tuple[int, ...]:
    """The nodes of a march that depend on its carries, in order."""
    nodes = recurrence.nodes
    carries = set(stratum.carries)
    found: set[int] = set()
    for n in sorted(reachable(nodes, stratum.after)):
        node = nodes[n]
        own = node.op == "read" and (str(node.attrs[0]), node.attrs[1]) in carries
        if own or any(a in found for a in node.args):
            found.add(n)
    return tuple(sorted(found))


def edge_of(recurrence: Recurrence, stratum: Stratum, inside: tuple[int, ...]) -> tuple[int, ...]:
    """What a march is computed from: the last nodes on each way that are free of its carries."""
    held = set(inside)
    found = [a for n in inside for a in recurrence.nodes[n].args if a not in held]
    found += [n for n in stratum.after if n not in held]
    return tuple(dict.fromkeys(found))


def needed(recurrence: Recurrence, histories: tuple[History, ...]) -> list[int]:
    """The nodes that leave the layer: outputs and what the next call reads back."""
    roots = [recurrence.definition(name) for name in recurrence.outputs]
    roots += [h.node for h in histories]
    return list(dict.fromkeys(n for n in roots if n is not None))


def topological(layout: Layout, roots: Iterable[int]) -> list[int]:
    """The nodes that the roots need, each after what it depends on."""
    order: list[int] = []
    done: set[int] = set()
    stack = [(r, False) for r in reversed(list(roots))]
    while stack:
        n, ready = stack.pop()
        if ready:
            order.append(n)
        elif n not in done:
            done.add(n)
            stack.append((n, True))
            stack.extend((a, False) for a in reversed(layout.arguments(n)) if a not in done)
    return order


def place(layout: Layout, n: int) -> None:
    """Give a node its level and home, its arguments having theirs.

    The level is where it can run at the earliest.  Its home is the kernel that computes it: over
    its own axes, or over more where that kernel sums over those on the way to it.
    """
    nodes = layout.recurrence.nodes
    node = nodes[n]
    if not layout.timed[n]:
        layout.levels[n], layout.homes[n] = 0, node.axes
        return
    arguments = layout.arguments(n)
    carried = layout.carried(n)
    computed = n in layout.updates or n in layout.looped
    if not computed and carried is None and absorbs(layout, n):
        layout.absorbed.add(n)
    waits = n not in layout.updates and (
        layout.barrier(n) or (node.op == "read" and carried is None)
    )
    level = max(
        (layout.levels[a] + (waits and layout.stored(a) is not None) for a in arguments), default=0
    )
    own = kernel_axes(layout, n) if n in layout.updates else node.axes
    if n in layout.absorbed and n not in layout.updates:
        own = layout.homes[node.args[0]]
    theirs = [layout.homes[a] for a in arguments if layout.levels[a] == level and a in layout.bound]
    fit = [h for h in theirs if set(h) - summed_over(layout, level, h) <= set(own) <= set(h)]
    home = max([own, *fit], key=lambda axes: rank(layout, axes))
    if any(rank(layout, h) > rank(layout, home) for h in theirs):
        # Computed where this node can't be: it waits until that has been stored.
        level, home = level + 1, own
    mine = (n, *(r for s, _ in layout.updates.get(n, ()) for r in layout.sums[s]))
    summed = {a for r in mine if r in layout.absorbed for a in axes_across(nodes[r])}
    # A march waits where its sums would take the lanes of a kernel over its axes.
    while not leaves_lanes(layout, level, home, summed):
        level += 1
    layout.levels[n], layout.homes[n] = level, home
    starts = n in layout.updates or carried is not None
    if starts or any(a in layout.bound and layout.levels[a] == level for a in arguments):
        layout.bound.add(n)
    if summed:
        layout.inner[level, home] = summed_over(layout, level, home) | summed
    if any(r in layout.absorbed and nodes[r].attrs[0] not in SUMS for r in mine):
        layout.mixing.add((level, home))


def summed_over(layout: Layout, level: int, home: tuple[str, ...]) -> frozenset[str]:
    """The axes that a kernel sums over, as far as is known."""
    return layout.inner.get((level, home), frozenset())


def leaves_lanes(layout: Layout, level: int, home: tuple[str, ...], axes: set[str]) -> bool:
    """Whether a kernel that sums over these axes, too, has one left along which cells lie.

    The first to sum over any may take all: there is no other way for a march, and what is over a
    single axis has few cells anyway.
    """
    taken = summed_over(layout, level, home)
    return not taken or axes <= taken or bool(set(home) - taken - axes)


def axes_of(layout: Layout, n: int) -> tuple[str, ...]:
    """The axes of the states that a node updates (it may itself be the same along some)."""
    s, j = layout.updates[n][0]
    return layout.recurrence.state(layout.strata[s].carries[j][0]).axes


def kernel_axes(layout: Layout, n: int) -> tuple[str, ...]:
    """The axes of the kernel that updates states: theirs, and those that a step has on the way."""
    every = {a for s, _ in layout.updates[n] for a in layout.spans[s]} | set(axes_of(layout, n))
    return tuple(a for a in layout.recurrence.axes if a in every)


def axes_across(node: Node) -> tuple[str, ...]:
    """The axes along which a node looks: that of a sum, all that are called otherwise."""
    return tuple(map(str, node.attrs if node.op == "rename" else node.attrs[1:]))


def rank(layout: Layout, axes: tuple[str, ...]) -> tuple[int, list[int]]:
    """The order of kernels within a level: those over fewer axes first."""
    return len(axes), [layout.recurrence.axes.index(a) for a in axes]


def absorbs(layout: Layout, n: int) -> bool:
    """Whether a kernel does this sum itself: over axes of a scan's, of which it has all."""
    node = layout.recurrence.nodes[n]
    if node.op != "reduce":
        return False
    (source,) = node.args
    axis, own = str(node.attrs[1]), layout.recurrence.nodes[source].axes
    level, home = layout.levels[source], layout.homes[source]
    if source not in layout.bound or axis not in home or axis not in own:
        return False
    taken = summed_over(layout, level, home)
    if node.attrs[0] not in SUMS:  # a maximum: in a kernel that has some anyway
        return axis in taken and (level, home) in layout.mixing
    if axis in taken:
        return True
    # Lanes stay lanes (a sum over them is handed out: folds.py); and what has been summed before
    # is a small thing to store, no reason for larger cells.
    lane = [a for a in home if a not in taken][-1:]
    return set(own) == set(home) and (not taken or lane != [axis])


def pinned(layout: Layout, histories: tuple[History, ...]) -> set[int]:
    """Fused nodes whose whole sequence must exist: outputs, map arguments, lagged sources."""
    recurrence = layout.recurrence
    pins = {recurrence.definition(name) for name in recurrence.outputs}
    # The last value of a scan is what its kernel carries out; of any other value, a step of it.
    carried = {name for s in layout.strata for name, _ in s.carries}
    pins |= {h.node for h in histories if not (h.single and h.name in carried)}
    for n in layout.order:
        read = recurrence.nodes[n].op == "read"
        if layout.barrier(n) or (read and layout.carried(n) is None):
            pins |= set(layout.wanted(n))
    stored = {layout.stored(n) for n in pins if n is not None}
    return {n for n in stored if n is not None}


def sink(layout: Layout, histories: tuple[History, ...]) -> None:
    """Move a pointwise value down to its first reader, so that it need not be stored."""
    fixed = pinned(layout, histories)
    readers: dict[int, list[int]] = {}
    for n in layout.order:
        for a in layout.arguments(n):
            readers.setdefault(a, []).append(n)
    for n in reversed(layout.order):
        later = readers.get(n, [])
        movable = layout.fused(n) and n not in layout.updates and n not in layout.absorbed
        movable = movable and layout.homes[n] == layout.recurrence.nodes[n].axes
        if movable and n not in fixed and later:
            layout.levels[n] = min(
                layout.folds[r][0] if r in layout.folds else layout.levels[r] for r in later
            )
