"""Scan algebras as written in the prelude: head, identity, compose, apply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from seqc.diagnostics import Label, Span
from seqc.frontend import syntax as s
from seqc.frontend.calls import evaluate
from seqc.frontend.defs import Function
from seqc.frontend.expressions import Budget, Builder, Place, TooLarge
from seqc.frontend.problems import Problems, a_number
from seqc.frontend.scope import Scope, Symbol
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
    ):
        _check_names(names, count, span, problems)
    if len(argument) != 1:
        problems.error(
            "E102",
            "algebras of coupled states are not available yet",
            clauses["apply"].span,
            hint="apply to one state: `apply h -> …`",
        )
        return None
    builder = Builder(Scope(), functions, problems, budget, evaluate)
    builder.place = Place(head.name.text, "constant", None, head.span)
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
        _texts(argument),
        identity,
        compose,
        applied,
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
    builder.scope = Scope({n.text: Symbol(n.text, "part", n.span, ()) for n in names})
    found = [builder.expression(part, builder.place) for part in parts]
    return tuple(node if node is not None else 0 for node in found)
