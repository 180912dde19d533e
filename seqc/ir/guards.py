"""Branches of a choice: which values only one side of a ``where`` reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from seqc.ir.graph import Graph
from seqc.ir.operations import OPERATIONS
from seqc.ir.ops import POINTWISE


@dataclass(frozen=True)
class Guard:
    """A value belongs to one branch of a ``where`` alone: the side that its condition takes."""

    condition: int
    side: bool


#: Operations whose derivative can be infinite where their value is not used.
_STEEP = frozenset(o.name for o in OPERATIONS.values() if o.steep)


def find_guards(
    graph: Graph, roots: Iterable[int], arguments: Callable[[int], Iterable[int]]
) -> dict[int, tuple[Guard, ...]]:
    """For each node that only branches of ``where`` use, those branches, outermost first.

    A node used from several places belongs to what they have in common.
    """
    roots = set(roots)
    users: dict[int, list[int]] = {}
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        n = stack.pop()
        if n not in seen:
            seen.add(n)
            for a in arguments(n):
                users.setdefault(a, []).append(n)
                stack.append(a)
    found: dict[int, tuple[Guard, ...]] = {}
    for n in sorted(seen, reverse=True):
        if n in roots or graph[n].op not in POINTWISE:
            # What looks across channels or time belongs to no one channel's branch.
            continue
        chains = []
        for u in users.get(n, ()):
            outer = found.get(u, ())
            if graph[u].op == "where" and graph[u].args.count(n) == 1 and graph[u].args[0] != n:
                outer = (*outer, Guard(graph[u].args[0], graph[u].args[1] == n))
            chains.append(outer)
        common = chains[0] if chains else ()
        for c in chains[1:]:
            common = tuple(g for g in common if g in c)
        if common:
            found[n] = common
    # Only branches with something steep in them need guarding.
    steep = {g for n, gs in found.items() if graph[n].op in _STEEP for g in gs}
    return {n: kept for n, gs in found.items() if (kept := tuple(g for g in gs if g in steep))}
