"""Which values are computed where: a layer's graph cut into maps, arrays and fused kernels.

A learned map or a reduction looks across channels, so it runs for the whole
sequence between kernels; everything pointwise, and every scan, is fused.  Each
value gets a *level*: level 0 needs inputs alone, level n + 1 needs a map of
something that a level-n kernel computes.  Within a level, values over the same
axes share one kernel; what a later kernel, a map, an output or a later call
needs is materialised, all else lives in registers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from seqc.diagnostics import Diagnostic, SeqcError
from seqc.ir.ops import POINTWISE
from seqc.ir.plan import (
    Analysis,
    ArrayStage,
    History,
    KernelStage,
    MapStage,
    Plan,
    Stage,
)
from seqc.ir.recurrence import LearnedMap, Recurrence, time_varying
from seqc.passes.adjoint import derive_adjoint
from seqc.passes.fusion import fuse

BARRIERS = frozenset({"map", "reduce", "cumsum", "shift"})


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


def stage(analysis: Analysis) -> Plan:
    """The plan of a layer: its histories, and its stages unless it runs step by step."""
    recurrence = analysis.recurrence
    refuse_foresight(recurrence)
    histories = find_histories(recurrence)
    if any(s.method != "scan" for s in analysis.strata):
        return Plan(analysis, histories, ())
    layout = lay_out(analysis, histories)
    groups = materialise(layout, histories)
    return Plan(analysis, histories, tuple(emit(layout, groups)))


def refuse_foresight(recurrence: Recurrence) -> None:
    """Raise where a map that sees later steps needs a state: no step could be taken first."""
    found: list[Diagnostic] = []
    for node in recurrence.nodes:
        if node.op != "map":
            continue
        m = recurrence.maps[int(node.attrs[0])]
        state = None if m.kind != "conv" or m.causal else state_below(recurrence, node.args)
        if state is not None:
            found.append(
                Diagnostic(
                    "E302",
                    f"this convolution sees later steps of what depends on the state {state}",
                    node.span or m.span,
                    "",
                    "what sees the future may map inputs alone; leave out `causal = false`",
                )
            )
    if found:
        raise SeqcError(found)


def state_below(recurrence: Recurrence, roots: Iterable[int]) -> str | None:
    """A state that the nodes depend on, within a step or through time."""
    updates = {s.update: s.name for s in recurrence.states}
    carried = {s.name for s in recurrence.states}
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        n = stack.pop()
        if n in seen:
            continue
        seen.add(n)
        node = recurrence.nodes[n]
        if node.op == "read" and node.attrs[1] != 0:
            if node.attrs[0] in carried:
                return str(node.attrs[0])
            source = recurrence.definition(str(node.attrs[0]))
            stack += [] if source is None else [source]
        elif n in updates and node.op != "read":
            return updates[n]
        stack += node.args
    return None


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


@dataclass
class Group:
    """The values over the same axes that one kernel computes at one level."""

    level: int
    axes: tuple[str, ...]
    states: list[str]
    outputs: list[int]


def materialise(layout: Layout, histories: tuple[History, ...]) -> list[Group]:
    """The kernels, in the order in which they run.

    Found from the last level back: a kernel computes the whole cone above its
    roots, down to values of earlier kernels, which thereby become theirs to
    store.
    """
    nodes = layout.recurrence.nodes
    stored = pinned(layout, histories)
    scans = [n for n in layout.order if n in layout.scans]
    keys = {(layout.levels[n], nodes[n].axes) for n in layout.order if layout.fused(n)}
    rank = {axes: i for i, axes in enumerate(dict.fromkeys(nodes[n].axes for n in layout.order))}
    groups: list[Group] = []
    for lvl, axes in sorted(keys, key=lambda k: (k[0], len(k[1]), rank[k[1]]), reverse=True):
        mine = [n for n in scans if (layout.levels[n], nodes[n].axes) == (lvl, axes)]
        states = [s for n in mine for s in layout.scans[n]]
        roots = [
            n for n in layout.order
            if n in stored and (layout.levels[n], nodes[n].axes) == (lvl, axes)
        ]  # fmt: skip
        if not states and not roots:
            continue
        group = Group(lvl, axes, states, roots)
        groups.append(group)
        stored |= boundary(layout, group)
    groups.reverse()
    # Roots were complete when a group was visited: what it stores for later
    # groups was added while those were visited.
    return groups


def boundary(layout: Layout, group: Group) -> set[int]:
    """Fused values that the group's kernel reads from other kernels."""
    found: set[int] = set()
    seen: set[int] = set()
    stack = [*group.outputs, *(n for n in layout.scans if set(layout.scans[n]) & set(group.states))]
    own = set(stack)
    while stack:
        n = stack.pop()
        if n in seen or not layout.timed[n]:
            continue
        seen.add(n)
        state = layout.carried(n)
        if state is not None:
            if state not in group.states:
                found.update(layout.arguments(n))
            continue
        if not layout.fused(n):
            continue
        foreign = n not in own and (layout.levels[n] < group.level or n in layout.scans)
        if foreign:
            found.add(n)
        else:
            stack.extend(layout.arguments(n))
    return found


def emit(layout: Layout, groups: list[Group]) -> Iterable[Stage]:
    """The stages in order: at each level the maps and arrays, then the kernels."""
    nodes = layout.recurrence.nodes
    packed: dict[int, tuple[str, int]] = {}
    names = iter(f"pre{i}" for i in range(len(layout.recurrence.maps) + 1))
    for lvl in range(max(layout.levels.values(), default=0) + 1):
        for n in layout.order:
            barrier = nodes[n].op in BARRIERS and layout.timed[n]
            if not barrier or layout.levels[n] != lvl or n in packed:
                continue
            if nodes[n].op != "map":
                yield ArrayStage(n)
                continue
            maps = map_stage(layout, n, next(names))
            packed |= {m: (maps.name, i) for i, m in enumerate(maps.nodes)}
            yield maps
        for group in groups:
            if group.level == lvl:
                name = f"k{groups.index(group)}"
                fused = fuse(layout, name, group.axes, group.states, group.outputs, packed)
                yield KernelStage(
                    fused.kernel, derive_adjoint(fused.kernel), fused.operands, fused.constants,
                    fused.masks, tuple(group.outputs), tuple(group.states),
                )  # fmt: skip


def map_stage(layout: Layout, first: int, name: str) -> MapStage:
    """The learned maps that share the first one's sources (and window), as one GEMM."""
    recurrence = layout.recurrence

    def shape(n: int) -> tuple[object, ...]:
        m = recurrence.maps[int(recurrence.nodes[n].attrs[0])]
        return (m.kind, m.width, m.causal, m.depthwise, recurrence.nodes[n].args)

    def alone(m: LearnedMap) -> bool:
        return m.depthwise

    mine = [first]
    if not alone(recurrence.maps[int(recurrence.nodes[first].attrs[0])]):
        mine = [n for n in layout.order if recurrence.nodes[n].op == "map" and shape(n) == shape(first)]
    # In the order in which the spec writes them.
    mine.sort(key=lambda n: int(recurrence.nodes[n].attrs[0]))
    maps = tuple(int(recurrence.nodes[n].attrs[0]) for n in mine)
    return MapStage(name, maps, tuple(mine), recurrence.nodes[first].args)


def find_histories(recurrence: Recurrence) -> tuple[History, ...]:
    """What the layer carries from call to call: every state, then other values with a past."""
    lags: dict[str, list[int | str]] = {s.name: [1] for s in recurrence.states}
    windows: dict[str, list[int | str]] = {}
    sources: dict[str, tuple[int | None, tuple[str, ...]]] = {}
    for s in recurrence.states:
        sources[s.name] = (s.update, s.axes)
    axes = {i.name: i.axes for i in recurrence.inputs}
    for node in recurrence.nodes:
        if node.op == "read" and node.attrs[1] != 0:
            name = str(node.attrs[0])
            sources.setdefault(name, (recurrence.definition(name), node.axes))
            lags.setdefault(name, []).append(node.attrs[1])  # type: ignore[arg-type]
        elif node.op == "map":
            m = recurrence.maps[int(node.attrs[0])]
            if m.kind == "conv" and m.causal:
                name = recurrence.window_name(node)
                input_axes = axes.get(name)
                source = None if input_axes is not None else node.args[0]
                sources.setdefault(name, (source, recurrence.nodes[node.args[0]].axes))
                windows.setdefault(name, []).append(m.width)
    states = {s.name for s in recurrence.states}
    return tuple(
        History(
            name, ax, node,
            tuple(dict.fromkeys(lags.get(name, []))),
            tuple(dict.fromkeys(windows.get(name, []))),
            name in states,
        )
        for name, (node, ax) in sources.items()
    )  # fmt: skip
