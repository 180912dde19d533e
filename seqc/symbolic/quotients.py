"""Shares x / (x + y + …): normalised gates, as in minLSTM, without 0/0 and inf/inf.

    x / (x + y)              sigmoid(log x - log y)
    x / (x + y + z)          sigmoid(log x - logaddexp(log y, log z))
    x * u / (x + y)          sigmoid(log x - log y) * u
    (x*u + y*v) / (x + y)    sigmoid(d) * u + sigmoid(-d) * v,   d = log x - log y

for positive x, y, … of which one at least is logarithmic: both may underflow to
zero, or overflow, while their share is well defined (arXiv 2410.01201, appendix
B.2: log f' = -softplus(d)).
"""

from __future__ import annotations

from seqc.symbolic.base import RangeBuilder

#: Sums and products longer than this are left as they are.
_TERMS = 16


def share_rule(b: RangeBuilder, numerator: int, denominator: int) -> int | None:
    """A stable form of numerator / denominator, or None."""
    if b.nodes[denominator].op != "add" or not b.logarithmic(denominator):
        return None
    terms = [t for t, _ in _addends(b, denominator)]
    if len(terms) > _TERMS or not all(b.positive(t) for t in terms):
        return None
    parts: list[tuple[int, list[int], bool]] = []
    for addend, negative in _addends(b, numerator):
        factors = _factors(b, addend)
        if factors is None:
            return None
        chosen = next((i for i, t in enumerate(terms) if t in factors), None)
        if chosen is None:
            return None
        factors.remove(terms[chosen])
        parts.append((chosen, factors, negative))
    if len(parts) > _TERMS:
        return None
    total: int | None = None
    for chosen, factors, negative in parts:
        value = _share(b, terms, chosen)
        for f in factors:
            value = b.op("mul", value, f)
        if total is None:
            total = b.op("neg", value) if negative else value
        else:
            total = b.op("sub" if negative else "add", total, value)
    return total


def _share(b: RangeBuilder, terms: list[int], chosen: int) -> int:
    rest: int | None = None
    for i, term in enumerate(terms):
        if i != chosen:
            log = b.op("log", term)
            rest = log if rest is None else b.op("logaddexp", rest, log)
    if rest is None:
        return b.const(1.0)
    return b.op("sigmoid", b.op("sub", b.op("log", terms[chosen]), rest))


def _addends(b: RangeBuilder, root: int) -> list[tuple[int, bool]]:
    """The terms of a sum, left to right, each with whether it is subtracted."""
    out: list[tuple[int, bool]] = []
    stack = [(root, False)]
    while stack and len(out) <= _TERMS:
        n, negative = stack.pop()
        node = b.nodes[n]
        if node.op == "add":
            stack += [(node.args[1], negative), (node.args[0], negative)]
        elif node.op == "sub":
            stack += [(node.args[1], not negative), (node.args[0], negative)]
        elif node.op == "neg":
            stack.append((node.args[0], not negative))
        else:
            out.append((n, negative))
    return out


def _factors(b: RangeBuilder, root: int) -> list[int] | None:
    """The factors of a product, left to right; None when there are too many."""
    out: list[int] = []
    stack = [root]
    while stack:
        n = stack.pop()
        node = b.nodes[n]
        if node.op == "mul":
            stack += [node.args[1], node.args[0]]
        else:
            out.append(n)
        if len(out) > _TERMS:
            return None
    return out
