"""Kernels ready to be printed: what is kept for the way back, and what time can be cut by."""

from __future__ import annotations

from seqc.ir.kernel import Kernel
from seqc.ir.schedule import Scheduled, Segment, Step, StepCarry
from seqc.lower.segments import segment


def schedule_forward(kernel: Kernel, adjoint: Kernel) -> Scheduled:
    """A kernel that keeps what its adjoint reads.

    What sums over an axis keeps all its carries now and then, for its states are larger than all
    that it reads; any other those that are read, each step, unless they are outputs anyway.
    Products with matrices, dearer than what they weigh, are held as well.
    """
    every = bool(kernel.inner) and not kernel.stepped
    held = {o.node for o in kernel.outputs}
    kept = tuple(b.carry for b in adjoint.befores if kernel.carries[b.carry].after not in held)
    if every and adjoint.befores:
        kept = tuple(range(len(kernel.carries)))
    return Scheduled(kernel, _main(kernel), _segments(kernel), kept, every, held=adjoint.held)


def schedule_adjoint(adjoint: Kernel, kernel: Kernel) -> Scheduled:
    """The march back through a kernel: with ``every``, it computes the states between again."""
    again = None
    every = bool(kernel.inner) and not kernel.stepped
    if every and adjoint.befores:
        main = _main(kernel)
        purpose = "the states once more, without what they led to"
        again = Step("Again", purpose, main.carries, (), (), kernel.body, kernel.backward)
    return Scheduled(adjoint, _main(adjoint), _segments(adjoint), every=every, again=again)


def _main(kernel: Kernel) -> Step:
    carries = tuple(StepCarry(c.name, c.axes, c.after, i) for i, c in enumerate(kernel.carries))
    direction = "back" if kernel.backward else "on"
    return Step(
        "Main", f"one step {direction}", carries, kernel.outputs, kernel.totals, kernel.body,
        kernel.backward,
    )  # fmt: skip


def _segments(kernel: Kernel) -> tuple[Segment, ...]:
    if not kernel.parallel:
        return ()
    return tuple(segment(kernel, s) for s in range(len(kernel.scans)))
