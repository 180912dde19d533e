"""How a stratum is solved, and how gradients come back through it: what a spec may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from seqc.diagnostics import Span

#: What may be told of a step's Jacobian; ``auto`` is what the compiler finds.
JACOBIANS = ("auto", "full", "block", "diagonal")
#: Where Newton iterations start.
GUESSES = ("zero", "input", "previous")


@dataclass(frozen=True)
class Newton:
    """Newton iterations over a whole sequence.

    ``jacobian`` is the part of the step's Jacobian that an iteration goes by.  ``tolerance`` is how
    far the last iteration may move a state, relative and absolute (None: by the dtype); ``damping``
    is the share of the Jacobian that is left out; ``guess`` is where the first iteration starts.
    """

    jacobian: str = "auto"
    tolerance: float | None = None
    iterations: int = 50
    damping: float = 0.0
    guess: str = "zero"

    def __str__(self) -> str:
        tolerance = "of the dtype" if self.tolerance is None else f"{self.tolerance:g}"
        return (
            f"{self.jacobian} Jacobian, tolerance {tolerance}, at most {self.iterations} "
            f"iterations, damping {self.damping:g}, from the guess {self.guess}"
        )


@dataclass(frozen=True)
class Feedback:
    """How gradients come from a step of some states to the step before it.

    With e[t] what the loss has by the states of step t itself, and J[t] their Jacobian by those of
    the step before: ``exact``, g[t] = e[t] + J[t+1]' g[t+1]; ``truncated``, the same
    through at most ``steps`` - 1 Jacobians; ``stationary``, g[t] = e[t] + A g[t+1], A a fixed
    diagonal that goes evenly from ``low`` to ``high`` over all channels of the stratum.

    ``state`` is empty for all that name none.
    """

    state: str = ""
    kind: str = "exact"
    low: float = 0.0
    high: float = 1.0
    steps: int = 0
    span: Span | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        numbers = {"truncated": (self.steps,), "stationary": (self.low, self.high)}.get(self.kind)
        return (
            self.kind if numbers is None else f"{self.kind}({', '.join(f'{n:g}' for n in numbers)})"
        )

    def problems(self) -> Iterator[str]:
        """What a verifier finds wrong."""
        if self.kind not in ("exact", "truncated", "stationary"):
            yield f"{self.kind} is no way to come back"
        if self.kind == "truncated" and self.steps < 1:
            yield "a gradient that goes back no step at all"


#: Gradients are exact unless a spec asks for others.
EXACT = Feedback()
