"""Why a stratum is not scanned: the warning, where it points, and what runs instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seqc.diagnostics import Diagnostic, Severity, Span
from seqc.ir.algebra import Algebra
from seqc.ir.graph import Graph, Node
from seqc.ir.recurrence import Recurrence, Solve
from seqc.ir.verdict import Interval, Verdict
from seqc.symbolic.affine import Linearity
from seqc.symbolic.strata import Component

_HINTS = {
    "march": "the layer is right, but this part runs step by step inside one fused kernel, "
    "not in parallel over time",
    "sequential": "the layer is right, but this part runs step by step, between "
    "what runs for whole sequences",
}

_OBSTACLES = {
    "mul": "a product of two terms that both depend on it",
    "div": "a division by a term that depends on it",
    "where": "a choice whose condition depends on it",
    "keep": "a dropout probability that depends on it",
} | dict.fromkeys(
    ("lt", "le", "gt", "ge", "eq", "ne"), "a comparison with a term that depends on it"
)


@dataclass(frozen=True)
class Refusal:
    """What is said of a stratum that is not scanned; ``reason`` is what the report holds."""

    code: str
    message: str
    reason: str
    span: Span | None
    label: str = ""
    algebra: str = "none"

    def warning(self, method: str) -> Diagnostic:
        """The warning, with what the method means."""
        hint = _HINTS[method]
        return Diagnostic(self.code, self.message, self.span, self.label, hint, Severity.WARNING)


def nonlinear(recurrence: Recurrence, component: Component, obstacle: int) -> Refusal:
    """The first term that is not linear in the past."""
    nodes = recurrence.nodes
    name = (*component.states, *component.others)[0]
    read = _read_below(nodes, obstacle, component.reads)
    told = f"{read.attrs[0]}[t-{recurrence.shown_lag(read.attrs[1])}]"
    node = nodes[obstacle]
    what = _OBSTACLES.get(node.op, f"{node.op} of a term that depends on it")
    return Refusal(
        "W101",
        f"{name} is nonlinear in {told}, so it is no scan",
        f"nonlinear in {told}: {what}",
        node.span or span_of(recurrence, name),
        f"not linear in {told}",
        "nonlinear",
    )


def not_a_state(recurrence: Recurrence, component: Component) -> Refusal:
    """An equation that is carried."""
    reason = f"{component.others[0]} is an equation that is read with a lag inside the cycle"
    name = (*component.states, *component.others)[0]
    return Refusal("W105", f"{reason}: declare it as a state", reason, span_of(recurrence, name))


def too_late(recurrence: Recurrence, component: Component) -> Refusal:
    """A lag that is a size, or so long that its steps are no registers."""
    nodes = recurrence.nodes
    name = component.states[0]
    late = next((n for n in component.reads if isinstance(nodes[n].attrs[1], str)), None)
    if late is None:
        late = max(component.reads, key=lambda n: int(nodes[n].attrs[1]))
    lag = recurrence.shown_lag(nodes[late].attrs[1])
    reason = (
        f"{nodes[late].attrs[0]} is read with a lag of {lag}, "
        "which is more steps than a kernel carries"
    )
    return Refusal("W103", reason, reason, nodes[late].span or span_of(recurrence, name))


def mixing(recurrence: Recurrence, component: Component, past: Linearity) -> Refusal:
    """Linear, with a full matrix a step."""
    name = component.states[0]
    where = None if past.mixing is None else recurrence.nodes[past.mixing].span
    reason = (
        f"{name} is linear in its past, but mixes its channels (a full matrix a step), "
        "which no algebra at hand scans"
    )
    return Refusal("W104", reason, reason, where or span_of(recurrence, name))


def unproved(recurrence: Recurrence, name: str, algebra: str, why: str) -> Refusal:
    """A form that was found, but not proved."""
    reason = f"{name} is {algebra} in its past, but that is not proved: {why}"
    return Refusal("W106", reason, reason, span_of(recurrence, name), algebra=algebra)


def misapplied(recurrence: Recurrence, name: str, algebra: str, why: str) -> Refusal:
    """An algebra that the spec names, and that does not carry the step."""
    span = next((a.span for a in recurrence.applied if a.state == name), None)
    message = f"{name} names the algebra {algebra}, but {why}"
    return Refusal("W107", message, why, span or span_of(recurrence, name), algebra=algebra)


def refuted_law(algebra: Algebra, law: str, verdict: Verdict) -> Diagnostic:
    """The error of a refuted algebra, with the numbers that refute it."""
    where = ", ".join(f"{k} = {v:g}" for k, v in (verdict.counterexample or {}).items())
    return Diagnostic(
        "E301",
        f"algebra {algebra.name}: {law} fails at {where}",
        algebra.span,
        label=verdict.reason,
        hint="a scan may regroup its steps only where the laws of its algebra hold",
    )


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


def span_of(recurrence: Recurrence, name: str) -> Span | None:
    """Where an equation or state stands."""
    for e in recurrence.equations:
        if e.name == name:
            return e.span
    return next((s.span for s in recurrence.states if s.name == name), None)


def mixing_over(
    recurrence: Recurrence, component: Component, title: str, method: str
) -> Diagnostic:
    """Linear over a semiring, with a full matrix a step."""
    name = component.states[0]
    return Diagnostic(
        "W104",
        f"{name} is {title}, but mixes its channels (a full matrix a step)",
        span_of(recurrence, name),
        hint=_HINTS[method],
        severity=Severity.WARNING,
    )


def no_logarithm(solve: Solve, state: str, interval: Interval) -> Diagnostic:
    """The log domain is asked for where the coefficient may be negative."""
    return Diagnostic(
        "E303",
        f"{state} has no log domain: its coefficient lies in {interval}, and may be negative",
        solve.span,
        hint="take the linear domain, or write the coefficient so that its sign shows",
    )


def no_blocks(solve: Solve, states: Sequence[str]) -> Diagnostic:
    """Blocks of channels are asked for where states have other channels each."""
    return Diagnostic(
        "E304",
        f"the Jacobian of {' and '.join(states)} has no blocks: they are not over the same axes",
        solve.span,
        hint="take `jacobian = full`, or `diagonal`",
    )


def growing(recurrence: Recurrence, name: str, interval: Interval) -> Diagnostic:
    """An affine state whose coefficient is never within 1."""
    least = min(abs(interval.lo), abs(interval.hi))
    share = f"at least {least:g}" if least > 1 else "more than 1"
    return Diagnostic(
        "W108",
        f"{name} grows without bound: the coefficient of {name}[t-1] lies in {interval}",
        span_of(recurrence, name),
        hint=f"every step multiplies it by {share} in size, until it overflows; keep the "
        "coefficient within 1, for example by a `sigmoid` or `tanh`",
        severity=Severity.WARNING,
    )
