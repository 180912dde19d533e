"""A layer's graph as staging sees it: what each value needs, and the level where it can run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from seqc.ir.ops import POINTWISE
from seqc.ir.plan import Analysis, History
from seqc.ir.recurrence import Recurrence, time_varying

#: Operations that look across an axis or a window, so that they run between kernels.
BARRIERS = frozenset({"map", "reduce", "cumsum", "shift", "rename"})


@dataclass
class Layout:
    """The layer's graph as staging sees it: scans in place of state updates.

    ``arguments`` gives a node's dependences within a step and through the
    scans; ``levels`` where it runs; ``timed`` whether it varies with time.
    """

    recurrence: Recurrence
    scans: dict[int, list[str]]
    coefficients: dict[str, tuple[int, int]]
    timed: list[bool]
    order: list[int] = field(default_factory=list)
    levels: dict[int, int] = field(default_factory=dict)

    def fused(self, n: int) -> bool:
        """Whether a kernel computes the node (rather than a map, torch or nobody)."""
        return self.timed[n] and (n in self.scans or self.recurrence.nodes[n].op in POINTWISE)

    def arguments(self, n: int) -> tuple[int, ...]:
        """What the node needs: a scan its coefficients, a lagged read its value."""
        if n in self.scans:
            return tuple(dict.fromkeys(a for s in self.scans[n] for a in self.coefficients[s]))
        node = self.recurrence.nodes[n]
        if node.op == "read" and node.attrs[1] != 0:
            source = self.recurrence.definition(str(node.attrs[0]))
            return () if source is None else (source,)
        return node.args

    def carried(self, n: int) -> str | None:
        """The state whose value one step ago the node reads, if it is such a read."""
        node = self.recurrence.nodes[n]
        if node.op == "read" and node.attrs[1] == 1:
            name = str(node.attrs[0])
            if name in self.coefficients:
                return name
        return None

    def stored(self, n: int) -> int | None:
        """The fused node whose whole sequence gives this one's: itself, or the scan it reads."""
        if self.fused(n):
            return n
        return None if self.carried(n) is None else self.arguments(n)[0]


def lay_out(analysis: Analysis, histories: tuple[History, ...]) -> Layout:
    """Order the nodes that the layer needs, and give each its level."""
    recurrence = analysis.recurrence
    updates = {s.name: s.update for s in recurrence.states}
    # A state that does not depend on its past is its update, a value like any other.
    coefficients = {
        name: (a, b)
        for s in analysis.strata
        for name, a, b in zip(s.states, s.coefficient, s.offset, strict=True)
        if b != updates[name]
    }
    scans: dict[int, list[str]] = {}
    for name in updates:
        if name in coefficients:
            scans.setdefault(updates[name], []).append(name)
    layout = Layout(recurrence, scans, coefficients, time_varying(recurrence))
    layout.order = topological(layout, needed(recurrence, histories))
    for n in layout.order:
        layout.levels[n] = level(layout, n)
    sink(layout, histories)
    return layout


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


def level(layout: Layout, n: int) -> int:
    """Where a node can run at the earliest, its arguments having their levels."""
    if not layout.timed[n]:
        return 0
    node = layout.recurrence.nodes[n]
    waits = node.op in BARRIERS or (node.op == "read" and layout.carried(n) is None)
    levels = [
        layout.levels[a] + (1 if waits and layout.stored(a) is not None else 0)
        for a in layout.arguments(n)
    ]
    return max(levels, default=0)


def pinned(layout: Layout, histories: tuple[History, ...]) -> set[int]:
    """Fused nodes whose whole sequence must exist: outputs, map arguments, lagged sources."""
    recurrence = layout.recurrence
    pins = {recurrence.definition(name) for name in recurrence.outputs}
    # The last value of a scan is what its kernel carries out; of any other value, a step of it.
    pins |= {h.node for h in histories if not (h.single and h.name in layout.coefficients)}
    for n in layout.order:
        node = recurrence.nodes[n]
        if layout.timed[n] and node.op in BARRIERS:
            pins |= set(node.args)
        elif node.op == "read" and layout.carried(n) is None:
            pins |= set(layout.arguments(n))
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
        if layout.fused(n) and n not in layout.scans and n not in fixed and later:
            layout.levels[n] = min(layout.levels[r] for r in later)
