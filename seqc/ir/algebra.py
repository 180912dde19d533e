"""Scan algebras: families of functions of a state that are closed under composition."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from seqc.diagnostics import Span
from seqc.ir.graph import Graph, GraphBuilder


@dataclass(frozen=True)
class Domain:
    """What a part of an algebra must satisfy, ``part op bound``; proved where it is used.

    ``op`` is ``ge``, ``gt``, ``le`` or ``lt``.
    """

    part: str
    op: str
    bound: float

    def holds(self, value: float) -> bool:
        """Whether a number lies in the domain."""
        return bool(getattr(operator, self.op)(value, self.bound))

    def __str__(self) -> str:
        sign = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}[self.op]
        return f"{self.part} {sign} {self.bound:g}"


@dataclass(frozen=True)
class Algebra:
    """``algebra name(parts)`` with its identity, composition and action on a state.

    ``nodes`` holds pointwise operations over leaves ``symbol`` (attrs: (name,)).
    ``later`` and ``earlier`` name the parts of the two functions in ``compose
    (later) after (earlier) = …``; ``arguments`` names the states in ``apply``.
    ``identity``, ``compose`` and ``applied`` are positions in ``nodes``, one a part
    (``applied``: one a state).  Parts are scalars: an algebra whose parts have axes is
    written once and stands here once a number of states, all under one name.

    ``projective`` (a position in ``nodes``, of ``parts``): parts times a number that is not 0
    are the same function, and this is how large they are, to be divided by it once composed.
    """

    name: str
    parts: tuple[str, ...]
    later: tuple[str, ...]
    earlier: tuple[str, ...]
    arguments: tuple[str, ...]
    identity: tuple[int, ...]
    compose: tuple[int, ...]
    applied: tuple[int, ...]
    nodes: Graph
    domains: tuple[Domain, ...] = ()
    projective: int | None = None
    span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def title(self) -> str:
        """The name as a report shows it: ``block-affine``."""
        return self.name.replace("_", "-")


def find_algebra(algebras: Iterable[Algebra], name: str, states: int) -> Algebra | None:
    """The first algebra of that name on that number of states."""
    return next((a for a in algebras if a.name == name and len(a.arguments) == states), None)


def substitute(
    law: Algebra,
    roots: Sequence[int],
    symbols: Mapping[str, int],
    body: GraphBuilder,
    span: Span | None = None,
) -> list[int]:
    """An algebra's expressions as nodes of another graph, its symbols being nodes there.

    Products with 0 and 1 and sums with 0 are left out: a block's structure is in such parts.
    """
    found: dict[int, int] = {}
    for i, node in enumerate(law.nodes):
        if node.op == "symbol":
            if str(node.attrs[0]) in symbols:
                found[i] = symbols[str(node.attrs[0])]
        elif node.op == "const":
            found[i] = body.const(float(node.attrs[0]))
        elif all(a in found for a in node.args):
            found[i] = _folded(body, node.op, tuple(found[a] for a in node.args), span)
    return [found[r] for r in roots]


def _folded(body: GraphBuilder, op: str, args: tuple[int, ...], span: Span | None) -> int:
    values = [body.value(a) for a in args]
    if op == "mul":
        for k in (0, 1):
            if values[k] == 0.0:
                return body.const(0.0)
            if values[k] == 1.0:
                return args[1 - k]
    if op == "add":
        for k in (0, 1):
            if values[k] == 0.0:
                return args[1 - k]
    if op == "sub" and values[1] == 0.0:
        return args[0]
    if op == "neg" and values[0] is not None:
        return body.const(-values[0])
    return body.add(op, *args, span=span)


@cache
def linear_algebra(count: int) -> Algebra:
    """The affine functions of some coupled states: a matrix, by rows, then an offset each.

    ``affine`` and ``block_affine`` of the prelude, as the adjoint of any law needs them.
    """
    b = GraphBuilder()
    states = range(count)

    def symbols(ending: str) -> tuple[list[list[int]], list[int], tuple[str, ...]]:
        rows = [[f"a{i}{j}{ending}" for j in states] for i in states]
        last = [f"b{i}{ending}" for i in states]
        made = [[b.add("symbol", attrs=(name,)) for name in row] for row in rows]
        offsets = [b.add("symbol", attrs=(name,)) for name in last]
        return made, offsets, (*(name for row in rows for name in row), *last)

    def total(terms: Sequence[int]) -> int:
        found = terms[0]
        for t in terms[1:]:
            found = b.add("add", found, t)
        return found

    matrix, offset, parts = symbols("")
    matrix2, offset2, later = symbols("_2")
    matrix1, offset1, earlier = symbols("_1")
    names = tuple(f"h{i}" for i in states)
    h = [b.add("symbol", attrs=(name,)) for name in names]
    product = [
        total([b.add("mul", matrix2[i][k], matrix1[k][j]) for k in states])
        for i in states
        for j in states
    ]
    carried = [
        total([*(b.add("mul", matrix2[i][k], offset1[k]) for k in states), offset2[i]])
        for i in states
    ]
    applied = [
        total([*(b.add("mul", matrix[i][k], h[k]) for k in states), offset[i]]) for i in states
    ]
    identity = [b.const(float(i == j)) for i in states for j in states]
    identity += [b.const(0.0) for _ in states]
    return Algebra(
        name="affine" if count == 1 else "block_affine",
        parts=parts, later=later, earlier=earlier, arguments=names, identity=tuple(identity),
        compose=(*product, *carried), applied=tuple(applied), nodes=b.graph,
    )  # fmt: skip
