"""What is allowed but hardly meant: unused names, accidental outer products, dead parameters."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from seqc.frontend.declarations.order import Reference
from seqc.frontend.declarations.scope import KINDS, Scope
from seqc.frontend.messages.limits import MAX_PROBLEMS
from seqc.frontend.messages.problems import Problems
from seqc.ir.graph import Node, users
from seqc.ir.ops import CONDITIONS, FLAT
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
                f"{what} `{scope.shown(name)}` is never used",
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
        ways, reached, meant = [(equation.node, frozenset(equation.axes))], set(), False
        while ways and not meant:
            position, axes = ways.pop()
            if (position, axes) in reached:
                continue
            reached.add((position, axes))
            meant = position in kept
            for reader in readers[position]:
                node = nodes[reader]
                if node.op == "reduce" and node.attrs[1] in axes:
                    meant = True
                elif node.op == "rename":
                    called = dict(zip(node.attrs[::2], node.attrs[1::2], strict=True))
                    ways.append((reader, frozenset(str(called.get(a, a)) for a in axes)))
                elif axes <= set(node.axes):
                    ways.append((reader, axes))
        if not meant:
            problems.warn(
                "W002",
                f"`{scope.shown(name)}` is an outer product: it has the axes "
                f"({', '.join(equation.axes)}), and none of its terms has them all",
                scope.equations[name].target.span,
                hint=f"if it is meant, declare them: `{name}[t]: ({', '.join(equation.axes)}) = …`",
            )


def warn_flat(recurrence: Recurrence, problems: Problems) -> None:
    """A parameter or learned map that outputs and states depend on, but no gradient flows from.

    Found by the form of the equations: every way passes an operation whose derivative is zero.
    """
    nodes = recurrence.nodes
    used = _below(recurrence, lambda node: node.args)
    learning = _below(recurrence, _with_gradient)
    readers = users(nodes)
    # A map that is called with several values learns by any of them.
    taught = {recurrence.map_of(nodes[n]).prefix for n in learning if nodes[n].op == "map"}
    for position in sorted(used - learning):
        if len(problems.warnings) >= MAX_PROBLEMS:
            return
        node = nodes[position]
        if node.op == "param":
            name = str(node.attrs[0])
            span = next(p.span for p in recurrence.params if p.name == name)
            what = f"the parameter `{name}`"
        elif node.op == "map":
            learned = recurrence.map_of(node)
            if learned.use or (learned.prefix in taught and learned.part[1] == 1):
                continue
            span, what = learned.span, f"the learned map `{learned.label}`"
        else:
            continue
        if span is None:
            continue
        problems.warn(
            "W003",
            f"{what} never learns: its gradient is zero everywhere",
            span,
            hint=f"all that depends on it passes {_obstacle(nodes, readers, used, position)}; "
            "state another derivative: `gradient f(u) = …` after a `def`",
        )


def _with_gradient(node: Node) -> tuple[int, ...]:
    """The arguments by which a node has a derivative that is not zero by its form."""
    if node.op in FLAT or node.op == "keep":
        return ()
    if node.op == "where":
        return node.args[1:]
    return node.args[:2] if node.op == "graft" else node.args


def _below(recurrence: Recurrence, arguments: Callable[[Node], tuple[int, ...]]) -> set[int]:
    """The nodes that outputs and states come from, through these arguments and through time."""
    todo = [n for n in map(recurrence.definition, recurrence.outputs) if n is not None]
    todo += [n for s in recurrence.states for n in (s.update, s.init)]
    found: set[int] = set()
    while todo:
        position = todo.pop()
        if position in found:
            continue
        found.add(position)
        node = recurrence.nodes[position]
        todo.extend(arguments(node))
        if node.op == "read" and node.attrs[1] != 0:
            source = recurrence.definition(str(node.attrs[0]))
            todo += [] if source is None else [source]
    return found


def _obstacle(
    nodes: Sequence[Node], readers: Sequence[tuple[int, ...]], used: set[int], start: int
) -> str:
    """The first operation above a node that passes no gradient, in words."""
    todo, seen = deque([start]), {start}
    while todo:
        position = todo.popleft()
        for reader in readers[position]:
            if reader in seen or reader not in used:
                continue
            if position not in _with_gradient(nodes[reader]):
                op = nodes[reader].op
                return "a comparison" if op in CONDITIONS else _OBSTACLES.get(op, f"`{op}`")
            seen.add(reader)
            todo.append(reader)
    return "nothing that has one"


_OBSTACLES = {
    "where": "the condition of a `where`",
    "keep": "the probability of a `drop`",
    "stop": "a def whose stated gradient is 0",
    "graft": "a stated gradient alone",
}
