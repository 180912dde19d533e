"""A straight-line graph of one time step: nodes in dependence order.

Each node's arguments stand before it, so a pass is a loop.  Equal nodes are
one node (value numbering in :class:`GraphBuilder`), so sharing is explicit and
the text form is the same on every run and machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from seqc.diagnostics import Span
from seqc.ir.ops import (
    COMMUTATIVE,
    KERNEL_LEAVES,
    MATRIX_OPS,
    POINTWISE,
    RECURRENCE_LEAVES,
    STRUCTURAL,
)

Attr = str | int | float | bool


@dataclass(frozen=True)
class Node:
    """One operation; ``args`` are positions of earlier nodes, ``axes`` the named axes it spans.

    ``axes`` never holds batch or time, which every value has implicitly.  The
    span is where the node first stood in the spec; it takes no part in equality.
    """

    op: str
    args: tuple[int, ...] = ()
    axes: tuple[str, ...] = ()
    attrs: tuple[Attr, ...] = ()
    span: Span | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        parts = [*(str(a) for a in self.attrs), *(f"%{a}" for a in self.args)]
        axes = f": {' '.join(self.axes)}" if self.axes else ""
        return f"{self.op}({', '.join(parts)}){axes}"


Graph = tuple[Node, ...]


class GraphBuilder:
    """Appends nodes, giving equal ones one position.

    ``axis_order`` is the order of the layer's axes: the axes of a pointwise
    result are the union of its arguments' axes in that order.
    """

    def __init__(self, axis_order: Sequence[str] = (), nodes: Iterable[Node] = ()) -> None:
        self.axis_order = tuple(axis_order)
        self.nodes: list[Node] = []
        self._seen: dict[tuple[object, ...], int] = {}
        for node in nodes:
            self._append(node)

    def _append(self, node: Node) -> int:
        # repr keeps 0.0 and -0.0, 1 and 1.0 and True apart, and makes NaN equal to itself.
        key = (node.op, node.args, node.axes, repr(node.attrs))
        found = self._seen.get(key)
        if found is None:
            found = self._seen[key] = len(self.nodes)
            self.nodes.append(node)
        return found

    def union(self, *axes: tuple[str, ...]) -> tuple[str, ...]:
        """The named axes of a broadcast, in the layer's order."""
        present = {a for group in axes for a in group}
        return tuple(a for a in self.axis_order if a in present)

    def add(
        self,
        op: str,
        *args: int,
        axes: tuple[str, ...] | None = None,
        attrs: tuple[Attr, ...] = (),
        span: Span | None = None,
    ) -> int:
        """The position of the node; ``axes`` defaults to the union of the arguments' axes."""
        if axes is None:
            axes = self.union(*(self.nodes[a].axes for a in args))
        if op in COMMUTATIVE and args[0] > args[1]:
            args = (args[1], args[0])
        return self._append(Node(op, args, axes, attrs, span))

    def const(self, value: float, span: Span | None = None) -> int:
        """A number."""
        return self.add("const", axes=(), attrs=(float(value),), span=span)

    def value(self, position: int) -> float | None:
        """The number at a position, or None where it is not a literal."""
        node = self.nodes[position]
        return float(node.attrs[0]) if node.op == "const" else None

    @property
    def graph(self) -> Graph:
        """The nodes so far, frozen."""
        return tuple(self.nodes)


def reachable(
    graph: Graph, roots: Iterable[int], needs: Callable[[int], Iterable[int]] | None = None
) -> set[int]:
    """The positions that the roots need, themselves included: arguments, or what ``needs`` says."""
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        n = stack.pop()
        if n not in seen:
            seen.add(n)
            stack.extend(graph[n].args if needs is None else needs(n))
    return seen


def users(graph: Graph) -> tuple[tuple[int, ...], ...]:
    """For each position, the positions that use it, in order."""
    out: list[list[int]] = [[] for _ in graph]
    for i, node in enumerate(graph):
        for a in dict.fromkeys(node.args):
            out[a].append(i)
    return tuple(tuple(u) for u in out)


def rebuild(
    graph: Graph,
    builder: GraphBuilder,
    visit: Callable[[Node, tuple[int, ...]], int] | None = None,
    roots: Iterable[int] | None = None,
) -> dict[int, int]:
    """Copy nodes into ``builder``, old position -> new position.

    ``visit(node, new_args)`` gives the new position; without it nodes are
    copied as they are.  With ``roots`` only what they need is copied.
    """
    wanted = None if roots is None else reachable(graph, roots)
    out: dict[int, int] = {}
    for i, node in enumerate(graph):
        if wanted is not None and i not in wanted:
            continue
        args = tuple(out[a] for a in node.args)
        if visit is not None:
            out[i] = visit(node, args)
        else:
            out[i] = builder.add(node.op, *args, axes=node.axes, attrs=node.attrs, span=node.span)
    return out


def verify_graph(graph: Graph, axis_order: Sequence[str]) -> Iterator[str]:
    """What is wrong with a graph, a line each; nothing when it is sound."""
    known = RECURRENCE_LEAVES | KERNEL_LEAVES | MATRIX_OPS
    for i, node in enumerate(graph):
        where = f"%{i} = {node}"
        if any(a >= i or a < 0 for a in node.args):
            yield f"{where}: an argument does not stand before its use"
            continue
        if node.op in POINTWISE:
            if len(node.args) != POINTWISE[node.op]:
                yield f"{where}: takes {POINTWISE[node.op]} arguments"
            union = {a for arg in node.args for a in graph[arg].axes}
            if union != set(node.axes):
                yield f"{where}: axes are not the union of its arguments' axes"
        elif node.op not in STRUCTURAL and node.op not in known:
            yield f"{where}: unknown operation"
        if any(a not in axis_order for a in node.axes):
            yield f"{where}: an axis that the layer does not declare"
        if list(node.axes) != [a for a in axis_order if a in node.axes]:
            yield f"{where}: axes are not in declared order"
