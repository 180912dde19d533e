"""Sums of products whose product would be larger than what it is made of: matrix products.

``sum(w * rename(h, hidden = src), src)`` is a matrix product.  Its terms, which
nobody wants, are never to be written down.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from seqc.ir.graph import Graph, users
from seqc.ir.recurrence import Recurrence, time_varying

#: A longer product is left as it is.
_FACTORS = 16

#: The named axes of a value, and whether it varies over batch and time.
_Extent = frozenset[str | None]


@dataclass(frozen=True)
class Contraction:
    """A sum over ``axes`` of a product of values.

    ``inside`` are groups of factors to multiply element by element, each group
    one operand of the sum; ``outside`` are factors that the sum leaves alone,
    ``divisors`` what it is divided by.
    """

    axes: frozenset[str]
    inside: tuple[tuple[int, ...], ...]
    outside: tuple[int, ...]
    divisors: tuple[int, ...] = ()
    negative: bool = False

    @property
    def factors(self) -> tuple[int, ...]:
        """All factors and divisors, each once, in the order of the graph."""
        found = {n for group in self.inside for n in group} | {*self.outside, *self.divisors}
        return tuple(sorted(found))


@dataclass(frozen=True)
class _Product:
    """What a product is taken apart into."""

    factors: tuple[int, ...] = ()
    divisors: tuple[int, ...] = ()
    negative: bool = False

    def times(self, other: _Product) -> _Product:
        return _Product(
            self.factors + other.factors,
            self.divisors + other.divisors,
            self.negative != other.negative,
        )


def contractions(recurrence: Recurrence) -> dict[int, Contraction]:
    """The nodes that are better computed without the product below their sum, and how."""
    nodes = recurrence.nodes
    timed = time_varying(recurrence)
    # What something else needs too is there anyway.
    kept = {n for n, readers in enumerate(users(nodes)) if len(readers) > 1}
    lagged = (str(n.attrs[0]) for n in nodes if n.op == "read" and n.attrs[1] != 0)
    kept |= {n for n in map(recurrence.definition, (*recurrence.outputs, *lagged)) if n is not None}
    kept |= {s.update for s in recurrence.states}
    found = ((n, _contraction(nodes, timed, kept, n)) for n in range(len(nodes)))
    return {n: product for n, product in found if product is not None}


def _contraction(
    nodes: Graph, timed: Sequence[bool], kept: Container[int], n: int
) -> Contraction | None:
    """How a node is computed without the product below its sum; None where that gains nothing.

    ``timed`` says of each node whether it varies over batch and time, ``kept`` holds those that
    are computed in any case.
    """
    axes: set[str] = set()
    root = n
    while nodes[root].op == "reduce" and nodes[root].attrs[0] == "sum":
        if root in kept and root != n:
            break
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
        node = nodes[position]
        apart = node.op in ("mul", "neg")
        # A divisor that is the same throughout the sum divides the sum.
        apart |= node.op == "div" and not axes & set(nodes[node.args[1]].axes)
        if apart and position not in below and position not in kept:
            below.add(position)
            todo.extend(node.args[:1] if node.op == "div" else node.args)
    parts: dict[int, _Product] = {}
    for position in sorted(below):
        node = nodes[position]
        args = node.args[:1] if node.op == "div" else node.args
        larger = all(extent(a) != extent(position) for a in node.args)
        if not larger and not any(a in parts for a in args):
            continue
        found = _Product()
        for a in args:
            found = found.times(parts.get(a, _Product((a,))))
        if node.op == "div":
            found = _Product(found.factors, (*found.divisors, node.args[1]), found.negative)
        if node.op == "neg":
            found = _Product(found.factors, found.divisors, not found.negative)
        parts[position] = found
        if len(found.factors) > _FACTORS:
            return None
    product = parts.get(root, _Product())
    factors = product.factors
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
    inside = tuple(tuple(m) for _, m in groups)
    return Contraction(frozenset(axes), inside, outside, product.divisors, product.negative)
