"""Is a step that mixes its channels linear over another semiring: (max, +), (max, min), …?

A forward pass of probabilities in logarithms is: each channel is a logsumexp of the others, each
plus a number; a Viterbi recursion likewise with a maximum; an automaton of fuzzy logic is a maximum
of minima.  Found by following the past through products (+, min) with what is free of it, joins of
two such terms or along an axis, choices by what is free of it, and renamed axes.  A logsumexp is
seen as the library writes it, m + log(sum(exp(u - m))), whatever m is: in exact arithmetic it
cancels, so that m may depend on the past as it likes; also with weights >= 0, as log(sum(A exp(u)))
with probabilities A.

Source: Mohri, "Semiring frameworks and algorithms for shortest-distance problems" (2002), for the
two semirings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from seqc.ir.graph import Graph
from seqc.symbolic.monomials import SEMIRINGS, Semiring


def semiring_of(
    nodes: Graph,
    reads: Sequence[int],
    past: Sequence[int],
    after: Sequence[int],
    nonnegative: Callable[[int], bool],
) -> str | None:
    """The title of the algebra over whose semiring every update is linear in the reads."""
    for name, over in SEMIRINGS.items():
        linear = _linear(nodes, frozenset(reads), past, over, nonnegative)
        if all(n in linear or n not in past for n in after):
            return name.replace("_", "-")
    return None


def _linear(
    nodes: Graph,
    reads: frozenset[int],
    past: Sequence[int],
    over: Semiring,
    nonnegative: Callable[[int], bool],
) -> frozenset[int]:
    held = frozenset(past)
    found: set[int] = set()
    for n in past:
        node = nodes[n]
        if n in reads:
            found.add(n)
            continue
        free = [a not in held for a in node.args]
        sound = [f or a in found for f, a in zip(free, node.args, strict=True)]
        summed = _summed(nodes, n, held, nonnegative) if over.join == "logaddexp" else None
        if summed is not None and summed in found:
            linear = True
        elif node.op == over.product:
            linear = sum(not f for f in free) == 1 and all(sound)
        elif node.op == "sub":
            linear = not over.lattice and free[1] and sound[0]
        elif node.op in (over.join, "rename"):
            linear = all(sound)
        elif node.op == "where":
            linear = free[0] and all(sound[1:])
        elif node.op == "reduce":
            linear = node.attrs[0] == over.join and sound[0]
        else:
            linear = False
        if linear:
            found.add(n)
    return frozenset(found)


def _summed(
    nodes: Graph, n: int, held: frozenset[int], nonnegative: Callable[[int], bool]
) -> int | None:
    """u of m + log(sum(w exp(u - m), axis)) and of log(sum(w exp(u), axis)), where w >= 0 is free
    of the past; None of any other."""
    alone = _exponent(nodes, _log_of(nodes, n), held, nonnegative)
    if alone is not None:
        return alone[0]
    if nodes[n].op != "add":
        return None
    for m, logarithm in (nodes[n].args, nodes[n].args[::-1]):
        inside = _exponent(nodes, _log_of(nodes, logarithm), held, nonnegative)
        if inside is None or nodes[inside[0]].op != "sub":
            continue
        u, shift = nodes[inside[0]].args
        if shift == m and inside[1] not in nodes[m].axes:
            return u
    return None


def _exponent(
    nodes: Graph, total: int | None, held: frozenset[int], nonnegative: Callable[[int], bool]
) -> tuple[int, str] | None:
    """u and the axis of sum(w exp(u), axis), w being factors that are >= 0 and free of the past."""
    if total is None or nodes[total].op != "reduce" or nodes[total].attrs[0] != "sum":
        return None
    inner = nodes[total].args[0]
    while nodes[inner].op in ("mul", "div"):
        left, right = nodes[inner].args
        if nodes[inner].op == "mul" and left not in held:
            left, right = right, left
        if right in held or not nonnegative(right):
            return None
        inner = left
    if nodes[inner].op != "exp":
        return None
    return nodes[inner].args[0], str(nodes[total].attrs[1])


def _log_of(nodes: Graph, n: int) -> int | None:
    """s of log(s), also as where(s == 0, -inf, log(where(s == 0, 1, s)))."""
    node = nodes[n]
    if node.op == "log":
        return node.args[0]
    if node.op != "where":
        return None
    condition, far, other = node.args
    if nodes[far].op != "const" or nodes[far].attrs[0] != float("-inf") or nodes[other].op != "log":
        return None
    inner = nodes[nodes[other].args[0]]
    if inner.op == "where" and inner.args[0] == condition and nodes[condition].op == "eq":
        s = inner.args[2]
        zero = [a for a in nodes[condition].args if a != s]
        if len(zero) == 1 and nodes[zero[0]].op == "const" and nodes[zero[0]].attrs[0] == 0.0:
            return s
    return None
