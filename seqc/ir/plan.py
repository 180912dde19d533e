"""How a layer is computed: its strata, each with its proof, and its stages, in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from seqc.diagnostics import Diagnostic, Span
from seqc.ir.algebra import Algebra
from seqc.ir.contraction import contractions
from seqc.ir.kernel import Kernel
from seqc.ir.recurrence import Recurrence
from seqc.ir.schedule import Scheduled
from seqc.ir.solving import EXACT, Feedback, Newton
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
    ``sequential`` (step by step: in a kernel that steps, where one knows all that a step is made
    of, else in torch, a :class:`LoopStage`), ``newton`` (a loop's stage,
    but for all steps at once, by the iterations that ``newton`` tells of).

    ``feedback`` says how gradients come back through it; unless exactly, it is a stage of its own.

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
    newton: Newton | None = None
    feedback: Feedback = EXACT
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
    ``sources`` the graph nodes of their arguments: of all, or of those at ``arguments`` alone,
    where a step adds what the others come to.
    """

    name: str
    maps: tuple[int, ...]
    nodes: tuple[int, ...]
    sources: tuple[int, ...]
    arguments: tuple[int, ...] | None = None


@dataclass(frozen=True)
class MapPart:
    """Of a learned map the columns of one argument, or (None) its bias."""

    map: int
    argument: int | None = None

    def called(self, recurrence: Recurrence) -> str:
        """Its parameter, or of one the columns of an argument."""
        m = recurrence.maps[self.map]
        if self.argument is None:
            return f"{m.label}.bias"
        return f"{m.label}.weight" + (f"[{self.argument}]" if len(m.sources) > 1 else "")


@dataclass(frozen=True)
class ArrayStage:
    """A value computed for the whole sequence by torch, since it looks across an axis."""

    node: int


@dataclass(frozen=True)
class LoopStage:
    """A stratum that is taken step by step in torch, what is free of it being there beforehand.

    ``states`` are the names that it carries: states, and equations that are read with a lag.
    ``sources`` are the graph nodes that it reads, of whole sequences or constant in time;
    ``within`` those that a step computes, in order; ``packs`` the learned maps among them, in
    groups of the same arguments, a product each.  ``outputs`` are those whose every step is kept.

    With ``newton``, or a ``feedback`` that is not exact, the states are solved for apart from
    gradients, and the step is printed for the whole sequence as well: then ``outputs`` are updates
    of states alone, ``others`` what else is needed of the step, and ``jacobian`` how the step's
    channels meet.
    """

    name: str
    states: tuple[str, ...]
    sources: tuple[int, ...]
    within: tuple[int, ...]
    packs: tuple[tuple[int, ...], ...]
    outputs: tuple[int, ...]
    newton: Newton | None = None
    feedback: Feedback = EXACT
    jacobian: str = "full"
    others: tuple[int, ...] = ()

    @property
    def iterated(self) -> Newton | None:
        """Its Newton iterations, with the Jacobian that they go by."""
        if self.newton is None or self.newton.jacobian != "auto":
            return self.newton
        return replace(self.newton, jacobian=self.jacobian)

    @property
    def solved(self) -> bool:
        """Whether it is solved apart from gradients."""
        return self.newton is not None or self.feedback.kind != "exact"

    def __str__(self) -> str:
        groups = [list(p) for p in self.packs]
        text = (
            f"loop {self.name}: carries {list(self.states)} reads {list(self.sources)} "
            f"computes {list(self.within)} products {groups} keeps {list(self.outputs)}"
        )
        if self.solved:
            text += f" solved by {self.newton or 'steps'} gradient {self.feedback}"
        return text

    def problems(self, recurrence: Recurrence) -> Iterator[str]:
        """What a verifier finds wrong: a step that cannot be computed from what is there."""
        nodes, mine = recurrence.nodes, set(self.within)
        there = mine | set(self.sources)
        products = contractions(recurrence)
        for n in self.within:
            product = products.get(n)
            for a in nodes[n].args if product is None else product.factors:
                if a not in there and not self.carries(recurrence, a):
                    yield f"{self.name}: %{n} needs %{a}, which is not there"
        for n in self.sources:
            if n in mine or self.carries(recurrence, n):
                yield f"{self.name}: %{n} is no source, but of the loop itself"
        for name in self.states:
            update = recurrence.definition(name)
            if update is None or not (update in there or self.carries(recurrence, update)):
                yield f"{self.name}: there is no update of {name}"
        for n in (*self.outputs, *self.others):
            if n not in mine:
                yield f"{self.name}: %{n} is kept, but not computed"
        yield from (f"{self.name}: {said}" for said in self.feedback.problems())
        if self.others and not self.solved:
            yield f"{self.name}: what is not solved apart keeps all in its loop"
        packed = [n for group in self.packs for n in group]
        if sorted(packed) != [n for n in self.within if nodes[n].op == "map"]:
            yield f"{self.name}: its learned maps are not those of its products"
        for group in self.packs:
            if len({nodes[n].args for n in group}) != 1:
                yield f"{self.name}: a product of maps of different arguments"

    def carries(self, recurrence: Recurrence, n: int) -> bool:
        """Whether a node reads what the loop carries."""
        node = recurrence.nodes[n]
        return node.op == "read" and node.attrs[1] != 0 and node.attrs[0] in self.states


@dataclass(frozen=True)
class Operand:
    """A tensor that a kernel's streams are cut from, and what it is.

    ``packed``: a GEMM's result (B, T, width) holding ``parts``, each with its
    axes flattened, one after another; ``value`` is the MapStage's name.  Otherwise a value
    (B, T, *axes) with the axes of its one part, and ``value`` its graph node.
    """

    name: str
    parts: tuple[tuple[str, ...], ...]
    value: int | str

    @property
    def packed(self) -> bool:
        """Whether it is a GEMM's result."""
        return isinstance(self.value, str)


@dataclass(frozen=True)
class FusedStage:
    """Pointwise equations and scans over one set of axes, fused into one kernel.

    ``sources`` gives, a stream of the kernel, its (operand, part); ``constants``, ``masks`` and
    ``outputs`` the graph node (of the recurrence) behind each entry of the kernel's tables; a
    constant may be a part of a learned map, too.
    """

    kernel: Kernel
    operands: tuple[Operand, ...]
    sources: tuple[tuple[int, int], ...]
    constants: tuple[int | MapPart, ...]
    masks: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def states(self) -> tuple[str, ...]:
        """The states that its carries hold, each once."""
        return tuple(dict.fromkeys(c.state for c in self.kernel.carries))

    @property
    def other_axes(self) -> tuple[str, ...]:
        """Axes that the kernel does not run over, but that lie packed in its operands."""
        every = (a for o in self.operands for part in o.parts for a in part)
        return tuple(dict.fromkeys(a for a in every if a not in self.kernel.axes))

    def __str__(self) -> str:
        packs = [f"{o.name} = {o.value}" for o in self.operands]
        return f"operands {packs} sources {list(self.sources)} outputs {list(self.outputs)}"


@dataclass(frozen=True)
class DerivedStage(FusedStage):
    """The same with its kernel's derivatives.

    ``tangent``: the stage of the kernel on dual numbers, whose operands, constants and outputs are
    those of this one, then their tangents.  It has none itself.
    """

    adjoint: Kernel
    tangent: DerivedStage | None = None

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The kernel, its adjoint, its tangent and that one's adjoint."""
        more = () if self.tangent is None else self.tangent.kernels
        return (self.kernel, self.adjoint, *more)


@dataclass(frozen=True)
class KernelStage(FusedStage):
    """The same with its kernel's derivatives (:class:`DerivedStage`), all ready to be printed."""

    adjoint: Kernel
    forward: Scheduled
    backward: Scheduled
    tangent: KernelStage | None = None


@dataclass(frozen=True)
class Staged:
    """What is computed where, in order; no stages where there is nothing to compute."""

    analysis: Analysis
    histories: tuple[History, ...]
    stages: tuple[MapStage | ArrayStage | LoopStage | FusedStage, ...]

    @property
    def recurrence(self) -> Recurrence:
        """The recurrence, as rewritten."""
        return self.analysis.recurrence

    def __str__(self) -> str:
        lines = [f"staged {self.recurrence.name}", *_history_lines(self.histories)]
        for s in self.stages:
            lines += _stage_lines(s, str(s.kernel) if isinstance(s, FusedStage) else "")
        return "\n".join(lines)


@dataclass(frozen=True)
class Derived:
    """What is computed where, each kernel with its derivatives."""

    analysis: Analysis
    histories: tuple[History, ...]
    stages: tuple[MapStage | ArrayStage | LoopStage | DerivedStage, ...]

    @property
    def recurrence(self) -> Recurrence:
        """The recurrence, as rewritten."""
        return self.analysis.recurrence

    def __str__(self) -> str:
        lines = [f"derived {self.recurrence.name}", *_history_lines(self.histories)]
        for s in self.stages:
            kernels = "\n".join(map(str, s.kernels)) if isinstance(s, DerivedStage) else ""
            lines += _stage_lines(s, kernels)
        return "\n".join(lines)


Stage = MapStage | ArrayStage | LoopStage | KernelStage


@dataclass(frozen=True)
class Plan:
    """The stages in the order in which they run."""

    analysis: Analysis
    histories: tuple[History, ...]
    stages: tuple[Stage, ...]

    @property
    def recurrence(self) -> Recurrence:
        """The recurrence, as rewritten."""
        return self.analysis.recurrence

    def __str__(self) -> str:
        lines = [f"plan {self.recurrence.name}", *_history_lines(self.histories)]
        for s in self.stages:
            kernels = "\n".join(map(str, scheduled(s))) if isinstance(s, KernelStage) else ""
            lines += _stage_lines(s, kernels)
        return "\n".join(lines)


def scheduled(stage: KernelStage) -> tuple[Scheduled, ...]:
    """All that a stage prints: its kernel and that one's adjoint, then those of its tangent."""
    more = () if stage.tangent is None else scheduled(stage.tangent)
    return (stage.forward, stage.backward, *more)


def _history_lines(histories: tuple[History, ...]) -> list[str]:
    return [f"  history {h.name}: lags {list(h.lags)} windows {list(h.windows)}" for h in histories]


def _stage_lines(stage: MapStage | ArrayStage | LoopStage | FusedStage, kernels: str) -> list[str]:
    match stage:
        case MapStage():
            return [f"  map {stage.name}: maps {list(stage.maps)} of {list(stage.sources)}"]
        case ArrayStage():
            return [f"  array %{stage.node}"]
        case LoopStage():
            return [f"  {stage}"]
        case FusedStage():
            lines = [f"  {FusedStage.__str__(stage)}"]
            return lines + ["  " + line for line in kernels.split("\n")]
