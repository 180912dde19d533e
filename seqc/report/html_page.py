"""``seqc explain --html``: everything that is known of a spec, as one page to read in a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seqc.codegen.templates import page_environment
from seqc.diagnostics import Source
from seqc.ir.plan import LoopStage
from seqc.ir.recurrence import Recurrence
from seqc.ir.report import LayerReport, Report
from seqc.ir.verdict import Interval
from seqc.report.dependence import dependence
from seqc.report.dependence_svg import LIMIT, Drawing, draw
from seqc.report.formulas import Line, Printer, layer_printer
from seqc.report.source import SourceLine, printable, source_lines
from seqc.report.stages import StageView, stage_views
from seqc.report.strata import StratumView, interval_text, stratum_views


@dataclass(frozen=True)
class Known:
    """What a page needs of a layer besides its report.

    ``written``: the recurrence before anything was rewritten; None where it is not at hand.
    ``ranges``: where each node of the plan's recurrence lies.
    """

    written: Recurrence | None
    ranges: Sequence[Interval]


@dataclass(frozen=True)
class LayerView:
    """What the template reads of a layer."""

    name: str
    anchor: str
    doc: str
    summary: str
    lines: list[SourceLine]
    folded: list[SourceLine]
    written: list[Line]
    rewritten: list[Line]
    graph: Drawing | None
    values: int
    strata: list[StratumView]
    stages: list[StageView]


def render_page(
    report: Report, source: Source, known: Mapping[str, Known], diagnostics: str, version: str
) -> str:
    """The page of a report; ``known`` by the layers' names, ``diagnostics`` as rendered text.

    Self-contained: no script, and nothing is loaded from anywhere.
    """
    layers = [_layer(layer, source, known[layer.name]) for layer in report.layers]
    page = page_environment().get_template("report/page.html.jinja")
    return page.render(
        title=", ".join(v.name for v in layers),
        # A spec given as text has no file's name.
        file="" if source.name.startswith("<") else source.name,
        layers=layers,
        diagnostics=diagnostics,
        version=version,
        limit=LIMIT,
    )


def _layer(layer: LayerReport, source: Source, known: Known) -> LayerView:
    r = layer.plan.recurrence
    printer, shared = layer_printer(r, _extra(layer))
    rewritten = shared + _equations(printer, r, known.ranges)
    written = rewritten
    if known.written is not None:
        before, names = layer_printer(known.written)
        written = names + _equations(before, known.written, ())
    bare = {(x.left, x.right) for x in written}
    values = dependence(known.written or r, [s.states for s in layer.strata])
    captions = [(f"stratum {i}", s.algebra, s.method) for i, s in enumerate(layer.strata)]
    fits = len(values.values) <= LIMIT
    folded, lines = source_lines(source, r, layer)
    return LayerView(
        name=r.name,
        anchor=f"layer-{r.name}",
        # The whole comment stands in the spec.
        doc=printable(r.doc.strip().split("\n\n")[0]),
        summary=_summary(layer),
        lines=lines,
        folded=folded,
        written=written,
        rewritten=[x for x in rewritten if (x.left, x.right) not in bare],
        graph=draw(values, captions) if fits else None,
        values=len(values.values),
        strata=stratum_views(layer, printer, known.ranges, source),
        stages=stage_views(layer),
    )


def _extra(layer: LayerReport) -> list[int]:
    """What the strata print besides the equations."""
    found: list[int] = []
    for s in layer.plan.analysis.strata:
        found += [*s.parts, *s.coefficient, *s.offset]
        found += [n for n in (s.log_coefficient, s.log_offset) if n is not None]
    return found


def _equations(printer: Printer, r: Recurrence, ranges: Sequence[Interval]) -> list[Line]:
    lines = []
    for e in r.equations:
        name = printer.value_of(e.name, e.constant)
        note = interval_text(ranges[e.node], bare=True) if ranges else ""
        lines.append(Line(name, printer.definition(e.node), note))
    return lines


def _summary(layer: LayerReport) -> str:
    count = len(layer.strata)
    proved = sum(str(s.verdict) == "proved" for s in layer.strata)
    kernels = len(layer.costs)
    text = f"{count} {'stratum' if count == 1 else 'strata'}, {proved} proved; "
    if not layer.plan.stages:
        return text + "runs step by step"
    loops = sum(isinstance(s, LoopStage) for s in layer.plan.stages)
    steps = "" if not loops else f", {loops} loop{'' if loops == 1 else 's'} in PyTorch"
    return text + f"{kernels} fused kernel{'' if kernels == 1 else 's'}" + steps
