"""An algebra named in an update: ``h[t] = affine(f[t], v[t])(h[t-1])``.

It is the whole right side of a state's equation.  Coupled states each have such an
equation, with the same algebra, parts and states; which result an equation takes is
said by the place of its state among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from seqc.diagnostics import Label, Span
from seqc.frontend.declarations.lags import read_lag
from seqc.frontend.declarations.scope import Scope
from seqc.frontend.expressions.builder import Builder
from seqc.frontend.expressions.nodes import Call, Evaluation
from seqc.frontend.messages.problems import Problems, a_number, listing, shorten
from seqc.frontend.text import syntax as s
from seqc.ir.algebra import Algebra, find_algebra
from seqc.ir.graph import reachable
from seqc.ir.recurrence import Application


@dataclass
class Algebras:
    """The algebras that a file may name: its own, then the library's (read at the first use)."""

    own: tuple[Algebra, ...] = ()
    library: Callable[[], tuple[Algebra, ...]] = tuple
    used: dict[str, bool] = field(default_factory=dict)

    def named(self, name: str) -> tuple[Algebra, ...]:
        """Those of a name, one a number of states; a file's own take the library's place."""
        self.used[name] = True
        for group in (self.own, self.library()):
            found = tuple(a for a in group if a.name == name)
            if found:
                return found
        return ()

    def names(self) -> list[str]:
        """Every name, for hints."""
        return list(dict.fromkeys(a.name for a in (*self.own, *self.library())))


def apply_algebra(builder: Builder, expr: s.Call, name: s.Name, call: Call | None) -> Evaluation:
    """The node of ``algebra(parts)(states)``: apply's expression, written out."""
    inner = expr.function
    assert isinstance(inner, s.Call)
    known = builder.algebras.named(name.text)
    if not known:
        hint = builder.problems.guess(
            name.text, builder.algebras.names(), "declare it: `algebra name(parts)`"
        )
        text = f"no algebra is called `{shorten(name.text)}`"
        builder.error("E024", text, name.span, call, hint=hint)
        return None
    if call is not None or not _is_an_update(builder, expr):
        builder.error(
            "E091",
            "an algebra is applied only as the whole right side of a state's equation",
            expr.span,
            call,
            hint="give it a state's equation of its own: `h[t] = affine(a[t], b[t])(h[t-1])`",
        )
        return None
    states = _states(builder, expr)
    if states is None:
        return None
    pairs = [state for state in states if builder.scope.symbols[state].complex]
    if pairs:
        message = f"`{shorten(pairs[0])}` is complex, and algebras are of real states"
        hint = "write the update out: what it is will be found, and proved"
        builder.error("E091", message, expr.span, call, hint=hint)
        return None
    algebra = find_algebra(known, name.text, len(states))
    if algebra is None:
        counts = listing([str(len(a.arguments)) for a in known])
        message = f"`{name.text}` applies to {counts} states, not {len(states)}"
        builder.error("E091", message, expr.span, call, hint=_usage(known[0]))
        return None
    parts: list[int | None] = []
    for argument in inner.arguments:
        parts.append((yield builder.real(argument.value, call)))
    keywords = any(a.keyword is not None for a in inner.arguments)
    if len(parts) != len(algebra.parts) or keywords:
        message = f"`{name.text}` takes {a_number(len(algebra.parts), 'part')}, in order"
        builder.error("E091", message, inner.span, call, hint=_usage(algebra))
        return None
    reads: list[int | None] = []
    for argument in expr.arguments:
        reads.append((yield builder.number(argument.value, call)))
    given = tuple(p for p in parts if p is not None)
    pasts = tuple(r for r in reads if r is not None)
    if len(given) < len(parts) or len(pasts) < len(reads):
        return None
    here = builder.place.name
    builder.applied[here] = Application(here, algebra, given, states, expr.span)
    names = dict(zip((*algebra.parts, *algebra.arguments), (*given, *pasts), strict=True))
    return _written_out(builder, algebra, algebra.applied[states.index(here)], names, expr.span)


def _usage(algebra: Algebra) -> str:
    states = ", ".join(f"{h}[t-1]" for h in algebra.arguments)
    return f"write `{algebra.name}({', '.join(algebra.parts)})({states})`"


def _is_an_update(builder: Builder, expr: s.Call) -> bool:
    symbol = builder.scope.symbols.get(builder.place.name)
    update = builder.place.kind == "equation" and symbol is not None and symbol.kind == "state"
    return update and builder.place.whole is expr


def _states(builder: Builder, expr: s.Call) -> tuple[str, ...] | None:
    """The states that the algebra is applied to, each one step ago; the equation's own is one."""
    found: list[str] = []
    for argument in expr.arguments:
        term = argument.value
        name = (
            term.base.text if isinstance(term, s.Indexed) and isinstance(term.base, s.Name) else ""
        )
        symbol = builder.scope.symbols.get(name)
        one = isinstance(term, s.Indexed) and read_lag(term, builder.scope, builder.problems) == 1
        if symbol is None or symbol.kind != "state" or not one or name in found:
            builder.problems.error(
                "E091",
                "an algebra is applied to states one step ago, each once",
                argument.span,
                hint=f"write `{builder.place.name}[t-1]`",
            )
            return None
        found.append(name)
    if builder.place.name not in found:
        builder.problems.error(
            "E091",
            f"`{builder.place.name}` is not among the states that the algebra is applied to",
            expr.span,
            hint="the equation takes the result at the place of its own state",
        )
        return None
    return tuple(found)


def _written_out(
    builder: Builder, algebra: Algebra, root: int, names: Mapping[str, int], span: Span
) -> int:
    moved: dict[int, int] = {}
    for n in sorted(reachable(algebra.nodes, [root])):
        node = algebra.nodes[n]
        if node.op == "symbol":
            moved[n] = names[str(node.attrs[0])]
        elif node.op == "const":
            moved[n] = builder.const(float(node.attrs[0]), span)
        else:
            moved[n] = builder.add(node.op, *(moved[a] for a in node.args), span=span)
    return moved[root]


def check_applications(builder: Builder, scope: Scope, problems: Problems) -> None:
    """Coupled states are updated by one function: the same algebra, parts and states in each."""
    for state, mine in builder.applied.items():
        for other in mine.states:
            theirs = builder.applied.get(other)
            if theirs is not None and (theirs.algebra.name, theirs.parts, theirs.states) == (
                mine.algebra.name,
                mine.parts,
                mine.states,
            ):
                continue
            if builder.built.get(other) is None:
                continue  # it has errors of its own, or no equation
            problems.error(
                "E091",
                f"`{state}` and `{other}` are not updated by the same function",
                mine.span,
                hint="coupled states have the same algebra, parts and states in each equation",
                related=[Label(scope.equations[other].span, "the other equation")],
            )
            return
