"""What a proof of a stratum rests on: an algebra's laws, domains, and a check in numbers."""

from __future__ import annotations

from seqc.diagnostics import Diagnostic
from seqc.ir.algebra import Algebra
from seqc.ir.plan import Stratum
from seqc.ir.verdict import Verdict
from seqc.symbolic import refusals
from seqc.symbolic.affine import Ring
from seqc.symbolic.algebra import acts_affinely, keeps, together
from seqc.symbolic.domains import law_reason
from seqc.symbolic.numeric import disagreement
from seqc.symbolic.rewrite import StableBuilder
from seqc.symbolic.step import Step


class Prover:
    """The algebras at hand and the graph that parts are built in; ``notes`` says what there is."""

    def __init__(self, algebras: tuple[Algebra, ...], builder: StableBuilder) -> None:
        self.algebras = algebras
        self.builder = builder
        self.ring = Ring(builder.op, builder.const, builder.nonnegative)
        self.notes: list[Diagnostic] = []

    def laws(self, law: Algebra | None, name: str) -> Verdict:
        """What the laws of an algebra come to, together; a refuted one is an error."""
        if law is None:
            return Verdict("unknown", f"no algebra named {name} is at hand")
        verdict, refuted = together(law)
        if refuted:
            self.notes.append(refusals.refuted_law(law, refuted, verdict))
        if verdict == "proved" and law.name == "affine" and law in self.algebras:
            if not acts_affinely(law):
                return Verdict("unknown", "algebra affine does not apply as a * h + b")
        return verdict

    def domains(self, law: Algebra, parts: tuple[int, ...]) -> str:
        """The domain that is not proved of its part; empty where all are."""
        for d in law.domains:
            lies = self.builder.ranges[parts[law.parts.index(d.part)]]
            if not keeps(d, lies):
                return f"{d} is not proved of its part, which lies in {lies}"
        return ""

    def checked(
        self, step: Step, law: Algebra, parts: tuple[int, ...], verdict: Verdict
    ) -> Verdict:
        """The verdict, unless numbers speak against it."""
        if verdict != "proved":
            return verdict
        differs = disagreement(
            self.builder.graph, step.reads, step.after, law, parts, self.builder.ranges
        )
        if differs is not None:
            return Verdict("unknown", "the rewritten form differs in numbers", differs)
        return verdict

    def scan(self, step: Step, law: Algebra, parts: tuple[int, ...], verdict: Verdict) -> Stratum:
        """The stratum that the law scans."""
        return Stratum(
            states=step.names,
            algebra=law.title,
            verdict=verdict,
            method="scan",
            jacobian=step.jacobian,
            domain_reason=law_reason(law),
            carries=step.carries,
            after=step.after,
            law=law,
            parts=parts,
            reason=verdict.reason,
        )
