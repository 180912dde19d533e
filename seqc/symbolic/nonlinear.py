"""Nonlinear updates that have a shape all the same: joins of carries, limits, quotients."""

from __future__ import annotations

from seqc.ir.algebra import find_algebra
from seqc.ir.plan import Stratum
from seqc.ir.verdict import Verdict
from seqc.symbolic.follow import follow, prove_shape
from seqc.symbolic.joins import prove_rows, rows
from seqc.symbolic.known import marched
from seqc.symbolic.methods import why_march
from seqc.symbolic.monomials import SEMIRINGS
from seqc.symbolic.prover import Prover
from seqc.symbolic.rational import quotient
from seqc.symbolic.shapes import SHAPES
from seqc.symbolic.step import Step


def shaped(prover: Prover, step: Step) -> Stratum | None:
    """A nonlinear update that has a shape: joins of some carries, else of one carry."""
    if not step.carries or step.jacobian == "full":
        return None
    found = _joined(prover, step)
    if found is not None or len(step.carries) > 1:
        return found
    (read,), (root,), past = step.reads, step.after, step.past.past
    for shape in SHAPES:
        forms = follow(prover.builder, read, past, shape, prover.ring, lambda n: n)
        law = find_algebra(prover.algebras, shape.law, 1)
        if root not in forms or law is None:
            continue
        parts = tuple(
            prover.builder.const(e) if x is None else int(x)
            for x, e in zip(forms[root], shape.neutral, strict=True)
        )
        if prover.domains(law, parts) or prover.laws(law, shape.law) != "proved":
            continue
        verdict = prove_shape(prover.builder, read, root, past, shape, law)
        verdict = prover.checked(step, law, parts, verdict)
        if verdict == "proved":
            return prover.scan(step, law, parts, verdict)
    return _quotient(prover, step)


def _joined(prover: Prover, step: Step) -> Stratum | None:
    """Maxima, minima or logaddexps of carries, each plus (or bounded by) what is free of them."""
    count, past = len(step.carries), step.past.past
    for single, over in SEMIRINGS.items():
        found = rows(prover.builder, step.reads, past, over, prover.ring)
        if any(n not in found for n in step.after):
            continue
        verdict = prove_rows(prover.builder, step.reads, step.after, past, over)
        name = single if count == 1 else f"block_{single}"
        law = find_algebra(prover.algebras, name, count)
        why = why_march(law, count) if count > 1 else ""
        if why and verdict == "proved":
            return marched(step, name.replace("_", "-"), verdict, why)
        if law is None or prover.laws(law, name) != "proved":
            continue
        far = prover.builder.const(over.far)
        entries = [found[n][:-1] for n in step.after]
        collected = [x for row in entries for x in row] + [found[n][-1] for n in step.after]
        parts = tuple(far if x is None else int(x) for x in collected)
        verdict = prover.checked(step, law, parts, verdict)
        if verdict == "proved":
            return prover.scan(step, law, parts, verdict)
    return None


def _quotient(prover: Prover, step: Step) -> Stratum | None:
    """A quotient of affine functions, once common factors are cancelled."""
    (read,), (root,) = step.reads, step.after
    law = find_algebra(prover.algebras, "mobius", 1)
    if law is None or prover.laws(law, "mobius") != "proved":
        return None
    parts = quotient(prover.builder, read, root, step.past.past)
    if parts is None:
        return None
    why = "over one denominator and cancelled, the update is (a h + b) / (c h + d)"
    verdict = prover.checked(step, law, parts, Verdict("proved", why))
    return prover.scan(step, law, parts, verdict) if verdict == "proved" else None
