"""One stratum: the cheapest algebra that fits its equations, with the proof that it does.

In order: an algebra that the spec names; affine and block-affine (rotation among
them), by collecting coefficients; maxima and logaddexps of carries (max-plus, …);
the shapes of one carry (clamped affine, Möbius); a march, where every channel goes
its own way or meets others in sums along axes of the state; else the reference.
"""

from __future__ import annotations

from dataclasses import replace

from seqc.diagnostics import Span
from seqc.ir.algebra import Algebra, find_algebra
from seqc.ir.graph import reachable
from seqc.ir.plan import Stratum
from seqc.ir.recurrence import Application, Recurrence
from seqc.ir.solving import Newton
from seqc.ir.verdict import Verdict
from seqc.symbolic import refusals
from seqc.symbolic.affine import Linearity, prove_affine
from seqc.symbolic.domains import choose_domain, log_form
from seqc.symbolic.known import along_axes, marched, over_semiring
from seqc.symbolic.methods import why_march
from seqc.symbolic.nonlinear import shaped
from seqc.symbolic.prover import Prover
from seqc.symbolic.refusals import Refusal
from seqc.symbolic.step import Step, carry_node, read_step
from seqc.symbolic.strata import Component

#: Warnings that a stratum is no scan.
NO_SCAN = ("W101", "W103", "W104", "W105")


def _apart(found: Stratum, method: str, reason: str, newton: Newton | None = None) -> Stratum:
    """The stratum without its law, solved by a method that needs none."""
    return replace(
        found, method=method, law=None, parts=(), coefficient=(), offset=(), domain="linear",
        domain_reason=reason, carries=(), after=(), newton=newton,
    )  # fmt: skip


class Solver(Prover):
    """Strata of one recurrence; ``notes`` collects what there is to say of them."""

    def stratum(self, recurrence: Recurrence, component: Component) -> Stratum:
        """The stratum of a component; builds the nodes of its parts."""
        if not component.reads:
            return self._free(recurrence, component)
        before = len(self.notes)
        return self._asked(recurrence, self._found(recurrence, component), before)

    def _asked(self, recurrence: Recurrence, found: Stratum, before: int) -> Stratum:
        """The stratum, solved as the spec asks; it has notes from the position ``before`` on."""
        solve, feedback = recurrence.solve(*found.states), recurrence.feedback(*found.states)
        method = "" if solve is None else solve.method
        if method == "newton" and solve is not None and found.method != "scan":
            # That it is no scan need not be said to who asks for Newton's iterations.
            self.notes[before:] = [d for d in self.notes[before:] if d.code not in NO_SCAN]
            axes = {recurrence.nodes[recurrence.definition(x) or 0].axes for x in found.states}
            if solve.newton is not None and solve.newton.jacobian == "block" and len(axes) > 1:
                self.notes.append(refusals.no_blocks(solve, found.states))
            reason = "Newton's iterations, as the spec asks"
            found = _apart(found, "newton", reason, newton=solve.newton)
        if feedback.kind != "exact":
            if found.method != "newton":
                reason = f"step by step, since gradients are {feedback.kind}"
                found = _apart(found, "sequential", reason)
            return replace(found, feedback=feedback)
        if method == "sequential" and found.method == "scan":
            reason = "step by step, as the spec asks"
            carries, after = found.carries, found.after
            return replace(_apart(found, "march", reason), carries=carries, after=after)
        return found

    def _found(self, recurrence: Recurrence, component: Component) -> Stratum:
        """The stratum of a component that reads its past."""
        step = read_step(recurrence, component, self.builder, self.ring)
        # With parts such that one of the states has no past, what is left is looked at as it is.
        named = [a for a in recurrence.applied if set(a.states) <= set(component.states)]
        if named:
            return self._named(step, named[0])
        if component.others and step.past.obstacle is None:
            return self._refused(step, refusals.not_a_state(recurrence, component))
        if step.past.obstacle is None and step.jacobian != "full":
            return self._linear(step)
        if step.past.obstacle is None:
            refusal = refusals.mixing(recurrence, component, step.past)
            return along_axes(step, self.builder.graph) or self._refused(step, refusal)
        found = shaped(self, step)
        if found is not None:
            return found
        found = over_semiring(step, self.builder)
        if found is not None:
            note = refusals.mixing_over(recurrence, component, found.algebra, found.method)
            self.notes.append(note)
            return found
        return self._refused(step, refusals.nonlinear(recurrence, component, step.past.obstacle))

    # ---- kinds of strata

    def _free(self, recurrence: Recurrence, component: Component) -> Stratum:
        """A state that does not depend on its past: affine, with the coefficient zero."""
        law = find_algebra(self.algebras, "affine", 1)
        laws = self.laws(law, "affine")
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
        block = find_algebra(self.algebras, "block_affine", count)
        why = why_march(block, count) if count > 1 else ""
        if why:
            verdict = self._expanded(step)
            if verdict != "proved":
                return self._unproved(step, "block_affine", verdict)
            return marched(step, "block-affine", verdict, why)
        zero = self.builder.const(0.0)
        collected = [step.past.pairs[n] for n in step.after]
        matrix = tuple(zero if x is None else int(x) for row in collected for x in row[:-1])
        offsets = tuple(zero if row[-1] is None else int(row[-1]) for row in collected)
        name, parts = "affine" if count == 1 else "block_affine", (*matrix, *offsets)
        if count == 2 and self._rotates(matrix):
            name, parts = "rotation", (matrix[0], matrix[2], *offsets)
        law = find_algebra(self.algebras, name, count)
        verdict = self.laws(law, name)
        if law is None or verdict != "proved":
            return self._unproved(step, name, verdict)
        verdict = self.checked(step, law, parts, self._expanded(step))
        if verdict != "proved":
            return self._unproved(step, name, verdict)
        if name == "affine":
            return self._affine(step, law, parts, verdict)
        return self.scan(step, law, parts, verdict)

    def _expanded(self, step: Step) -> Verdict:
        """Whether every update is affine in the carries; the first that is not proved to be."""
        verdict = Verdict("unknown")
        for n in sorted(set(step.after) - set(step.reads)) or step.after[:1]:
            verdict = prove_affine(self.builder.graph, step.reads, n, step.past.past)
            if verdict != "proved":
                break
        return verdict

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
        scan = self.scan(step, law, parts, verdict)
        if domain == "log":
            in_logs = find_algebra(self.algebras, "exp_affine", 1)
            if in_logs is not None and self.laws(in_logs, "exp_affine") == "proved":
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

    def _named(self, step: Step, named: Application) -> Stratum:
        """The algebra that the spec names, if its laws, domains and parts bear it out."""
        law, recurrence = named.algebra, step.recurrence
        laws = self.laws(law, law.name)
        places = [step.carries.index((s, 1)) for s in named.states if (s, 1) in step.carries]
        why = self.domains(law, named.parts)
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
            verdict = self.checked(ordered, law, named.parts, verdict)
            if verdict == "proved" and law.name == "affine" and law in self.algebras:
                return self._affine(ordered, law, named.parts, verdict)
            if verdict == "proved":
                return self.scan(ordered, law, named.parts, verdict)
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
