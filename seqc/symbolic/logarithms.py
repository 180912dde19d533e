"""Logarithms of products, sums and choices: the rules that one pattern cannot say.

    log(x * y)          log x + log y                     x, y > 0, one of them logarithmic
    log(x / y)          log x - log y                     likewise
    log(x + y)          logaddexp(log x, log y)           likewise
    log(max(x, y))      max(log x, log y)                 likewise (and min)
    log(where(c, x, y)) where(c, log x, log y)            likewise; x > 0 where c, y > 0 where not
    1 - where(c, x, y)  where(c, 1 - x, 1 - y)            where that makes a branch simpler

``logarithmic`` is :meth:`RangeBuilder.logarithmic`: a sigmoid, an exponential, or made of them.

A branch that is positive under its condition alone is guarded: in
``where(u >= 0, log(u + 0.5), …)`` the u of the first branch becomes
``where(u >= 0, u, 0)``, so that the logarithm on the branch that is not taken is
a number, and so is its gradient (the "double where"; max(u, 0) would halve the
gradient at u = 0).
"""

from __future__ import annotations

from seqc.symbolic.base import RangeBuilder

#: A branch with more nodes than this that depend on the condition is left as it is.
_GUARDED_NODES = 64


def log_rule(b: RangeBuilder, x: int) -> int | None:
    """A stable form of log(x), or None."""
    node = b.nodes[x]
    if node.op not in ("mul", "div", "add", "max", "min", "where") or not b.logarithmic(x):
        return None
    if node.op == "where":
        condition, yes, no = node.args
        first, second = guarded(b, condition, yes, True), guarded(b, condition, no, False)
        if first is None or second is None:
            return None
        return b.op("where", condition, b.op("log", first), b.op("log", second))
    left, right = (b.op("log", a) for a in node.args)
    joined = {"mul": "add", "div": "sub", "add": "logaddexp"}.get(node.op, node.op)
    return b.op(joined, left, right)


def guarded(b: RangeBuilder, condition: int, branch: int, holds: bool) -> int | None:
    """The branch, changed where it is not taken so that it is positive everywhere; or None."""
    if b.positive(branch):
        return branch
    node = b.nodes[condition]
    under = b.ranges.under(branch, condition, holds)
    if node.op not in ("lt", "le", "gt", "ge") or under is None or not under.positive:
        return None
    for side, other in (node.args, node.args[::-1]):
        bound = b.value(other)
        if bound is None or b.value(side) is not None:
            continue
        facts = b.ranges.under(side, condition, holds)
        if facts is None:
            continue
        # Any number that the condition allows will do; its bound, or the next whole step.
        above = facts.lo == bound
        safe = bound if node.op in ("le", "ge") else bound + (1 if above else -1)
        if not holds:
            safe = bound if node.op in ("lt", "gt") else bound + (1 if above else -1)
        leaf = b.const(safe)
        stand_in = b.op("where", condition, *((side, leaf) if holds else (leaf, side)))
        changed = substitute(b, branch, {side: stand_in})
        if changed is not None and b.positive(changed):
            return changed
    return None


def substitute(b: RangeBuilder, root: int, changes: dict[int, int]) -> int | None:
    """The node with others put in the place of some; None when too much would be rebuilt."""
    region: set[int] = set()
    stack = [root]
    while stack:
        n = stack.pop()
        if n in region or n in changes:
            continue
        region.add(n)
        if len(region) > _GUARDED_NODES:
            return None
        stack.extend(b.nodes[n].args)
    out = dict(changes)
    for n in sorted(region):
        node = b.nodes[n]
        args = tuple(out.get(a, a) for a in node.args)
        if args == node.args:
            continue
        if node.attrs or node.op == "keep":  # structural: not pointwise, so not ours to move
            return None
        out[n] = b.op(node.op, *args, span=node.span)
    return out.get(root, root)


def complement_rule(b: RangeBuilder, one: int, x: int) -> int | None:
    """1 - where(c, u, v), when a branch of where(c, 1 - u, 1 - v) is simpler than a difference."""
    node = b.nodes[x]
    if b.value(one) != 1.0 or node.op != "where":
        return None
    condition, yes, no = node.args
    first, second = b.op("sub", one, yes), b.op("sub", one, no)
    plain = [b.nodes[n].op == "sub" and b.nodes[n].args[0] == one for n in (first, second)]
    return None if all(plain) else b.op("where", condition, first, second)
