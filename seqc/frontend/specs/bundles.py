"""Bundles: `g[t]: (3, hidden) = …` is three equations, whose learned maps share their parameters.

Part k of a bundle is read as `g[t][k]`; in another bundle of as many parts `g[t]` is the part of
the same number.  A bundle is written out here, before anything is looked up: its parts are the
equations `g_0`, `g_1`, …, and of a map's weight and bias they take a block of rows each.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from seqc.diagnostics import Label
from seqc.frontend.declarations.scope import Member
from seqc.frontend.expressions.builder import TooLarge
from seqc.frontend.messages.limits import MAX_TERMS
from seqc.frontend.messages.problems import Problems
from seqc.frontend.text import syntax as s
from seqc.frontend.trampoline import run

_Rewriting = Generator[Any, s.Expr, s.Expr]


def unbundle(
    statements: Sequence[s.Statement], problems: Problems
) -> tuple[tuple[s.Statement, ...], dict[str, Member]]:
    """A layer's statements with every bundle written out, and what each part is a part of.

    Raises TooLarge where that is too much to write out.
    """
    bundles = {
        x.target.name.text: x.axes.count
        for x in statements
        if isinstance(x, s.EquationStatement) and x.axes is not None and x.axes.count is not None
    }
    if not bundles:
        return tuple(statements), {}
    if sum(bundles.get(x.target.name.text, 0) * _terms(x.value) for x in statements
           if isinstance(x, s.EquationStatement)) > MAX_TERMS:  # fmt: skip
        raise TooLarge
    members = {
        part_of(name, k): Member(name, k, count)
        for name, count in bundles.items()
        for k in range(count)
    }
    for name in _declared(statements):
        if name.text in members:
            of = members[name.text]
            problems.error(
                "E022",
                f"`{name.text}` is defined twice",
                name.span,
                hint="rename it",
                related=[Label(name.span, f"`{of.bundle}[t][{of.index}]` is called so too")],
            )
    found: list[s.Statement] = []
    for statement in statements:
        found += _written_out(statement, _Bundles(bundles, problems))
    return tuple(found), members


def _terms(expr: s.Expr) -> int:
    """How many terms an expression has as it is written."""
    count, todo = 0, [expr]
    while todo:
        count += 1
        todo.extend(s.children(todo.pop()))
    return count


def part_of(name: str, index: int) -> str:
    """What a part of a bundle is called."""
    return f"{name}_{index}"


@dataclass(frozen=True)
class _Bundles:
    """The bundles of a layer, by the numbers of their parts."""

    counts: dict[str, int]
    problems: Problems

    def expression(self, expr: s.Expr, at: Member | None) -> s.Expr:
        """A term with the parts that it reads by their names; ``at``: the part it belongs to."""
        return run(self._rewritten(expr, at))

    def _rewritten(self, expr: s.Expr, at: Member | None) -> _Rewriting:
        if isinstance(expr, s.Name) and expr.text in self.counts:
            self._which(expr, expr.text, at)
            return s.Number(0.0, 0, expr.span)
        if isinstance(expr, s.Indexed):
            base = expr.base
            if isinstance(base, s.Name) and base.text in self.counts:
                return self._bare(expr, base, at)
            if (
                isinstance(base, s.Indexed)
                and isinstance(base.base, s.Name)
                and base.base.text in self.counts
            ):
                return self._part(expr, base, base.base)
        if isinstance(expr, s.Indexed):
            inner = yield self._rewritten(expr.base, at)
            return replace(expr, base=inner)
        if isinstance(expr, s.Call):
            function = yield self._rewritten(expr.function, at)
            arguments = []
            for argument in expr.arguments:
                value = yield self._rewritten(argument.value, at)
                arguments.append(replace(argument, value=value))
            return replace(expr, function=function, arguments=tuple(arguments))
        if isinstance(expr, s.Chain | s.Comparison):
            first = yield self._rewritten(expr.first, at)
            rest = []
            for op, term in expr.rest:
                rest.append((op, (yield self._rewritten(term, at))))
            return replace(expr, first=first, rest=tuple(rest))
        if isinstance(expr, s.Signed):
            value = yield self._rewritten(expr.value, at)
            return replace(expr, value=value)
        if isinstance(expr, s.Power):
            parts = []
            for negative, term in expr.parts:
                parts.append((negative, (yield self._rewritten(term, at))))
            return replace(expr, parts=tuple(parts))
        if isinstance(expr, s.Tuple):
            terms = []
            for term in expr.parts:
                terms.append((yield self._rewritten(term, at)))
            return replace(expr, parts=tuple(terms))
        return expr

    def _bare(self, expr: s.Indexed, name: s.Name, at: Member | None) -> s.Expr:
        """`g[t]`: in a bundle of as many parts the one of the same number."""
        if at is None or at.count != self.counts[name.text]:
            self._which(expr, name.text, at)
            at = None
        return replace(expr, base=replace(name, text=part_of(name.text, at.index if at else 0)))

    def _part(self, expr: s.Indexed, read: s.Indexed, name: s.Name) -> s.Expr:
        """`g[t][k]`."""
        count = self.counts[name.text]
        k = expr.index.whole if isinstance(expr.index, s.Number) else None
        if k is None or k >= count:
            self.problems.error(
                "E053",
                f"the parts of `{name.text}` are called 0 to {count - 1}",
                expr.index.span,
                hint=f"write such as `{name.text}[t][0]`",
            )
            return s.Indexed(replace(name, text=part_of(name.text, 0)), s.Name("t", expr.span),
                             expr.span)  # fmt: skip
        return s.Indexed(replace(name, text=part_of(name.text, k)), read.index, expr.span)

    def _which(self, expr: s.Expr, name: str, at: Member | None) -> None:
        count = self.counts[name]
        here = f"; that of `{at.bundle}` has {at.count}" if at is not None else ""
        self.problems.error(
            "E053",
            f"`{name}` is a bundle of {count} parts{here}",
            expr.span,
            hint=f"say which is meant: `{name}[t][0]`",
        )


def _written_out(statement: s.Statement, bundles: _Bundles) -> Iterator[s.Statement]:
    """A statement with its bundles' parts by their names; a bundle as its parts."""
    if isinstance(statement, s.EquationStatement):
        target, axes = statement.target, statement.axes
        count = None if axes is None else axes.count
        if axes is None or count is None:
            yield replace(statement, value=bundles.expression(statement.value, None))
            return
        name = target.name
        if target.index is None:
            bundles.problems.error(
                "E053",
                f"the bundle `{name.text}` has a value at every step",
                target.span,
                hint=f"write `{name.text}[t]: …`",
            )
        for k in range(count):
            at = Member(name.text, k, count)
            index = target.index or s.Name("t", target.span)
            called = s.Target(replace(name, text=part_of(name.text, k)), index, target.span)
            value = bundles.expression(statement.value, at)
            yield replace(statement, target=called, axes=replace(axes, count=None), value=value)
    elif isinstance(statement, s.Declaration):
        items = tuple(
            replace(i, value=None if i.value is None else bundles.expression(i.value, None))
            for i in statement.items
        )
        yield replace(statement, items=items)
    elif isinstance(statement, s.Output):
        targets = []
        for target in statement.targets:
            name = target.name
            if name.text in bundles.counts:
                bundles.problems.error(
                    "E053",
                    f"`{name.text}` is a bundle, which can't be an output",
                    target.span,
                    hint=f"give the part that is meant a name: `out[t] = {name.text}[t][0]`",
                )
                target = replace(target, name=replace(name, text=part_of(name.text, 0)))
            targets.append(target)
        yield replace(statement, targets=tuple(targets))
    else:
        yield statement


def _declared(statements: Sequence[s.Statement]) -> Iterator[s.Name]:
    """The names that a layer's statements declare."""
    for x in statements:
        if isinstance(x, s.Settings):
            yield from (item.name for item in x.items)
        elif isinstance(x, s.Declaration):
            yield from (item.target.name for item in x.items)
        elif isinstance(x, s.EquationStatement):
            yield x.target.name
        elif isinstance(x, s.MapStatement | s.Choice):
            yield x.name
        elif isinstance(x, s.Later):
            yield from x.names
