"""Specs for the tests of the analysis, read by the frontend."""

from __future__ import annotations

import functools

from seqc.diagnostics import Source
from seqc.frontend import parse_algebras, parse_spec, prelude
from seqc.ir.algebra import Algebra
from seqc.ir.graph import Graph
from seqc.ir.plan import Analysis
from seqc.ir.recurrence import Recurrence
from seqc.symbolic.analyse import analyse

HEAD = "layer A\nsize hidden\ninput x[t]: hidden\nstate h[t]: hidden\n"


def recurrence(text: str) -> Recurrence:
    """The first layer of the text; a body without ``layer`` gets a head with x[t] and h[t]."""
    if "layer " not in text:
        text = f"{HEAD}{text}\noutput h[t]\n"
    return parse_spec(Source(text))[0][0]


@functools.cache
def algebras() -> tuple[Algebra, ...]:
    """Those of the prelude."""
    return parse_algebras(prelude())


def analysis(text: str) -> Analysis:
    """The analysis of the first layer."""
    return analyse(recurrence(text), algebras())


def shown(graph: Graph, position: int) -> str:
    """The node as nested calls; leaves by their names."""
    n = graph[position]
    if n.op == "const":
        return f"{n.attrs[0]:g}"
    if n.op == "read":
        return f"{n.attrs[0]}[t-{n.attrs[1]}]" if n.attrs[1] else f"{n.attrs[0]}[t]"
    if n.op in ("hyper", "param", "size"):
        return str(n.attrs[0])
    if n.op == "map":
        return f"map{n.attrs[0]}"
    return f"{n.op}({', '.join(shown(graph, a) for a in n.args)})"
