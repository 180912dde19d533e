"""Hyper-parameters: their numbers, and the domains that these must lie in."""

from __future__ import annotations

import operator
from collections.abc import Callable

from seqc.diagnostics import Label
from seqc.frontend.declarations.constants import finite
from seqc.frontend.declarations.scope import Scope, Symbol
from seqc.frontend.messages.problems import Problems, shorten
from seqc.frontend.text import syntax as s
from seqc.ir.recurrence import Bound, Hyper

HOLDS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge
}  # fmt: skip


def read_hyper(item: s.Setting, symbol: Symbol | None, scope: Scope, problems: Problems) -> None:
    """Take a hyper into the scope, its number checked against its domain."""
    name = item.name.text
    if not name:  # malformed, which has been said
        return
    value = None if item.value is None else finite(item.value)
    if value is None:
        problems.error(
            "E087",
            f"the hyper-parameter `{name}` needs a number",
            item.span if item.value is None else item.value.span,
            hint=f"write `hyper {name} = 0.1`; it can be changed on the built layer",
        )
    bounds = [(sign, term, _bound(name, sign, term, scope, problems)) for sign, term in item.domain]
    if symbol is None:
        return
    numbers = {h.name: h.default for h in scope.hypers}
    for sign, term, bound in bounds:
        if value is None or bound is None:
            continue
        limit = numbers[bound.to] if isinstance(bound.to, str) else bound.to
        if not HOLDS[sign](value, limit):
            assert item.value is not None
            which = f", which is {limit:g}" if isinstance(bound.to, str) else ""
            problems.error(
                "E095",
                f"the hyper-parameter `{name}` is {value:g}, outside its domain",
                item.value.span,
                hint=f"give a number {bound}{which}, or widen the domain",
                related=[Label(term.span, f"it must be {bound}")],
            )
    domain = tuple(bound for *_, bound in bounds if bound is not None)
    scope.hypers.append(Hyper(name, value or 0.0, item.name.span, domain))


def _bound(name: str, sign: str, term: s.Expr, scope: Scope, problems: Problems) -> Bound | None:
    """One side of a domain: a number, or a hyper that stands before this one."""
    number = finite(term)
    if number is not None:
        return Bound(sign, number)
    earlier = [h.name for h in scope.hypers if not h.options]
    if isinstance(term, s.Name) and term.text in earlier:
        scope.symbols[term.text].used = True
        return Bound(sign, term.text)
    shown = shorten(term.span.text, 24)
    hint = "write `hyper low = -1, high > low = 1`: what is compared with stands before"
    if isinstance(term, s.Name) and term.text not in scope.symbols:
        hint = problems.guess(term.text, earlier, hint)
    problems.error(
        "E094",
        f"the domain of `{name}` compares it with `{shown}`, no number and no earlier hyper",
        term.span,
        hint=hint,
    )
    return None
