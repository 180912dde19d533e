"""Cotangents on their way back: each a value, and the conditions under which it counts.

A branch that is not taken must not leak into a gradient: 0 * inf is NaN, so the
usual ``where(c, g, 0) * d`` fails where d is infinite.  Here a cotangent travels
as a *flow*, a value together with the conditions under which it counts
(its guards); local derivatives multiply the value alone, and the guards are
turned into ``where`` at the end, after every product.  Flows under different
guards that meet at a shared node are joined under "one of these holds".
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from seqc.symbolic.rewrite import StableBuilder

#: (condition, whether it must hold)
Guard = tuple[int, bool]

#: A longer chain of guards becomes a single condition.
_GUARDS = 8


@dataclass(frozen=True)
class Flow:
    """A cotangent: ``value`` where all ``guards`` are met, else zero, summed over ``axes``.

    ``axes`` may hold more than the node's own (it was broadcast) and more than
    the value's (the value is the same along them).
    """

    value: int
    guards: tuple[Guard, ...]
    axes: frozenset[str]


# --- guards


def guarded(b: StableBuilder, guards: tuple[Guard, ...], new: Guard) -> tuple[Guard, ...] | None:
    """The guards and one more; None where they contradict."""
    if new in guards:
        return guards
    if (new[0], not new[1]) in guards:
        return None
    if len(guards) >= _GUARDS:
        every = select(b, guards, b.const(1.0), b.const(0.0))
        guards = ((b.op("isset", every), True),)
    return (*guards, new)


def select(b: StableBuilder, guards: Sequence[Guard], yes: int, no: int) -> int:
    """``yes`` where all guards are met, else ``no``."""
    for condition, holds in reversed(guards):
        branches = (yes, no) if holds else (no, yes)
        yes = b.op("where", condition, *branches)
    return yes


def joined(b: StableBuilder, n: int, flows: Sequence[Flow]) -> Flow:
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
        return Flow(value, guards, axes)
    prefix = _common_prefix(list(groups))
    rests = [(guards[len(prefix) :], value) for guards, value in groups.items()]
    zero = b.const(0.0)
    total: int | None = None
    for rest, value in rests:
        part = select(b, rest, value, zero)
        total = part if total is None else b.op("add", total, part)
    assert total is not None
    if all(rest for rest, _ in rests) and b.nodes[n].args:
        # Where none of them holds the sum is zero, and what follows must not count: 0 * inf.
        some = zero
        for rest, _ in reversed(rests):
            some = select(b, rest, b.const(1.0), some)
        narrowed = guarded(b, prefix, (b.op("isset", some), True))
        prefix = prefix if narrowed is None else narrowed
    return Flow(total, prefix, axes)


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


def _placed(b: StableBuilder, flow: Flow, missing: frozenset[str]) -> int:
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


def summed_over(b: StableBuilder, n: int, flow: Flow, axis: str) -> Flow:
    """The flow into a node without the axis, summed over it."""
    if axis not in flow.axes or axis in b.nodes[n].axes:
        return flow
    inside = tuple(g for g in flow.guards if axis in b.nodes[g[0]].axes)
    outside = tuple(g for g in flow.guards if g not in inside)
    value = select(b, inside, flow.value, b.const(0.0))
    if axis in b.nodes[value].axes:
        rest = tuple(a for a in b.nodes[value].axes if a != axis)
        value = b.add("reduce", value, axes=rest, attrs=("sum", axis))
    else:
        value = b.op("mul", value, b.add("size", axes=(), attrs=(axis,)))
    return Flow(value, outside, flow.axes - {axis})


def settled(b: StableBuilder, n: int, flow: Flow, spread: Container[str]) -> int | None:
    """The node of a cotangent, its guards turned into ``where``."""
    value = select(b, flow.guards, flow.value, b.const(0.0))
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
