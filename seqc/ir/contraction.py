"""Sums of products whose product would be larger than what it is made of: matrix products.

``sum(w * rename(h, hidden = src), src)`` is a matrix product.  Its terms, which
nobody wants, are never to be written down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seqc.ir.graph import Graph

#: A longer product is left as it is.
_FACTORS = 16

#: The named axes of a value, and whether it varies over batch and time.
_Extent = frozenset[str | None]


@dataclass(frozen=True)
class Contraction:
    """A sum over ``axes`` of a product of values.

    ``inside`` are groups of factors to multiply element by element, each group
    one operand of the sum; ``outside`` are factors that the sum leaves alone.
    """

    axes: frozenset[str]
    inside: tuple[tuple[int, ...], ...]
    outside: tuple[int, ...]

    @property
    def factors(self) -> tuple[int, ...]:
        """All factors, each once, in the order of the graph."""
        found = {n for group in self.inside for n in group} | set(self.outside)
        return tuple(sorted(found))


def contraction(nodes: Graph, timed: Sequence[bool], n: int) -> Contraction | None:
    """How a node is computed without the product below its sum; None where that gains nothing.

    ``timed`` says of each node whether it varies over batch and time.
    """
    axes: set[str] = set()
    root = n
    while nodes[root].op == "reduce" and nodes[root].attrs[0] == "sum":
        axes.add(str(nodes[root].attrs[1]))
        root = nodes[root].args[0]
    if not axes:
        return None

    def extent(position: int) -> _Extent:
        lead: set[str | None] = {None} if timed[position] else set()
        return frozenset(lead | set(nodes[position].axes))

    # The factors of each product, arguments first; one that is no larger than an argument, and
    # whose arguments are no products that are taken apart, is a factor itself.
    below: set[int] = set()
    todo = [root]
    while todo:
        position = todo.pop()
        if position not in below and nodes[position].op == "mul":
            below.add(position)
            todo.extend(nodes[position].args)
    parts: dict[int, list[int]] = {}
    for position in sorted(below):
        args = nodes[position].args
        found = [f for a in args for f in parts.get(a, [a])]
        small = len(found) == 2 and extent(position) in (extent(args[0]), extent(args[1]))
        parts[position] = [position] if small else found
        if len(found) > _FACTORS:
            return None
    factors = parts.get(root, [root])
    if len(factors) < 2:
        return None
    outside = tuple(f for f in factors if not axes & set(nodes[f].axes))
    groups: list[tuple[_Extent, list[int]]] = []
    # From the largest on, so that a smaller factor finds a group that it fits into.
    within = sorted((f for f in factors if f not in outside), key=lambda f: -len(extent(f)))
    for f in within:
        fitting = (members for have, members in groups if extent(f) <= have)
        members = next(fitting, None)
        if members is None:
            groups.append((extent(f), [f]))
        else:
            members.append(f)
    if any(axes - {a for have, _ in groups for a in have if a is not None}):
        return None
    return Contraction(frozenset(axes), tuple(tuple(m) for _, m in groups), outside)
