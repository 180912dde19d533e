"""``seqc explain``: the compiler's reasoning about a spec, for a person to read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from seqc.commands.common import (
    CommandError,
    add_layer,
    add_spec,
    did_you_mean,
    find_spec,
    write_text,
)
from seqc.commands.common import show_diagnostics as show

if TYPE_CHECKING:
    from seqc.ir.report import LayerReport, Report, StratumReport
    from seqc.ir.verdict import Verdict

SUMMARY = "show the rewritten equations, the proofs, the derived forms and the plan"
EPILOG = """\
examples:
  seqc explain MinGRU
  seqc explain MinGRU --html mingru.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_spec(parser)
    add_layer(parser)
    parser.add_argument(
        "--html", metavar="FILE", help="write it as one HTML page, with a drawing (-: to stdout)"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    import seqc

    spec = find_spec(options.spec)
    report = narrow(seqc.check(spec.where), options.layer or spec.layer)
    failed = show(report.diagnostics)
    if options.html is not None:
        from seqc.passes.pages import page

        text = page(report)
        if options.html == "-":  # what the terminal's encoding lacks has a name in HTML
            encoding = sys.stdout.encoding or "utf-8"
            text = text.encode(encoding, "xmlcharrefreplace").decode(encoding)
        write_text(options.html, text)
        return int(failed)
    print("\n\n".join(explain(layer) for layer in report.layers))
    return int(failed)


def narrow(report: Report, name: str | None) -> Report:
    """The report with the layer of that name alone, less what is said of other layers of the file
    alone; with all of them for None.

    Raises:
        CommandError: the report has no such layer.
    """
    if name is None:
        return report
    if name not in set(report):
        hint = did_you_mean(name, report) or f"it has: {', '.join(report)}"
        raise CommandError(f"the spec has no layer {name!r}", hint=hint)
    mine = report[name].diagnostics
    others = {d for x in report.layers for d in x.diagnostics}.difference(mine)
    said = tuple(d for d in report.diagnostics if d not in others)
    return replace(report, layers=(report[name],), diagnostics=said)


def explain(layer: LayerReport) -> str:
    """One layer's reasoning: equations, strata with proofs and forms, stages."""
    return "\n".join(_lines(layer))


def _lines(layer: LayerReport) -> Iterator[str]:
    count = len(layer.strata)
    yield f"{layer.name}: {count} {'stratum' if count == 1 else 'strata'}"
    if layer.equations:
        yield ""
        yield "  equations, as rewritten"
        yield from _block(layer.equations)
    for number, stratum in enumerate(layer.strata):
        yield ""
        yield f"  stratum {number}: {', '.join(stratum.states)}"
        yield from (f"    {line}" for line in explain_stratum(stratum))
    yield ""
    if layer.stages:
        yield "  stages, in order"
        yield from _block(f"{i}. {text}" for i, text in enumerate(layer.stages, 1))
    else:
        yield "  stages: none, the layer runs step by step"
    if layer.costs:
        yield ""
        yield "  what a kernel moves and computes, a step and element, in float32"
        for cost in layer.costs:
            yield f"    {cost.name} forward   {cost.forward}"
            yield f"    {' ' * len(cost.name)} backward  {cost.backward}"


def explain_stratum(s: StratumReport) -> list[str]:
    """One stratum: what it is, why, and what was derived from it."""
    coefficient = "" if s.coefficient_range is None else f", in {s.coefficient_range}"
    facts = [
        ("algebra", f"{s.algebra}, {_verdict(s.verdict)}"),
        ("because", s.reason if s.reason != s.verdict.reason else ""),
        ("method", s.method),
        ("jacobian", s.jacobian),
        ("newton", "" if s.newton is None else str(s.newton)),
        ("gradient", "" if s.gradient == "exact" else s.gradient),
        ("coefficient", f"{s.coefficient}{coefficient}" if s.coefficient else coefficient[2:]),
        ("offset", s.offset),
        ("carries", ", ".join(s.carries) if len(s.carries) > 1 else ""),
        ("parts", "" if s.coefficient and s.domain == "linear" else "\n".join(s.parts)),
        ("domain", f"{s.domain}: {s.domain_reason}" if s.domain_reason else s.domain),
        ("log coefficient", s.log_coefficient),
        ("log offset", s.log_offset),
    ]
    width = max(len(name) for name, text in facts if text)
    lines: list[str] = []
    for name, text in facts:
        if text:
            first, *rest = text.splitlines()
            lines.append(f"{name:<{width}}  {first}")
            lines += [f"{'':<{width}}  {line}" for line in rest]
    if s.adjoint:
        lines += ["adjoint, backwards in time", *(f"  {line}" for line in s.adjoint)]
    if s.laws:
        lines += ["laws", *(f"  {w.law}: {_verdict(w.verdict)}" for w in s.laws)]
    return lines


def _verdict(verdict: Verdict) -> str:
    text = str(verdict)
    if verdict.reason:
        text += f" ({verdict.reason})"
    if verdict.counterexample:
        values = ", ".join(f"{k} = {v:g}" for k, v in verdict.counterexample.items())
        text += f"; it fails at {values}"
    return text


def _block(texts: Iterator[str] | tuple[str, ...]) -> Iterator[str]:
    for text in texts:
        yield from (f"    {line}" for line in text.splitlines())
