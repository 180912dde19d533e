"""Strata that no kernel runs: which nodes are taken step by step, and from what.

A dense recurrent map, or a lag that is a size, is no work for a fused kernel.  What such a stratum
computes on its way from its carries back to them runs in a loop over time; all else, before
it and after it, is there for the whole sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from seqc.ir.contraction import Contraction
from seqc.ir.graph import Graph, reachable
from seqc.ir.guards import find_guards
from seqc.ir.ops import CONDITIONS, POINTWISE
from seqc.ir.plan import Stratum
from seqc.ir.recurrence import Recurrence, time_varying


@dataclass(frozen=True)
class Loop:
    """A stratum taken step by step.

    ``states`` are the names that it carries, ``updates`` their nodes.  ``within`` are the nodes
    that a step computes, in order: those that depend on the carries (``bound``), and a few that
    do not.  ``edge`` is what it is computed from: the last nodes on each way that are there for the
    whole sequence.
    """

    states: tuple[str, ...]
    updates: tuple[int, ...]
    within: tuple[int, ...]
    bound: frozenset[int]
    edge: tuple[int, ...]
    stratum: Stratum


def find_loop(
    recurrence: Recurrence, stratum: Stratum, products: Mapping[int, Contraction]
) -> Loop | None:
    """The loop of a stratum; None where it carries nothing."""
    nodes = recurrence.nodes
    names = stratum.states
    found = (recurrence.definition(name) for name in names)
    updates = tuple(n for n in found if n is not None)

    def terms(n: int) -> tuple[int, ...]:
        product = products.get(n)
        return nodes[n].args if product is None else product.factors

    carried: set[int] = set()
    bound: set[int] = set()
    for n in sorted(reachable(nodes, updates, terms)):
        node = nodes[n]
        if node.op == "read" and node.attrs[1] != 0 and node.attrs[0] in names:
            carried.add(n)
        elif any(a in bound or a in carried for a in terms(n)):
            bound.add(n)
    if not carried:
        return None
    within = bound | copied(nodes, recurrence, updates, bound, terms)
    edge = [a for n in sorted(within) for a in terms(n) if a not in within and a not in carried]
    edge += [n for n in updates if n not in within and n not in carried]
    inner, around = tuple(sorted(within)), tuple(dict.fromkeys(edge))
    return Loop(names, updates, inner, frozenset(bound), around, stratum)


def copied(
    nodes: Graph,
    recurrence: Recurrence,
    updates: tuple[int, ...],
    bound: set[int],
    terms: Callable[[int], tuple[int, ...]],
) -> set[int]:
    """Nodes that a step computes though they do not depend on its carries.

    Truth values, of which no kernel writes down a sequence; and what belongs to one branch of a
    choice that is made in the loop, where it is guarded: its derivative may be infinite at steps
    that take the other branch.
    """
    timed = time_varying(recurrence)
    guards = find_guards(nodes, updates, terms)
    found: set[int] = set()

    def take(stack: list[int]) -> None:
        while stack:
            n = stack.pop()
            truth = nodes[n].op in CONDITIONS and timed[n]
            if n in bound or n in found or nodes[n].op not in POINTWISE:
                continue
            if truth or n in guards:
                found.add(n)
                stack.extend(terms(n))

    take([a for n in bound for a in terms(n)])
    while True:
        # Seen from the loop alone, a value may belong to a branch that others read it outside of.
        within = bound | found
        more = find_guards(nodes, updates, lambda n: terms(n) if n in within else ())  # noqa: B023
        extra = {n: g for n, g in more.items() if n not in within}
        if not extra:
            return found
        guards |= extra
        take(list(extra))


def structure(recurrence: Recurrence, loop: Loop) -> str:
    """How the channels of a loop's step meet: ``diagonal`` (each depends on its own past, the step
    before, alone), ``block`` (on those of all states at its place), or ``full``.
    """
    nodes = recurrence.nodes
    reads = [
        nodes[a]
        for n in {*loop.within, *loop.updates}
        for a in (n, *nodes[n].args)
        if nodes[a].op == "read" and nodes[a].attrs[1] != 0 and nodes[a].attrs[0] in loop.states
    ]
    axes = {nodes[n].axes for n in loop.updates} | {r.axes for r in reads}
    if len(axes) > 1 or any(nodes[n].op not in POINTWISE for n in loop.bound):
        return "full"
    return "diagonal" if {r.attrs for r in reads} == {(loop.states[0], 1)} else "block"


def packs(recurrence: Recurrence, loop: Loop) -> tuple[tuple[int, ...], ...]:
    """The learned maps in a loop's step, those of the same arguments together: one product each."""
    found: dict[object, list[int]] = {}
    for n in loop.within:
        node = recurrence.nodes[n]
        if node.op == "map":
            m = recurrence.maps[int(node.attrs[0])]
            by = n if m.alone else (node.args, m.packing)
            found.setdefault(by, []).append(n)
    return tuple(
        tuple(sorted(group, key=lambda n: int(recurrence.nodes[n].attrs[0])))
        for group in found.values()
    )
