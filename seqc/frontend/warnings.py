"""What is allowed but hardly meant: names that nothing uses, outer products by accident."""

from __future__ import annotations

from collections.abc import Mapping

from seqc.frontend.order import Reference
from seqc.frontend.problems import Problems
from seqc.frontend.scope import KINDS, Scope
from seqc.ir.graph import users
from seqc.ir.recurrence import Recurrence


def warn_unused(
    scope: Scope,
    mentions: Mapping[str, tuple[Reference, ...]],
    outputs: tuple[str, ...],
    problems: Problems,
) -> None:
    """A name that no other statement mentions."""
    by_others = {r.name for name, refs in mentions.items() for r in refs if r.name != name}
    by_others.update(outputs)
    for name, symbol in scope.symbols.items():
        if symbol.kind == "later":
            continue
        used = name in by_others if symbol.kind in ("state", "equation") else symbol.used
        if not used:
            what = {"equation": "the equation", "constant": "the constant"}.get(
                symbol.kind, "the " + KINDS[symbol.kind].split(" ", 1)[1]
            )
            problems.warn(
                "W001",
                f"{what} `{name}` is never used",
                symbol.span,
                hint="take it out, or output it"
                if symbol.kind in ("state", "equation")
                else "take it out",
            )


def warn_outer_products(
    recurrence: Recurrence, scope: Scope, owners: Mapping[str, str], problems: Problems
) -> None:
    """An equation without declared axes that has more than any value it is made of.

    `k[t] * v[t]` with two axes is an outer product.  It is meant where a state holds it
    or something sums over it; elsewhere it may be a mistake that costs memory.  ``owners``
    says what the spec calls each equation, of which a complex value has two.
    """
    nodes = recurrence.nodes
    readers = users(nodes)
    equation_nodes = {e.node for e in recurrence.equations}
    kept = {s.update for s in recurrence.states}
    said: set[int] = set()
    for equation in recurrence.equations:
        name = owners[equation.name]
        if scope.symbols[name].axes is not None or len(equation.axes) < 2:
            continue
        if equation.node in said:  # another name of the same value
            continue
        said.add(equation.node)
        widest, todo, seen = 0, [equation.node], set()
        while todo:
            position = todo.pop()
            node = nodes[position]
            if position in seen:
                continue
            seen.add(position)
            is_source = position in equation_nodes and position != equation.node
            if is_source or not node.args or node.op == "map":
                widest = max(widest, len(node.axes))
            else:
                todo.extend(node.args)
        if widest >= len(equation.axes):
            continue
        todo, seen, meant = [equation.node], set(), False
        while todo and not meant:
            position = todo.pop()
            if position in seen:
                continue
            seen.add(position)
            meant = position in kept
            for reader in readers[position]:
                node = nodes[reader]
                if node.op == "reduce" and node.attrs[1] in equation.axes:
                    meant = True
                elif set(equation.axes) <= set(node.axes):
                    todo.append(reader)
        if not meant:
            problems.warn(
                "W002",
                f"`{name}` is an outer product: it has the axes "
                f"({', '.join(equation.axes)}), and none of its terms has them all",
                scope.equations[name].target.span,
                hint=f"if it is meant, declare them: `{name}[t]: ({', '.join(equation.axes)}) = …`",
            )
