"""What a spec says, as it was written: the syntax tree, with the place of every part.

Chains are flat (``a + b - c`` is one :class:`Chain`), so the depth of a tree is
bounded by the nesting of brackets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from seqc.diagnostics import Span


@dataclass(frozen=True, slots=True)
class Name:
    """A name, as a term or as the name of something."""

    text: str
    span: Span


# ---- expressions


@dataclass(frozen=True, slots=True)
class Number:
    """A literal; ``whole`` where it was written without a point or exponent."""

    value: float
    whole: int | None
    span: Span


@dataclass(frozen=True, slots=True)
class Indexed:
    """``base[index]``, for the most part ``name[t - k]``."""

    base: Expr
    index: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a call, ``keyword = value`` or ``value``."""

    keyword: Name | None
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Call:
    """``function(arguments)``."""

    function: Expr
    arguments: tuple[Argument, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Chain:
    """``first op e op e …`` from the left, with ``+ -`` or with ``* /``."""

    first: Expr
    rest: tuple[tuple[str, Expr], ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Signed:
    """Signs before a term; ``negative`` where they come to a minus."""

    negative: bool
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Power:
    """``a ^ -b ^ c``, from the right: each part with whether a minus stands before it."""

    parts: tuple[tuple[bool, Expr], ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Comparison:
    """``a < b``; a chain of several is refused later."""

    first: Expr
    rest: tuple[tuple[str, Expr], ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Tuple:
    """``(a, b)``: only in an algebra."""

    parts: tuple[Expr, ...]
    span: Span


Expr: TypeAlias = Name | Number | Indexed | Call | Chain | Signed | Power | Comparison | Tuple


# ---- parts of statements


@dataclass(frozen=True, slots=True)
class Axes:
    """``hidden``, ``(hidden, slots)``, ``1`` (no names), or ``complex hidden`` (a qualifier).

    ``count``: of ``(3, hidden)``, a bundle of three values of the other axes.
    """

    qualifier: Name | None
    names: tuple[Name, ...]
    span: Span
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What a statement is about: ``name[t]`` or ``name``."""

    name: Name
    index: Expr | None
    span: Span


@dataclass(frozen=True, slots=True)
class Declared:
    """One item of `input`, `state` or `param`."""

    target: Target
    axes: Axes | None
    value: Expr | None
    span: Span


@dataclass(frozen=True, slots=True)
class Setting:
    """One item of `size` or `hyper`; ``domain`` holds what a hyper is compared with."""

    name: Name
    value: Expr | None
    span: Span
    domain: tuple[tuple[str, Expr], ...] = ()


# ---- statements


@dataclass(frozen=True, slots=True)
class Layer:
    """``layer Name``: what follows, up to the next one, belongs to it."""

    name: Name
    span: Span


@dataclass(frozen=True, slots=True)
class Settings:
    """``size …`` or ``hyper …``."""

    kind: str
    items: tuple[Setting, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Declaration:
    """``input …``, ``state …`` or ``param …``."""

    kind: str
    items: tuple[Declared, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class EquationStatement:
    """``name[t]: axes = expr``, or ``name: axes = expr`` for what is constant in time."""

    target: Target
    axes: Axes | None
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class MapStatement:
    """``map name(u): axes = linear(u)``: a learned map that may be called with several values."""

    name: Name
    parameters: tuple[Name, ...]
    axes: Axes
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Choice:
    """``choice act = tanh, relu``: a function that is chosen when the layer is built."""

    name: Name
    options: tuple[Name, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Output:
    """``output a[t], b[t]``."""

    targets: tuple[Target, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Define:
    """``def f(u, v) = expr``."""

    name: Name
    parameters: tuple[Name, ...]
    body: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Gradient:
    """``gradient f(u, v) = (du, dv)``: the derivatives of a def by its parameters."""

    name: Name
    parameters: tuple[Name, ...]
    body: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Later:
    """A statement of a kind that isn't available yet; ``names`` are what it would declare."""

    kind: str
    names: tuple[Name, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class SolveStatement:
    """``solve [state] method(arguments)``: of two words the first is the state."""

    first: Name
    second: Name | None
    arguments: tuple[Argument, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class FeedbackStatement:
    """``gradient [state] way(arguments)``: of two words the first is the state."""

    first: Name
    second: Name | None
    arguments: tuple[Argument, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an algebra: ``a``, ``a >= 0`` (its domain) or ``A: (row, col)`` (its axes)."""

    name: Name
    axes: Axes | None
    domain: tuple[str, Expr] | None
    span: Span


@dataclass(frozen=True, slots=True)
class AlgebraHead:
    """``algebra name(parts)``."""

    name: Name
    parts: tuple[Part, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class AlgebraClause:
    """``identity``, ``compose``, ``apply`` or ``projective``: names left, an expression right.

    ``axes`` are those of the state in ``apply h: row -> …``.
    """

    kind: str
    left: tuple[tuple[Name, ...], ...]
    value: Expr
    span: Span
    axes: Axes | None = None


Statement: TypeAlias = (
    Layer
    | Settings
    | Declaration
    | EquationStatement
    | MapStatement
    | Choice
    | Output
    | Define
    | Gradient
    | Later
    | SolveStatement
    | FeedbackStatement
    | AlgebraHead
    | AlgebraClause
)


def children(expr: Expr) -> tuple[Expr, ...]:
    """The terms that a term holds, from left to right (names and numbers hold none)."""
    if isinstance(expr, Indexed):
        return (expr.base, expr.index)
    if isinstance(expr, Call):
        return (expr.function, *(a.value for a in expr.arguments))
    if isinstance(expr, Chain | Comparison):
        return (expr.first, *(e for _, e in expr.rest))
    if isinstance(expr, Signed):
        return (expr.value,)
    if isinstance(expr, Power):
        return tuple(e for _, e in expr.parts)
    if isinstance(expr, Tuple):
        return expr.parts
    return ()


def join(first: Span, last: Span) -> Span:
    """The stretch from the beginning of one span to the end of another."""
    return Span(first.source, first.line, first.column, last.end_line, last.end_column)
