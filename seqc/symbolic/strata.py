"""Which values depend on which through time: strongly connected components, in order.

The graph has an edge from a node to each argument, and from a read of the past
to the node of what it reads.  A component with a cycle is a stratum: its states
must be solved together.  Any other state is a stratum of its own, a recurrence
with a coefficient of zero.

Source: Tarjan, "Depth-first search and linear graph algorithms" (1972), made
iterative, for a graph may be deeper than Python's stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seqc.ir.graph import reachable
from seqc.ir.recurrence import Recurrence


@dataclass(frozen=True)
class Component:
    """Values that are carried from step to step and depend on one another.

    ``states`` are declared states; ``others`` are equations that are read with
    a lag inside the cycle, which makes them carried too.  ``reads`` are the
    nodes inside the cycle that read the past.
    """

    states: tuple[str, ...]
    others: tuple[str, ...]
    reads: tuple[int, ...]


def is_past(attrs: Sequence[object]) -> bool:
    """Whether a read with these attributes looks back (a lag named by a size does: it is ≥ 1)."""
    return attrs[1] != 0


def components(recurrence: Recurrence) -> tuple[Component, ...]:
    """The strata, each after those that it depends on; deterministic."""
    nodes = recurrence.nodes
    defined = {e.name: e.node for e in recurrence.equations}
    defined.update((s.name, s.update) for s in recurrence.states)
    # States to which the spec applies one algebra are solved together, whether they need be or not:
    # to read one of them is to read a node that stands for all.
    groups = tuple(dict.fromkeys(a.states for a in recurrence.applied))
    source = {name: (n,) for name, n in defined.items()}
    for i, group in enumerate(groups):
        source.update((name, (len(nodes) + i,)) for name in group)
    edges: list[tuple[int, ...]] = []
    for node in nodes:
        target = node.args
        if node.op == "read" and is_past(node.attrs):
            target = (*target, *source.get(str(node.attrs[0]), ()))
        edges.append(target)
    edges += [tuple(defined[name] for name in group) for group in groups]

    live = reachable(nodes, [*defined.values()])
    order = {s.name: i for i, s in enumerate(recurrence.states)}
    found: list[Component] = []
    placed: set[str] = set()
    for members in strongly_connected(edges):
        inside = set(members)
        cyclic = len(members) > 1 or members[0] in edges[members[0]]
        reads: tuple[int, ...] = ()
        names: list[str] = []
        if cyclic:
            own = [n for n in sorted(members) if n < len(nodes)]
            reads = tuple(n for n in own if nodes[n].op == "read" and n in live)
            names = list(dict.fromkeys(str(nodes[n].attrs[0]) for n in reads))
        # A state whose update lies here and that nobody here reads comes after the cycle.
        after = [
            s.name
            for s in recurrence.states
            if s.update in inside and s.name not in names and s.name not in placed
        ]
        if names:
            states = sorted((n for n in names if n in order), key=lambda n: order[n])
            others = [n for n in names if n not in order]
            found.append(Component(tuple(states), tuple(others), reads))
            placed.update(names)
        for name in after:
            found.append(Component((name,), (), ()))
            placed.add(name)
    return tuple(found)


def strongly_connected(edges: Sequence[Sequence[int]]) -> list[list[int]]:
    """The components of a graph, each after every component that it has an edge into."""
    count = len(edges)
    index = [-1] * count
    low = [0] * count
    on_stack = [False] * count
    stack: list[int] = []
    out: list[list[int]] = []
    clock = 0
    for root in range(count):
        if index[root] >= 0:
            continue
        work = [(root, 0)]
        while work:
            n, position = work.pop()
            if position == 0:
                index[n] = low[n] = clock
                clock += 1
                stack.append(n)
                on_stack[n] = True
            descended = False
            for k in range(position, len(edges[n])):
                m = edges[n][k]
                if index[m] < 0:
                    work += [(n, k + 1), (m, 0)]
                    descended = True
                    break
                if on_stack[m]:
                    low[n] = min(low[n], index[m])
            if descended:
                continue
            if low[n] == index[n]:
                group = []
                while True:
                    m = stack.pop()
                    on_stack[m] = False
                    group.append(m)
                    if m == n:
                        break
                out.append(group)
            if work:
                parent = work[-1][0]
                low[parent] = min(low[parent], low[n])
    return out
