"""Time indices: ``[t]`` and ``[t-k]``, and nothing else."""

from __future__ import annotations

from seqc.frontend.declarations.scope import Scope
from seqc.frontend.messages.limits import MAX_LAG
from seqc.frontend.messages.problems import Problems, shorten
from seqc.frontend.text import syntax as s

#: How many steps ago: a number, or the name of a size.
Lag = int | str


def _is_t(expr: s.Expr) -> bool:
    return isinstance(expr, s.Name) and expr.text == "t"


def read_lag(term: s.Indexed, scope: Scope, problems: Problems) -> Lag | None:
    """How many steps ago a term reads; None (and an error) where the index is not one of time."""
    index = term.index
    shown = shorten(term.base.span.text, 20) if isinstance(term.base, s.Name) else "x"
    forms = f"write `{shown}[t]`, or `{shown}[t-k]` with k a whole number or a size"
    if _is_t(index):
        return 0
    if isinstance(index, s.Chain) and _is_t(index.first) and len(index.rest) == 1:
        op, offset = index.rest[0]
        if op == "+" and offset_of(offset, scope) is not None:
            problems.error(
                "E042",
                "an equation can't read the future",
                index.span,
                hint=f"only the present and the past can be read: `{shown}[t]`, `{shown}[t-1]`",
            )
            return None
        if op == "-":
            lag = offset_of(offset, scope)
            if isinstance(lag, str):
                scope.symbols[lag].used = True
                return lag
            if lag is not None and lag > MAX_LAG:
                problems.error("E043", f"a read looks back {MAX_LAG:,} steps at most", index.span)
                return None
            if lag is not None:
                return lag
            if isinstance(offset, s.Name):
                hint = problems.guess(
                    offset.text, scope.axis_order, f"declare `size {offset.text}`"
                )
                if offset.text in scope.symbols:
                    hint = "a lag is a whole number or a size, fixed when the layer is built"
                problems.error("E043", f"`{offset.text}` is not a size", offset.span, hint=hint)
                return None
    elif isinstance(index, s.Chain) and _is_t(index.first) and len(index.rest) > 1:
        offsets = [offset_of(e, scope) if op == "-" else None for op, e in index.rest]
        if None not in offsets:
            return _sum_of([k for k in offsets if k is not None], index, scope, problems)
    elif isinstance(index, s.Name):
        problems.error(
            "E043", "the time index is always `t`", index.span, hint=f"write `{shown}[t]`"
        )
        return None
    problems.error("E043", "this is not a time index", index.span, hint=forms)
    return None


def _sum_of(offsets: list[Lag], index: s.Expr, scope: Scope, problems: Problems) -> Lag | None:
    """The lag of `[t-1-delay]`: a number, the name of a size, or of a sum."""
    number = sum(k for k in offsets if isinstance(k, int))
    names = [k for k in offsets if isinstance(k, str)]
    for name in names:
        scope.symbols[name].used = True
    if number > MAX_LAG:
        problems.error("E043", f"a read looks back {MAX_LAG:,} steps at most", index.span)
        return None
    if not names or (len(names) == 1 and not number):
        return names[0] if names else number
    # In the layer's order of sizes, so that [t-a-b] and [t-b-a] are one.
    ordered = sorted(names, key=scope.axis_order.index)
    return scope.lag((number, *ordered), index.span)


def offset_of(expr: s.Expr, scope: Scope) -> Lag | None:
    """A whole number or the name of a size, as a lag is written; None for anything else."""
    if isinstance(expr, s.Number):
        return expr.whole
    if isinstance(expr, s.Name) and scope.is_size(expr.text):
        return expr.text
    return None
