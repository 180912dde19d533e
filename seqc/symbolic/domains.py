"""Linear or log domain: which one an affine scan runs in, and why."""

from __future__ import annotations

from collections.abc import Sequence

from seqc.ir.algebra import Algebra
from seqc.ir.graph import Node, reachable
from seqc.symbolic.rewrite import StableBuilder


def log_form(b: StableBuilder, coefficient: int, offset: int) -> tuple[int | None, int | None]:
    """The logarithms of both, where both are provably positive."""
    if not (b.positive(coefficient) and b.positive(offset)):
        return None, None
    return b.op("log", coefficient), b.op("log", offset)


def choose_domain(b: StableBuilder, n: int, wish: str) -> tuple[str, str]:
    """The domain in which stretches of time are composed, and why.

    Steps themselves are always taken in the linear domain: h = a * h + b does not overflow unless
    the state does. ``wish``: the domain that the spec asks for, or empty.
    """
    lo, hi = interval = b.ranges[n]
    if wish == "log" and b.nonnegative(n):
        return "log", "products of coefficients are sums of their logarithms, as the spec asks"
    if lo == hi == 0:
        return "linear", "the coefficient is zero: there is no product to overflow"
    if lo >= -1 and hi <= 1:
        return "linear", (
            f"coefficients lie in {interval}: products cannot overflow; "
            "the linear domain keeps float32 rounding near 1e-7"
        )
    if b.positive(n) and is_exponential(b.nodes, n) and not wish:
        return "log", (
            f"coefficients are exponentials, which lie in {interval}: products of many may "
            "overflow where the states do not, so they are kept as sums of logarithms"
        )
    size = max(abs(lo), abs(hi))
    if size < float("inf"):
        return "linear", (
            f"coefficients lie in {interval}: a product of T of them may reach {size:g}^T "
            "and overflow; the linear domain runs all the same"
        )
    why = "as the spec asks" if wish else "they have no logarithm of their own"
    return "linear", (
        f"coefficients are not bounded: products may overflow; the linear domain runs, {why}"
    )


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


def law_reason(law: Algebra) -> str:
    """What composing the functions of a law does to its parts."""
    if law.projective is not None:
        return "parts count only up to a factor, so products are kept of size 1 and cannot overflow"
    ops = {law.nodes[n].op for n in reachable(law.nodes, law.compose)}
    if not ops & {"mul", "div", "pow", "exp"}:
        return "composing adds and compares parts: there is no product to overflow"
    return "the parts of the algebra are composed as they are"
