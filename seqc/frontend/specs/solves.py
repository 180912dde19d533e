"""``solve``: how a stratum is to be computed, never what: ``solve h scan(domain = log)``."""

from __future__ import annotations

from collections.abc import Iterable

from seqc.frontend.declarations.scope import Scope
from seqc.frontend.messages.problems import Problems, listing, shorten
from seqc.frontend.text import syntax as s
from seqc.ir.recurrence import Solve

METHODS = ("scan", "sequential")
DOMAINS = ("linear", "log")
#: Methods that DESIGN names and that a later version brings.
LATER = ("newton",)


def read_solves(
    statements: Iterable[s.Statement], scope: Scope, problems: Problems
) -> tuple[Solve, ...]:
    """What the ``solve`` statements of a layer ask for, in order."""
    found = []
    for statement in statements:
        if isinstance(statement, s.SolveStatement):
            solve = _read(statement, scope, problems)
            if solve is not None:
                found.append(solve)
    seen: set[str] = set()
    for solve in found:
        if solve.state in seen:
            what = f"`{solve.state}`" if solve.state else "the layer"
            problems.error(
                "E022", f"two `solve` say how {what} is solved", solve.span, hint="take one out"
            )
        seen.add(solve.state)
    return tuple(found)


def _read(statement: s.SolveStatement, scope: Scope, problems: Problems) -> Solve | None:
    words = [w for w in (statement.first, statement.second) if w is not None]
    method = words[-1]
    state = words[0] if len(words) == 2 else None
    if method.text in LATER:
        problems.error(
            "E104",
            f"`solve {method.text}` is not available yet",
            statement.span,
            hint="leave it out: what is no scan marches or runs step by step",
        )
        return None
    if method.text not in METHODS:
        hint = f"it can be {listing(METHODS)}"
        if scope.symbols.get(method.text) is not None:
            hint = f"after the state comes the method: `solve {method.text} scan`"
        problems.error("E093", f"`{shorten(method.text)}` is no method", method.span, hint=hint)
        return None
    name = ""
    if state is not None:
        if state.text not in scope.states:
            problems.error(
                "E093",
                f"`{shorten(state.text)}` is no state of this layer",
                state.span,
                hint=f"its states are {listing(scope.states)}",
            )
            return None
        name = state.text
    domain = ""
    for argument in statement.arguments:
        value = argument.value
        right = argument.keyword is not None and argument.keyword.text == "domain"
        if not (right and isinstance(value, s.Name) and value.text in DOMAINS) or (
            method.text != "scan"
        ):
            problems.error(
                "E093",
                f"`{shorten(argument.span.text)}` says nothing about how to solve",
                argument.span,
                hint="a scan has a domain: `scan(domain = linear)` or `scan(domain = log)`",
            )
            return None
        domain = value.text
    return Solve(name, method.text, domain, statement.span)
