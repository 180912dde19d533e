"""Which equation needs which: the order to build them in, and the cycles that forbid one.

Three kinds of edges: a value at this step (``z[t]``, or a time constant), a value some
steps ago, and a value inside a convolution, which is both.  Within one step there may
be no cycle; through time there may, as long as what is carried is a state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from seqc.diagnostics import Label, Span
from seqc.frontend.declarations.lags import Lag, read_lag
from seqc.frontend.declarations.scope import SEQUENCES, Scope
from seqc.frontend.messages.problems import Problems, listing
from seqc.frontend.text import syntax as s
from seqc.ir.maps import MAPS

#: A cycle is shown by this many labels at most.
MAX_CYCLE_LABELS = 8


@dataclass(frozen=True)
class Reference:
    """One mention of a name in an equation; ``lag`` is 0 for what is constant in time."""

    name: str
    lag: Lag
    span: Span
    windowed: bool = False


def references(expr: s.Expr, scope: Scope, problems: Problems) -> tuple[Reference, ...]:
    """What an expression mentions of the layer's own, in the order of the text."""
    found: list[Reference] = []
    todo: list[tuple[s.Expr, bool]] = [(expr, False)]
    while todo:
        term, windowed = todo.pop()
        if isinstance(term, s.Name):
            symbol = scope.symbols.get(term.text)
            if symbol is not None:
                symbol.used = True
                if symbol.kind == "constant":
                    found.append(Reference(term.text, 0, term.span, windowed))
        elif isinstance(term, s.Indexed):
            if not isinstance(term.base, s.Name):
                todo.append((term.base, windowed))
                continue
            symbol = scope.symbols.get(term.base.text)
            lag = read_lag(term, scope, problems)
            if symbol is not None:
                symbol.used = True
                if lag is not None and symbol.kind in SEQUENCES:
                    found.append(Reference(term.base.text, lag, term.span, windowed))
        elif isinstance(term, s.Call):
            name = term.function
            window = isinstance(name, s.Name) and name.text in MAPS and MAPS[name.text].windowed
            inside = windowed or window
            todo.extend((a.value, inside) for a in reversed(term.arguments))
            if not isinstance(name, s.Name):
                todo.append((name, windowed))
        else:
            todo.extend((c, windowed) for c in reversed(s.children(term)))
    return tuple(found)


def components(edges: Mapping[str, tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The strongly connected components, each before those that need it (Tarjan, no recursion)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    on_stack: set[str] = set()
    stack: list[str] = []
    out: list[tuple[str, ...]] = []
    for root in edges:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter(edges[root]))]
        while work:
            node, rest = work[-1]
            for child in rest:
                if child not in index:
                    index[child] = low[child] = len(index)
                    stack.append(child)
                    on_stack.add(child)
                    work.append((child, iter(edges[child])))
                    break
                if child in on_stack:
                    low[node] = min(low[node], index[child])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component: list[str] = []
                    while not component or component[-1] != node:
                        component.append(stack.pop())
                    on_stack.difference_update(component)
                    out.append(tuple(reversed(component)))
    return out


def build_order(
    scope: Scope, mentions: Mapping[str, tuple[Reference, ...]], problems: Problems
) -> list[str]:
    """The equations, each after what it needs; cycles are noted and stand in any order."""
    names = scope.equations
    position = {name: i for i, name in enumerate(names)}
    now: dict[str, tuple[str, ...]] = {}
    every: dict[str, tuple[str, ...]] = {}
    needed: dict[str, tuple[str, ...]] = {}
    for name in names:
        refs = [r for r in mentions[name] if r.name in names]
        now[name] = tuple(dict.fromkeys(r.name for r in refs if r.lag == 0))
        every[name] = tuple(dict.fromkeys(r.name for r in refs))
        # The axes of what is read with a lag must be known too, unless they were declared.
        needed[name] = tuple(
            dict.fromkeys(r.name for r in refs if r.lag == 0 or scope.symbols[r.name].axes is None)
        )
    cyclic = False
    for component in components(now):
        if len(component) > 1 or component[0] in now[component[0]]:
            cyclic = True
            _report_cycle(set(component), now, mentions, scope, problems)
    if not cyclic:
        for loop in components(every):
            members = set(loop)
            for name in sorted(loop, key=position.__getitem__):
                _check_loop(name, members, mentions[name], scope, problems)
    # Only a state may be read by its own loop, so `needed` has no cycle unless one was noted.
    return [name for component in components(needed) for name in component]


def _check_loop(
    name: str,
    members: set[str],
    refs: tuple[Reference, ...],
    scope: Scope,
    problems: Problems,
) -> None:
    """Within a loop through time: what is carried is a state, and no convolution takes part."""
    for r in refs:
        if r.name not in members:
            continue
        if r.windowed:
            problems.error(
                "E050",
                f"a convolution in the loop of `{name}`",
                r.span,
                label=f"`{r.name}` depends on `{name}` itself",
                hint=f"write the steps out: `{r.name}[t-1]`, `{r.name}[t-2]`, …",
            )
        elif r.lag != 0 and scope.symbols[r.name].kind != "state":
            axes = scope.symbols[r.name].axes
            shown = "hidden" if axes is None else ", ".join(axes) or "1"
            shown = f"({shown})" if axes is not None and len(axes) > 1 else shown
            problems.error(
                "E045",
                f"`{r.name}` reads its own past, so it is a state",
                r.span,
                hint=f"declare it: `state {r.name}[t]: {shown}`",
                related=[Label(scope.symbols[r.name].span, "it is an equation")],
            )


def _report_cycle(
    members: set[str],
    now: Mapping[str, tuple[str, ...]],
    mentions: Mapping[str, tuple[Reference, ...]],
    scope: Scope,
    problems: Problems,
) -> None:
    """Show the shortest cycle through the member that stands first in the file."""
    start = next(name for name in scope.equations if name in members)
    previous: dict[str, str] = {}
    queue, head, last = [start], 0, ""
    while head < len(queue):
        node = queue[head]
        head += 1
        if start in now[node]:
            last = node
            break
        for child in now[node]:
            if child in members and child not in previous and child != start:
                previous[child] = node
                queue.append(child)
    path = [last]
    while path[-1] != start:
        path.append(previous[path[-1]])
    path.reverse()
    steps = []
    for name, needs in zip(path, [*path[1:], start], strict=True):
        steps.append(next(r for r in mentions[name] if r.name == needs and r.lag == 0))
    round_trip = [*path, start]
    if len(round_trip) > MAX_CYCLE_LABELS:
        round_trip = [*round_trip[: MAX_CYCLE_LABELS - 2], "…", round_trip[-1]]
    route = " → ".join(f"`{n}`" if n != "…" else n for n in round_trip)
    if len(path) == 1:
        message, label = f"`{start}` needs its own value of the same step", ""
    else:
        message = "these equations need one another within one step"
        label = f"`{path[0]}` needs `{steps[0].name}`"
    states = [n for n in path if scope.symbols[n].kind == "state"]
    target = states[0] if states else path[-1]
    constant = scope.symbols[start].kind == "constant"
    problems.error(
        "E044",
        f"{message}: {route}",
        steps[0].span,
        label=label,
        hint=f"take {listing([start])} out of its own definition"
        if constant
        else f"somewhere the past is meant: `{target}[t-1]`",
        related=[
            Label(step.span, f"`{name}` needs `{step.name}`")
            for name, step in list(zip(path, steps, strict=True))[1:MAX_CYCLE_LABELS]
        ],
    )
