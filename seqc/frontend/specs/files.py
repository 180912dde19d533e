"""A whole file: its defs, its layers one after the other, and the comments above them."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from seqc.diagnostics import Diagnostic, Label, Source
from seqc.frontend.declarations.defs import Function, declare_functions
from seqc.frontend.declarations.reserved import refusal
from seqc.frontend.declarations.scope import Scope
from seqc.frontend.expressions.applications import Algebras
from seqc.frontend.expressions.builder import Budget
from seqc.frontend.messages.problems import Problems, place, point
from seqc.frontend.specs.algebras import build_algebras, read_blocks
from seqc.frontend.specs.layers import Asked, build_layer, refuse_later
from seqc.frontend.specs.solves import read_feedbacks, read_solves
from seqc.frontend.text import syntax as s
from seqc.frontend.text.parse import parse
from seqc.ir.algebra import Algebra
from seqc.ir.recurrence import Recurrence


def read_spec(
    source: Source, library: Source
) -> tuple[tuple[Recurrence, ...], tuple[Diagnostic, ...]]:
    """The layers of a file, and the warnings."""
    problems = Problems()
    statements = parse(source, problems)
    layers, loose = _split(statements)
    functions = declare_functions(
        (x for x in statements if isinstance(x, s.Define | s.Gradient)),
        _library(library),
        problems,
    )
    for statement in loose:
        _before_layers(statement, bool(layers), problems)
    if not layers:
        problems.error(
            "E080",
            "the file has no layer",
            statements[0].span if statements else point(source, 1, 1),
            hint="begin with `layer Name`, then its sizes",
        )
    budget = Budget()
    own = build_algebras(read_blocks(loose, problems), functions, problems, budget)
    algebras = Algebras(own, lambda: _library_algebras(library))
    recurrences: list[Recurrence] = []
    first: dict[str, s.Layer] = {}
    for head, body in layers:
        name = head.name.text
        reason = refusal(name, "layer")
        if reason is not None:
            problems.error(
                "E023",
                f"`{name}` can't be the name of a layer",
                head.name.span,
                label=reason,
                hint="choose another name",
            )
        if name in first:
            problems.error(
                "E022",
                f"the layer `{name}` stands twice",
                head.name.span,
                hint="rename one",
                related=[Label(first[name].name.span, "first here")],
            )
        first.setdefault(name, head)
        doc = _comment_above(source, head.span.line) or _comment_above(source, None)
        recurrence = build_layer(head, body, functions, source, doc, problems, budget, algebras)
        if recurrence is not None:
            recurrences.append(recurrence)
    for function in functions.values():
        if not function.used and not function.library:
            name = function.define.name.text
            problems.warn(
                "W001",
                f"the def `{name}` is never used",
                function.define.name.span,
                hint="take it out",
            )
    for algebra in own:
        if algebra.name not in algebras.used and algebra.span is not None:
            problems.warn(
                "W001",
                f"the algebra `{algebra.name}` is never used",
                algebra.span,
                hint=f"apply it: `h[t] = {algebra.name}(…)(h[t-1])`",
            )
    problems.check()
    return tuple(recurrences), tuple(sorted(problems.warnings, key=place))


def read_asked(recurrence: Recurrence, solve: str | None, gradient: str | None) -> Recurrence:
    """A recurrence with what a call asks for in place of its own ``solve`` and ``gradient``."""
    lines = [f"{word} {text}" for word, text in (("solve", solve), ("gradient", gradient)) if text]
    problems, scope = Problems(), Scope()
    scope.states.update(dict.fromkeys(x.name for x in recurrence.states))
    statements = parse(Source("\n".join(lines), "<asked>"), problems)
    solves = read_solves(statements, scope, problems)
    feedbacks = read_feedbacks(statements, scope, problems)
    odd = [x for x in statements if not isinstance(x, s.SolveStatement | s.FeedbackStatement)]
    if odd or len(statements) != len(lines):
        problems.error(
            "E081",
            "one statement is asked for: what stands after `solve` or `gradient` in a spec",
            odd[0].span if odd else statements[-1].span,
            hint='for example solve="newton(tolerance = 1e-6)", gradient="stationary(0, 1)"',
        )
    problems.check()
    return replace(
        recurrence,
        solves=_instead(recurrence.solves, solves),
        feedbacks=_instead(recurrence.feedbacks, feedbacks),
    )


def _instead(own: tuple[Asked, ...], asked: tuple[Asked, ...]) -> tuple[Asked, ...]:
    """Statements of a spec but for those that others take the place of."""
    names = {x.state for x in asked}
    left = tuple(x for x in own if not names & {"", x.state})
    return left + asked


def read_algebras(source: Source, library: Source) -> tuple[Algebra, ...]:
    """The algebras of a file, in order."""
    problems = Problems()
    statements = parse(source, problems)
    own = (x for x in statements if isinstance(x, s.Define | s.Gradient))
    known = {} if source is library else _library(library)
    functions = declare_functions(own, known, problems)
    blocks = read_blocks(statements, problems)
    found = build_algebras(blocks, functions, problems, Budget())
    problems.check()
    return found


@lru_cache(maxsize=4)
def _library(source: Source) -> dict[str, Function]:
    """The defs of the library, which has no errors (its test sees to that)."""
    problems = Problems()
    defines = (x for x in parse(source, problems) if isinstance(x, s.Define | s.Gradient))
    functions = declare_functions(defines, {}, problems)
    problems.check()
    return functions


@lru_cache(maxsize=4)
def _library_algebras(source: Source) -> tuple[Algebra, ...]:
    """The algebras of the library."""
    return read_algebras(source, source)


def _split(
    statements: tuple[s.Statement, ...],
) -> tuple[list[tuple[s.Layer, list[s.Statement]]], list[s.Statement]]:
    """Each layer with its statements, and what stands before the first one."""
    layers: list[tuple[s.Layer, list[s.Statement]]] = []
    loose: list[s.Statement] = []
    for statement in statements:
        if isinstance(statement, s.Layer):
            layers.append((statement, []))
        elif isinstance(statement, s.Define | s.Gradient):
            continue
        elif isinstance(statement, s.AlgebraHead | s.AlgebraClause) or not layers:
            loose.append(statement)
        else:
            layers[-1][1].append(statement)
    return layers, loose


def _before_layers(statement: s.Statement, any_layer: bool, problems: Problems) -> None:
    """What is said of a statement that belongs to no layer."""
    if isinstance(statement, s.Later):
        refuse_later(statement, problems)
    elif any_layer and not isinstance(statement, s.AlgebraHead | s.AlgebraClause):
        problems.error(
            "E081",
            "this stands before the first layer",
            statement.span,
            hint="only defs and algebras are shared; move it below `layer …`",
        )


def _comment_above(source: Source, line: int | None) -> str:
    """The comment block that ends right above a line, or (None) the one at the file's head."""
    lines = source.lines
    found: list[str] = []
    if line is None:
        for text in lines:
            text = text.lstrip("\ufeff").strip()
            if not text.startswith("#"):
                break
            found.append(text)
    else:
        while line >= 2 and lines[line - 2].lstrip("\ufeff").lstrip().startswith("#"):
            line -= 1
            found.append(lines[line - 1].lstrip("\ufeff").strip())
        found.reverse()
    return "\n".join(text.removeprefix("#").removeprefix(" ") for text in found)
