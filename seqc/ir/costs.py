"""What a kernel moves and computes: a step, and an element of the axes that it runs over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Traffic:
    """Bytes a step and element of the ``axes``, which may be fewer than the kernel's.

    ``names`` says of what.
    """

    axes: tuple[str, ...]
    size: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Work:
    """Operations a step and element of the ``axes``, which may be fewer than the kernel's.

    ``arithmetic``: additions, subtractions, products, divisions, roots, signs, extremes.
    ``transcendental``: exponentials, logarithms, sigmoids and their like.
    ``selections``: comparisons and choices, which are no floating-point operations.
    """

    axes: tuple[str, ...]
    arithmetic: int
    transcendental: int
    selections: int


@dataclass(frozen=True)
class StepCost:
    """One direction of a kernel.

    ``read`` and ``written``: what passes between the kernel and memory, and ``work``, by axes,
    those of the kernel first.  ``kept`` is part of ``written``: the bytes a step and element
    that a forward pass stores only when gradients are wanted.
    """

    read: tuple[Traffic, ...]
    written: tuple[Traffic, ...]
    kept: int
    work: tuple[Work, ...]

    def __str__(self) -> str:
        kept = f" ({self.kept} of it for backward)" if self.kept else ""
        return (
            f"reads {traffic_text(self.read)}, writes {traffic_text(self.written)}{kept}; "
            f"{self.counted('arithmetic')} flops, {self.counted('transcendental')} transcendental, "
            f"{self.counted('selections')} selections"
        )

    def counted(self, kind: str) -> str:
        """The operations of one kind, ``7 + 2 a (hidden)``."""
        counts = [(w.axes if i else (), getattr(w, kind)) for i, w in enumerate(self.work)]
        terms = [f"{n}{_per(axes) if axes else ''}" for axes, n in counts if n]
        return " + ".join(terms) or "0"

    def to_json(self) -> dict[str, Any]:
        """A plain dict with the attribute names of this class."""
        return {
            "read": [_plain(t) for t in self.read],
            "written": [_plain(t) for t in self.written],
            "kept": self.kept,
            "work": [
                {
                    "axes": list(w.axes),
                    "arithmetic": w.arithmetic,
                    "transcendental": w.transcendental,
                    "selections": w.selections,
                }
                for w in self.work
            ],
        }


@dataclass(frozen=True)
class KernelCost:
    """A fused kernel, in float32."""

    name: str
    axes: tuple[str, ...]
    forward: StepCost
    backward: StepCost

    def to_json(self) -> dict[str, Any]:
        """A plain dict with the attribute names of this class."""
        return {
            "name": self.name,
            "axes": list(self.axes),
            "forward": self.forward.to_json(),
            "backward": self.backward.to_json(),
        }


def traffic_text(traffic: tuple[Traffic, ...]) -> str:
    """``12 B + 4 B a (hidden)``: the kernel's own axes first, then what fewer axes share."""
    terms = [f"{t.size} B" + (_per(t.axes) if i else "") for i, t in enumerate(traffic) if t.size]
    return " + ".join(terms) or "0 B"


def _per(axes: tuple[str, ...]) -> str:
    return f" a ({', '.join(axes) or '1'})"


def _plain(t: Traffic) -> dict[str, Any]:
    return {"axes": list(t.axes), "bytes": t.size, "names": list(t.names)}
