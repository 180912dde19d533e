"""The page of ``seqc explain --html``: what the passes know, handed to the printer of pages."""

from __future__ import annotations

import os
from dataclasses import replace

from seqc.diagnostics import Diagnostic, Label, SeqcError, Source, Span, render
from seqc.frontend import parse_spec
from seqc.ir.recurrence import Recurrence
from seqc.ir.report import Report
from seqc.report.html_page import Known, render_page
from seqc.symbolic.intervals import intervals
from seqc.version import VERSION


def page(report: Report) -> str:
    """The report as one self-contained HTML page, the same on every run and machine.

    The spec is called by its file's name alone: a page may be published.
    """
    source = next((x.plan.recurrence.source for x in report.layers), None) or Source("")
    source = replace(source, name=os.path.basename(source.name))
    written = _written(source)
    known = {
        x.name: Known(written.get(x.name), intervals(x.plan.recurrence.nodes))
        for x in report.layers
    }
    text = "\n\n".join(render(_published(d)) for d in report.diagnostics)
    return render_page(report, source, known, text, VERSION)


def _written(source: Source) -> dict[str, Recurrence]:
    """The layers before anything was rewritten; none where the text does not parse alone."""
    try:
        recurrences, _ = parse_spec(source)
    except SeqcError:
        return {}
    return {r.name: r for r in recurrences}


def _published(d: Diagnostic) -> Diagnostic:
    """The diagnostic with files called by their names alone."""
    # One source object each, for the renderer groups excerpts by it.
    sources: dict[int, Source] = {}

    def moved(span: Span) -> Span:
        named = replace(span.source, name=os.path.basename(span.source.name))
        return replace(span, source=sources.setdefault(id(span.source), named))

    return replace(
        d,
        span=None if d.span is None else moved(d.span),
        related=tuple(Label(moved(x.span), x.text) for x in d.related),
    )
