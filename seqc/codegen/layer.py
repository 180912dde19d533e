"""The view of a layer that the module template fills in: its tables and its methods' lines."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.codegen.contractions import reordered
from seqc.codegen.equations import (
    Equations,
    SequenceEquations,
    StepEquations,
    before,
    non_causal,
    past,
    unflatten,
)
from seqc.codegen.loops import loop_lines
from seqc.codegen.parameters import block, columns_of, product_text, stacked
from seqc.codegen.solving import solved_lines
from seqc.codegen.torch_printer import Text, wrap
from seqc.ir.maps import LearnedMap
from seqc.ir.plan import (
    ArrayStage,
    History,
    KernelStage,
    LoopStage,
    MapPart,
    MapStage,
    Plan,
)
from seqc.ir.recurrence import Equation, Input, Recurrence, State


@dataclass(frozen=True)
class LayerView:
    """What ``templates/torch/module.py.jinja`` reads of a layer."""

    name: str
    doc: list[str]
    inputs: list[str]
    outputs: str
    tables: list[tuple[str, str]]
    fields: list[tuple[str, str]]
    parameters: list[str]
    start: list[str]
    keep: list[str]
    ahead: list[str]
    single: list[str]
    parallel: list[str]
    kernels: list[str]
    #: whether a stratum is taken step by step between the kernels
    loops: bool


def axes_table(entries: list[tuple[str, tuple[str, ...]]]) -> str:
    """Axes by name, as a Python literal."""
    return "{" + ", ".join(f"{n!r}: {a!r}" for n, a in entries) + "}"


def value_axes(recurrence: Recurrence, name: str) -> tuple[str, ...]:
    """The axes of an input, equation or state."""
    named: list[Input | State | Equation] = [
        *recurrence.inputs, *recurrence.states, *recurrence.equations
    ]  # fmt: skip
    return next(entry.axes for entry in named if entry.name == name)


def tables(plan: Plan) -> list[tuple[str, str]]:
    """The class attributes that say what the layer is."""
    r = plan.recurrence
    sizes = {s.name: s.default for s in r.sizes if s.alias is None and not s.terms}
    aliases = {s.name: s.alias for s in r.sizes if s.alias is not None}
    sums = {s.name: s.terms for s in r.sizes if s.terms}
    fields = "".join(
        f"Field({h.name!r}, {axes!r}, {h.single}, {h.lags!r}, {h.windows!r}), "
        for h, axes in ((h, r.declared(h.name, h.axes)) for h in plan.histories)
    )
    seen = [r.declared(name, ()) for name in (*(i.name for i in r.inputs), *r.outputs)]
    seen += [r.declared(h.name, h.axes) for h in plan.histories]
    turned = any(list(axes) != [a for a in r.axes if a in axes] for axes in seen)
    choices = {h.name: h.options for h in r.hypers if h.options}
    domains = tuple((h.name, b.sign, b.to) for h in r.hypers for b in h.domain if not h.options)
    kernels = [s for s in plan.stages if isinstance(s, KernelStage)]
    names = "".join(f"{kernel_name(r, s)}, " for s in kernels)
    return [
        ("SIZES", repr(sizes)),
        ("ALIASES", repr(aliases)),
        *([("SUMS", repr(sums))] if sums else []),
        *([("AXES", repr(r.axes))] if turned else []),
        ("HYPERS", repr({h.name: h.default for h in r.hypers})),
        *([("DOMAINS", repr(domains))] if domains else []),
        *([("CHOICES", repr(choices))] if choices else []),
        ("INPUTS", axes_table([(i.name, i.declared) for i in r.inputs])),
        ("STATES", axes_table([(s.name, s.declared) for s in r.states])),
        ("OUTPUTS", axes_table([(o, r.declared(o, ())) for o in r.outputs])),
        ("FIELDS", f"({fields})"),
        ("KERNELS", f"({names})"),
        ("PARALLEL", repr(bool(plan.stages))),
        *([("LOOPS", "True")] if has_loops(plan) else []),
        *([("NEWTON", "True")] if has_loops(plan, iterated=True) else []),
        *([("FEEDBACK", repr(feedback))] if (feedback := asked_feedback(plan)) else []),
        ("STREAMS", repr(not non_causal(plan))),
        ("State", f"{r.name}State"),
    ]


def has_loops(plan: Plan, iterated: bool = False) -> bool:
    """Whether a stratum is taken step by step, or (``iterated``) solved by Newton's iterations."""
    loops = [s for s in plan.stages if isinstance(s, LoopStage)]
    return any(s.newton is not None or not iterated for s in loops)


def asked_feedback(plan: Plan) -> str:
    """What gradients a spec asks for in place of exact ones; empty where it asks for none."""
    kinds = (str(s.feedback) for s in plan.stages if isinstance(s, LoopStage))
    return next((kind for kind in kinds if kind != "exact"), "")


def kernel_name(recurrence: Recurrence, stage: KernelStage) -> str:
    """The module-level name of a fused kernel."""
    return f"{recurrence.name}_{stage.kernel.name}"


def field_shape(recurrence: Recurrence, h: History) -> str:
    """A field's shape in words."""
    inner = ", ".join(recurrence.declared(h.name, h.axes)) or "1"
    return f"(B, {inner})" if h.single else f"(B, steps, {inner})"


def start_lines(plan: Plan) -> list[str]:
    """The body of ``_start``: every field before the first step."""
    equations = Equations(plan, ("batch",))
    states = {s.name: s for s in plan.recurrence.states}
    equations.prepare(states[h.name].init for h in plan.histories if h.state)
    values = []
    for i, h in enumerate(plan.histories):
        init = "0" if not h.state else equations.whole(states[h.name].init, h.axes)
        values.append(f"begin(self, {i}, {init}, batch, like)")
    lines = ["wide = state_dtype(like.dtype)", *equations.lines]
    return [*lines, f"return self.State({', '.join(values)})"]


def keep_lines(plan: Plan) -> list[str]:
    """The body of ``_keep``: a mask a dropout site, in order of the sites."""
    equations = Equations(plan, ("shape",))
    sites = {str(n.attrs[0]): n for n in plan.recurrence.nodes if n.op == "keep"}
    if not sites:
        return []
    equations.prepare(n.args[0] for n in sites.values())
    masks = []
    for site in plan.recurrence.sites:
        node = sites[site]
        p = equations.whole(node.args[0], node.axes)
        axes = "".join(f" self.{a}," for a in node.axes)
        masks.append(f"keep_mask({p}, (*shape,{axes}), self.training, like)")
    lines = ["wide = state_dtype(like.dtype)", *equations.lines]
    return [*lines, f"return ({', '.join(masks)},)"]


def input_lines(names: dict[str, str], dtype: str) -> list[str]:
    """Take the inputs apart, in some dtype."""
    return [f"{name} = cast(inputs[{i}], {dtype})" for i, name in enumerate(names.values())]


def step_lines(plan: Plan) -> list[str]:
    """The body of ``_single``."""
    r = plan.recurrence
    equations = StepEquations(plan)
    roots = [n for n in (r.definition(o) for o in r.outputs) if n is not None]
    roots += [h.node for h in plan.histories if h.node is not None]
    equations.prepare(roots)
    outputs = [step_value(equations, o) for o in r.outputs]
    fields = []
    for h in plan.histories:
        value = step_value(equations, h.name, h)
        if h.single:
            fields.append(f"spread_to({value}, state.{h.name})")
        else:
            if h.node is not None and equations.steady(h.node):
                value = f"spread_axes({value}, like, self._shape({h.axes!r}))"
            fields.append(f"push(state.{h.name}, {value}, state.{h.name}.shape[1])")
    shapes = [
        f"spread_axes({y}, inputs[0], self._shape({value_axes(r, o)!r}))"
        for y, o in zip(outputs, r.outputs, strict=True)
    ]
    return [
        "wide = state_dtype(inputs[0].dtype)",
        "like = inputs[0]",
        *input_lines(equations.inputs, "wide"),
        *equations.lines,
        f"return ({', '.join(shapes)},), self.State({', '.join(fields)})",
    ]


def step_value(equations: StepEquations, name: str, field: History | None = None) -> str:
    """A named value at this step."""
    r = equations.recurrence
    node = field.node if field is not None else r.definition(name)
    if node is None:
        return equations.inputs[name]
    axes = field.axes if field is not None else value_axes(r, name)
    return equations.whole(node, axes)


def ahead_lines(plan: Plan) -> list[str]:
    """The body of ``_ahead``: convolutions that see later steps, for a step-by-step run."""
    maps = non_causal(plan)
    if not maps:
        return []
    equations = SequenceEquations(plan)
    r = plan.recurrence
    nodes = {int(n.attrs[0]): i for i, n in enumerate(r.nodes) if n.op == "map"}
    results = []
    for index in maps:
        node = r.nodes[nodes[index]]
        for a in node.args:
            equations.value(a)
        results.append(equations.map(node).code)
    return [
        "like = inputs[0]",
        "wide = state_dtype(like.dtype)",
        "batch, steps = like.shape[:2]",
        *input_lines(equations.inputs, "wide"),
        *equations.lines,
        f"return ({', '.join(results)},)",
    ]


class ParallelLines:
    """The body of ``_parallel``: the plan's stages, one after another."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.r = plan.recurrence
        self.equations = SequenceEquations(plan)
        self.out = self.equations.lines
        self.packs: dict[str, str] = {}
        self.finals: dict[str, str] = {}
        #: How often a kernel is handed what it starts from.
        self.starts = 0
        #: Whether kernels alone read the state from before, which is zeros at the beginning.
        self.from_zeros = False

    def lines(self) -> list[str]:
        """All statements, ending in the return."""
        r, e = self.r, self.equations
        e.prepare(n for n in (r.definition(o) for o in r.outputs) if n is not None)
        for stage in self.plan.stages:
            match stage:
                case MapStage():
                    self.map_stage(stage)
                case ArrayStage():
                    self.array(stage.node)
                case LoopStage() if stage.solved:
                    self.finals |= solved_lines(self.plan, stage, self.equations)
                case LoopStage():
                    self.finals |= loop_lines(self.plan, stage, self.equations)
                case KernelStage():
                    self.kernel(stage)
        outputs = [self.named(o) for o in r.outputs]
        fields = [self.field(h) for h in self.plan.histories]
        results = f"return ({', '.join(outputs)},), self.State({', '.join(fields)})"
        read = sum(line.count("state.") for line in (*self.out, results))
        self.from_zeros = read == self.starts and self.zero_inits()
        return [
            "like = inputs[0]",
            "wide = state_dtype(like.dtype)",
            "stored = storage_dtype(like)",
            "batch, steps = like.shape[:2]",
            *input_lines(e.inputs, "stored"),
            *self.out,
            results,
        ]

    def zero_inits(self) -> bool:
        """Whether all fields are zeros before the first step, and kernels need not look at them to
        know in what to compute.
        """
        inits = {s.name: self.r.nodes[s.init] for s in self.r.states}
        kernels = [s for s in self.plan.stages if isinstance(s, KernelStage)]
        return all(
            h.single and inits[h.name].op == "const" and inits[h.name].attrs[0] == 0
            for h in self.plan.histories
        ) and all(k.operands or k.constants for k in kernels)

    def array(self, n: int) -> None:
        """A value that torch computes, kept under its name."""
        e = self.equations
        text = e.value(n)
        if not text.code.isidentifier() and self.r.nodes[n].op != "rename":
            text = e.printer.keep(n, text)
        e.known[n] = e.printer.values[n] = text

    def map_stage(self, stage: MapStage) -> None:
        """One GEMM with a packed result."""
        e, r = self.equations, self.r
        for s in stage.sources:
            e.value(s)
        maps = [r.maps[i] for i in stage.maps]
        first = maps[0]
        for m in {m.prefix: m for m in maps}.values():
            e.printer.say(m.span)
            e.printer._line_said = None
        holders = {m.prefix: m for m in maps}
        held = {prefix: self.holder(m) for prefix, m in holders.items()}
        some = "" if stage.arguments is None else columns_of(first, stage.arguments)
        weights = [f"weight_of({held[m.prefix]})" for m in maps]
        zeros = [f"{weights[i]}.new_zeros({product_text(m.axes)})" for i, m in enumerate(maps)]
        weight = stacked(maps, weights, columns=some)
        bias = stacked(maps, [f"bias_of({held[m.prefix]})" for m in maps], zeros)
        weight, bias = f"cast({weight}, stored)", f"cast({bias}, stored)"
        if not any(m.bias for m in maps):
            bias = "None"
        name = e.namer.fresh(stage.name)
        if stage.arguments is None:
            sources = e.map_sources(r.nodes[stage.nodes[0]], first)
        else:
            axes = (first.sources[i] for i in stage.arguments)
            sources = list(map(e.flat, stage.sources, axes))
        self.out.append(f"{name} = {first.sequence(sources, weight, bias)}")
        if first.alone and first.order:
            apart = reordered(unflatten(name, first.order), first.order, first.axes)
            self.out.append(f"{name} = {apart}.flatten({-len(first.axes)})")
        self.packs[stage.name] = name
        offset = ""
        for m, node in zip(maps, stage.nodes, strict=True):
            end = f"{offset} + {product_text(m.axes)}" if offset else product_text(m.axes)
            piece = name if len(maps) == 1 else f"{name}[..., {offset or 0}:{end}]"
            if stage.arguments is None:
                e.known[node] = Text(unflatten(piece, m.axes), axes=m.axes)
            offset = end

    def map_part(self, part: MapPart) -> str:
        """The columns of one argument of a learned map, or its bias."""
        m = self.r.maps[part.map]
        of = self.holder(m)
        if part.argument is None:
            own = block(m, f"bias_of({of})")
            return f"cast({own}, wide){'' if m.axes else '[0]'}"
        columns = columns_of(m, (part.argument,)) if len(m.sources) > 1 else ""
        return f"cast({block(m, f'weight_of({of}){columns}')}, wide)"

    def holder(self, m: LearnedMap) -> str:
        """A variable for what holds a map's parameters: a module looks its attributes up
        slowly, even a submodule's own."""
        name = self.equations.namer.fresh(m.prefix.replace(".", "_") + "_map")
        held = "".join(f"._modules[{part!r}]" for part in m.prefix.split("."))
        self.out.append(f"{name} = self{held}")
        return name

    def kernel(self, stage: KernelStage) -> None:
        """Launch a fused kernel."""
        e, k = self.equations, stage.kernel
        operands = [
            self.packs[o.value] if isinstance(o.value, str) else e.value(o.value).code
            for o in stage.operands
        ]
        constants = [
            self.map_part(n) if isinstance(n, MapPart) else wrap(e.value(n), 0)
            for n in stage.constants
        ]
        masks = [f"keep[{self.r.sites.index(str(self.r.nodes[n].attrs[0]))}]" for n in stage.masks]
        histories = {h.name: h for h in self.plan.histories}
        starts = [
            f"state.{c.state}" if histories[c.state].single else f"state.{c.state}[:, -{c.lag}]"
            for c in k.carries
        ]
        self.starts += len(starts)
        fresh = [before(histories[c.state]) for c in k.carries]
        scalars = [f"self.{s}" for s in k.scalars]
        extents = ["batch", "steps", *(f"self.{a}" for a in (*k.axes, *stage.other_axes))]
        outputs = [e.namer.fresh(o.name) for o in k.outputs]
        finals = [e.namer.fresh(f"{c.name}_last") for c in k.carries]
        self.finals |= {c.state: f for c, f in zip(k.carries, finals, strict=True) if c.lag == 1}
        call = kernel_name(self.r, stage)
        # Masks hold truth values: alone, they do not tell in what to compute.
        dtype_from = "" if stage.operands or k.constants or k.carries else ", like"
        self.out += [
            f"{tuple_text(outputs)}, {tuple_text(finals)} = {call}(",
            f"    {tuple_text(operands)}, {tuple_text(constants)}, {tuple_text(masks)},",
            f"    {tuple_text(starts)}, {tuple_text(fresh)}, resets,",
            f"    {tuple_text(scalars)}, {tuple_text(extents)}{dtype_from},",
            ")",
        ]
        for n, output, variable in zip(stage.outputs, k.outputs, outputs, strict=True):
            e.known[n] = Text(variable, axes=output.axes)

    def named(self, name: str) -> str:
        """A named value of the whole sequence."""
        node = self.r.definition(name)
        if node is None:
            return self.equations.inputs[name]
        return self.equations.sequence(node, value_axes(self.r, name))

    def field(self, h: History) -> str:
        """What the next call needs of a value."""
        if h.single and h.name in self.finals:
            return self.finals[h.name]
        e = self.equations
        value = e.inputs[h.name] if h.node is None else e.sequence(h.node, h.axes)
        if h.single:
            return f"last_step({value}, state.{h.name})"
        return f"remember({value}, {past(h)}, resets, {before(h)})"


def tuple_text(items: list[str]) -> str:
    return f"({', '.join(items)},)" if items else "()"
