"""Graphs as formulas in the spec's own notation, for reports."""

from __future__ import annotations

from collections.abc import Callable

from seqc.ir.graph import Graph
from seqc.ir.ops import INFIX
from seqc.ir.recurrence import Recurrence

_INFIX = {**INFIX, "pow": ("^", 8)}
#: A formula longer than this is cut: a report is read by a person.
_LIMIT = 4000


class Formulas:
    """Prints nodes; ``leaf`` names leaves, ``names`` the nodes that the spec names."""

    def __init__(
        self, graph: Graph, leaf: Callable[[int], str | None], names: dict[int, str]
    ) -> None:
        self.graph = graph
        self.leaf = leaf
        self.names = names

    def definition(self, root: int) -> str:
        """The formula of a node, named values standing for themselves except the node itself."""
        texts: dict[int, tuple[str, int]] = {}
        stack = [root]
        while stack:
            n = stack[-1]
            if n in texts:
                stack.pop()
                continue
            if n != root and n in self.names:
                texts[n] = (self.names[n], 9)
                continue
            known = self.leaf(n)
            if known is not None:
                texts[n] = (known, 7 if known.startswith("-") else 9)
                continue
            waiting = [a for a in self.graph[n].args if a not in texts]
            if waiting:
                stack.extend(reversed(waiting))
                continue
            texts[n] = self.join(n, [texts[a] for a in self.graph[n].args])
        return texts[root][0]

    def join(self, n: int, args: list[tuple[str, int]]) -> tuple[str, int]:
        """One operation, with the brackets that its arguments need."""
        node = self.graph[n]

        def wrap(a: tuple[str, int], binds: int) -> str:
            return a[0] if a[1] >= binds else f"({a[0]})"

        if node.op in _INFIX:
            sign, binds = _INFIX[node.op]
            text = f"{wrap(args[0], binds)} {sign} {wrap(args[1], binds + 1)}"
            return self.cut(text), binds
        if node.op == "neg":
            return self.cut(f"-{wrap(args[0], 7)}"), 7
        if node.op == "isset":
            return self.cut(f"{wrap(args[0], 4)} != 0"), 3
        if node.op == "product":
            matrix = args[1][0] + ("ᵀ" if node.attrs[0] else "")
            return self.cut(f"{matrix} @ {wrap(args[0], 7)}"), 6
        inner = [a[0] for a in args]
        if node.op == "reduce":
            return self.cut(f"{node.attrs[0]}({inner[0]}, {node.attrs[1]})"), 9
        if node.op in ("cumsum", "shift"):
            inner += [str(a) for a in node.attrs]
        name = f"keep<{node.attrs[0]}>" if node.op == "keep" else node.op
        return self.cut(f"{name}({', '.join(inner)})"), 9

    def cut(self, text: str) -> str:
        return text if len(text) <= _LIMIT else text[: _LIMIT - 1] + "…"


def formulas(recurrence: Recurrence) -> Formulas:
    """The printer of a layer's own graph."""
    names: dict[int, str] = {}
    for e in recurrence.equations:
        names.setdefault(e.node, e.name if e.constant else f"{e.name}[t]")
    for s in recurrence.states:
        names.setdefault(s.update, f"{s.name}[t]")

    def leaf(n: int) -> str | None:
        node = recurrence.nodes[n]
        match node.op:
            case "const":
                return f"{float(node.attrs[0]):g}"
            case "size" | "hyper" | "param":
                return str(node.attrs[0])
            case "index":
                return f"index({node.axes[0]})"
            case "read":
                name, lag = node.attrs
                return f"{name}[t]" if lag == 0 else f"{name}[t-{recurrence.shown_lag(lag)}]"
            case "map":
                m = recurrence.map_of(node)
                parts = [names.get(a) or leaf(a) or "…" for a in node.args]
                return f"{m.kind}<{m.label}>({', '.join(parts)})"
        return None

    return Formulas(recurrence.nodes, leaf, names)
