"""Is a state's update a * h[t-1] + b, with a and b free of the state's past?

First by structure: a and b are collected through sums, products with factors
free of the state, quotients by them, and choices whose condition is free of it.
Then by proof: with every subterm that is free of the state as an opaque symbol,
the update less (a h + b) expands to zero (sympy); a and b are built in the
recurrence's graph by :class:`StableBuilder`, whose rules are proved one by one
in the tests, and the pair is checked once more in numbers.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from seqc.ir.graph import Graph, Node, reachable
from seqc.ir.ops import POINTWISE
from seqc.ir.verdict import Verdict
from seqc.symbolic.evaluate import evaluate

#: A proof by expansion with more terms than this goes step by step instead.
_TERMS = 2000

Operation = Callable[..., Any]

#: coefficient and offset, in whatever ``Ring`` builds; None is zero.
Pair = tuple[Any, Any]


@dataclass(frozen=True)
class Ring:
    """How to compute with coefficients: nodes of a builder, or sympy expressions."""

    op: Operation
    number: Callable[[float], Any]


@dataclass(frozen=True)
class Linearity:
    """What the structure of some updates says of the past that they read.

    ``pairs`` holds coefficient and offset of the nodes that are affine, channel
    by channel, in the one read there is.  ``mixing`` is the first node that
    brings channels together, ``obstacle`` the first that is not linear.
    """

    past: tuple[int, ...]
    pairs: Mapping[int, Pair]
    mixing: int | None
    obstacle: int | None


def linearity(nodes: Graph, reads: Sequence[int], roots: Sequence[int], ring: Ring) -> Linearity:
    """Follow the reads of the past through the nodes to the roots."""
    past = _tainted(nodes, reads, roots)
    inside = set(past)
    pairs: dict[int, Pair] = {}
    mixing: int | None = None
    obstacle: int | None = None
    for n in past:
        node = nodes[n]
        if n in reads:
            if len(reads) == 1:
                pairs[n] = (ring.number(1.0), None)
            continue
        held = [a in inside for a in node.args]
        if not _is_linear(node, held):
            obstacle = n if obstacle is None else obstacle
        if node.op not in POINTWISE:
            mixing = n if mixing is None else mixing
        elif obstacle is None:
            parts = [pairs.get(a) if h else (None, a) for a, h in zip(node.args, held, strict=True)]
            known = [p for p in parts if p is not None]
            if len(known) == len(parts):
                pairs[n] = combine(node.op, known, ring)
    return Linearity(tuple(past), pairs, mixing, obstacle)


def _tainted(nodes: Graph, reads: Sequence[int], roots: Sequence[int]) -> list[int]:
    """The nodes that the roots need and that depend on a read, in order."""
    needed = sorted(reachable(nodes, roots))
    found = set(reads)
    for n in needed:
        if any(a in found for a in nodes[n].args):
            found.add(n)
    return [n for n in needed if n in found]


def _is_linear(node: Node, held: Sequence[bool]) -> bool:
    if node.op in ("add", "sub", "neg", "map", "cumsum", "shift", "rename"):
        return True
    if node.op == "mul":
        return not all(held)
    if node.op == "div":
        return not held[1]
    if node.op == "where":
        return not held[0]
    return node.op == "reduce" and node.attrs[0] in ("sum", "mean")


def combine(name: str, parts: Sequence[Pair], ring: Ring) -> Pair:
    """The pair of a linear operation, from the pairs of its arguments.

    An argument free of the state is (None, itself).
    """
    op = ring.op

    def negated(x: Any) -> Any:
        return None if x is None else op("neg", x)

    def joined(x: Any, y: Any) -> Any:
        if x is None or y is None:
            return (negated(y) if name == "sub" else y) if x is None else x
        return op(name, x, y)

    if name == "neg":
        return negated(parts[0][0]), negated(parts[0][1])
    if name in ("add", "sub"):
        (a1, b1), (a2, b2) = parts
        return joined(a1, a2), joined(b1, b2)
    if name == "mul":
        held, free = parts if parts[1][0] is None else (parts[1], parts[0])
        a, b = held
        return op("mul", free[1], a), None if b is None else op("mul", free[1], b)
    if name == "div":
        (a, b), (_, under) = parts
        return op("div", a, under), None if b is None else op("div", b, under)
    assert name == "where", name
    (_, condition), (a1, b1), (a2, b2) = parts

    def chosen(x: Any, y: Any) -> Any:
        if x is None and y is None:
            return None
        x, y = (ring.number(0.0) if v is None else v for v in (x, y))
        return op("where", condition, x, y)

    return chosen(a1, a2), chosen(b1, b2)


# --- proof


def prove_affine(nodes: Graph, read: int, root: int, past: Sequence[int]) -> Verdict:
    """Whether the collected pair is the root: root - (a h + b) = 0.

    ``past`` are the nodes between read and root.  Subterms free of the state
    are opaque symbols; a condition is a symbol that is 0 or 1.
    """
    if root == read or not past:
        return Verdict("proved", "there is nothing to expand")
    if _terms(nodes, read, past)[root] <= _TERMS:
        if _expands(nodes, read, root, past):
            return Verdict("proved", "update - (a * h + b) expands to zero")
        return Verdict("unknown", "update - (a * h + b) does not expand to zero")
    names = sorted({nodes[n].op for n in past if n != read})
    if all(_step_holds(name) for name in names):
        return Verdict(
            "proved", f"by induction over the operations {', '.join(names)}, each proved affine"
        )
    return Verdict("unknown", "a step of the induction does not expand to zero")


def _terms(nodes: Graph, read: int, past: Sequence[int]) -> dict[int, int]:
    """An upper bound on the terms of each node once expanded."""
    out = {read: 1}
    for n in past:
        if n == read:
            continue
        counts = [out.get(a, 1) for a in nodes[n].args]
        if nodes[n].op == "where":
            counts = [counts[1], 2 * counts[2]]
        out[n] = min(sum(counts), 10 * _TERMS)
    return out


@cache
def _sympy_ring() -> Ring:
    """Coefficients as sympy expressions; ``where`` by a 0/1 number: c x + (1 - c) y."""
    import sympy as sp

    table: dict[str, Operation] = {
        "add": lambda x, y: x + y,
        "sub": lambda x, y: x - y,
        "mul": lambda x, y: x * y,
        "div": lambda x, y: x / y,
        "neg": lambda x: -x,
        "where": lambda c, x, y: c * x + (1 - c) * y,
    }
    return Ring(lambda name, *args: table[name](*args), lambda v: sp.Rational(str(v)))


def _expands(nodes: Graph, read: int, root: int, past: Sequence[int]) -> bool:
    import sympy as sp

    ring = _sympy_ring()
    h = sp.Symbol("h")
    inside = set(past)
    value: dict[int, Any] = {read: h}
    pairs: dict[int, Pair] = {read: (sp.Integer(1), None)}
    for n in past:
        if n == read:
            continue
        parts: list[Pair] = []
        for a in nodes[n].args:
            if a not in inside and a not in value:
                value[a] = sp.Symbol(f"s{a}")
            parts.append(pairs[a] if a in inside else (None, value[a]))
        value[n] = ring.op(nodes[n].op, *(value[a] for a in nodes[n].args))
        pairs[n] = combine(nodes[n].op, parts, ring)
    a, b = pairs[root]
    return bool(sp.expand(value[root] - (a * h + (0 if b is None else b))) == 0)


@cache
def _step_holds(name: str) -> bool:
    """One operation of pairs (a1, b1), (a2, b2) is the operation of a1 h + b1, a2 h + b2."""
    import sympy as sp

    ring = _sympy_ring()
    h, a1, b1, a2, b2, s = sp.symbols("h a1 b1 a2 b2 s")
    held = [((a1, b1), a1 * h + b1), ((a2, b2), a2 * h + b2)]
    free = ((None, s), s)
    cases = {
        "neg": [[held[0]]],
        "add": [[held[0], held[1]], [held[0], free], [free, held[1]]],
        "sub": [[held[0], held[1]], [held[0], free], [free, held[1]]],
        "mul": [[held[0], free], [free, held[1]]],
        "div": [[held[0], free]],
        "where": [[free, held[0], held[1]], [free, held[0], free], [free, free, held[1]]],
    }
    for case in cases[name]:
        a, b = combine(name, [pair for pair, _ in case], ring)
        value = ring.op(name, *(v for _, v in case))
        if sp.expand(value - (a * h + b)) != 0:
            return False
    return True


def disagreement(
    nodes: Graph, read: int, root: int, coefficient: int, offset: int, trials: int = 6
) -> dict[str, float] | None:
    """Numbers at which root and coefficient * h + offset differ, where any are found.

    A guard against a wrong rule: everything that is not pointwise gets a random value.
    """
    needed = sorted(reachable(nodes, (root, coefficient, offset)))
    moved = {n: i for i, n in enumerate(needed)}
    graph = tuple(
        Node(nodes[n].op, tuple(moved[a] for a in nodes[n].args), (), nodes[n].attrs)
        for n in needed
    )
    random_numbers = random.Random(20250807)
    leaves = [i for i, n in enumerate(graph) if n.op not in POINTWISE and n.op != "const"]
    for _ in range(trials):
        values = {
            i: random_numbers.random() < 0.5
            if graph[i].op == "keep"
            else random_numbers.gauss(0.0, 1.5)
            for i in leaves
        }
        out = evaluate(graph, values)
        h = out[moved[read]] if read in moved else 0.0
        left, right = out[moved[root]], out[moved[coefficient]] * h + out[moved[offset]]
        if math.isfinite(left) and not math.isclose(left, right, rel_tol=1e-6, abs_tol=1e-6):
            return {f"%{needed[i]}": float(v) for i, v in values.items()}
    return None
