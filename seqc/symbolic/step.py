"""What one step of a stratum is: its carries, how its channels meet, where linearity ends."""

from __future__ import annotations

from dataclasses import dataclass, replace

from seqc.ir.recurrence import Recurrence
from seqc.symbolic.affine import Linearity, Ring, linearity
from seqc.symbolic.rewrite import StableBuilder
from seqc.symbolic.strata import Component

#: Carries that a kernel which marches keeps in registers.
_MARCHED = 16


@dataclass(frozen=True)
class Step:
    """What one step of a stratum reads, and what it makes of it.

    ``carries`` are empty where they are no registers (a lag that is a size, an
    equation that is carried); ``reads`` are their nodes, ``after`` theirs a step on.
    """

    recurrence: Recurrence
    component: Component
    past: Linearity
    jacobian: str
    carries: tuple[tuple[str, int], ...] = ()
    reads: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.component.states, *self.component.others)


def read_step(
    recurrence: Recurrence, component: Component, builder: StableBuilder, ring: Ring
) -> Step:
    """What a step of the component reads, and what it makes of it; adds the nodes of carries."""
    nodes = recurrence.nodes
    names = (*component.states, *component.others)
    roots = [n for n in (recurrence.definition(name) for name in names) if n is not None]
    past = linearity(nodes, component.reads, roots, ring)
    axes = {nodes[n].axes for n in component.reads}
    axes |= {s.axes for s in recurrence.states if s.name in component.states}
    axes |= {e.axes for e in recurrence.equations if e.name in component.others}
    lags: dict[str, int] = {}
    counted = not component.others
    for n in component.reads:
        name, lag = nodes[n].attrs
        if isinstance(lag, str):
            counted = False
        else:
            lags[str(name)] = max(lags.get(str(name), 1), int(lag))
    counted = counted and sum(lags.values()) <= _MARCHED
    plain = past.mixing is None and len(axes) == 1
    single = len(names) == 1 and max(lags.values(), default=1) == 1
    jacobian = "full" if not plain else "diagonal" if single else "block"
    step = Step(recurrence, component, past, jacobian)
    if not counted:
        return step
    carries = [(s, k) for s in component.states for k in range(1, lags[s] + 1)]
    reads = {(s, k): carry_node(builder, recurrence, s, k) for s, k in carries}
    after = tuple(recurrence.state(s).update if k == 1 else reads[s, k - 1] for s, k in carries)
    columns = tuple(reads[c] for c in carries)
    past = linearity(builder.graph, columns, roots, ring)
    return replace(step, past=past, carries=tuple(carries), reads=columns, after=after)


def carry_node(builder: StableBuilder, recurrence: Recurrence, state: str, lag: int) -> int:
    """The node of a carry; a delay may have steps that nobody reads."""
    axes = recurrence.state(state).axes
    return builder.add("read", axes=axes, attrs=(state, lag))
