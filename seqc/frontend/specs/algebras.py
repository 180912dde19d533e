"""Scan algebras as a file writes them: head, identity, compose, apply."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from seqc.diagnostics import Label, Span
from seqc.frontend.declarations.constants import finite
from seqc.frontend.declarations.defs import Function
from seqc.frontend.declarations.functions import BUILTIN
from seqc.frontend.declarations.scope import Scope, Symbol
from seqc.frontend.expressions.builder import Budget, Builder, Place, TooLarge
from seqc.frontend.expressions.calls import evaluate
from seqc.frontend.messages.problems import Problems, a_number
from seqc.frontend.specs.blocks import EXTENTS, Expander, entries
from seqc.frontend.text import syntax as s
from seqc.ir.algebra import Algebra, Domain
from seqc.ir.graph import GraphBuilder, rebuild

_DOMAINS = {">=": "ge", ">": "gt", "<=": "le", "<": "lt"}


@dataclass
class AlgebraBlock:
    """The head of an algebra and the clauses below it."""

    head: s.AlgebraHead
    clauses: list[s.AlgebraClause] = field(default_factory=list)


def read_blocks(statements: Iterable[s.Statement], problems: Problems) -> list[AlgebraBlock]:
    """The algebras of a file, each with its clauses: those that stand below it."""
    blocks: list[AlgebraBlock] = []
    for statement in statements:
        if isinstance(statement, s.AlgebraHead):
            blocks.append(AlgebraBlock(statement))
        elif isinstance(statement, s.AlgebraClause):
            if blocks:
                blocks[-1].clauses.append(statement)
            else:
                problems.error(
                    "E081",
                    f"`{statement.kind}` stands before the first algebra",
                    statement.span,
                    hint="begin with `algebra name(parts)`",
                )
    return blocks


def build_algebras(
    blocks: Iterable[AlgebraBlock],
    functions: dict[str, Function],
    problems: Problems,
    budget: Budget,
) -> tuple[Algebra, ...]:
    """The algebras of the blocks; one whose parts have axes comes once a number of states."""
    found: list[Algebra] = []
    seen: dict[str, s.Name] = {}
    for block in blocks:
        name = block.head.name
        if name.text in BUILTIN or name.text in functions:
            problems.error(
                "E022",
                f"`{name.text}` is a function already",
                name.span,
                hint="an algebra is applied like a function, so it needs a name of its own",
            )
        if name.text in seen:
            problems.error(
                "E022",
                f"the algebra `{name.text}` stands twice",
                name.span,
                hint="rename one",
                related=[Label(seen[name.text].span, "first here")],
            )
            continue
        seen[name.text] = name
        extents = EXTENTS if any(p.axes for p in block.head.parts) else (None,)
        for extent in extents:
            algebra = build_algebra(block, functions, problems, budget, extent)
            if algebra is None:
                break
            found.append(algebra)
    return tuple(found)


def build_algebra(
    block: AlgebraBlock,
    functions: dict[str, Function],
    problems: Problems,
    budget: Budget,
    extent: int | None = None,
) -> Algebra | None:
    """The algebra of a block, its axes of the extent; None where it has errors."""
    before = len(problems.errors) + problems.hidden
    head = block.head
    clauses = _clauses(block, problems)
    domains = _domains(head, problems)
    if len(clauses) < 3:
        return None
    width = len(head.parts)
    later, earlier = clauses["compose"].left
    (arguments,) = clauses["apply"].left
    parts = tuple(p.name for p in head.parts)
    axes = [() if p.axes is None else tuple(n.text for n in p.axes.names) for p in head.parts]
    carried = _state_axes(clauses["apply"], extent, problems)
    _check_names(parts + arguments, width + len(arguments), clauses["apply"].span, problems)
    _check_names(later + earlier, 2 * width, clauses["compose"].span, problems)
    if len(problems.errors) + problems.hidden > before:
        return None
    builder = Builder(Scope(), functions, problems, budget, evaluate)
    builder.place = Place(head.name.text, "constant", None, head.span)
    writer = _Writer(builder, axes, extent)
    states = [carried] * len(arguments)
    try:
        identity = writer.clause(clauses["identity"], (), (), axes)
        compose = writer.clause(clauses["compose"], later + earlier, (*axes, *axes), axes)
        applied = writer.clause(clauses["apply"], parts + arguments, (*axes, *states), states)
        size = clauses.get("projective")
        projective = writer.clause(size, parts, axes, ((),)) if size else ()
    except TooLarge:
        problems.error("E009", "the algebra is too large", head.span)
        return None
    if len(problems.errors) + problems.hidden > before:
        return None
    graph = GraphBuilder()
    roots = (*identity, *compose, *applied, *projective)
    moved = rebuild(builder.graph.graph, graph, None, roots)

    def texts(names: Sequence[s.Name], shapes: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
        return tuple(
            text
            for name, shape in zip(names, shapes, strict=True)
            for text in entries(name.text, len(shape), extent or 0)
        )

    return Algebra(
        head.name.text,
        texts(parts, axes),
        texts(later, axes),
        texts(earlier, axes),
        texts(arguments, states),
        tuple(moved[n] for n in identity),
        tuple(moved[n] for n in compose),
        tuple(moved[n] for n in applied),
        graph.graph,
        domains,
        moved[projective[0]] if projective else None,
        head.span,
    )


def _clauses(block: AlgebraBlock, problems: Problems) -> dict[str, s.AlgebraClause]:
    head = block.head
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
    return clauses


def _domains(head: s.AlgebraHead, problems: Problems) -> tuple[Domain, ...]:
    found: list[Domain] = []
    for part in head.parts:
        if part.domain is None:
            continue
        sign, bound = part.domain
        number = finite(bound)
        if sign not in _DOMAINS or number is None or part.axes is not None:
            problems.error(
                "E090",
                "a domain compares a part without axes with a number",
                part.span,
                hint=f"write `{part.name.text} >= 0`; also >, <= and <",
            )
        else:
            found.append(Domain(part.name.text, _DOMAINS[sign], number))
    return tuple(found)


def _state_axes(clause: s.AlgebraClause, extent: int | None, problems: Problems) -> tuple[str, ...]:
    """The axes of what the algebra applies to."""
    axes = () if clause.axes is None else tuple(n.text for n in clause.axes.names)
    (arguments,) = clause.left
    if (extent is None and axes) or (extent and (len(axes) != 1 or len(arguments) != 1)):
        problems.error(
            "E090",
            "`apply` does not fit the algebra's parts",
            clause.span,
            hint="parts with axes act on one vector: `apply h: row -> …`"
            if extent
            else "parts without axes act on scalars: `apply h -> …`, `apply (h1, h2) -> (…, …)`",
        )
    return axes


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


class _Writer:
    """The clauses of one algebra, as nodes."""

    def __init__(
        self, builder: Builder, axes: Sequence[tuple[str, ...]], extent: int | None
    ) -> None:
        self.builder = builder
        self.axes = axes
        self.extent = extent

    def clause(
        self,
        clause: s.AlgebraClause,
        names: Sequence[s.Name],
        shapes: Sequence[tuple[str, ...]],
        wanted: Sequence[tuple[str, ...]],
    ) -> tuple[int, ...]:
        """The nodes of a clause's values, the names as symbols; ``wanted``: the values' axes."""
        values = clause.value.parts if isinstance(clause.value, s.Tuple) else (clause.value,)
        if len(values) != len(wanted):
            what = "state" if clause.kind == "apply" else "part"
            self.builder.problems.error(
                "E090",
                f"`{clause.kind}` gives {a_number(len(wanted), 'value')}, not {len(values)}",
                clause.value.span,
                hint=f"one a {what} of the algebra",
            )
            return ()
        if self.extent is None:
            symbols = {n.text: Symbol(n.text, "part", n.span, ()) for n in names}
            self.builder.scope = Scope(symbols)
            found = [self.builder.expression(v, self.builder.place) for v in values]
            return tuple(node if node is not None else 0 for node in found)
        expander = Expander(self.builder, self.extent)
        for name, shape in zip(names, shapes, strict=True):
            expander.declare(name, shape)
        return tuple(
            n
            for value, axes in zip(values, wanted, strict=True)
            for n in self._listed(expander, value, axes)
        )

    def _listed(self, expander: Expander, value: s.Expr, axes: tuple[str, ...]) -> tuple[int, ...]:
        cells = expander.value(value)
        if cells is None:
            return ()
        if any(a not in axes for a in cells.axes):
            self.builder.problems.error(
                "E048",
                f"this has the axes ({', '.join(cells.axes)}), not ({', '.join(axes)})",
                value.span,
                hint="sum the others up, or rename them",
            )
            return ()
        return expander.spread(cells, axes).listed(axes)
