"""Linear or log domain: which one an affine scan runs in, and why."""

from __future__ import annotations

from collections.abc import Sequence

from seqc.ir.graph import Node
from seqc.ir.verdict import Interval
from seqc.symbolic.rewrite import StableBuilder


def log_form(b: StableBuilder, coefficient: int, offset: int) -> tuple[int | None, int | None]:
    """The logarithms of both, where both are provably positive."""
    if not (b.positive(coefficient) and b.positive(offset)):
        return None, None
    return b.op("log", coefficient), b.op("log", offset)


def domain_reason(nodes: Sequence[Node], n: int, interval: Interval, has_log: bool) -> str:
    """Why the linear domain does, or what may happen in it."""
    lo, hi = interval
    if lo == hi == 0:
        return "the coefficient is zero: there is no product to overflow"
    if lo >= -1 and hi <= 1:
        return (
            f"coefficients lie in {interval}: products cannot overflow; "
            "the linear domain keeps float32 rounding near 1e-7"
        )
    size = max(abs(lo), abs(hi))
    if size < float("inf"):
        return (
            f"coefficients lie in {interval}: a product of T of them may reach {size:g}^T "
            "and overflow; the linear domain runs all the same"
        )
    if has_log and is_exponential(nodes, n):
        return (
            "coefficients are exponentials without a bound: products of them may overflow, so the "
            "log domain is recommended; a log-domain form exists, but kernels run the linear "
            "domain alone in this version"
        )
    tail = (
        "a log-domain form exists, but kernels run the linear domain alone in this version"
        if has_log
        else "there is no log-domain form, for coefficient and offset are not provably positive"
    )
    return f"coefficients are not bounded: products of them may overflow; {tail}"


def is_exponential(nodes: Sequence[Node], n: int) -> bool:
    """Whether a node is exp of something, or a product, quotient or choice of such."""
    stack, seen = [n], {n}
    while stack:
        node = nodes[stack.pop()]
        if node.op == "exp":
            return True
        if node.op in ("mul", "div", "where", "max", "min", "add"):
            for a in node.args[1:] if node.op == "where" else node.args:
                if a not in seen:
                    seen.add(a)
                    stack.append(a)
    return False


def law_reason(law: str) -> str:
    """What composing the functions of a law does to its parts."""
    return _LAWS.get(law, "the parts of the algebra are composed as they are")


_LAWS = {
    "max_plus": "products are sums here, which cannot overflow",
    "min_plus": "products are sums here, which cannot overflow",
    "log_affine": "the equations are in the log domain already: products are sums",
    "mobius": "a matrix counts only up to a factor, so products are kept of size 1"
    " and cannot overflow",
}
