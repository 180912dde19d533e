"""What a layer's values need: inputs, learned maps, equations, states and outputs as a graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seqc.ir.recurrence import Recurrence


@dataclass(frozen=True)
class Value:
    """A node: ``kind`` is input, learned, equation, state, past or output.

    ``index`` is what stands below the name: a time index, or a learned map's name.
    """

    key: str
    kind: str
    name: str
    index: str
    note: str


@dataclass(frozen=True)
class Dependence:
    """Values, (needed, needing) pairs, and each stratum's members.

    A read of the past is a value of its own; the edge into it is the lagged one.
    """

    values: tuple[Value, ...]
    edges: tuple[tuple[str, str], ...]
    strata: tuple[tuple[str, ...], ...]


def dependence(r: Recurrence, strata: Sequence[tuple[str, ...]]) -> Dependence:
    """The graph of a layer whose strata have these states."""
    return _Walk(r).run(strata)


class _Walk:
    def __init__(self, r: Recurrence) -> None:
        self.r = r
        self.values: dict[str, Value] = {}
        self.edges: dict[tuple[str, str], None] = {}
        self.named: dict[int, str] = {}
        for e in r.equations:
            self.named.setdefault(e.node, e.name)
        for s in r.states:
            self.named.setdefault(s.update, s.name)

    def run(self, strata: Sequence[tuple[str, ...]]) -> Dependence:
        r = self.r
        states = {s.name for s in r.states}
        for i in r.inputs:
            self.add(i.name, "input", i.name, "t", f"input: {_axes(i.declared)}")
        for e in r.equations:
            if e.name in states:
                continue
            node = r.nodes[e.node]
            # An equation that is a learned map and nothing else: one box for both.
            own = node.op == "map" and self.named[e.node] == e.name
            note = _axes(e.declared)
            if own:
                note = f"{r.map_of(node).kind}: {note}"
            self.add(
                e.name, "learned" if own else "equation", e.name, "" if e.constant else "t", note
            )
        for s in r.states:
            self.add(s.name, "state", s.name, "t", f"state: {_axes(s.declared)}")
        for name, node_at in [
            *((e.name, e.node) for e in r.equations), *((s.name, s.update) for s in r.states)
        ]:  # fmt: skip
            same = self.named[node_at]
            if same != name:
                self.edges[same, name] = None
            elif r.nodes[node_at].op == "map" and name not in states:
                self.walk(r.nodes[node_at].args, name)
            else:
                self.walk([node_at], name)
        for name in r.outputs:
            key = f"output {name}"
            self.add(key, "output", name, "t", "output")
            self.edges[name, key] = None
        edges = tuple(self.edges)
        groups = _cycles(tuple(self.values), edges)
        found = []
        for names in strata:
            members = {k for n in names for k in groups.get(n, (n,))}
            found.append(tuple(k for k in self.values if k in members))
        return Dependence(tuple(self.values.values()), edges, tuple(found))

    def add(self, key: str, kind: str, name: str, index: str, note: str) -> bool:
        """Whether the value is new."""
        new = key not in self.values
        self.values.setdefault(key, Value(key, kind, name, index, note))
        return new

    def walk(self, roots: Iterable[int], target: str) -> None:
        """Edges into ``target`` from what its formula names; learned maps on the way."""
        stack, seen = list(roots), set()
        while stack:
            n = stack.pop(0)
            if n in seen:
                continue
            seen.add(n)
            node = self.r.nodes[n]
            known = self.named.get(n)
            if known is not None and known != target:
                self.edges[known, target] = None
            elif node.op == "read":
                name, lag = str(node.attrs[0]), node.attrs[1]
                key = name
                if lag != 0:
                    key = f"past {name} {lag}"
                    self.add(key, "past", name, f"t−{self.r.shown_lag(lag)}", "")
                    self.edges[name, key] = None
                self.edges[key, target] = None
            elif node.op == "param":
                name = str(node.attrs[0])
                key = f"param {name}"
                self.add(key, "learned", name, "", "param")
                self.edges[key, target] = None
            elif node.op == "map":
                m = self.r.map_of(node)
                key = f"map {m.label}"
                if self.add(key, "learned", "W", m.label, m.kind):
                    self.walk(node.args, key)
                self.edges[key, target] = None
            else:
                stack.extend(node.args)


def _axes(axes: tuple[str, ...]) -> str:
    return ", ".join(axes) or "1"


def _cycles(keys: tuple[str, ...], edges: tuple[tuple[str, str], ...]) -> dict[str, set[str]]:
    """For each value, those that it needs and that need it, through time too."""
    below: dict[str, list[str]] = {k: [] for k in keys}
    for a, b in edges:
        below[a].append(b)

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        stack = list(below[start])
        while stack:
            k = stack.pop()
            if k not in seen:
                seen.add(k)
                stack.extend(below[k])
        return seen

    reach = {k: reached(k) for k in keys}
    return {k: {k, *(m for m in reach[k] if k in reach[m])} for k in keys}
