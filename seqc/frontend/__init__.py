"""The frontend: a spec's text to checked recurrences.

``parse_spec`` raises :class:`~seqc.diagnostics.SeqcError` with every semantic error at
once (of mistakes of spelling, the first).  Nothing of a spec is ever executed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from seqc.diagnostics import Diagnostic, Source

if TYPE_CHECKING:
    from seqc.ir.algebra import Algebra
    from seqc.ir.recurrence import Recurrence

__all__ = ["override", "parse_algebras", "parse_spec", "prelude"]


def parse_spec(source: Source) -> tuple[tuple[Recurrence, ...], tuple[Diagnostic, ...]]:
    """The layers of a file in order, and the warnings about them.

    Raises :class:`~seqc.diagnostics.SeqcError` where the file isn't a sound spec.
    """
    from seqc.frontend.specs.files import read_spec

    return read_spec(source, prelude())


def override(recurrence: Recurrence, solve: str | None, gradient: str | None) -> Recurrence:
    """The recurrence, solved and differentiated as a call asks instead of as its spec does.

    ``solve`` and ``gradient`` are what would stand after these words in a spec. One that names no
    state takes the place of all statements of its kind.

    Raises :class:`~seqc.diagnostics.SeqcError` where they do not read so.
    """
    from seqc.frontend.specs.files import read_asked

    return read_asked(recurrence, solve, gradient)


def parse_algebras(source: Source) -> tuple[Algebra, ...]:
    """The scan algebras of a file, in order (those built in stand in :func:`prelude`).

    Raises :class:`~seqc.diagnostics.SeqcError` where one is malformed; whether their
    laws hold is for a proof to say.
    """
    from seqc.frontend.specs.files import read_algebras

    return read_algebras(source, prelude())


@lru_cache(maxsize=1)
def prelude() -> Source:
    """The library of the language, written in itself."""
    from importlib import resources  # slow to import, and only wanted here

    text = resources.files("seqc.grammar").joinpath("prelude.seq").read_text(encoding="utf-8")
    return Source(text, "prelude.seq")
