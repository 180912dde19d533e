"""Reverse and forward mode on a pointwise graph: graph in, graph out.

A branch that is not taken must not leak into a gradient: 0 * inf is NaN, so the
usual ``where(c, g, 0) * d`` fails where d is infinite.  Here a cotangent travels
as a *flow*, a value together with the conditions under which it counts
(its guards); local derivatives multiply the value alone, and the guards are
turned into ``where`` at the end, after every product.  Flows under different
guards that meet at a shared node are joined under "one of these holds".

Summing over broadcast axes is the caller's: the cotangent of a node spans that
node's axes and those of everything it was broadcast into.

Source: Griewank, Walther, "Evaluating Derivatives" (2nd ed., 2008), §3.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from seqc.ir.graph import Node
from seqc.ir.operations import OPERATIONS
from seqc.ir.ops import FLAT, GATHERED, POINTWISE
from seqc.symbolic.patterns import build, parse
from seqc.symbolic.rewrite import StableBuilder

#: Operations that choose one of their arguments.
CHOICES = frozenset({"where", "min", "max"})
#: Those whose derivative is stated by the spec: graft(value, x, slope).
STATED = frozenset({"graft"})

#: (condition, whether it must hold)
Guard = tuple[int, bool]

#: A longer chain of guards becomes a single condition.
_GUARDS = 8


@dataclass(frozen=True)
class _Flow:
    """A cotangent: ``value`` where all ``guards`` are met, else zero, summed over ``axes``.

    ``axes`` may hold more than the node's own (it was broadcast) and more than
    the value's (the value is the same along them).
    """

    value: int
    guards: tuple[Guard, ...]
    axes: frozenset[str]


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
    affected = _depending(builder, wanted, last, summed)
    flows: dict[int, list[_Flow]] = {}
    for node, cotangent, over in given:
        _push(builder, flows, node, cotangent, (), over | set(builder.nodes[node].axes))
    out: dict[int, int | None] = dict.fromkeys(wanted)
    for n in range(last, -1, -1):
        if n not in affected or n not in flows:
            continue
        arrived = flows.pop(n)
        for axis in summed:
            arrived = [_summed(builder, n, f, axis) for f in arrived]
        flow = _joined(builder, n, arrived)
        if n in out:
            out[n] = _settled(builder, n, flow, spread)
        _spread(builder, n, flow, affected, flows)
    return out


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
    affected = _depending(b, tuple(seeds), max(wanted, default=-1), summed)
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
            tangents[n] = _called(b, slopes[0], _names(node))
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
                part = _times(b, t, n, k)
                total = part if total is None else b.op("add", total, part)
        if total is not None:
            tangents[n] = total
    return {n: tangents.get(n) for n in wanted}


def _reduced(b: StableBuilder, tangent: int, n: int) -> int:
    """The tangent of a sum over an axis: the sum of the tangents."""
    axis = str(b.nodes[n].attrs[1])
    if b.nodes[n].attrs[0] != "sum":
        there, count = _shares(b, n)
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


# --- what flows where


def _depending(
    b: StableBuilder, leaves: Iterable[int], last: int, summed: Sequence[str] = ()
) -> set[int]:
    """The nodes up to ``last`` through which a derivative by the leaves passes."""
    found = set(leaves)
    for n in range(last + 1):
        node = b.nodes[n]
        args = node.args[1:] if node.op == "where" else node.args
        if node.op in STATED:
            args = args[:2]
        if node.op not in FLAT and any(a in found for a in args):
            passes = node.op in POINTWISE or node.op == "product" or _across(node, summed)
            if not passes and n not in found:
                raise ValueError(f"%{n} = {node}: only pointwise operations are differentiated")
            found.add(n)
    return found


def _across(node: Node, summed: Sequence[str]) -> bool:
    """Whether a node looks along axes that the graph has all of."""
    if node.op == "rename":
        return all(a in summed for a in node.attrs)
    kinds = ("sum", "max", "min")
    return node.op == "reduce" and node.attrs[0] in kinds and node.attrs[1] in summed


def _shares(b: StableBuilder, n: int) -> tuple[int, int]:
    """Of a largest (least) of some: where it is, and at how many places, which share its slope."""
    node = b.nodes[n]
    there = b.op("eq", node.args[0], n)
    each = b.op("where", there, b.const(1.0), b.const(0.0))
    return there, b.add("reduce", each, axes=node.axes, attrs=("sum", node.attrs[1]))


def _called(b: StableBuilder, value: int, names: Mapping[str, str]) -> int:
    """A value whose axes are called otherwise."""
    own = b.nodes[value].axes
    pairs = [(old, new) for old, new in names.items() if old in own]
    if not pairs:
        return value
    axes = b.union(tuple(names.get(a, a) for a in own))
    return b.add("rename", value, axes=axes, attrs=tuple(a for pair in pairs for a in pair))


def _names(node: Node) -> dict[str, str]:
    """What a rename calls each axis."""
    return dict(zip(map(str, node.attrs[::2]), map(str, node.attrs[1::2]), strict=True))


def _times(b: StableBuilder, value: int, n: int, argument: int) -> int:
    """value * (the derivative of node n by that argument)."""
    node = b.nodes[n]
    if node.op in STATED:
        return value if argument == 0 else b.op("mul", value, node.args[2])
    bound = {"r": n, **dict(zip("xy", node.args, strict=False))}
    slope = build(parse(OPERATIONS[node.op].derivative[argument]), bound, b.op, b.const)
    return b.op("mul", value, slope)


def _push(
    b: StableBuilder,
    flows: dict[int, list[_Flow]],
    node: int,
    value: int,
    guards: tuple[Guard, ...],
    axes: frozenset[str],
) -> None:
    if b.value(value) != 0.0:
        flows.setdefault(node, []).append(_Flow(value, guards, axes))


def _spread(
    b: StableBuilder, n: int, flow: _Flow, affected: set[int], flows: dict[int, list[_Flow]]
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
            guards = _guarded(b, flow.guards, (node.args[0], holds))
            if branch in affected and guards is not None:
                _push(b, flows, branch, flow.value, guards, axes)
        return
    if node.op in ("min", "max"):
        x, y = node.args
        half = b.op("mul", b.const(0.5), flow.value)
        value = b.op("where", b.op("eq", x, y), half, flow.value)
        below = "le" if node.op == "min" else "ge"
        for branch, chosen in ((x, b.op(below, x, y)), (y, b.op(below, y, x))):
            guards = _guarded(b, flow.guards, (chosen, True))
            if branch in affected and guards is not None:
                _push(b, flows, branch, value, guards, axes)
        return
    for k, a in enumerate(node.args[:2]):
        if a in affected:
            _push(b, flows, a, _times(b, flow.value, n, k), flow.guards, axes)


def _spread_across(b: StableBuilder, n: int, flow: _Flow, flows: dict[int, list[_Flow]]) -> None:
    """Hand the cotangent of what looks along axes on to its terms."""
    node = b.nodes[n]
    (source,) = node.args
    if node.op == "rename":
        back = {new: old for old, new in _names(node).items()}
        value = _called(b, _select(b, flow.guards, flow.value, b.const(0.0)), back)
        _push(b, flows, source, value, (), frozenset(back.get(a, a) for a in flow.axes))
        return
    axes = flow.axes | set(b.nodes[source].axes)
    if node.attrs[0] == "sum":  # each term has the sum's
        _push(b, flows, source, flow.value, flow.guards, axes)
        return
    there, count = _shares(b, n)
    guards = _guarded(b, flow.guards, (there, True))
    if guards is not None:
        _push(b, flows, source, b.op("div", flow.value, count), guards, axes)


def _spread_product(
    b: StableBuilder, n: int, flow: _Flow, affected: set[int], flows: dict[int, list[_Flow]]
) -> None:
    """Hand the cotangent of a product on: to the values, the matrix turned; to the matrix."""
    node = b.nodes[n]
    values, matrix = node.args
    turned = bool(node.attrs[0])
    # Every entry meets every other here, so that what does not count must be zero.
    value = _select(b, flow.guards, flow.value, b.const(0.0))
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


# --- guards


def _guarded(b: StableBuilder, guards: tuple[Guard, ...], new: Guard) -> tuple[Guard, ...] | None:
    """The guards and one more; None where they contradict."""
    if new in guards:
        return guards
    if (new[0], not new[1]) in guards:
        return None
    if len(guards) >= _GUARDS:
        every = _select(b, guards, b.const(1.0), b.const(0.0))
        guards = ((b.op("isset", every), True),)
    return (*guards, new)


def _select(b: StableBuilder, guards: Sequence[Guard], yes: int, no: int) -> int:
    """``yes`` where all guards are met, else ``no``."""
    for condition, holds in reversed(guards):
        branches = (yes, no) if holds else (no, yes)
        yes = b.op("where", condition, *branches)
    return yes


def _joined(b: StableBuilder, n: int, flows: Sequence[_Flow]) -> _Flow:
    """One flow with the sum of several into a node."""
    own = frozenset(b.nodes[n].axes)
    axes = frozenset[str]().union(*(f.axes for f in flows)) | own
    groups: dict[tuple[Guard, ...], int] = {}
    for flow in flows:
        value = _placed(b, flow, axes - flow.axes - own)
        _gather(b, groups, flow.guards, value)
    while (pair := _complements(groups)) is not None:
        met, failed = pair
        value = b.op("where", met[-1][0], groups.pop(met), groups.pop(failed))
        _gather(b, groups, met[:-1], value)
    if len(groups) == 1:
        guards, value = next(iter(groups.items()))
        return _Flow(value, guards, axes)
    prefix = _common_prefix(list(groups))
    rests = [(guards[len(prefix) :], value) for guards, value in groups.items()]
    zero = b.const(0.0)
    total: int | None = None
    for rest, value in rests:
        part = _select(b, rest, value, zero)
        total = part if total is None else b.op("add", total, part)
    assert total is not None
    if all(rest for rest, _ in rests) and b.nodes[n].args:
        # Where none of them holds the sum is zero, and what follows must not count: 0 * inf.
        some = zero
        for rest, _ in reversed(rests):
            some = _select(b, rest, b.const(1.0), some)
        narrowed = _guarded(b, prefix, (b.op("isset", some), True))
        prefix = prefix if narrowed is None else narrowed
    return _Flow(total, prefix, axes)


def _gather(
    b: StableBuilder, groups: dict[tuple[Guard, ...], int], guards: tuple[Guard, ...], value: int
) -> None:
    groups[guards] = b.op("add", groups[guards], value) if guards in groups else value


def _complements(
    groups: Mapping[tuple[Guard, ...], int],
) -> tuple[tuple[Guard, ...], tuple[Guard, ...]] | None:
    """Two groups that differ in whether the last condition holds."""
    for guards in groups:
        if guards and guards[-1][1]:
            other = (*guards[:-1], (guards[-1][0], False))
            if other in groups:
                return guards, other
    return None


def _common_prefix(guards: Sequence[tuple[Guard, ...]]) -> tuple[Guard, ...]:
    out: list[Guard] = []
    for column in zip(*guards, strict=False):
        if any(g != column[0] for g in column):
            break
        out.append(column[0])
    return tuple(out)


# --- axes


def _placed(b: StableBuilder, flow: _Flow, missing: frozenset[str]) -> int:
    """The flow's value for a sum over more axes: it counts once, at their first index.

    A node used both as it is and broadcast has two cotangents, one to be summed over the axis and
    one not; adding them plainly would count the second once an index.
    """
    value = flow.value
    for axis in b.axis_order:
        if axis in missing:
            first = b.op("eq", b.add("index", axes=(axis,), attrs=(axis,)), b.const(0.0))
            value = b.op("where", first, value, b.const(0.0))
    return value


def _summed(b: StableBuilder, n: int, flow: _Flow, axis: str) -> _Flow:
    """The flow into a node without the axis, summed over it."""
    if axis not in flow.axes or axis in b.nodes[n].axes:
        return flow
    inside = tuple(g for g in flow.guards if axis in b.nodes[g[0]].axes)
    outside = tuple(g for g in flow.guards if g not in inside)
    value = _select(b, inside, flow.value, b.const(0.0))
    if axis in b.nodes[value].axes:
        rest = tuple(a for a in b.nodes[value].axes if a != axis)
        value = b.add("reduce", value, axes=rest, attrs=("sum", axis))
    else:
        value = b.op("mul", value, b.add("size", axes=(), attrs=(axis,)))
    return _Flow(value, outside, flow.axes - {axis})


def _settled(b: StableBuilder, n: int, flow: _Flow, spread: Container[str]) -> int | None:
    """The node of a cotangent, its guards turned into ``where``."""
    value = _select(b, flow.guards, flow.value, b.const(0.0))
    if b.value(value) == 0.0:
        return None
    own = b.nodes[n].axes
    for axis in b.axis_order:
        # The same along an axis that is to be summed over: the sum is a multiple.
        if axis in spread:
            continue
        if axis in flow.axes and axis not in own and axis not in b.nodes[value].axes:
            value = b.op("mul", value, b.add("size", axes=(), attrs=(axis,)))
    return value
