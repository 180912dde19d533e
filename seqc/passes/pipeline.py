"""From a spec's text to plans: the passes, in order, with dumps and verifiers between them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from seqc.diagnostics import Diagnostic, SeqcError, Severity, Source
from seqc.frontend import override, parse_algebras, parse_spec, prelude
from seqc.ir.algebra import Algebra
from seqc.ir.kernel import Kernel
from seqc.ir.plan import (
    Analysis,
    Derived,
    DerivedStage,
    FusedStage,
    KernelStage,
    LoopStage,
    Plan,
    Staged,
    scheduled,
)
from seqc.ir.recurrence import Recurrence
from seqc.ir.schedule import Scheduled
from seqc.lower.derive import derive
from seqc.lower.plan import plan
from seqc.lower.staging import stage
from seqc.runtime.environment import read_environment
from seqc.symbolic.analyse import analyse

#: What flows between passes.
Stage = Recurrence | Analysis | Staged | Derived | Plan


@dataclass(frozen=True)
class Compilation:
    """What the passes made of a spec: each layer's plan, and everything there is to say."""

    source: Source
    plans: tuple[Plan, ...]
    diagnostics: tuple[Diagnostic, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers' names, in the order of the file."""
        return tuple(p.recurrence.name for p in self.plans)


@cache
def library_algebras() -> tuple[Algebra, ...]:
    """The algebras of ``grammar/prelude.seq``."""
    return parse_algebras(prelude())


def recurrence_to_analysis(recurrence: Recurrence) -> Analysis:
    """Stable rewriting, strata, algebras, proofs, domains."""
    return analyse(recurrence, library_algebras())


def analysis_to_staged(analysis: Analysis) -> Staged:
    """Maps, arrays, loops and fused kernels."""
    return stage(analysis)


def staged_to_derived(staged: Staged) -> Derived:
    """The kernels' adjoints and tangents."""
    return derive(staged)


def derived_to_plan(derived: Derived) -> Plan:
    """What each kernel keeps, and how its time can be cut."""
    return plan(derived)


#: What happens to each layer, in order: (name of the result in SEQC_DUMP, pass).
PASSES = (
    ("analysis", recurrence_to_analysis),
    ("staged", analysis_to_staged),
    ("derived", staged_to_derived),
    ("plan", derived_to_plan),
)


def run(
    source: Source, layer: str | None = None, solve: str | None = None, gradient: str | None = None
) -> Compilation:
    """All passes over a spec.

    ``solve`` and ``gradient`` are asked of a layer (or of all) in place of what its spec says.

    Raises SeqcError with every error at once; warnings come with the result.
    """
    recurrences, warnings = parse_spec(source)
    diagnostics = list(warnings)
    plans: list[Plan] = []
    for recurrence in recurrences:
        if (solve or gradient) and layer in (None, recurrence.name):
            recurrence = override(recurrence, solve, gradient)
        look("recurrence", recurrence)
        value: Stage = recurrence
        try:
            for name, apply in PASSES:
                value = apply(value)  # type: ignore[arg-type]
                look(name, value)
                if isinstance(value, Analysis):
                    diagnostics += value.diagnostics
                    if errors(value.diagnostics):
                        break
        except SeqcError as error:  # the other layers are to be heard too
            diagnostics += error.diagnostics
        if isinstance(value, Plan):
            plans.append(value)
    # Layers share definitions and algebras: what is said of those is said once.
    diagnostics = list(dict.fromkeys(diagnostics))
    if found := errors(diagnostics):
        raise SeqcError(found)
    return Compilation(source, tuple(plans), tuple(diagnostics))


def errors(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Those that stop a compilation."""
    return tuple(d for d in diagnostics if d.severity is Severity.ERROR)


def look(name: str, value: Stage) -> None:
    """Print a stage if SEQC_DUMP asks for it, and verify it if SEQC_VERIFY does."""
    environment = read_environment()
    if environment.dumps(name):
        text = str(value.recurrence) if isinstance(value, Analysis) else str(value)
        print(f"--- {name}\n{text}", file=sys.stderr)
    if environment.verify:
        found = list(problems(value))
        if found:
            raise AssertionError(f"after {name}: " + "; ".join(found))


def problems(value: Stage) -> Iterator[str]:
    """What the verifier of a stage finds wrong."""
    match value:
        case Recurrence():
            yield from value.problems()
        case Analysis():
            yield from value.recurrence.problems()
        case Staged() | Derived() | Plan():
            for s in value.stages:
                if isinstance(s, LoopStage):
                    yield from s.problems(value.recurrence)
                elif isinstance(s, FusedStage):
                    for k in kernels(s):
                        yield from k.problems()


def kernels(stage: FusedStage) -> tuple[Kernel | Scheduled, ...]:
    """All kernels that a stage holds by now."""
    if isinstance(stage, DerivedStage):
        return stage.kernels
    return scheduled(stage) if isinstance(stage, KernelStage) else (stage.kernel,)
