"""Scan algebras: families of functions of a state that are closed under composition."""

from __future__ import annotations

from dataclasses import dataclass, field

from seqc.diagnostics import Span
from seqc.ir.graph import Graph


@dataclass(frozen=True)
class Algebra:
    """``algebra name(parts)`` with its identity, composition and action on a state.

    ``nodes`` holds pointwise operations over leaves ``symbol`` (attrs: (name,)).
    ``later`` and ``earlier`` name the parts of the two functions in ``compose
    (later) after (earlier) = …``; ``arguments`` names the states in ``apply``.
    ``identity``, ``compose`` and ``applied`` are positions in ``nodes``, one a part
    (``applied``: one a state).
    """

    name: str
    parts: tuple[str, ...]
    later: tuple[str, ...]
    earlier: tuple[str, ...]
    arguments: tuple[str, ...]
    identity: tuple[int, ...]
    compose: tuple[int, ...]
    applied: tuple[int, ...]
    nodes: Graph
    span: Span | None = field(default=None, compare=False, repr=False)
