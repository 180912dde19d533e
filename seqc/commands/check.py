"""``seqc check``: what the compiler finds out about a spec, compiling no kernel."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from seqc.commands.common import add_spec, find_spec, show_diagnostics, table
from seqc.commands.explain import narrow
from seqc.diagnostics import SeqcError

if TYPE_CHECKING:
    from seqc.ir.report import LayerReport, Report

SUMMARY = "check a spec and say what was proved of it"
EPILOG = """\
Exits with 1 where the spec is refused.

examples:
  seqc check MinGRU
  seqc check mylayer.seq --json
"""

_HEADER = (
    "layer", "stratum", "states", "algebra", "verdict", "method", "jacobian", "domain",
    "coefficient",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_spec(parser)
    parser.add_argument(
        "--json", action="store_true", help="print the report as JSON, diagnostics included"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    import seqc

    spec = find_spec(options.spec)
    try:
        report = narrow(seqc.check(spec.where), spec.layer)
    except SeqcError as error:
        if not options.json:
            raise
        refusal = {"layers": {}, "diagnostics": [d.to_json() for d in error.diagnostics]}
        print(to_json(refusal))
        return 1
    records = list(
        dict.fromkeys([*report.diagnostics, *(d for x in report.layers for d in x.diagnostics)])
    )
    if options.json:
        print(to_json(report.to_json()))
        return int(any(d.severity == "error" for d in records))
    failed = show_diagnostics(records)
    print(describe(report))
    return int(failed)


def describe(report: Report) -> str:
    """The table: a stratum a row."""
    rows = [row for layer in report.layers for row in _rows(layer)]
    return table(_HEADER, rows) if rows else "no layer has a state"


def _rows(layer: LayerReport) -> list[tuple[str, ...]]:
    return [
        (
            layer.name,
            str(number),
            ", ".join(s.states),
            s.algebra,
            str(s.verdict),
            s.method,
            s.jacobian,
            s.domain,
            "" if s.coefficient_range is None else f"in {s.coefficient_range}",
        )
        for number, s in enumerate(layer.strata)
    ]


def to_json(value: object) -> str:
    """JSON that every parser reads: infinite ends of intervals become strings."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    # JSON has no infinity and no NaN; what Python prints for them is not JSON.
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value
