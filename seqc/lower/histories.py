"""What a layer carries from call to call, and what no past can give it."""

from __future__ import annotations

from collections.abc import Iterable

from seqc.diagnostics import Diagnostic, SeqcError
from seqc.ir.plan import History
from seqc.ir.recurrence import Recurrence


def find_histories(recurrence: Recurrence) -> tuple[History, ...]:
    """What the layer carries from call to call: every state, then other values with a past."""
    lags: dict[str, list[int | str]] = {s.name: [1] for s in recurrence.states}
    windows: dict[str, list[int | str]] = {}
    sources: dict[str, tuple[int | None, tuple[str, ...]]] = {}
    for s in recurrence.states:
        sources[s.name] = (s.update, s.axes)
    axes = {i.name: i.axes for i in recurrence.inputs}
    for node in recurrence.nodes:
        if node.op == "read" and node.attrs[1] != 0:
            name = str(node.attrs[0])
            sources.setdefault(name, (recurrence.definition(name), node.axes))
            lags.setdefault(name, []).append(node.attrs[1])  # type: ignore[arg-type]
        elif node.op == "map":
            window = recurrence.map_of(node).window
            if window is not None and window.causal:
                name = recurrence.window_name(node)
                input_axes = axes.get(name)
                source = None if input_axes is not None else node.args[0]
                sources.setdefault(name, (source, recurrence.nodes[node.args[0]].axes))
                windows.setdefault(name, []).append(window.width)
    states = {s.name for s in recurrence.states}
    return tuple(
        History(
            name, ax, node,
            tuple(dict.fromkeys(lags.get(name, []))),
            tuple(dict.fromkeys(windows.get(name, []))),
            name in states,
        )
        for name, (node, ax) in sources.items()
    )  # fmt: skip


def refuse_foresight(recurrence: Recurrence) -> None:
    """Raise where a map that sees later steps needs a state: no step could be taken first."""
    found: list[Diagnostic] = []
    for node in recurrence.nodes:
        if node.op != "map":
            continue
        m = recurrence.map_of(node)
        state = state_below(recurrence, node.args) if m.sees_later else None
        if state is not None:
            found.append(
                Diagnostic(
                    "E302",
                    f"this {m.noun} sees later steps of what depends on the state {state}",
                    node.span or m.span,
                    "",
                    "what sees the future may map inputs alone; leave out `causal = false`",
                )
            )
    if found:
        raise SeqcError(found)


def state_below(recurrence: Recurrence, roots: Iterable[int]) -> str | None:
    """A state that the nodes depend on, within a step or through time."""
    updates = {s.update: s.name for s in recurrence.states}
    carried = {s.name for s in recurrence.states}
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        n = stack.pop()
        if n in seen:
            continue
        seen.add(n)
        node = recurrence.nodes[n]
        if node.op == "read" and node.attrs[1] != 0:
            if node.attrs[0] in carried:
                return str(node.attrs[0])
            source = recurrence.definition(str(node.attrs[0]))
            stack += [] if source is None else [source]
        elif n in updates and node.op != "read":
            return updates[n]
        stack += node.args
    return None
