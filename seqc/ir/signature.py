"""A kernel's signature: every tensor that it touches, in the order in which they are handed over.

It is written once, here.  The emitted struct, the entry points of both targets and the tables of
the launcher are printed or computed from it.  Each tensor comes as its address and the strides of
batch, time and every axis of the kernel, in elements, 0 along what it has not.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqc.ir.kernel import Kernel
from seqc.ir.schedule import Scheduled

#: What stands for a tensor's lanes where it has an element a block of them.
BLOCKS = "#"


@dataclass(frozen=True)
class Parameter:
    """One tensor of a signature.

    ``role`` and ``index`` say which it is:

    =============  ====================================================  ==================
    stream         what is read each step: the kernel's streams          (B, T, *axes)
    constant       what is constant in time                              (*axes,)
    mask           truths                                                (B, T, *axes)
    kept_state     of another kernel's carry, what was kept              as ``kept``
    first_state    and what it started from                              (B, *axes)
    fresh_state    and what it started anew from                         (B, *axes)
    held_value     a node that another kernel held                       (B, T, *axes)
    start          what a carry starts from; null: zero                  (B, *axes)
    fresh          what it starts anew from at a reset; of a kernel      (B, *axes)
                   backwards in time, what leaves there; may be null
    resets         before which steps; may be null                       (B, T)
    output         what is written each step                             (B, T, *axes)
    total          a sum over time                                       (B, *axes)
    side           what gradients of matrices are outer products of      (B, T, *axes)
    last           what a carry comes to                                 (B, *axes)
    kept           a carry's values for the way back; may be null        (B, T, *axes), or
                   (now and then)                                        (chunks, B, *axes)
    held           a node for the way back; may be null                  (B, T, *axes)
    =============  ====================================================  ==================

    ``kind`` is what its elements are: ``storage`` (as tensors have them), ``state`` (as the
    recurrence computes), ``truth`` (a byte), ``sum`` (double).
    """

    name: str
    role: str
    index: int
    axes: tuple[str, ...]
    kind: str

    @property
    def moves(self) -> bool:
        """Whether it has an entry a step."""
        return self.role in ("stream", "mask", "resets", "output", "held_value", "side", "held")


def signature(scheduled: Scheduled, kept_by: Scheduled | None = None) -> tuple[Parameter, ...]:
    """The parameters of a kernel; ``kept_by`` is the one whose states it reads."""
    k = scheduled.kernel
    found = [Parameter(s.name, "stream", i, s.axes, "storage") for i, s in enumerate(k.streams)]
    found += [Parameter(c.name, "constant", i, c.whole, "state") for i, c in enumerate(k.constants)]
    found += [Parameter(m.name, "mask", i, m.axes, "truth") for i, m in enumerate(k.masks)]
    if kept_by is not None:
        for i in states_read(scheduled, kept_by):
            c = kept_by.kernel.carries[i]
            kind = "state" if kept_by.every else "storage"
            found.append(Parameter(f"{c.name}_kept", "kept_state", i, c.axes, kind))
            found.append(Parameter(f"{c.name}_first", "first_state", i, c.axes, "state"))
            found.append(Parameter(f"{c.name}_fresh_state", "fresh_state", i, c.axes, "state"))
    found += [Parameter(h.name, "held_value", i, h.axes, "storage") for i, h in enumerate(k.held)]
    for role in ("start", "fresh"):
        found += [
            Parameter(f"{c.name}_{role}", role, i, c.axes, "state") for i, c in enumerate(k.carries)
        ]
    found.append(Parameter("resets", "resets", 0, (), "truth"))
    for i, o in enumerate(k.outputs):
        axes = written_axes(k, o.axes)
        kind = "storage" if axes == o.axes else "state"
        found.append(Parameter(f"{o.name}_out", "output", i, axes, kind))
    found += [
        Parameter(f"{t.name}_total", "total", i, summed_axes(k, t.axes), "sum")
        for i, t in enumerate(k.totals)
    ]
    found += [
        Parameter(f"side{i}", "side", i, axes, "state") for i, (_, axes) in enumerate(k.sides)
    ]
    found += [
        Parameter(f"{c.name}_last", "last", i, c.axes, "state") for i, c in enumerate(k.carries)
    ]
    kind = "state" if scheduled.every else "storage"
    found += [
        Parameter(f"{k.carries[i].name}_kept", "kept", i, k.carries[i].axes, kind)
        for i in scheduled.kept
    ]
    found += [Parameter(h.name, "held", i, h.axes, "storage") for i, h in enumerate(scheduled.held)]
    return tuple(found)


def states_read(scheduled: Scheduled, kept_by: Scheduled) -> tuple[int, ...]:
    """The carries of another kernel that a kernel is handed: those it reads, or all, to compute
    them again."""
    if scheduled.again is not None:
        return tuple(range(len(kept_by.kernel.carries)))
    return tuple(b.carry for b in scheduled.kernel.befores)


def written_axes(kernel: Kernel, axes: tuple[str, ...]) -> tuple[str, ...]:
    """The axes of an output as the kernel writes it: what is left to be summed is summed after.

    A cell hands out what is its own.  What is summed over the lanes comes an element a block of
    them where the kernel sums over an axis itself, and an element a lane otherwise.
    """
    lane = [kernel.lane] if kernel.lane else []
    if kernel.stepped or {*kernel.outer, *lane} <= set(axes):
        return axes
    if not kernel.inner:
        return kernel.axes
    along = [kernel.lane if kernel.lane in axes else BLOCKS] if kernel.lane else []
    return (*kernel.outer, *along, *(a for a in kernel.inner if a in axes))


def summed_axes(kernel: Kernel, axes: tuple[str, ...]) -> tuple[str, ...]:
    """The axes over which a total is found, before it is summed over those that it has not."""
    if kernel.stepped:
        return axes
    lane = [kernel.lane] if kernel.lane else []
    return (*kernel.outer, *(a for a in kernel.inner if a in axes), *lane)
