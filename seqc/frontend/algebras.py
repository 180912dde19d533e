"""Scan algebras as written in the prelude: head, identity, compose, apply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from seqc.diagnostics import Label, Span
from seqc.frontend import syntax as s
from seqc.frontend.calls import evaluate
from seqc.frontend.defs import Function
from seqc.frontend.expressions import Budget, Builder, Call, Place, TooLarge
from seqc.frontend.problems import Problems, a_number
from seqc.frontend.scope import Scope
from seqc.frontend.trampoline import run
from seqc.ir.algebra import Algebra


@dataclass
class AlgebraBlock:
    """The head of an algebra and the clauses below it."""

    head: s.AlgebraHead
    clauses: list[s.AlgebraClause] = field(default_factory=list)


def build_algebra(
    block: AlgebraBlock, functions: dict[str, Function], problems: Problems, budget: Budget
) -> Algebra | None:
    """The algebra of a block; None where it has errors."""
    before = len(problems.errors) + problems.hidden
    head = block.head
    if not head.plain:
        problems.error(
            "E102",
            "domains and axes of an algebra's parts are not available yet",
            head.span,
            hint="name the parts alone: `algebra affine(a, b)`",
        )
    clauses: dict[str, s.AlgebraClause] = {}
    for clause in block.clauses:
        if clause.kind in clauses:
            problems.error(
                "E022",
                f"the algebra `{head.name.text}` has two `{clause.kind}`",
                clause.span,
                hint="take one out",
                related=[Label(clauses[clause.kind].span, "first here")],
            )
        clauses.setdefault(clause.kind, clause)
    for kind in ("identity", "compose", "apply"):
        if kind not in clauses:
            problems.error(
                "E090", f"the algebra `{head.name.text}` has no `{kind}`", head.span, hint="add it"
            )
    if len(clauses) < 3:
        return None
    width = len(head.parts)
    later, earlier = clauses["compose"].left
    (argument,) = clauses["apply"].left
    for names, count, span in (
        (head.parts, width, head.span),
        (later + earlier, 2 * width, clauses["compose"].span),
        (argument, 1, clauses["apply"].span),
    ):
        _check_names(names, count, span, problems)
    builder = Builder(Scope(), functions, problems, budget, evaluate)
    builder.place = Place(head.name.text, "algebra", None, head.span)
    try:
        identity = _values(builder, clauses["identity"], (), width)
        compose = _values(builder, clauses["compose"], later + earlier, width)
        applied = _values(builder, clauses["apply"], head.parts + argument, 1)
    except TooLarge:
        problems.error("E009", "the algebra is too large", head.span)
        return None
    if len(problems.errors) + problems.hidden > before:
        return None
    return Algebra(
        head.name.text,
        _texts(head.parts),
        _texts(later),
        _texts(earlier),
        argument[0].text,
        identity,
        compose,
        applied[0],
        builder.graph.graph,
        head.span,
    )


def _texts(names: Sequence[s.Name]) -> tuple[str, ...]:
    return tuple(n.text for n in names)


def _check_names(names: Sequence[s.Name], count: int, span: Span, problems: Problems) -> None:
    if len(names) != count:
        problems.error(
            "E090",
            f"{a_number(count, 'name')} should stand here, not {len(names)}",
            span,
            hint="one a part of the algebra",
        )
    seen: set[str] = set()
    for name in names:
        if name.text in seen:
            problems.error(
                "E022", f"the name `{name.text}` stands twice", name.span, hint="rename one"
            )
        seen.add(name.text)


def _values(
    builder: Builder, clause: s.AlgebraClause, names: Sequence[s.Name], count: int
) -> tuple[int, ...]:
    """The nodes of a clause's parts, with the names as symbols."""
    parts = clause.value.parts if isinstance(clause.value, s.Tuple) else (clause.value,)
    if len(parts) != count:
        builder.problems.error(
            "E090",
            f"`{clause.kind}` gives {a_number(count, 'value')}, not {len(parts)}",
            clause.value.span,
            hint="one a part of the algebra",
        )
    for part in parts:
        _check_closed(builder, part, _texts(names))
    found = []
    for part in parts:
        # The clause is evaluated as the body of a def whose parameters are its names.
        symbols = {
            n.text: builder.add("symbol", axes=(), attrs=(n.text,), span=n.span) for n in names
        }
        node = run(builder.number(part, Call(symbols, part.span, clause.kind)))
        found.append(node if node is not None else 0)
    return tuple(found)


def _check_closed(builder: Builder, expr: s.Expr, names: tuple[str, ...]) -> None:
    todo = [expr]
    while todo:
        term = todo.pop()
        if isinstance(term, s.Name) and term.text not in (*names, "pi", "inf"):
            hint = builder.problems.guess(term.text, names, "an algebra is closed")
            builder.problems.error(
                "E020", f"`{term.text}` is not a name of this clause", term.span, hint=hint
            )
        elif isinstance(term, s.Indexed):
            builder.problems.error(
                "E041", "an algebra knows no time", term.span, hint="write the bare name"
            )
        elif isinstance(term, s.Call) and isinstance(term.function, s.Name):
            todo.extend(a.value for a in term.arguments)
        else:
            todo.extend(s.children(term))
