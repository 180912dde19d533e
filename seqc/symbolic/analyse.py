"""From a recurrence to what can be run: strata in order, each with its algebra and proof."""

from __future__ import annotations

from dataclasses import replace

from seqc.diagnostics import Diagnostic
from seqc.ir.algebra import Algebra
from seqc.ir.graph import Graph
from seqc.ir.plan import Analysis, Stratum
from seqc.ir.recurrence import Recurrence
from seqc.symbolic.rewrite import StableBuilder, prune, restate
from seqc.symbolic.solver import Solver
from seqc.symbolic.strata import components


def analyse(recurrence: Recurrence, algebras: tuple[Algebra, ...]) -> Analysis:
    """The recurrence rewritten stably, its strata in order, and what to tell the person.

    ``algebras`` are those of the library, found by their names (``affine``, …); the laws of
    one are proved before anything relies on it, and of no other.
    """
    builder = StableBuilder(recurrence.axes, hypers=recurrence.hypers)
    rewritten = _restated(recurrence, builder)
    solver = Solver(algebras, builder)
    found: list[Stratum] = []
    for component in components(rewritten):
        found.append(solver.stratum(rewritten, component))
        rewritten = replace(rewritten, nodes=builder.graph)
    return _pruned(rewritten, tuple(found), tuple(dict.fromkeys(solver.notes)))


# --- the graph


def _restated(recurrence: Recurrence, builder: StableBuilder) -> Recurrence:
    moved = restate(recurrence.nodes, builder, _roots(recurrence))
    return _moved(recurrence, moved, builder.graph)


def _roots(recurrence: Recurrence) -> list[int]:
    roots = [e.node for e in recurrence.equations]
    for s in recurrence.states:
        roots += [s.init, s.update]
    for a in recurrence.applied:
        roots += a.parts
    return roots


def _moved(recurrence: Recurrence, moved: dict[int, int], nodes: Graph) -> Recurrence:
    return replace(
        recurrence,
        nodes=nodes,
        equations=tuple(replace(e, node=moved[e.node]) for e in recurrence.equations),
        states=tuple(
            replace(s, init=moved[s.init], update=moved[s.update]) for s in recurrence.states
        ),
        applied=tuple(
            replace(a, parts=tuple(moved[p] for p in a.parts)) for a in recurrence.applied
        ),
    )


def _pruned(
    recurrence: Recurrence, strata: tuple[Stratum, ...], notes: tuple[Diagnostic, ...]
) -> Analysis:
    roots = _roots(recurrence)
    for s in strata:
        roots += [*s.coefficient, *s.offset, *s.after, *s.parts]
        roots += [n for n in (s.log_coefficient, s.log_offset) if n is not None]
    nodes, moved = prune(recurrence.nodes, recurrence.axes, roots)
    strata = tuple(
        replace(
            s,
            coefficient=tuple(moved[n] for n in s.coefficient),
            offset=tuple(moved[n] for n in s.offset),
            after=tuple(moved[n] for n in s.after),
            parts=tuple(moved[n] for n in s.parts),
            log_coefficient=None if s.log_coefficient is None else moved[s.log_coefficient],
            log_offset=None if s.log_offset is None else moved[s.log_offset],
        )
        for s in strata
    )
    return Analysis(_moved(recurrence, moved, nodes), strata, notes)
