"""Is an update a * h[t-1] + b, with a and b free of the past?  (Of several reads, A h + b.)

First by structure: a and b are collected through sums, products with factors
free of the state, quotients by them, and choices whose condition is free of it.
Then by proof: with every subterm that is free of the state as an opaque symbol,
the update less (a h + b) expands to zero (sympy); a and b are built in the
recurrence's graph by :class:`StableBuilder`, whose rules are proved one by one
in the tests, and the pair is checked once more in numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from seqc.ir.graph import Graph, Node, reachable
from seqc.ir.ops import POINTWISE
from seqc.ir.verdict import Verdict

#: A proof by expansion with more terms than this goes step by step instead.
_TERMS = 2000

Operation = Callable[..., Any]

#: The coefficient of each variable and the offset, in whatever ``Ring`` builds; None is zero.
#: With one variable, (coefficient, offset).
Pair = tuple[Any, ...]


@dataclass(frozen=True)
class Ring:
    """How to compute with coefficients: nodes of a builder, or sympy expressions."""

    op: Operation
    number: Callable[[float], Any]
    nonnegative: Callable[[Any], bool] = lambda value: False


@dataclass(frozen=True)
class Linearity:
    """What the structure of some updates says of the past that they read.

    ``pairs`` holds coefficients and offset of the nodes that are affine, channel
    by channel, in the reads.  ``mixing`` is the first node that
    brings channels together, ``obstacle`` the first that is not linear.
    """

    past: tuple[int, ...]
    pairs: Mapping[int, Pair]
    mixing: int | None
    obstacle: int | None


def linearity(nodes: Graph, reads: Sequence[int], roots: Sequence[int], ring: Ring) -> Linearity:
    """Follow the reads of the past, each a variable of its own, through the nodes to the roots."""
    past = _tainted(nodes, reads, roots)
    inside = set(past)
    pairs = {read: variable(i, len(reads), ring) for i, read in enumerate(reads)}
    mixing: int | None = None
    obstacle: int | None = None
    for n in past:
        node = nodes[n]
        if n in reads:
            continue
        held = [a in inside for a in node.args]
        if not is_linear(node, held):
            obstacle = n if obstacle is None else obstacle
        if node.op not in POINTWISE:
            mixing = n if mixing is None else mixing
        elif obstacle is None:
            parts = [
                pairs.get(a) if h else constant(a, len(reads))
                for a, h in zip(node.args, held, strict=True)
            ]
            known = [p for p in parts if p is not None]
            if len(known) == len(parts):
                pairs[n] = combine(node.op, known, ring)
    return Linearity(tuple(past), pairs, mixing, obstacle)


def variable(position: int, count: int, ring: Ring) -> Pair:
    """The form of the variable at a position."""
    one = ring.number(1.0)
    return (*(one if i == position else None for i in range(count)), None)


def constant(value: Any, count: int) -> Pair:
    """The form of what is free of every variable."""
    return (*(None for _ in range(count)), value)


def _tainted(nodes: Graph, reads: Sequence[int], roots: Sequence[int]) -> list[int]:
    """The nodes that the roots need and that depend on a read, in order."""
    needed = sorted(reachable(nodes, roots))
    found = set(reads)
    for n in needed:
        if any(a in found for a in nodes[n].args):
            found.add(n)
    return [n for n in needed if n in found]


def is_linear(node: Node, held: Sequence[bool]) -> bool:
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
    """The form of a linear operation, from the forms of its arguments."""
    op = ring.op

    def negated(x: Any) -> Any:
        return None if x is None else op("neg", x)

    def joined(x: Any, y: Any) -> Any:
        if x is None or y is None:
            return (negated(y) if name == "sub" else y) if x is None else x
        return op(name, x, y)

    def free(pair: Pair) -> bool:
        return all(x is None for x in pair[:-1])

    if name == "neg":
        return tuple(negated(x) for x in parts[0])
    if name in ("add", "sub"):
        return tuple(joined(x, y) for x, y in zip(*parts, strict=True))
    if name == "mul":
        held, factor = parts if free(parts[1]) else (parts[1], parts[0])
        return tuple(None if x is None else op("mul", factor[-1], x) for x in held)
    if name == "div":
        held, under = parts
        return tuple(None if x is None else op("div", x, under[-1]) for x in held)
    assert name == "where", name
    condition = parts[0][-1]

    def chosen(x: Any, y: Any) -> Any:
        if x is None and y is None:
            return None
        x, y = (ring.number(0.0) if v is None else v for v in (x, y))
        return op("where", condition, x, y)

    return tuple(chosen(x, y) for x, y in zip(parts[1], parts[2], strict=True))


# --- proof


def prove_affine(nodes: Graph, reads: Sequence[int], root: int, past: Sequence[int]) -> Verdict:
    """Whether the collected form is the root: root - (a h + b) = 0, h being the reads.

    ``past`` are the nodes between the reads and the root.  Subterms free of the state
    are opaque symbols; a condition is a symbol that is 0 or 1.
    """
    if root in reads or not past:
        return Verdict("proved", "there is nothing to expand")
    form = "a * h + b" if len(reads) == 1 else "A h + b"
    if terms_of(nodes, reads, past)[root] <= _TERMS:
        if _expands(nodes, reads, root, past):
            return Verdict("proved", f"update - ({form}) expands to zero")
        return Verdict("unknown", f"update - ({form}) does not expand to zero")
    names = sorted({nodes[n].op for n in past if n not in reads})
    if all(_step_holds(name) for name in names):
        return Verdict(
            "proved", f"by induction over the operations {', '.join(names)}, each proved affine"
        )
    return Verdict("unknown", "a step of the induction does not expand to zero")


def terms_of(nodes: Graph, reads: Sequence[int], past: Sequence[int]) -> dict[int, int]:
    """An upper bound on the terms of each node once expanded."""
    out = dict.fromkeys(reads, 1)
    for n in past:
        if n in reads:
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


def _expands(nodes: Graph, reads: Sequence[int], root: int, past: Sequence[int]) -> bool:
    import sympy as sp

    ring = _sympy_ring()
    variables = [sp.Symbol(f"h{i}") for i in range(len(reads))]
    inside = set(past)
    value: dict[int, Any] = dict(zip(reads, variables, strict=True))
    pairs: dict[int, Pair] = {read: variable(i, len(reads), ring) for i, read in enumerate(reads)}
    for n in past:
        if n in reads:
            continue
        parts: list[Pair] = []
        for a in nodes[n].args:
            if a not in inside and a not in value:
                value[a] = sp.Symbol(f"s{a}")
            parts.append(pairs[a] if a in inside else constant(value[a], len(reads)))
        value[n] = ring.op(nodes[n].op, *(value[a] for a in nodes[n].args))
        pairs[n] = combine(nodes[n].op, parts, ring)
    *coefficients, offset = pairs[root]
    claim = sum(
        (a * h for a, h in zip(coefficients, variables, strict=True) if a is not None),
        start=sp.Integer(0) if offset is None else offset,
    )
    return bool(sp.expand(value[root] - claim) == 0)


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
