"""Which values are computed where: a layer's graph cut into maps, arrays and fused kernels.

A learned map or a reduction looks across channels, so it runs for the whole
sequence between kernels; everything pointwise, and every scan, is fused.  Each
value gets a *level*: level 0 needs inputs alone, level n + 1 needs a map of
something that a level-n kernel computes.  A stratum that no kernel runs is a loop in torch: it
stands between kernels as a map does.  Within a level, values over the same
axes share one kernel; what a later kernel, a map, an output or a later call
needs is materialised, all else lives in registers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from seqc.ir.plan import Analysis, ArrayStage, FusedStage, History, LoopStage, MapStage, Staged
from seqc.lower.folds import find_folds
from seqc.lower.fusion import fuse
from seqc.lower.histories import find_histories, refuse_foresight
from seqc.lower.layout import Layout, lay_out, pinned, rank, sink
from seqc.lower.loops import Loop, packs, structure
from seqc.lower.stepping import step_stages, steps


def stage(analysis: Analysis) -> Staged:
    """What a layer computes where: its histories, and its stages."""
    recurrence = analysis.recurrence
    refuse_foresight(recurrence)
    histories = find_histories(recurrence)
    layout = lay_out(analysis, histories)
    find_folds(layout)
    sink(layout, histories)
    groups = materialise(layout, histories)
    kept = loop_outputs(layout, histories)
    return Staged(analysis, histories, tuple(emit(layout, groups, kept)))


@dataclass
class Group:
    """The values over the same axes that one kernel computes at one level."""

    level: int
    axes: tuple[str, ...]
    strata: list[int]
    outputs: list[int]


def materialise(layout: Layout, histories: tuple[History, ...]) -> list[Group]:
    """The kernels, in the order in which they run.

    Found from the last level back: a kernel computes the whole cone above its
    roots, down to values of earlier kernels, which thereby become theirs to
    store.
    """
    stored = pinned(layout, histories)
    keys = {(layout.levels[n], layout.homes[n]) for n in layout.order if layout.fused(n)}
    groups: list[Group] = []
    for lvl, axes in sorted(keys, key=lambda k: (k[0], rank(layout, k[1])), reverse=True):
        mine = [
            n for n in layout.order
            if layout.fused(n) and (layout.levels[n], layout.homes[n]) == (lvl, axes)
        ]  # fmt: skip
        strata = list(dict.fromkeys(s for n in mine for s, _ in layout.updates.get(n, ())))
        roots = [n for n in mine if n in stored]
        roots += [n for n in layout.order if layout.folds.get(n) == (lvl, axes)]
        if not strata and not roots:
            continue
        group = Group(lvl, axes, sorted(strata), roots)
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
    updates = [n for n in layout.updates if any(s in group.strata for s, _ in layout.updates[n])]
    stack = [*group.outputs, *updates]
    own = set(stack)
    while stack:
        n = stack.pop()
        if n in seen or not layout.timed[n]:
            continue
        seen.add(n)
        carried = layout.carried(n)
        if carried is not None and n not in own:
            if carried[0] not in group.strata:
                # A state that stays as it is: before the step it is what it is after it.
                found.update((n,) if n in layout.updates else layout.arguments(n))
            continue
        if layout.folds.get(n) == (group.level, group.axes):
            stack.extend(layout.recurrence.nodes[n].args)
            continue
        if not layout.fused(n):
            continue
        elsewhere = n in layout.updates or (
            n in layout.absorbed and layout.homes.get(n, group.axes) != group.axes
        )
        if n not in own and (elsewhere or layout.levels.get(n, group.level) < group.level):
            found.add(n)
        else:
            stack.extend(layout.arguments(n))
    return found


def loop_outputs(layout: Layout, histories: tuple[History, ...]) -> tuple[tuple[int, ...], ...]:
    """A loop, what is needed of it for the whole sequence: all else is gone after its step."""
    r = layout.recurrence
    carried = {name for loop in layout.loops for name in loop.states}
    wanted = {a for n in layout.order for a in layout.arguments(n)}
    wanted |= {n for n in map(r.definition, r.outputs) if n is not None}
    # The last value of a state is what its loop carries out.
    wanted |= {
        h.node for h in histories
        if h.node is not None and not (h.single and h.name in carried)
    }  # fmt: skip
    return tuple(
        tuple(n for n in layout.order if layout.looped.get(n) == i and n in wanted)
        for i in range(len(layout.loops))
    )


def emit(
    layout: Layout, groups: list[Group], kept: tuple[tuple[int, ...], ...]
) -> Iterable[MapStage | ArrayStage | LoopStage | FusedStage]:
    """The stages in order: at each level the maps, arrays and loops, then the kernels."""
    nodes = layout.recurrence.nodes
    packed: dict[int, tuple[str, int]] = {}
    names = iter(f"pre{i}" for i in range(len(layout.recurrence.maps) + 1))
    looped: set[int] = set()
    for lvl in range(max(layout.levels.values(), default=0) + 1):
        for n in layout.order:
            if not layout.barrier(n) or layout.levels[n] != lvl or n in packed:
                continue
            if n in layout.looped:
                i = layout.looped[n]
                if i not in looped:
                    looped.add(i)
                    yield from loop_stages(layout, i, len(looped) - 1, kept[i], packed, names)
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
                yield fuse(layout, name, group.axes, group.strata, group.outputs, packed)


def loop_stages(
    layout: Layout, i: int, place: int, kept: tuple[int, ...],
    packed: dict[int, tuple[str, int]], names: Iterator[str],
) -> Iterator[MapStage | FusedStage | LoopStage]:  # fmt: skip
    """A stratum's steps: in a kernel, or in torch."""
    loop = layout.loops[i]
    found = loop_stage(layout, f"loop{place}", loop, kept)
    if not found.solved and steps(layout.recurrence, loop, layout.products):
        yield from step_stages(layout, f"s{place}", loop, kept, packed, names)
    else:
        yield found


def loop_stage(layout: Layout, name: str, loop: Loop, kept: tuple[int, ...]) -> LoopStage:
    """A stratum's steps in torch."""
    groups, stratum = packs(layout.recurrence, loop), loop.stratum
    found = LoopStage(
        name, loop.states, loop.edge, loop.within, groups, kept, stratum.newton, stratum.feedback,
        structure(layout.recurrence, loop),
    )  # fmt: skip
    if not found.solved:
        return found
    updates = tuple(n for n in dict.fromkeys(loop.updates) if n in loop.bound)
    others = tuple(n for n in kept if n not in updates)
    return replace(found, outputs=updates, others=others)


def map_stage(layout: Layout, first: int, name: str) -> MapStage:
    """The learned maps that share the first one's sources (and window), as one GEMM."""
    recurrence = layout.recurrence

    def packing(n: int) -> tuple[object, ...]:
        node = recurrence.nodes[n]
        return (*recurrence.map_of(node).packing, node.args)

    mine = [first]
    if not recurrence.map_of(recurrence.nodes[first]).alone:
        mine = [
            n
            for n in layout.order
            if recurrence.nodes[n].op == "map" and n not in layout.looped
            if packing(n) == packing(first)
        ]
    # In the order in which the spec writes them.
    mine.sort(key=lambda n: int(recurrence.nodes[n].attrs[0]))
    maps = tuple(int(recurrence.nodes[n].attrs[0]) for n in mine)
    return MapStage(name, maps, tuple(mine), recurrence.nodes[first].args)
