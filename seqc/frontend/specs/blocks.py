"""Algebras whose parts have axes, written out for a number of states.

``algebra block_affine(A: (row, col), b: row)`` is a family, one algebra a number n
of states: every axis has the extent n, and a part is its n or n x n entries, which
are scalars of their own (A11, A12, …).  The notation is that of layers: values
broadcast by axis name, ``sum(e, axis)`` adds up, ``rename(e, col = k)`` relabels an
axis so that an axis can meet itself, ``index(axis)`` counts from 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seqc.diagnostics import Span
from seqc.frontend.declarations.constants import fold
from seqc.frontend.declarations.functions import POINTWISE_FUNCTIONS, arity
from seqc.frontend.expressions.builder import Builder, TooLarge
from seqc.frontend.text import syntax as s
from seqc.ir.operations import OPERATIONS
from seqc.ir.ops import CONDITIONS, OF_SIGN

#: The numbers of states for which such an algebra is written out.
EXTENTS = (2, 3, 4)
#: Axes that one value may have: a product of matrices has three before its sum.
_AXES = 4

#: What goes along an axis, and the operation that joins two terms there.
_ALONG = {"sum": "add", "max": "max", "min": "min", "logsumexp": "logaddexp"}


@dataclass(frozen=True)
class Cells:
    """A value with axes: the node of each entry."""

    axes: tuple[str, ...]
    nodes: Mapping[tuple[int, ...], int]

    def listed(self, axes: Sequence[str]) -> tuple[int, ...]:
        """The entries in row-major order of these axes, which are its own in some order."""
        order = [self.axes.index(a) for a in axes]
        cells = {tuple(at[i] for i in order): n for at, n in self.nodes.items()}
        return tuple(cells[at] for at in sorted(cells))


def entries(name: str, count: int, extent: int) -> tuple[str, ...]:
    """The names of the entries of a part with that many axes: A11, A12, … (A2_11 of A2)."""
    if not count:
        return (name,)
    joint = "_" if name[-1].isdigit() else ""
    places = itertools.product(range(1, extent + 1), repeat=count)
    return tuple(name + joint + "".join(str(i) for i in at) for at in places)


class Expander:
    """Writes expressions over axes of one small extent out as scalar nodes."""

    def __init__(self, builder: Builder, extent: int) -> None:
        self.builder = builder
        self.extent = extent
        self.names: dict[str, Cells] = {}

    def declare(self, name: s.Name, axes: tuple[str, ...]) -> None:
        """A name of the algebra: its entries become symbols."""
        places = itertools.product(range(self.extent), repeat=len(axes))
        names = entries(name.text, len(axes), self.extent)
        nodes = {
            at: self.builder.add("symbol", axes=(), attrs=(text,), span=name.span)
            for at, text in zip(places, names, strict=True)
        }
        self.names[name.text] = Cells(axes, nodes)

    def value(self, expr: s.Expr) -> Cells | None:
        """The entries of an expression; None where it has errors.

        Nested brackets alone make it recurse, and those are bounded (limits.MAX_NESTING).
        """
        number = fold(expr)
        if isinstance(expr, s.Name) and expr.text in self.names:
            return self.names[expr.text]
        if number is not None:
            return Cells((), {(): self.builder.const(number, expr.span)})
        if isinstance(expr, s.Chain):
            left = self.value(expr.first)
            for op, operand in expr.rest:
                left = self._pointwise(OF_SIGN[op], [left, self.value(operand)], expr.span)
            return left
        if isinstance(expr, s.Signed):
            inner = self.value(expr.value)
            return self._pointwise("neg", [inner], expr.span) if expr.negative else inner
        if isinstance(expr, s.Comparison) and len(expr.rest) == 1:
            sign, right = expr.rest[0]
            sides = [self.value(expr.first), self.value(right)]
            return self._pointwise(OF_SIGN[sign], sides, expr.span)
        if isinstance(expr, s.Call) and isinstance(expr.function, s.Name):
            return self._call(expr, expr.function.text)
        if isinstance(expr, s.Name):
            hint = self.builder.problems.guess(expr.text, self.names, "name a part")
            self._refuse("E020", f"`{expr.text}` is not defined", expr.span, hint)
            return None
        self._refuse("E090", "an algebra with axes can't hold this", expr.span)
        return None

    def spread(self, cells: Cells, axes: tuple[str, ...]) -> Cells:
        """The value over all of these axes: the same along those that it does not have."""
        nodes: dict[tuple[int, ...], int] = {}
        for at in itertools.product(range(self.extent), repeat=len(axes)):
            place = dict(zip(axes, at, strict=True))
            nodes[at] = cells.nodes[tuple(place[x] for x in cells.axes)]
        return Cells(axes, nodes)

    def _refuse(self, code: str, message: str, span: Span, hint: str = "") -> None:
        usual = (
            "it is made of + - * /, comparisons, pointwise functions, sum, max, rename and index"
        )
        self.builder.problems.error(code, message, span, hint=hint or usual)

    def _pointwise(self, op: str, args: Sequence[Cells | None], span: Span) -> Cells | None:
        found = [a for a in args if a is not None]
        if len(found) < len(args):
            return None
        axes = tuple(dict.fromkeys(x for a in found for x in a.axes))
        if len(axes) > _AXES:
            self._refuse("E090", f"a value with more than {_AXES} axes", span, "sum some up before")
            return None
        nodes: dict[tuple[int, ...], int] = {}
        for at in itertools.product(range(self.extent), repeat=len(axes)):
            self._spend()
            place = dict(zip(axes, at, strict=True))
            picked = [a.nodes[tuple(place[x] for x in a.axes)] for a in found]
            nodes[at] = self._add(op, picked, span)
        return Cells(axes, nodes)

    def _spend(self) -> None:
        self.builder.budget.left -= 1
        if self.builder.budget.left < 0:
            raise TooLarge

    def _add(self, op: str, args: list[int], span: Span) -> int:
        """A node; a choice between constants, as in an identity matrix, is made here."""
        if op == "where":
            condition = self.builder.graph.nodes[args[0]]
            if condition.op not in CONDITIONS:
                args[0] = self.builder.add("isset", args[0], span=span)
                condition = self.builder.graph.nodes[args[0]]
            sides = [self.builder.graph.value(a) for a in condition.args]
            if all(v is not None for v in sides):
                return args[1] if OPERATIONS[condition.op].value(*sides) else args[2]
        return self.builder.add(op, *args, span=span)

    def _call(self, expr: s.Call, name: str) -> Cells | None:
        given = expr.arguments
        words = [a.value.text if isinstance(a.value, s.Name) else "" for a in given]
        plain = all(a.keyword is None for a in given)
        if name == "index" and plain and len(given) == 1 and words[0]:
            span = expr.span
            counted: dict[tuple[int, ...], int] = {
                (i,): self.builder.const(float(i), span) for i in range(self.extent)
            }
            return Cells((words[0],), counted)
        # An axis is no name of a value, so that max(a, b) and max(a, axis) are told apart.
        along = name in _ALONG and plain and len(given) == 2 and words[1] not in self.names
        if along and (words[1] or name not in POINTWISE_FUNCTIONS):
            inner = self.value(given[0].value)
            if inner is None or words[1] in inner.axes or name not in POINTWISE_FUNCTIONS:
                return self._joined(inner, words[1], expr, name)
        if name == "rename" and len(given) == 2 and given[0].keyword is None:
            old, new = given[1].keyword, words[1]
            inner = self.value(given[0].value)
            if inner is None:
                return None
            if old is not None and old.text in inner.axes and new and new not in inner.axes:
                axes = tuple(new if a == old.text else a for a in inner.axes)
                return Cells(axes, inner.nodes)
            hint = f"write `rename(e, axis = other)`; this has ({', '.join(inner.axes)})"
            self._refuse("E090", "nothing is renamed here", expr.span, hint)
            return None
        if name in POINTWISE_FUNCTIONS and plain and len(given) == arity(name):
            values = [self.value(a.value) for a in given]
            return self._pointwise(name, values, expr.span)
        self._refuse("E090", f"an algebra with axes can't call `{name}` like this", expr.span)
        return None

    def _joined(self, inner: Cells | None, axis: str, expr: s.Call, name: str) -> Cells | None:
        if inner is None:
            return None
        if axis not in inner.axes:
            hint = f"it has ({', '.join(inner.axes)})"
            span = expr.arguments[1].value.span
            self._refuse(
                "E049", f"`{name}` goes along an axis that the value does not have", span, hint
            )
            return None
        place = inner.axes.index(axis)
        nodes: dict[tuple[int, ...], int] = {}
        for at in sorted(inner.nodes):
            self._spend()
            rest = at[:place] + at[place + 1 :]
            n = inner.nodes[at]
            seen = nodes.get(rest)
            joined = _ALONG[name]
            nodes[rest] = n if seen is None else self.builder.add(joined, seen, n, span=expr.span)
        return Cells(tuple(a for a in inner.axes if a != axis), nodes)
