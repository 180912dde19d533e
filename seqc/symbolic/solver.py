"""One stratum: the cheapest algebra that fits its equations, with the proof that it does.

In order: an algebra that the spec names; affine and block-affine (rotation among
them), by collecting coefficients; the shapes of one carry (max-plus, clamped affine,
…); a march, where every channel goes its own way or is mixed along one axis alone;
else the reference.
"""

from __future__ import annotations

from dataclasses import replace

from seqc.diagnostics import Diagnostic, Span
from seqc.ir.algebra import Algebra, find_algebra
from seqc.ir.graph import reachable
from seqc.ir.ops import POINTWISE
from seqc.ir.plan import Stratum
from seqc.ir.recurrence import Application, Recurrence
from seqc.ir.verdict import Verdict
from seqc.symbolic import refusals
from seqc.symbolic.affine import Linearity, Ring, prove_affine
from seqc.symbolic.algebra import acts_affinely, keeps, together
from seqc.symbolic.domains import choose_domain, law_reason, log_form
from seqc.symbolic.follow import follow, prove_shape
from seqc.symbolic.numeric import disagreement
from seqc.symbolic.refusals import Refusal
from seqc.symbolic.rewrite import StableBuilder
from seqc.symbolic.semirings import semiring_of
from seqc.symbolic.shapes import SHAPES
from seqc.symbolic.step import Step, carry_node, read_step
from seqc.symbolic.strata import Component

#: Carries of one stratum that is scanned: block-affine is written out for so many states.
_SCANNED = 4


class Solver:
    """Strata of one recurrence; ``notes`` collects what there is to say of them."""

    def __init__(self, algebras: tuple[Algebra, ...], builder: StableBuilder) -> None:
        self.algebras = algebras
        self.builder = builder
        self.ring = Ring(builder.op, builder.const, builder.nonnegative)
        self.notes: list[Diagnostic] = []

    def stratum(self, recurrence: Recurrence, component: Component) -> Stratum:
        """The stratum of a component; builds the nodes of its parts."""
        if not component.reads:
            return self._free(recurrence, component)
        return self._asked(recurrence, self._found(recurrence, component))

    def _asked(self, recurrence: Recurrence, found: Stratum) -> Stratum:
        """The stratum, taken step by step where the spec asks for that."""
        solve = recurrence.solve(found.states[0])
        if solve is None or solve.method != "sequential" or found.method != "scan":
            return found
        reason = "step by step, as the spec asks"
        return replace(
            found, method="march", law=None, parts=(), coefficient=(), offset=(), domain="linear",
            domain_reason=reason,
        )  # fmt: skip

    def _found(self, recurrence: Recurrence, component: Component) -> Stratum:
        """The stratum of a component that reads its past."""
        step = read_step(recurrence, component, self.builder, self.ring)
        named = [a for a in recurrence.applied if a.state in component.states]
        if named:
            return self._named(step, named[0])
        if component.others and step.past.obstacle is None:
            return self._refused(step, refusals.not_a_state(recurrence, component))
        if step.past.obstacle is None and step.jacobian != "full":
            return self._linear(step)
        if step.past.obstacle is None:
            return self._mixing(step)
        found = self._shaped(step) or self._over_semiring(step)
        if found is not None:
            return found
        return self._refused(step, refusals.nonlinear(recurrence, component, step.past.obstacle))

    # ---- laws

    def _laws(self, law: Algebra | None, name: str) -> Verdict:
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

    def _domains(self, law: Algebra, parts: tuple[int, ...]) -> str:
        """The domain that is not proved of its part; empty where all are."""
        for d in law.domains:
            lies = self.builder.ranges[parts[law.parts.index(d.part)]]
            if not keeps(d, lies):
                return f"{d} is not proved of its part, which lies in {lies}"
        return ""

    def _checked(
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

    # ---- kinds of strata

    def _free(self, recurrence: Recurrence, component: Component) -> Stratum:
        """A state that does not depend on its past: affine, with the coefficient zero."""
        law = find_algebra(self.algebras, "affine", 1)
        laws = self._laws(law, "affine")
        state = recurrence.state(component.states[0])
        read = carry_node(self.builder, recurrence, state.name, 1)
        step = Step(
            recurrence, component, Linearity((), {}, None, None), "diagonal",
            ((state.name, 1),), (read,), (state.update,),
        )  # fmt: skip
        verdict = Verdict(str(laws), "the state does not depend on its past")
        if laws != "proved" or law is None:
            return self._unproved(step, "affine", laws)
        return self._affine(step, law, (self.builder.const(0.0), state.update), verdict)

    def _linear(self, step: Step) -> Stratum:
        count = len(step.carries)
        if not count:
            return self._refused(step, refusals.too_late(step.recurrence, step.component))
        graph = self.builder.graph
        if count > _SCANNED:
            verdict = Verdict("unknown", f"{count} carries are more than an algebra is written for")
            refusal = refusals.too_many(step.recurrence, step.component, count, _SCANNED)
            return self._refused(step, refusal, verdict)
        zero = self.builder.const(0.0)
        rows = [step.past.pairs[n] for n in step.after]
        matrix = tuple(zero if x is None else int(x) for row in rows for x in row[:-1])
        offsets = tuple(zero if row[-1] is None else int(row[-1]) for row in rows)
        name, parts = "affine" if count == 1 else "block_affine", (*matrix, *offsets)
        if count == 2 and self._rotates(matrix):
            name, parts = "rotation", (matrix[0], matrix[2], *offsets)
        law = find_algebra(self.algebras, name, count)
        verdict = self._laws(law, name)
        if law is None or verdict != "proved":
            return self._unproved(step, name, verdict)
        for n in sorted(set(step.after) - set(step.reads)) or step.after[:1]:
            verdict = prove_affine(graph, step.reads, n, step.past.past)
            if verdict != "proved":
                break
        verdict = self._checked(step, law, parts, verdict)
        if verdict != "proved":
            return self._unproved(step, name, verdict)
        if name == "affine":
            return self._affine(step, law, parts, verdict)
        return self._scan(step, law, parts, verdict)

    def _rotates(self, matrix: tuple[int, ...]) -> bool:
        a, minus_b, b, d = matrix
        return a == d and (
            self.builder.op("neg", b) == minus_b or self.builder.op("neg", minus_b) == b
        )

    def _affine(
        self, step: Step, law: Algebra, parts: tuple[int, ...], verdict: Verdict
    ) -> Stratum:
        coefficient, offset = parts
        interval = self.builder.ranges[coefficient]
        if interval.beyond(1.0):
            self.notes.append(refusals.growing(step.recurrence, step.names[0], interval))
        log_coefficient, log_offset = log_form(self.builder, coefficient, offset)
        solve = step.recurrence.solve(step.carries[0][0])
        domain, reason = choose_domain(self.builder, coefficient, solve.domain if solve else "")
        scan = self._scan(step, law, parts, verdict)
        if domain == "log":
            in_logs = find_algebra(self.algebras, "exp_affine", 1)
            if in_logs is not None and self._laws(in_logs, "exp_affine") == "proved":
                logarithm = self.builder.op("log", coefficient)
                scan = replace(scan, domain="log", law=in_logs, parts=(logarithm, offset))
        elif solve is not None and solve.domain == "log":
            self.notes.append(refusals.no_logarithm(solve, step.carries[0][0], interval))
        return replace(
            scan,
            domain_reason=reason,
            coefficient_range=interval,
            coefficient=(coefficient,),
            offset=(offset,),
            log_coefficient=log_coefficient,
            log_offset=log_offset,
        )

    def _scan(self, step: Step, law: Algebra, parts: tuple[int, ...], verdict: Verdict) -> Stratum:
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

    def _shaped(self, step: Step) -> Stratum | None:
        """A nonlinear update of one carry that has a shape."""
        if len(step.carries) != 1 or step.jacobian != "diagonal":
            return None
        (read,), (root,), past = step.reads, step.after, step.past.past
        for shape in SHAPES:
            forms = follow(self.builder, read, past, shape, self.ring, lambda n: n)
            law = find_algebra(self.algebras, shape.law, 1)
            if root not in forms or law is None:
                continue
            parts = tuple(
                self.builder.const(e) if x is None else int(x)
                for x, e in zip(forms[root], shape.neutral, strict=True)
            )
            if self._domains(law, parts) or self._laws(law, shape.law) != "proved":
                continue
            verdict = prove_shape(self.builder, read, root, past, shape, law)
            verdict = self._checked(step, law, parts, verdict)
            if verdict == "proved":
                return self._scan(step, law, parts, verdict)
        return None

    def _over_semiring(self, step: Step) -> Stratum | None:
        """Channels that meet in another semiring: a full matrix a step, which no kernel runs."""
        if step.past.mixing is None or not step.carries:
            return None
        past = step.past.past
        title = semiring_of(self.builder.graph, step.reads, past, step.after)
        if title is None:
            return None
        reason = (
            "each channel joins the others, each plus what is free of the past: each step is "
            "linear over this semiring by induction over its operations"
        )
        self.notes.append(refusals.mixing_over(step.recurrence, step.component, title))
        return Stratum(
            states=step.names,
            algebra=title,
            verdict=Verdict("proved", reason),
            method="sequential",
            jacobian="full",
            domain_reason="nothing is composed over time",
            reason=reason,
        )

    def _mixing(self, step: Step) -> Stratum:
        """Linear, but channels meet: along one axis, the others march; else a full matrix."""
        nodes = self.builder.graph
        axes = {s.axes for s in step.recurrence.states if s.name in step.component.states}
        met: list[str] = []
        for n in step.past.past:
            node = nodes[n]
            if node.op == "reduce":
                met.append(str(node.attrs[1]))
            elif node.op not in POINTWISE and n not in step.reads:
                met.append("")
        over = dict.fromkeys(met)
        if step.carries and len(axes) == 1 and len(over) == 1 and met[0] in next(iter(axes)):
            reason = (
                f"sums over {met[0]}, and products with factors free of the past: each step is "
                "linear by induction over its operations"
            )
            return Stratum(
                states=step.names,
                algebra=f"block-affine over {met[0]}",
                verdict=Verdict("proved", reason),
                method="march",
                jacobian="block",
                domain_reason="nothing is composed over time",
                carries=step.carries,
                after=step.after,
                reason=reason,
            )
        return self._refused(step, refusals.mixing(step.recurrence, step.component, step.past))

    def _named(self, step: Step, named: Application) -> Stratum:
        """The algebra that the spec names, if its laws, domains and parts bear it out."""
        law, recurrence = named.algebra, step.recurrence
        laws = self._laws(law, law.name)
        places = [step.carries.index((s, 1)) for s in named.states if (s, 1) in step.carries]
        why = self._domains(law, named.parts)
        if reachable(recurrence.nodes, named.parts) & set(step.component.reads):
            why = "its parts depend on the past of the states that it is applied to"
        elif laws != "proved":
            why = f"its laws are not proved: {laws.reason}"
        elif len(places) != len(step.carries) or len(places) != len(named.states):
            why = "its states do not depend on one another alone"
        if not why:
            ordered = replace(
                step,
                carries=tuple(step.carries[i] for i in places),
                reads=tuple(step.reads[i] for i in places),
                after=tuple(step.after[i] for i in places),
            )
            verdict = Verdict(
                "proved", f"the equation is {law.title} applied to the past, as written"
            )
            verdict = self._checked(ordered, law, named.parts, verdict)
            if verdict == "proved" and law.name == "affine" and law in self.algebras:
                return self._affine(ordered, law, named.parts, verdict)
            if verdict == "proved":
                return self._scan(ordered, law, named.parts, verdict)
            why = verdict.reason
        refusal = refusals.misapplied(recurrence, named.state, law.title, why)
        verdict = laws if laws == "refuted" else Verdict("unknown", why)
        return self._refused(step, refusal, verdict, silent=laws == "refuted")

    # ---- no scan

    def _unproved(self, step: Step, name: str, verdict: Verdict) -> Stratum:
        refusal = refusals.unproved(
            step.recurrence, step.names[0], name.replace("_", "-"), verdict.reason
        )
        return self._refused(
            step, refusal, verdict, silent=verdict == "refuted", method="sequential"
        )

    def _refused(
        self,
        step: Step,
        refusal: Refusal,
        verdict: Verdict | None = None,
        silent: bool = False,
        method: str = "",
    ) -> Stratum:
        """Step by step: in one kernel where each channel goes its own way, else the reference."""
        marches = bool(step.carries) and step.jacobian != "full"
        method = method or ("march" if marches else "sequential")
        if not silent:
            self.notes.append(refusal.warning(method))
        obstacle: Span | None = None
        if step.past.obstacle is not None:
            obstacle = self.builder.graph[step.past.obstacle].span
        return Stratum(
            states=step.names,
            algebra=refusal.algebra,
            verdict=Verdict("unknown", refusal.reason) if verdict is None else verdict,
            method=method,
            jacobian=step.jacobian,
            domain_reason="nothing is composed over time",
            carries=step.carries if method == "march" else (),
            after=step.after if method == "march" else (),
            reason=refusal.reason,
            obstacle=obstacle,
        )
