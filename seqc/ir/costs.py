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
class StepCost:
    """One direction of a kernel.

    ``read`` and ``written``: what passes between the kernel and memory, by axes, those of
    the kernel first.  ``kept`` is part of ``written``: the bytes a step and element that a
    forward pass stores only when gradients are wanted.

    ``arithmetic``: additions, subtractions, products, divisions, roots, signs, extremes.
    ``transcendental``: exponentials, logarithms, sigmoids and their like.
    ``selections``: comparisons and choices, which are no floating-point operations.
    """

    read: tuple[Traffic, ...]
    written: tuple[Traffic, ...]
    kept: int
    arithmetic: int
    transcendental: int
    selections: int

    def __str__(self) -> str:
        return (
            f"reads {traffic_text(self.read)}, writes {traffic_text(self.written)}"
            f"{f' ({self.kept} of it for backward)' if self.kept else ''}; "
            f"{self.arithmetic} flops, {self.transcendental} transcendental, "
            f"{self.selections} selections"
        )

    def to_json(self) -> dict[str, Any]:
        """A plain dict with the attribute names of this class."""
        return {
            "read": [_plain(t) for t in self.read],
            "written": [_plain(t) for t in self.written],
            "kept": self.kept,
            "arithmetic": self.arithmetic,
            "transcendental": self.transcendental,
            "selections": self.selections,
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
    terms = [
        f"{t.size} B" + (f" a ({', '.join(t.axes) or '1'})" if i else "")
        for i, t in enumerate(traffic)
        if t.size
    ]
    return " + ".join(terms) or "0 B"


def _plain(t: Traffic) -> dict[str, Any]:
    return {"axes": list(t.axes), "bytes": t.size, "names": list(t.names)}
