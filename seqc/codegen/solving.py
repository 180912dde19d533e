"""A stratum that is solved apart from its gradients: its steps, and one step for a whole sequence.

Two functions inside the layer's method. One takes the steps, without any notion of gradients: a
loop, in whose place anything may stand that finds the states. The other is the *local step*: the
states of all steps at once, from those before them, which are there as sequences. The runtime
(``seqc.runtime.solving``) solves with the one, or with both, and sends gradients through the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from seqc.codegen.equations import SequenceEquations, before, past
from seqc.codegen.loops import LoopEquations, after_step, renewed, side_by_side
from seqc.codegen.torch_printer import Text, wrap
from seqc.ir.graph import Node
from seqc.ir.maps import LearnedMap
from seqc.ir.plan import History, LoopStage, Plan


class Given:
    """What both functions read of what is there for the whole sequence, printed once."""

    def __init__(self, outer: SequenceEquations) -> None:
        self.outer = outer
        self.sequences: dict[str, str] = {}
        self.columns: dict[str, tuple[str, str, str]] = {}

    def sequence(self, label: str, code: str) -> str:
        """A variable that holds a sequence."""
        if code.isidentifier():
            return code
        if code not in self.sequences:
            name = self.sequences[code] = self.outer.namer.fresh(f"{label}_all")
            self.outer.lines.append(f"{name} = {code}")
        return self.sequences[code]


class MarchEquations(LoopEquations):
    """A step of the loop; ``head`` are the lines before it, in its function."""

    def __init__(
        self, plan: Plan, stage: LoopStage, outer: SequenceEquations, given: Given
    ) -> None:
        super().__init__(plan, stage, outer)
        self.whole_sequences = given
        self.head: list[str] = []
        self.steps: dict[str, str] = {}

    def cut(self, label: str, code: str) -> str:
        source = self.whole_sequences.sequence(label, code)
        if source not in self.steps:
            name = self.steps[source] = self.namer.fresh(f"{label}_steps")
            self.head.append(f"{name} = {source}.unbind(1)")
        return f"{self.steps[source]}[t]"

    def columns(self, node: Node, maps: list[LearnedMap]) -> tuple[str, str, str]:
        known, key = self.whole_sequences.columns, maps[0].prefix
        if key not in known:
            known[key] = super().columns(node, maps)
        return known[key]


class LocalEquations(MarchEquations):
    """All steps at once: a value is (B, T, *axes).

    ``lags`` are the sequences that it reads of the past, by state and lag: parameters of its
    function, unless ``solved`` holds what the states have come to.
    """

    suffix = "_now"
    leading = "batch, steps"

    def __init__(
        self, plan: Plan, stage: LoopStage, outer: SequenceEquations, given: Given,
        solved: Mapping[str, str] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        super().__init__(plan, stage, outer, given)
        self.solved = solved
        self.lags: dict[tuple[str, int | str], str] = {}

    def cut(self, label: str, code: str) -> str:
        return self.whole_sequences.sequence(label, code)

    def times(self, sources: list[str], weight: str, bias: str) -> str:
        if self.stage.newton is not None:  # of which slopes are taken for many cotangents at once
            return super().times(sources, weight, bias)
        return f"project({side_by_side(sources, -1)}, {weight}, {bias}).to(wide)"

    def read(self, n: int, node: Node) -> Text:
        name, lag = str(node.attrs[0]), node.attrs[1]
        assert not isinstance(lag, float)
        if (name, lag) not in self.lags:
            self.lags[name, lag] = self.namer.fresh(f"{name}_lag")
            if name in self.solved:
                h, back = self.fields[name], f"self.{lag}" if isinstance(lag, str) else lag
                code = f"lagged({self.solved[name]}, {past(h)}, {back}, resets, {before(h)})"
                self.lines.append(f"{self.lags[name, lag]} = {code}")
        return Text(self.lags[name, lag], axes=node.axes)

    def state(self, h: History) -> str:
        """The sequence of a state."""
        assert h.node is not None
        code = self.whole(h.node, h.axes)
        if self.steady(h.node):
            extents = "".join(f", self.{a}" for a in h.axes)
            text = Text(code, self.value(h.node).binds)
            return f"{wrap(text, 9)}.expand(batch, steps{extents})"
        return code


def solved_lines(plan: Plan, stage: LoopStage, outer: SequenceEquations) -> dict[str, str]:
    """Add a solved stratum to ``outer``'s lines; returns the states after the last step."""
    given = Given(outer)
    march = MarchEquations(plan, stage, outer, given)
    carried = [march.fields[name] for name in stage.states]
    roots = [h.node for h in carried if h.node is not None]
    march.prepare(roots)
    march_text = march_lines(march, carried)
    local = LocalEquations(plan, stage, outer, given)
    local.prepare(roots)
    values = [local.state(h) for h in carried]
    parameters = ", ".join(local.lags.values())
    steps, step = (outer.namer.fresh(f"{stage.name}_{what}") for what in ("march", "step"))
    out = outer.lines
    out += [f"def {steps}():", f"    # {', '.join(stage.states)}, one step after another"]
    out += [f"    {line}" for line in march_text]
    out += [f"def {step}({parameters}):"]
    out += [
        f"    # {', '.join(stage.states)} of all steps at once, from what they read of the past"
    ]
    out += [f"    {line}" for line in (*local.lines, f"return ({', '.join(values)},)")]
    places = {h.name: i for i, h in enumerate(carried)}
    reads = ", ".join(
        f"({places[name]}, {f'self.{lag}' if isinstance(lag, str) else lag})"
        for name, lag in local.lags
    )
    found = [outer.namer.fresh(f"{h.name}_solved") for h in carried]
    pasts, fresh = (", ".join(f(h) for h in carried) for f in (past, before))
    names = ", ".join(found) if len(found) > 1 else f"({found[0]},)"
    told = f"{steps}, {step}, ({reads},), ({pasts},), ({fresh},), resets, steps"
    out += [
        f"{names} = fed_{stage.feedback.kind}(",
        f"    {solver(stage, told)},",
        *(f"    {number}," for number in numbers(stage)),
        ")",
    ]
    for h, name in zip(carried, found, strict=True):
        if h.node in stage.outputs:
            assert h.node is not None
            variable = outer.namer.fresh(h.name)
            out.append(f"{variable} = {name}.to(stored)")
            outer.known[h.node] = Text(variable, axes=h.axes)
    if stage.others:
        # What else is needed of the step, gradients going on to the states that it is made of.
        known = {h.name: name for h, name in zip(carried, found, strict=True)}
        rest = LocalEquations(plan, stage, outer, given, known)
        rest.printer.lines = out
        rest.prepare(stage.others)
        for n in stage.others:
            code = rest.whole(n, rest.nodes[n].axes)
            variable = outer.namer.fresh(rest.label(n))
            out.append(f"{variable} = {code}.to(stored)")
            outer.known[n] = Text(variable, axes=rest.nodes[n].axes)
    return {
        h.name: f"last_step({name}, state.{h.name})"
        for h, name in zip(carried, found, strict=True)
        if h.single
    }


def march_lines(step: MarchEquations, carried: list[History]) -> list[str]:
    """The body of the function that takes the steps."""
    after = [after_step(step, h) for h in carried]
    kept = [step.namer.fresh(f"{h.name}_steps") for h in carried]
    names = [step.carry[h.name] for h in carried]
    body = ["if resets is not None:", *(f"    {renewed(step, h)}" for h in carried)]
    body += [*step.lines, f"{', '.join(names)} = {', '.join(after)}"]
    for h, name, steps in zip(carried, names, kept, strict=True):
        body.append(f"{steps}.append({name if h.single else f'{name}[-1]'})")
    starts = [
        f"{step.carry[h.name]} = "
        + (f"state.{h.name}" if h.single else f"list(state.{h.name}.unbind(1))")
        for h in carried
    ]
    stacks = ", ".join(f"torch.stack({steps}, 1)" for steps in kept)
    return [
        *step.head,
        *starts,
        *(f"{steps} = []" for steps in kept),
        "for t in range(steps):",
        *(f"    {line}" for line in body),
        f"return ({stacks},)",
    ]


def solver(stage: LoopStage, told: str) -> str:
    """What solves the stage, as the runtime has it."""
    newton = stage.iterated
    if newton is None:
        return f"SolvedBySteps({told})"
    options = (
        stage.states, stage.jacobian, newton.jacobian, newton.tolerance, newton.iterations,
        newton.damping, newton.guess,
    )  # fmt: skip
    return f"SolvedByNewton({told}, self, {', '.join(map(repr, options))})"


def numbers(stage: LoopStage) -> tuple[float, ...]:
    """What the way in which gradients come back takes besides."""
    f = stage.feedback
    return {"truncated": (f.steps,), "stationary": (f.low, f.high)}.get(f.kind, ())
