"""``solve`` and ``gradient``: how a stratum is computed, and how gradients come back through it.

Both say how, never what: ``solve h scan(domain = log)``, ``gradient truncated(20)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from seqc.frontend.declarations.constants import finite, whole
from seqc.frontend.declarations.scope import Scope
from seqc.frontend.messages.problems import Problems, listing, shorten
from seqc.frontend.text import syntax as s
from seqc.ir.recurrence import Solve
from seqc.ir.solving import GUESSES, JACOBIANS, Feedback, Newton

METHODS = ("scan", "sequential", "newton")
DOMAINS = ("linear", "log")
WAYS = ("exact", "truncated", "stationary")
#: More than this many iterations, or steps that a gradient goes back, is a slip.
MOST = 100_000

_Asked = TypeVar("_Asked", Solve, Feedback)
_Read = Callable[[s.Expr], Any]


def read_solves(
    statements: Iterable[s.Statement], scope: Scope, problems: Problems
) -> tuple[Solve, ...]:
    """What the ``solve`` statements of a layer ask for, in order."""
    mine = [x for x in statements if isinstance(x, s.SolveStatement)]
    found = (_solve(x, scope, problems) for x in mine)
    return _once([x for x in found if x is not None], "two `solve` say how {} is solved", problems)


def read_feedbacks(
    statements: Iterable[s.Statement], scope: Scope, problems: Problems
) -> tuple[Feedback, ...]:
    """What the ``gradient`` statements of a layer ask for, in order."""
    mine = [x for x in statements if isinstance(x, s.FeedbackStatement)]
    found = (_feedback(x, scope, problems) for x in mine)
    said = "two `gradient` say how gradients come back through {}"
    return _once([x for x in found if x is not None], said, problems)


def _once(found: list[_Asked], said: str, problems: Problems) -> tuple[_Asked, ...]:
    """Each state is asked of once, and so is the layer."""
    seen: set[str] = set()
    for one in found:
        if one.state in seen and one.span is not None:
            what = f"`{one.state}`" if one.state else "the layer"
            problems.error("E022", said.format(what), one.span, hint="take one out")
        seen.add(one.state)
    return tuple(found)


def _solve(statement: s.SolveStatement, scope: Scope, problems: Problems) -> Solve | None:
    told = _words(statement, METHODS, "E093", "solve", "method", scope, problems)
    if told is None:
        return None
    name, method = told
    if method == "newton":
        values = _arguments(statement, NEWTON, (), "E093", NEWTON_HINT, problems)
        return values and Solve(name, method, "", statement.span, Newton(**values[0]))
    settings: Mapping[str, _Read] = {"domain": _one_of(DOMAINS)} if method == "scan" else {}
    hint = "a scan has a domain: `scan(domain = linear)` or `scan(domain = log)`"
    values = _arguments(statement, settings, (), "E093", hint, problems)
    return values and Solve(name, method, values[0].get("domain", ""), statement.span)


def _feedback(statement: s.FeedbackStatement, scope: Scope, problems: Problems) -> Feedback | None:
    told = _words(statement, WAYS, "E096", "gradient", "way to come back", scope, problems)
    if told is None:
        return None
    name, kind = told
    settings: Mapping[str, _Read] = FEEDBACKS.get(kind, {})
    values = _arguments(statement, settings, tuple(settings), "E096", FEEDBACK_HINT, problems)
    if values is None:
        return None
    if kind == "truncated" and not values[0]:
        problems.error(
            "E096", "`truncated` needs a number of steps", statement.span, hint=FEEDBACK_HINT
        )
        return None
    return Feedback(name, kind, **values[0], span=statement.span)


NEWTON_HINT = (
    "for example `newton(jacobian = full, tolerance = 1e-6, iterations = 50, damping = 0, "
    "guess = zero)`: a Jacobian is auto, full, block or diagonal, a guess zero, input or previous"
)
FEEDBACK_HINT = (
    "it is `exact`, `truncated(20)` (through at most so many steps, at least 1) or "
    "`stationary(0, 1)` (two numbers between -1 and 1)"
)


def _words(
    statement: s.SolveStatement | s.FeedbackStatement,
    known: tuple[str, ...],
    code: str,
    word: str,
    kind: str,
    scope: Scope,
    problems: Problems,
) -> tuple[str, str] | None:
    """The state that a statement names (or nothing), and the word that says how."""
    words = [w for w in (statement.first, statement.second) if w is not None]
    method = words[-1]
    if method.text not in known:
        hint = f"it can be {listing(known)}"
        if scope.symbols.get(method.text) is not None:
            hint = f"after the state comes the {kind}: `{word} {method.text} {known[0]}`"
        problems.error(code, f"`{shorten(method.text)}` is no {kind}", method.span, hint=hint)
        return None
    if len(words) == 1:
        return "", method.text
    state = words[0]
    if state.text not in scope.states:
        problems.error(
            code,
            f"`{shorten(state.text)}` is no state of this layer",
            state.span,
            hint=f"its states are {listing(scope.states)}",
        )
        return None
    return state.text, method.text


def _arguments(
    statement: s.SolveStatement | s.FeedbackStatement,
    settings: Mapping[str, _Read],
    ordered: tuple[str, ...],
    code: str,
    hint: str,
    problems: Problems,
) -> tuple[dict[str, Any]] | None:
    """The values of some settings, by keyword (or, if they are ordered, by place)."""
    values: dict[str, Any] = {}
    for i, argument in enumerate(statement.arguments):
        place = ordered[i] if i < len(ordered) else ""
        name = place if argument.keyword is None else argument.keyword.text
        value = settings[name](argument.value) if name in settings else None
        if value is None or name in values:
            said = f"`{shorten(argument.span.text)}` says nothing about how to "
            said += "solve" if code == "E093" else "come back"
            problems.error(code, said, argument.span, hint=hint)
            return None
        values[name] = value
    return (values,)


def _one_of(words: tuple[str, ...]) -> _Read:
    return lambda expr: expr.text if isinstance(expr, s.Name) and expr.text in words else None


def _count(expr: s.Expr) -> int | None:
    value = whole(expr)
    return value if value is not None and 1 <= value <= MOST else None


def _share(expr: s.Expr) -> float | None:
    value = finite(expr)
    return value if value is not None and -1 <= value <= 1 else None


def _damping(expr: s.Expr) -> float | None:
    value = finite(expr)
    return value if value is not None and 0 <= value < 1 else None


def _positive(expr: s.Expr) -> float | None:
    value = finite(expr)
    return value if value is not None and value > 0 else None


FEEDBACKS: Mapping[str, Mapping[str, _Read]] = {
    "truncated": {"steps": _count},
    "stationary": {"low": _share, "high": _share},
}
NEWTON: Mapping[str, _Read] = {
    "jacobian": _one_of(JACOBIANS),
    "tolerance": _positive,
    "iterations": _count,
    "damping": _damping,
    "guess": _one_of(GUESSES),
}
