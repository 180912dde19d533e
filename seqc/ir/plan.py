"""How a layer is computed: its strata, each with its proof, and its stages, in order."""

from __future__ import annotations

from dataclasses import dataclass, field

from seqc.diagnostics import Diagnostic, Span
from seqc.ir.algebra import Algebra
from seqc.ir.kernel import Adjoint, Kernel
from seqc.ir.recurrence import Recurrence
from seqc.ir.verdict import Interval, Verdict


@dataclass(frozen=True)
class Stratum:
    """States that depend on one another through time: one strongly connected component.

    ``carries`` is what goes from step to step, (state, lag): lag 1 is the state one
    step ago, lag 2 (a delay) the one before that.  ``after`` gives, a carry, the node
    of its value after the step: the state's update, or for a delay the read of lag - 1.

    ``law`` is the algebra that the step belongs to and ``parts`` the nodes of its
    element, free of the carries: after = law.apply(parts, carries).  None and empty
    where the stratum fits no algebra; then ``obstacle`` is the term in the way.

    ``method``: ``scan`` (parallel over time, by the law), ``march`` (no law, or one that
    costs more to compose than it gains, but each channel, or each channel of the axes
    that are not mixed, goes its own way: step by step within one fused kernel),
    ``sequential`` (the reference, step by step).

    ``coefficient`` and ``offset`` are the parts of an affine stratum of one state.
    ``log_coefficient`` and ``log_offset`` are its log-domain form, where both are
    provably positive (else None).
    """

    states: tuple[str, ...]
    algebra: str
    verdict: Verdict
    method: str
    jacobian: str
    domain: str = "linear"
    domain_reason: str = ""
    coefficient_range: Interval | None = None
    coefficient: tuple[int, ...] = ()
    offset: tuple[int, ...] = ()
    log_coefficient: int | None = None
    log_offset: int | None = None
    carries: tuple[tuple[str, int], ...] = ()
    after: tuple[int, ...] = ()
    law: Algebra | None = None
    parts: tuple[int, ...] = ()
    reason: str = ""
    obstacle: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Analysis:
    """A recurrence after the mathematics: rewritten stably, with its strata in order.

    ``recurrence.nodes`` holds the nodes that the strata name besides those of
    the equations.
    """

    recurrence: Recurrence
    strata: tuple[Stratum, ...]
    diagnostics: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True)
class History:
    """How much of a value's past a layer carries between calls: one field of its state.

    ``name`` is the value (a state, input or equation) and of the field; ``node``
    is its graph node (None: an input).  ``lags`` are the lags it is read with,
    numbers or sizes' names; ``windows`` the widths of causal convolutions over
    it, which carry width - 1 steps.  ``state`` is set for a declared state,
    whose steps before the first are its init (all else is 0 there).
    A declared state read with lag 1 alone is a field (B, *axes); anything else
    is (B, K, *axes), oldest first, K the longest lag.
    """

    name: str
    axes: tuple[str, ...]
    node: int | None
    lags: tuple[int | str, ...]
    windows: tuple[int | str, ...] = ()
    state: bool = False

    @property
    def single(self) -> bool:
        """Whether the field is the last value alone, (B, *axes)."""
        return self.state and not self.windows and all(k == 1 for k in self.lags)


@dataclass(frozen=True)
class MapStage:
    """Learned maps of one source, run as one GEMM with a packed result (B, T, sum of outs).

    ``maps`` are positions in ``Recurrence.maps``; ``nodes`` their graph nodes;
    ``sources`` the graph nodes of their arguments.
    """

    name: str
    maps: tuple[int, ...]
    nodes: tuple[int, ...]
    sources: tuple[int, ...]


@dataclass(frozen=True)
class ArrayStage:
    """A value computed for the whole sequence by torch, since it looks across an axis."""

    node: int


@dataclass(frozen=True)
class KernelStage:
    """Pointwise equations and scans over one set of axes, fused into one kernel.

    ``operands``, ``constants``, ``masks`` and ``outputs`` give the graph node
    (of the recurrence) behind each entry of the kernel's tables; an operand
    that is the packed result of a MapStage is that stage's name.
    """

    kernel: Kernel
    adjoint: Adjoint
    operands: tuple[int | str, ...]
    constants: tuple[int, ...]
    masks: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def states(self) -> tuple[str, ...]:
        """The states that its carries hold, each once."""
        return tuple(dict.fromkeys(c.state for c in self.kernel.carries))


Stage = MapStage | ArrayStage | KernelStage


@dataclass(frozen=True)
class Plan:
    """The stages in the order in which they run; empty when the layer runs step by step."""

    analysis: Analysis
    histories: tuple[History, ...]
    stages: tuple[Stage, ...]

    @property
    def recurrence(self) -> Recurrence:
        """The recurrence, as rewritten."""
        return self.analysis.recurrence

    def __str__(self) -> str:
        lines = [f"plan {self.recurrence.name}"]
        for h in self.histories:
            lines.append(f"  history {h.name}: lags {list(h.lags)} windows {list(h.windows)}")
        for s in self.stages:
            match s:
                case MapStage():
                    lines.append(f"  map {s.name}: maps {list(s.maps)} of {list(s.sources)}")
                case ArrayStage():
                    lines.append(f"  array %{s.node}")
                case KernelStage():
                    lines.append(f"  operands {list(s.operands)} outputs {list(s.outputs)}")
                    lines += ["  " + line for line in str(s.kernel).split("\n")]
        return "\n".join(lines)
