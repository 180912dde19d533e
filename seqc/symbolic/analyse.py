"""From a recurrence to what can be run: strata, algebra and proof, coefficient and offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from seqc.diagnostics import Diagnostic, Severity, Span
from seqc.ir.algebra import Algebra
from seqc.ir.graph import Graph, Node
from seqc.ir.plan import Analysis, Stratum
from seqc.ir.recurrence import Recurrence
from seqc.ir.verdict import Interval, Verdict
from seqc.symbolic.affine import Linearity, Ring, disagreement, linearity, prove_affine
from seqc.symbolic.algebra import acts_affinely, prove
from seqc.symbolic.rewrite import StableBuilder, prune, restate
from seqc.symbolic.strata import Component, components


def analyse(recurrence: Recurrence, algebras: tuple[Algebra, ...]) -> Analysis:
    """The recurrence rewritten stably, its strata in order, and what to tell the person.

    ``algebras`` are those at hand; the one named ``affine`` is what scans run on,
    and its laws are proved before anything relies on it.
    """
    builder = StableBuilder(recurrence.axes)
    rewritten = _restated(recurrence, builder)
    affine = next((a for a in algebras if a.name == "affine" and len(a.parts) == 2), None)
    law, notes = _law(affine)
    found: list[Stratum] = []
    for component in components(rewritten):
        stratum, diagnostics = _stratum(rewritten, component, builder, affine, law)
        found.append(stratum)
        notes += diagnostics
        rewritten = replace(rewritten, nodes=builder.graph)
    return _pruned(rewritten, tuple(found), tuple(notes))


# --- the graph


def _restated(recurrence: Recurrence, builder: StableBuilder) -> Recurrence:
    moved = restate(recurrence.nodes, builder, _roots(recurrence))
    return _moved(recurrence, moved, builder.graph)


def _roots(recurrence: Recurrence) -> list[int]:
    roots = [e.node for e in recurrence.equations]
    for s in recurrence.states:
        roots += [s.init, s.update]
    return roots


def _moved(recurrence: Recurrence, moved: dict[int, int], nodes: Graph) -> Recurrence:
    return replace(
        recurrence,
        nodes=nodes,
        equations=tuple(replace(e, node=moved[e.node]) for e in recurrence.equations),
        states=tuple(
            replace(s, init=moved[s.init], update=moved[s.update]) for s in recurrence.states
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


# --- the algebra


def _law(affine: Algebra | None) -> tuple[Verdict, list[Diagnostic]]:
    """What the laws of the affine algebra come to, together."""
    if affine is None:
        return Verdict("unknown", "no algebra named affine is at hand"), []
    laws = prove(affine)
    for law in laws:
        if law.verdict == "refuted":
            where = ", ".join(f"{k} = {v:g}" for k, v in (law.verdict.counterexample or {}).items())
            told = Diagnostic(
                "E301",
                f"algebra {affine.name}: {law.law} fails at {where}",
                affine.span,
                label=law.verdict.reason,
                hint="a scan may regroup its steps only where the laws of its algebra hold",
            )
            return law.verdict, [told]
    for law in laws:
        if law.verdict == "unknown":
            return Verdict("unknown", f"{law.law}: {law.verdict.reason}"), []
    if not acts_affinely(affine):
        return Verdict("unknown", "algebra affine does not apply as a * h + b"), []
    return Verdict("proved", "the laws of affine hold"), []


# --- one stratum


@dataclass(frozen=True)
class _Refusal:
    """Why a stratum is not scanned."""

    code: str
    message: str
    reason: str
    span: Span | None
    label: str = ""
    algebra: str = "none"


def _stratum(
    recurrence: Recurrence,
    component: Component,
    builder: StableBuilder,
    affine: Algebra | None,
    law: Verdict,
) -> tuple[Stratum, list[Diagnostic]]:
    nodes = recurrence.nodes
    names = (*component.states, *component.others)
    roots = [n for n in (recurrence.definition(name) for name in names) if n is not None]
    past = linearity(nodes, component.reads, roots, Ring(builder.op, builder.const))
    jacobian = _jacobian(recurrence, component, past)
    refusal = _refusal(recurrence, component, past, jacobian)
    if refusal is not None:
        return _sequential(recurrence, names, past, jacobian, refusal)
    state = recurrence.state(component.states[0])
    zero = builder.const(0.0)
    if component.reads:
        a, b = past.pairs[state.update]
        coefficient, offset = int(a), zero if b is None else int(b)
        verdict = _proof(builder, component, past, state.update, coefficient, offset, law)
    else:
        coefficient, offset = zero, state.update
        verdict = Verdict(str(law), "the state does not depend on its past")
    if verdict != "proved":
        reason = f"{state.name} is affine in its past, but that is not proved: {verdict.reason}"
        notes: list[Diagnostic] = []
        if law != "refuted":
            notes = [_warning("W106", reason, state.span, "")]
        return (
            Stratum((state.name,), "affine", verdict, "sequential", jacobian, reason=reason),
            notes,
        )
    interval = builder.ranges[coefficient]
    log_coefficient, log_offset = _log_form(builder, coefficient, offset)
    return (
        Stratum(
            states=(state.name,),
            algebra="affine",
            verdict=verdict,
            method="scan",
            jacobian=jacobian,
            domain="linear",
            domain_reason=_domain_reason(interval, log_coefficient is not None),
            coefficient_range=interval,
            coefficient=(coefficient,),
            offset=(offset,),
            carries=((state.name, 1),),
            after=(state.update,),
            law=affine,
            parts=(coefficient, offset),
            log_coefficient=log_coefficient,
            log_offset=log_offset,
            reason=verdict.reason,
        ),
        [],
    )


def _proof(
    builder: StableBuilder,
    component: Component,
    past: Linearity,
    update: int,
    coefficient: int,
    offset: int,
    law: Verdict,
) -> Verdict:
    if law != "proved":
        return law
    read = component.reads[0]
    nodes = builder.graph
    verdict = prove_affine(nodes, read, update, past.past)
    if verdict == "proved":
        differs = disagreement(nodes, read, update, coefficient, offset)
        if differs is not None:
            return Verdict("unknown", "the rewritten form differs in numbers", differs)
    return verdict


def _jacobian(recurrence: Recurrence, component: Component, past: Linearity) -> str:
    """``diagonal``, ``block`` (coupled states, channel by channel) or ``full``."""
    axes = {recurrence.nodes[n].axes for n in component.reads}
    declared = {s.axes for s in recurrence.states if s.name in component.states}
    declared |= {e.axes for e in recurrence.equations if e.name in component.others}
    if past.mixing is not None or len(axes | declared) > 1:
        return "full"
    return "diagonal" if len(component.states) + len(component.others) == 1 else "block"


def _refusal(
    recurrence: Recurrence, component: Component, past: Linearity, jacobian: str
) -> _Refusal | None:
    nodes = recurrence.nodes
    name = (*component.states, *component.others)[0]
    span = _span_of(recurrence, name)
    if past.obstacle is not None:
        node = nodes[past.obstacle]
        read = _read_below(nodes, past.obstacle, component.reads)
        told = f"{read.attrs[0]}[t-{read.attrs[1]}]"
        what = _OBSTACLES.get(node.op, f"{node.op} of a term that depends on it")
        return _Refusal(
            "W101",
            f"{name} is nonlinear in {told}, so it is no scan",
            f"nonlinear in {told}: {what}",
            node.span or span,
            f"not linear in {told}",
            "nonlinear",
        )
    if component.others:
        other = component.others[0]
        reason = f"{other} is an equation that is read with a lag inside the cycle"
        return _Refusal("W105", f"{reason}: declare it as a state", reason, span)
    if len(component.states) > 1:
        together = " and ".join(component.states)
        reason = f"{together} depend on one another; the block-affine algebra is not available yet"
        return _Refusal("W102", reason, reason, span)
    late = next((n for n in component.reads if nodes[n].attrs[1] != 1), None)
    if late is not None:
        reason = (
            f"{name} is read with a lag of {nodes[late].attrs[1]}; "
            "the block-affine algebra is not available yet"
        )
        return _Refusal("W103", reason, reason, nodes[late].span or span)
    if jacobian == "full":
        where = None if past.mixing is None else nodes[past.mixing].span
        reason = (
            f"{name} is linear in its past, but mixes its channels (a full matrix a step); "
            "the block-affine algebra is not available yet"
        )
        return _Refusal("W104", reason, reason, where or span)
    return None


_OBSTACLES = {
    "mul": "a product of two terms that both depend on it",
    "div": "a division by a term that depends on it",
    "where": "a choice whose condition depends on it",
    "keep": "a dropout probability that depends on it",
}


def _read_below(nodes: Graph, root: int, reads: Sequence[int]) -> Node:
    """The first read of the past that the node depends on."""
    seen: set[int] = set()
    stack = [root]
    while stack:
        n = stack.pop()
        if n not in seen:
            seen.add(n)
            stack.extend(nodes[n].args)
    chosen = next(n for n in reads if n in seen)
    return nodes[chosen]


def _span_of(recurrence: Recurrence, name: str) -> Span | None:
    for e in recurrence.equations:
        if e.name == name:
            return e.span
    return next((s.span for s in recurrence.states if s.name == name), None)


def _sequential(
    recurrence: Recurrence,
    names: tuple[str, ...],
    past: Linearity,
    jacobian: str,
    refusal: _Refusal,
) -> tuple[Stratum, list[Diagnostic]]:
    obstacle = None if past.obstacle is None else recurrence.nodes[past.obstacle].span
    stratum = Stratum(
        states=names,
        algebra=refusal.algebra,
        verdict=Verdict("unknown", refusal.reason),
        method="sequential",
        jacobian=jacobian,
        reason=refusal.reason,
        obstacle=obstacle,
    )
    return stratum, [_warning(refusal.code, refusal.message, refusal.span, refusal.label)]


def _warning(code: str, message: str, span: Span | None, label: str) -> Diagnostic:
    hint = "the layer is right, but runs step by step on the reference backend"
    return Diagnostic(code, message, span, label, hint, Severity.WARNING)


# --- the domain


def _log_form(builder: StableBuilder, a: int, b: int) -> tuple[int | None, int | None]:
    if not (builder.positive(a) and builder.positive(b)):
        return None, None
    return builder.op("log", a), builder.op("log", b)


def _domain_reason(coefficient: Interval, has_log: bool) -> str:
    lo, hi = coefficient
    if lo == hi == 0:
        return "the coefficient is zero: there is no product to overflow"
    if lo >= -1 and hi <= 1:
        return (
            f"coefficients lie in {coefficient}: products cannot overflow; "
            "the linear domain keeps float32 rounding near 1e-7"
        )
    size = max(abs(lo), abs(hi))
    if size < float("inf"):
        return (
            f"coefficients lie in {coefficient}: a product of T of them may reach {size:g}^T "
            "and overflow; the linear domain runs all the same"
        )
    tail = (
        "a log-domain form exists, but kernels run the linear domain alone in this version"
        if has_log
        else "there is no log-domain form, for coefficient and offset are not provably positive"
    )
    return f"coefficients are not bounded: products of them may overflow; {tail}"
