"""The notation of the rewriting rules: expressions as text, matched against a graph.

``"log(1 + exp(x))"`` is a pattern: a name stands for any node (the same node
wherever it comes again), a number for that constant, and the rest for
operations of :mod:`seqc.ir.ops` (+ - * / ** and calls).  Only the compiler's own
tables are read like this, never the text of a spec.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from seqc.ir.graph import Node
from seqc.ir.ops import COMMUTATIVE

_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.Pow: "pow",
}

_COMPARISONS: dict[type[ast.AST], str] = {
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
    ast.Eq: "eq",
    ast.NotEq: "ne",
}


@dataclass(frozen=True)
class Expr:
    """``op`` of ``args``; a variable (op ``?``) has a name, a number (op ``const``) a value."""

    op: str
    args: tuple[Expr, ...] = ()
    name: str = ""
    value: float = 0.0


@cache
def parse(text: str) -> Expr:
    """The expression that the text stands for."""
    return _convert(ast.parse(text, mode="eval").body)


def _convert(tree: ast.expr) -> Expr:
    if isinstance(tree, ast.Constant) and isinstance(tree.value, int | float):
        return Expr("const", value=float(tree.value))
    if isinstance(tree, ast.Name):
        if tree.id == "inf":
            return Expr("const", value=float("inf"))
        return Expr("?", name=tree.id)
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        inner = _convert(tree.operand)
        return Expr("const", value=-inner.value) if inner.op == "const" else Expr("neg", (inner,))
    if isinstance(tree, ast.BinOp):
        return Expr(_OPERATORS[type(tree.op)], (_convert(tree.left), _convert(tree.right)))
    if isinstance(tree, ast.Compare):
        sides = (_convert(tree.left), _convert(tree.comparators[0]))
        return Expr(_COMPARISONS[type(tree.ops[0])], sides)
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
        return Expr(tree.func.id, tuple(_convert(a) for a in tree.args))
    raise ValueError(f"not an expression of the rules: {ast.dump(tree)}")


Binding = Mapping[str, int]


def match(pattern: Expr, position: int, nodes: Sequence[Node], bound: Binding) -> Iterator[Binding]:
    """The variables' nodes, each way in which the pattern fits the node."""
    if pattern.op == "?":
        known = bound.get(pattern.name)
        if known is None:
            yield {**bound, pattern.name: position}
        elif known == position:
            yield bound
        return
    node = nodes[position]
    if node.op != pattern.op:
        return
    if pattern.op == "const":
        if float(node.attrs[0]) == pattern.value:
            yield bound
        return
    yield from match_args(pattern, node.args, nodes, bound)


def match_args(
    pattern: Expr, args: Sequence[int], nodes: Sequence[Node], bound: Binding
) -> Iterator[Binding]:
    """As :func:`match`, for a node of the pattern's operation that is not built yet.

    An operation that commutes is tried in both orders.
    """
    orders = [tuple(args)]
    if pattern.op in COMMUTATIVE:
        orders.append((args[1], args[0]))
    for order in orders:
        found = [bound]
        for sub, arg in zip(pattern.args, order, strict=True):
            found = [more for each in found for more in match(sub, arg, nodes, each)]
            if not found:
                break
        yield from found


def build(
    expr: Expr,
    bound: Binding,
    op: Callable[..., int],
    const: Callable[[float], int],
) -> int:
    """The expression's node, its variables replaced by their nodes."""
    if expr.op == "?":
        return bound[expr.name]
    if expr.op == "const":
        return const(expr.value)
    return op(expr.op, *(build(a, bound, op, const) for a in expr.args))


def variables(expr: Expr) -> tuple[str, ...]:
    """The names in the expression, in the order of their first use."""
    if expr.op == "?":
        return (expr.name,)
    return tuple(dict.fromkeys(name for a in expr.args for name in variables(a)))
