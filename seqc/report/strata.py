"""The strata of a layer for a page: what each is, why, and what was derived from it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from seqc.diagnostics import Source
from seqc.ir.algebra import Algebra
from seqc.ir.plan import KernelStage, Stratum
from seqc.ir.report import LayerReport, StratumReport
from seqc.ir.verdict import Interval, Verdict
from seqc.report.adjoint_math import adjoint_lines
from seqc.report.formulas import Line, Printer, moving
from seqc.report.mathml import Piece, atom, brackets, group, number, operator, value, word
from seqc.report.source import SourceLine, marked

METHODS = {
    "scan": "parallel over time, by the law of the algebra",
    "march": "step by step within one fused kernel, each channel by itself",
    "newton": "Newton iterations, each of them a scan",
    "sequential": "step by step, from what is there for the whole sequence",
}
JACOBIANS = {
    "diagonal": "each channel depends on its own past alone",
    "block": "coupled states, channel by channel",
    "full": "channels depend on one another's past",
}


@dataclass(frozen=True)
class LawView:
    """A law and what its proof came to."""

    name: str
    verdict: str
    reason: str


@dataclass(frozen=True)
class StratumView:
    """What the template reads of a stratum."""

    number: int
    states: str
    report: StratumReport
    counterexample: str
    method: str
    jacobian: str
    interval: str
    apply: list[Line] = field(default_factory=list)
    parts: list[Line] = field(default_factory=list)
    compose: list[list[Line]] = field(default_factory=list)
    logs: list[Line] = field(default_factory=list)
    adjoint: list[Line] = field(default_factory=list)
    adjoint_note: str = ""
    laws: list[LawView] = field(default_factory=list)
    obstacle: list[SourceLine] = field(default_factory=list)


def stratum_views(
    layer: LayerReport, printer: Printer, ranges: Sequence[Interval], source: Source
) -> list[StratumView]:
    """The strata in order."""
    strata = layer.plan.analysis.strata
    names = _PartNames(layer)
    shown: dict[str, int] = {}
    views = []
    for i, (report, s) in enumerate(zip(layer.strata, strata, strict=True)):
        adjoint, note = _adjoint(layer, s, i, names, printer, shown)
        spans = [] if s.obstacle is None or s.obstacle.source.text != source.text else [s.obstacle]
        views.append(
            StratumView(
                number=i,
                states=", ".join(report.states),
                report=report,
                counterexample=counterexample(report.verdict),
                method=METHODS.get(report.method, ""),
                jacobian=JACOBIANS.get(report.jacobian, ""),
                interval=_interval(report),
                apply=_applied(s, i, names),
                parts=_parts(s, i, names, printer, ranges),
                compose=[] if s.law is None else composition(s.law),
                logs=_logs(s, i, names, printer),
                adjoint=adjoint,
                adjoint_note=note,
                laws=[LawView(w.law, str(w.verdict), _why(w.verdict)) for w in report.laws],
                obstacle=[
                    marked(source, n, spans)
                    for span in spans
                    for n in range(span.line, min(span.end_line, span.line + 5) + 1)
                ],
            )
        )
    return views


def counterexample(verdict: Verdict) -> str:
    """The numbers at which something fails, ``a = 0, h = 2.5``."""
    return ", ".join(f"{k} = {v:g}" for k, v in (verdict.counterexample or {}).items())


def interval_text(interval: Interval, *, bare: bool = False) -> str:
    """``(0, ∞)``; with ``bare`` as ``in (0, ∞)``, and nothing for all numbers."""
    text = str(interval).replace("inf", "∞").replace("-", "−")
    if not bare:
        return text
    return "" if tuple(interval) == (-math.inf, math.inf) else f"in {text}"


def _interval(report: StratumReport) -> str:
    return "" if report.coefficient_range is None else interval_text(report.coefficient_range)


def _why(verdict: Verdict) -> str:
    numbers = counterexample(verdict)
    return verdict.reason + (f"; it fails at {numbers}" if numbers else "")


class _PartNames:
    """Names for the parts of the algebras' elements, out of the way of the spec's own."""

    def __init__(self, layer: LayerReport) -> None:
        r = layer.plan.recurrence
        self.taken = {
            *(e.name for e in r.equations), *(s.name for s in r.states),
            *(i.name for i in r.inputs), *(p.name for p in r.params), *(h.name for h in r.hypers),
            *(s.name for s in r.sizes),
        }  # fmt: skip
        self.strata = layer.plan.analysis.strata
        self.timed = moving(r.nodes)

    def parts(self, s: Stratum) -> list[tuple[str, int]]:
        """(name in the algebra, node) of the element's parts."""
        if s.law is not None and s.parts:
            return list(zip(s.law.parts, s.parts, strict=False))
        return [*(("a", n) for n in s.coefficient), *(("b", n) for n in s.offset)]

    def markup(self, s: Stratum, number: int, part: str) -> str:
        """A part at step t."""
        several = sum(bool(self.parts(x)) for x in self.strata) > 1
        base, below = split(part)
        letters = self.parts(s)
        several = sum(bool(self.parts(x)) for x in self.strata) > 1
        moves = any(name == part and self.timed[n] for name, n in letters)
        indices = [*([below] if below else []), *(["<mi>t</mi>"] if moves else [])]
        index = group(operator(",").join(indices))
        if several or any(name in self.taken for name, _ in letters):
            whose = word(s.states[0]) if len(s.states) == 1 else f"<mn>{number}</mn>"
            if not indices:
                return f"<msup>{base}{whose}</msup>"
            return f"<msubsup>{base}{index}{whose}</msubsup>"
        return f"<msub>{base}{index}</msub>" if indices else base

    def by_node(self, spec: Printer) -> dict[int, str]:
        """Names for those parts that the spec has none for, and that are more than a leaf."""
        found: dict[int, str] = {}
        for i, s in enumerate(self.strata):
            for part, n in self.parts(s):
                if n not in spec.names and spec.graph[n].args:
                    found.setdefault(n, self.markup(s, i, part))
        return found


def split(name: str) -> tuple[str, str]:
    """``a2`` as a letter and an index, ``A_12`` too."""
    match = re.fullmatch(r"(\w*?[^\W\d_])_?(\d+)", name)
    if match is None:
        return word(name), ""
    return word(match[1]), f"<mn>{match[2]}</mn>"


def _subscripted(name: str) -> str:
    """A part of the later or earlier function: ``a2``, or ``A2_11``, entry 11 of matrix A2."""
    entry = re.fullmatch(r"(\w*?[^\W\d_])(\d)_(\d+)", name)
    if entry is not None:
        which = f"<mrow><mo>(</mo><mn>{entry[2]}</mn><mo>)</mo></mrow>"
        return f"<msubsup>{word(entry[1])}<mn>{entry[3]}</mn>{which}</msubsup>"
    base, below = split(name)
    return f"<msub>{base}{below}</msub>" if below else base


def _applied(s: Stratum, number: int, names: _PartNames) -> list[Line]:
    """What a step does to its carries, by the algebra's action."""
    if s.law is None or not s.parts:
        return []
    carries = s.carries or tuple((name, 1) for name in s.states)
    known = {p: atom(names.markup(s, number, p)) for p in s.law.parts}
    for argument, (name, lag) in zip(s.law.arguments, carries, strict=False):
        known[argument] = atom(value(name, lag), "past")
    printer = _law_printer(s.law, known)
    return [
        Line(value(name, lag - 1), printer.definition(n))
        for (name, lag), n in zip(carries, s.law.applied, strict=False)
    ]


def composition(law: Algebra) -> list[list[Line]]:
    """How two functions of the family make one, and the one that does nothing."""
    printer = _law_printer(law, {})

    def several(parts: Sequence[str]) -> str:
        return brackets(operator(",").join(parts))

    later = several([_subscripted(p) for p in law.later])
    earlier = several([_subscripted(p) for p in law.earlier])
    domains = ", ".join(str(d) for d in law.domains).replace(">=", "≥").replace("<=", "≤")
    result = [printer.definition(n) for n in law.compose]
    neutral = several(["".join(printer.definition(n)) for n in law.identity])
    left = later + operator("∘") + earlier
    same = Line("<mi>id</mi>", (neutral,))
    if len(law.parts) <= 2:
        return [[Line(left, (several(["".join(x) for x in result]),), domains), same]]
    # A line a part, where they would not stand in one, below the wide one.
    parts = [_subscripted(p) for p in law.parts]
    lines = [Line(p, x) for p, x in zip(parts, result, strict=True)]
    both = (later, operator("∘") + earlier)
    return [[Line(several(parts), both, domains)], [*lines, same]]


def _law_printer(law: Algebra, known: dict[str, Piece]) -> Printer:
    def leaf(n: int) -> Piece | None:
        node = law.nodes[n]
        if node.op == "const":
            return number(float(node.attrs[0]))
        if node.op == "symbol":
            name = str(node.attrs[0])
            return known.get(name) or atom(_subscripted(name))
        return None

    return Printer(law.nodes, leaf, {})


def _parts(
    s: Stratum, number: int, names: _PartNames, printer: Printer, ranges: Sequence[Interval]
) -> list[Line]:
    lines = []
    for part, n in names.parts(s):
        number_itself = printer.graph[n].op == "const"
        note = interval_text(ranges[n], bare=True) if ranges and not number_itself else ""
        lines.append(Line(names.markup(s, number, part), printer.shown(n), note))
    return lines


def _logs(s: Stratum, number: int, names: _PartNames, printer: Printer) -> list[Line]:
    lines = []
    for part, n in (("a", s.log_coefficient), ("b", s.log_offset)):
        if n is not None:
            left = f'<mi>log</mi><mspace width="0.2em"/>{names.markup(s, number, part)}'
            lines.append(Line(left, printer.shown(n)))
    return lines


def _adjoint(
    layer: LayerReport, s: Stratum, number: int, names: _PartNames, printer: Printer,
    shown: dict[str, int],
) -> tuple[list[Line], str]:  # fmt: skip
    """The adjoint of the kernel that runs the stratum; once, where several share it."""
    for stage in layer.plan.stages:
        if not isinstance(stage, KernelStage) or not set(stage.states) & set(s.states):
            continue
        name = stage.kernel.name
        if name in shown:
            return [], f"Derived together with stratum {shown[name]}: they share kernel {name}."
        shown[name] = number
        lines = adjoint_lines(layer.plan, stage, stage.states, names.by_node(printer), printer)
        others = [x for x in stage.states if x not in s.states]
        note = f"Kernel {name} also runs {', '.join(others)}." if others else ""
        return lines, note
    return [], ""
