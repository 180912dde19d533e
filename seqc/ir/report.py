"""What ``seqc.check`` returns: everything the compiler found out, compiling no kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from seqc.diagnostics import Diagnostic
from seqc.ir.costs import KernelCost
from seqc.ir.plan import Plan
from seqc.ir.solving import Newton
from seqc.ir.verdict import Interval, Verdict


@dataclass(frozen=True)
class LawReport:
    """A law of an algebra and what its proof came to."""

    law: str
    verdict: Verdict


@dataclass(frozen=True)
class StratumReport:
    """One stratum, as a person asks about it.

    ``coefficient``, ``offset``, ``log_coefficient``, ``log_offset``, ``adjoint``,
    ``carries`` (``h[t-1]``) and ``parts`` (``a = …``) are printed forms (empty where
    there is none).  ``gradient`` is how gradients come back; ``newton`` what iterations go by, the
    Jacobian as it was found where the spec leaves it open.
    """

    states: tuple[str, ...]
    algebra: str
    verdict: Verdict
    method: str
    jacobian: str
    domain: str
    domain_reason: str
    coefficient_range: Interval | None
    reason: str = ""
    coefficient: str = ""
    offset: str = ""
    log_coefficient: str = ""
    log_offset: str = ""
    adjoint: tuple[str, ...] = ()
    laws: tuple[LawReport, ...] = ()
    carries: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    gradient: str = "exact"
    newton: Newton | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict with the attribute names of this class."""
        r = self.coefficient_range
        return {
            "states": list(self.states),
            "algebra": self.algebra,
            "verdict": str(self.verdict),
            "counterexample": dict(self.verdict.counterexample or {}) or None,
            "method": self.method,
            "jacobian": self.jacobian,
            "domain": self.domain,
            "domain_reason": self.domain_reason,
            "coefficient_range": None if r is None else [r.lo, r.hi],
            "reason": self.reason,
            "coefficient": self.coefficient,
            "offset": self.offset,
            "log_coefficient": self.log_coefficient,
            "log_offset": self.log_offset,
            "adjoint": list(self.adjoint),
            "carries": list(self.carries),
            "parts": list(self.parts),
            "gradient": self.gradient,
            "newton": None if self.newton is None else asdict(self.newton),
            "laws": [{"law": w.law, "verdict": str(w.verdict)} for w in self.laws],
        }


@dataclass(frozen=True)
class LayerReport:
    """One layer: its strata in order, its plan, and how much it moves and computes a step."""

    name: str
    strata: tuple[StratumReport, ...]
    plan: Plan = field(repr=False)
    equations: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    costs: tuple[KernelCost, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain dict: name, strata, equations (as rewritten), stages, costs, diagnostics."""
        return {
            "name": self.name,
            "strata": [s.to_json() for s in self.strata],
            "equations": list(self.equations),
            "stages": list(self.stages),
            "costs": [c.to_json() for c in self.costs],
            "diagnostics": [d.to_json() for d in self.diagnostics],
        }


@dataclass(frozen=True)
class Report:
    """``report["MinGRU"].strata[0].algebra``: a mapping from layer names to their reports."""

    layers: tuple[LayerReport, ...]
    diagnostics: tuple[Diagnostic, ...] = ()

    def __getitem__(self, name: str) -> LayerReport:
        for layer in self.layers:
            if layer.name == name:
                return layer
        have = ", ".join(x.name for x in self.layers)
        raise KeyError(f"no layer {name!r} in this report (it has: {have})")

    def __iter__(self) -> Iterator[str]:
        return iter(x.name for x in self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def to_json(self) -> dict[str, Any]:
        """A plain dict: layers by name, and the diagnostics."""
        return {
            "layers": {x.name: x.to_json() for x in self.layers},
            "diagnostics": [d.to_json() for d in self.diagnostics],
        }
