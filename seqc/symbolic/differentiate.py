"""Reverse and forward mode on a pointwise graph: graph in, graph out.

Cotangents travel as flows (flows.py), with the conditions under which they count; what an
operation makes of a derivative is in slopes.py.

Summing over broadcast axes is the caller's: the cotangent of a node spans that
node's axes and those of everything it was broadcast into.

Source: Griewank, Walther, "Evaluating Derivatives" (2nd ed., 2008), §3.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from seqc.ir.ops import FLAT, GATHERED, POINTWISE
from seqc.symbolic.flows import Flow, Guard, guarded, joined, select, settled, summed_over
from seqc.symbolic.rewrite import StableBuilder
from seqc.symbolic.slopes import CHOICES, STATED, called, depending, names_of, shares, times

__all__ = ["CHOICES", "STATED", "pull_back", "push_forward"]


def pull_back(
    builder: StableBuilder,
    seeds: Mapping[int, int] | Iterable[tuple[int, int, frozenset[str]]],
    wanted: Sequence[int],
    summed: Sequence[str] = (),
    spread: Container[str] = (),
) -> dict[int, int | None]:
    """Cotangents of the wanted nodes, given those of some results (reverse mode).

    ``seeds`` maps a node to the node of its cotangent, or lists (node, cotangent, axes that the
    result was summed over though the node may not have them).  A wanted node's result is
    the node of its cotangent, before the sum over the axes that it has not itself;
    None means identically zero.  A node may be both seeded and wanted.  ``summed`` are axes
    that the graph sums over itself (``reduce`` nodes): cotangents of nodes without one are
    summed over it here, as early as can be.  Over an axis of ``spread`` the caller sums what it
    is given as if it had that axis, be it the same along it or not.

    Raises ValueError where a wanted node is below an operation that is not
    pointwise (a learned map, a reduction).
    """
    nothing = frozenset[str]()
    given = [(*s, nothing) for s in seeds.items()] if isinstance(seeds, Mapping) else list(seeds)
    last = max((node for node, _, _ in given), default=-1)
    affected = depending(builder, wanted, last, summed)
    flows: dict[int, list[Flow]] = {}
    for node, cotangent, over in given:
        _push(builder, flows, node, cotangent, (), over | set(builder.nodes[node].axes))
    out: dict[int, int | None] = dict.fromkeys(wanted)
    for n in range(last, -1, -1):
        if n not in affected or n not in flows:
            continue
        arrived = flows.pop(n)
        for axis in summed:
            arrived = [summed_over(builder, n, f, axis) for f in arrived]
        flow = joined(builder, n, arrived)
        if n in out:
            out[n] = settled(builder, n, flow, spread)
        _spread(builder, n, flow, affected, flows)
    return out


def _push(
    b: StableBuilder,
    flows: dict[int, list[Flow]],
    node: int,
    value: int,
    guards: tuple[Guard, ...],
    axes: frozenset[str],
) -> None:
    if b.value(value) != 0.0:
        flows.setdefault(node, []).append(Flow(value, guards, axes))


def _spread(
    b: StableBuilder, n: int, flow: Flow, affected: set[int], flows: dict[int, list[Flow]]
) -> None:
    """Hand a node's cotangent on to its arguments."""
    node = b.nodes[n]
    if node.op in GATHERED and node.args[0] in affected:
        _spread_across(b, n, flow, flows)
        return
    if node.op == "product":
        _spread_product(b, n, flow, affected, flows)
        return
    if node.op not in POINTWISE or node.op in FLAT:
        return
    axes = flow.axes | set(node.axes)
    if node.op == "where":
        for branch, holds in ((node.args[1], True), (node.args[2], False)):
            guards = guarded(b, flow.guards, (node.args[0], holds))
            if branch in affected and guards is not None:
                _push(b, flows, branch, flow.value, guards, axes)
        return
    if node.op in ("min", "max"):
        x, y = node.args
        half = b.op("mul", b.const(0.5), flow.value)
        value = b.op("where", b.op("eq", x, y), half, flow.value)
        below = "le" if node.op == "min" else "ge"
        for branch, chosen in ((x, b.op(below, x, y)), (y, b.op(below, y, x))):
            guards = guarded(b, flow.guards, (chosen, True))
            if branch in affected and guards is not None:
                _push(b, flows, branch, value, guards, axes)
        return
    for k, a in enumerate(node.args[:2]):
        if a in affected:
            _push(b, flows, a, times(b, flow.value, n, k), flow.guards, axes)


def _spread_across(b: StableBuilder, n: int, flow: Flow, flows: dict[int, list[Flow]]) -> None:
    """Hand the cotangent of what looks along axes on to its terms."""
    node = b.nodes[n]
    (source,) = node.args
    if node.op == "rename":
        back = {new: old for old, new in names_of(node).items()}
        value = called(b, select(b, flow.guards, flow.value, b.const(0.0)), back)
        _push(b, flows, source, value, (), frozenset(back.get(a, a) for a in flow.axes))
        return
    axes = flow.axes | set(b.nodes[source].axes)
    if node.attrs[0] == "sum":  # each term has the sum's
        _push(b, flows, source, flow.value, flow.guards, axes)
        return
    there, count = shares(b, n)
    guards = guarded(b, flow.guards, (there, True))
    if guards is not None:
        _push(b, flows, source, b.op("div", flow.value, count), guards, axes)


def _spread_product(
    b: StableBuilder, n: int, flow: Flow, affected: set[int], flows: dict[int, list[Flow]]
) -> None:
    """Hand the cotangent of a product on: to the values, the matrix turned; to the matrix."""
    node = b.nodes[n]
    values, matrix = node.args
    turned = bool(node.attrs[0])
    # Every entry meets every other here, so that what does not count must be zero.
    value = select(b, flow.guards, flow.value, b.const(0.0))
    if b.value(value) == 0.0:
        return
    if values in affected:
        axes = tuple(map(str, node.attrs[1:]))
        back = b.add("product", value, matrix, axes=axes, attrs=(not turned, *node.axes))
        _push(b, flows, values, back, (), frozenset(axes))
    if matrix in affected:
        pair = (values, value) if turned else (value, values)
        outer = b.add("outer", *pair, axes=())
        _push(b, flows, matrix, outer, (), frozenset())


# --- forward mode


def push_forward(
    builder: StableBuilder,
    seeds: Mapping[int, int],
    wanted: Sequence[int],
    summed: Sequence[str] = (),
) -> dict[int, int | None]:
    """Tangents of the wanted nodes, given those of some leaves (forward mode).

    ``seeds`` maps a node to the node of its tangent; None means identically zero.  ``summed`` are
    axes that the graph sums over (``reduce`` nodes).
    """
    b = builder
    tangents: dict[int, int] = dict(seeds)
    affected = depending(b, tuple(seeds), max(wanted, default=-1), summed)
    for n in sorted(affected):
        if n in seeds:
            continue
        node = b.nodes[n]
        if node.op in FLAT:
            continue
        slopes = [tangents.get(a) for a in node.args]
        if all(t is None for t in slopes):
            continue
        if node.op == "reduce":
            assert slopes[0] is not None
            tangents[n] = _reduced(b, slopes[0], n)
            continue
        if node.op == "rename":
            assert slopes[0] is not None
            tangents[n] = called(b, slopes[0], names_of(node))
            continue
        if node.op == "product":  # of the values' tangents, and with the matrix's
            pairs = [(slopes[0], node.args[1]), (node.args[0], slopes[1])]
            parts = [
                b.add("product", x, m, axes=node.axes, attrs=node.attrs)
                for x, m in pairs if x is not None and m is not None
            ]  # fmt: skip
            tangents[n] = parts[0] if len(parts) == 1 else b.op("add", *parts)
            continue
        if node.op in CHOICES:
            x, y = ((b.const(0.0) if t is None else t) for t in slopes[-2:])
            tangents[n] = _chosen_tangent(b, n, x, y)
            continue
        total: int | None = None
        for k, t in enumerate(slopes[:2] if node.op in STATED else slopes):
            if t is not None:
                part = times(b, t, n, k)
                total = part if total is None else b.op("add", total, part)
        if total is not None:
            tangents[n] = total
    return {n: tangents.get(n) for n in wanted}


def _reduced(b: StableBuilder, tangent: int, n: int) -> int:
    """The tangent of a sum over an axis: the sum of the tangents."""
    axis = str(b.nodes[n].attrs[1])
    if b.nodes[n].attrs[0] != "sum":
        there, count = shares(b, n)
        share = b.op("div", tangent, count)
        tangent = b.op("where", there, share, b.const(0.0))
    if axis not in b.nodes[tangent].axes:
        return b.op("mul", tangent, b.add("size", axes=(), attrs=(axis,)))
    rest = tuple(a for a in b.nodes[tangent].axes if a != axis)
    return b.add("reduce", tangent, axes=rest, attrs=("sum", axis))


def _chosen_tangent(b: StableBuilder, n: int, x: int, y: int) -> int:
    node = b.nodes[n]
    if node.op == "where":
        return b.op("where", node.args[0], x, y)
    left, right = node.args
    half = b.op("mul", b.const(0.5), b.op("add", x, y))
    tie = b.op("where", b.op("eq", left, right), half, y)
    return b.op("where", b.op("lt" if node.op == "min" else "gt", left, right), x, tie)
