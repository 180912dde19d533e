"""A stratum that torch takes step by step: statements before the loop, a step, what is kept of it.

What the step reads of whole sequences is cut into steps once, before the loop, so that its
gradient is put together once too.  Learned maps of the same arguments are one product a step; the
columns of those arguments that are there beforehand are one product for the whole sequence.
"""

from __future__ import annotations

from seqc.codegen.contractions import reordered
from seqc.codegen.equations import SequenceEquations, StepEquations, unflatten
from seqc.codegen.parameters import block, product_text, stacked
from seqc.codegen.torch_printer import Text, TorchPrinter, wrap
from seqc.ir.graph import Node
from seqc.ir.maps import LearnedMap
from seqc.ir.plan import History, LoopStage, Plan


class LoopEquations(StepEquations):
    """A step of a loop: a value is (B, *axes); what comes from outside is in ``outer``'s lines."""

    #: What the names of values end in, so that none is that of a whole sequence.
    suffix = "_t"

    def __init__(self, plan: Plan, stage: LoopStage, outer: SequenceEquations) -> None:
        super().__init__(plan)
        self.stage, self.outer = stage, outer
        self.namer, self.inputs = outer.namer, outer.inputs
        names = {n: f"{name}{self.suffix}" for n, name in self.printer.names.items()}
        self.printer = TorchPrinter(self.nodes, self.leaf, self.namer, names)
        self.within = frozenset(stage.within)
        #: of maps that are matrix products; any other stands in the step as its class prints it
        self.pack_of = {
            n: pack for pack in stage.packs for n in pack
            if not self.recurrence.map_of(self.nodes[n]).alone
        }  # fmt: skip
        #: what comes from outside, as the step reads it
        self.given: dict[int, Text] = {}
        #: what goes from step to step, a field of the state each: the last step alone, or several
        self.carry = {name: self.namer.fresh(f"{name}_carry") for name in stage.states}

    def arguments(self, n: int) -> tuple[int, ...]:
        """What a step computes a node from; of what is there beforehand it asks no more."""
        if n not in self.within:
            return ()
        if n in self.pack_of:  # its other arguments meet their columns before the loop
            return tuple(a for a in self.nodes[n].args if self.moving(a))
        return super().arguments(n)

    def moving(self, n: int) -> bool:
        """Whether a node is known in its step alone."""
        return n in self.within or self.stage.carries(self.recurrence, n)

    def leaf(self, n: int, node: Node) -> Text | None:
        if not self.moving(n):
            return self.outside(n)
        if node.op == "map":
            return self.packed(n, node) if n in self.pack_of else self.apart(node)
        return super().leaf(n, node)

    def outside(self, n: int) -> Text:
        """What the step reads of a value that is there beforehand."""
        if n not in self.given:
            text = self.outer.value(n)
            if not text.number and text.lead:
                wide = "" if self.nodes[n].op == "keep" else ".to(wide)"
                text = Text(self.cut(self.label(n), f"{wrap(text, 9)}{wide}"), axes=text.axes)
            elif not text.number and not text.code.isidentifier():
                text = self.outer.printer.values[n] = self.outer.printer.keep(n, text)
            self.given[n] = text
        return self.given[n]

    def cut(self, label: str, code: str) -> str:
        """A step of a sequence, which is cut into all of them before the loop."""
        name = self.namer.fresh(f"{label}_steps")
        self.outer.lines.append(f"{name} = {code}.unbind(1)")
        return f"{name}[t]"

    def label(self, n: int) -> str:
        """What to call a value's steps."""
        node = self.nodes[n]
        if node.op == "map":
            return self.map_name(node)
        if node.op == "keep":
            return f"keep_{node.attrs[0]}"
        if node.op == "read":
            lagged = "" if node.attrs[1] == 0 else "_lag"
            return f"{node.attrs[0]}{lagged}"
        return self.recurrence.value_name(n) or f"v{n}"

    # --- the past

    def read(self, n: int, node: Node) -> Text:
        name, lag = str(node.attrs[0]), node.attrs[1]
        if self.fields[name].single:
            return Text(self.carry[name], axes=node.axes)
        back = f"self.{lag}" if isinstance(lag, str) else str(lag)
        return Text(f"{self.carry[name]}[-{back}]", axes=node.axes)

    # --- learned maps

    def packed(self, n: int, node: Node) -> Text:
        """A learned map, its pack's product having been printed."""
        pack = self.pack_of[n]
        maps = [self.recurrence.maps[int(self.nodes[p].attrs[0])] for p in pack]
        weight, bias, beforehand = self.columns(node, maps)
        first = maps[0]
        sources = [
            self.flat(a, axes)
            for a, axes in zip(node.args, first.sources, strict=True)
            if self.moving(a)
        ]
        code = self.times(sources, weight, bias)
        if beforehand:
            label = f"{first.prefix.replace('.', '_')}_rest"
            code = f"{code} + {self.cut(label, beforehand)}"
        names = [self.namer.fresh(self.map_name(self.nodes[p])) for p in pack]
        if len(pack) == 1:
            self.lines.append(f"{names[0]} = {code}")
        else:
            widths = ", ".join(product_text(m.axes) for m in maps)
            whole = f"({code})" if beforehand else code
            self.lines.append(f"{', '.join(names)} = {whole}.split(({widths}), -1)")
        for p, m, name in zip(pack, maps, names, strict=True):
            self.printer.values[p] = Text(unflatten(name, m.axes), axes=m.axes)
        return self.printer.values[n]

    def apart(self, node: Node) -> Text:
        """A learned map that shares no product; its parameters are cast once, before the loop."""
        m = self.recurrence.map_of(node)
        given = {"weight": "None", "bias": "None"}
        for what in given if m.bias else ("weight",):
            name = self.namer.fresh(f"{m.prefix.replace('.', '_')}_{what}")
            code = block(m, f"self.{m.prefix}.{what}")
            self.outer.lines.append(f"{name} = {code}.to(stored)")
            given[what] = name
        code = m.step(self.map_sources(node, m), **given)
        return Text(reordered(unflatten(code, m.declared), m.declared, m.axes), axes=m.axes)

    def times(self, sources: list[str], weight: str, bias: str) -> str:
        """The product of a learned map, in the dtype of states."""
        return f"linear(({', '.join(sources)},), {weight}, {bias}, wide)"

    def columns(self, node: Node, maps: list[LearnedMap]) -> tuple[str, str, str]:
        """The weight of what moves, the bias that goes with it, and the product of all else."""
        out, r = self.outer, self.recurrence
        label = maps[0].prefix.replace(".", "_")
        weights = [f"self.{m.prefix}.weight" for m in maps]
        zeros = [f"{weights[i]}.new_zeros({product_text(m.axes)})" for i, m in enumerate(maps)]
        joined = [stacked(maps, weights), stacked(maps, [f"self.{m.prefix}.bias" for m in maps],
                  zeros)]  # fmt: skip
        weight, bias = self.namer.fresh(f"{label}_weight"), "None"
        out.lines.append(f"{weight} = {joined[0]}.to(stored)")
        if any(m.bias for m in maps):
            bias = self.namer.fresh(f"{label}_bias")
            out.lines.append(f"{bias} = {joined[1]}.to(stored)")
        still = [a for a in node.args if not self.moving(a)]
        if not still:
            return weight, bias, ""
        sources = r.maps[int(node.attrs[0])].sources
        parts = [self.namer.fresh(f"{weight}_{i}") for i in range(len(sources))]
        widths = "".join(f"{product_text(axes)}, " for axes in sources)
        out.lines.append(f"{', '.join(parts)} = {weight}.split(({widths.strip()}), 1)")
        for a in still:
            out.value(a)
        flat = [out.flat(a, axes) for a, axes in zip(node.args, sources, strict=True) if a in still]
        ahead = [p for p, a in zip(parts, node.args, strict=True) if a in still]
        moving = [p for p, a in zip(parts, node.args, strict=True) if a not in still]
        product = f"project({side_by_side(flat, -1)}, {side_by_side(ahead, 1)}, {bias})"
        if len(moving) > 1:
            out.lines.append(f"{weight} = {side_by_side(moving, 1)}")
            moving = [weight]
        return moving[0], "None", f"{product}.to(wide)"


def side_by_side(parts: list[str], dim: int) -> str:
    """Tensors, one beside the other."""
    return parts[0] if len(parts) == 1 else f"torch.cat(({', '.join(parts)}), {dim})"


def loop_lines(plan: Plan, stage: LoopStage, outer: SequenceEquations) -> dict[str, str]:
    """Add a loop to ``outer``'s lines; returns the variables of its states after the last step."""
    step = LoopEquations(plan, stage, outer)
    carried = [step.fields[name] for name in stage.states]
    roots = [h.node for h in carried if h.node is not None]
    step.prepare([*roots, *stage.outputs])
    after = [after_step(step, h) for h in carried]
    kept = {n: step.namer.fresh(f"{step.label(n)}_steps") for n in stage.outputs}
    body = [renewed(step, h) for h in carried]
    body = ["if resets is not None:", *(f"    {line}" for line in body)]
    values = {n: step.whole(n, step.nodes[n].axes) for n in stage.outputs}
    body += step.lines
    body += [f"{kept[n]}.append({values[n]})" for n in stage.outputs]
    names = [step.carry[h.name] for h in carried]
    body.append(f"{', '.join(names)} = {', '.join(after)}")
    out = outer.lines
    for h in carried:
        start = f"state.{h.name}" if h.single else f"list(state.{h.name}.unbind(1))"
        out.append(f"{step.carry[h.name]} = {start}")
    out += [f"{name} = []" for name in kept.values()]
    out.append("for t in range(steps):")
    out += [f"    {line}" for line in body]
    for n, name in kept.items():
        variable = step.namer.fresh(step.label(n))
        out.append(f"{variable} = torch.stack({name}, 1).to(stored)")
        outer.known[n] = Text(variable, axes=step.nodes[n].axes)
    return {h.name: step.carry[h.name] for h in carried if h.single}


def renewed(step: LoopEquations, h: History) -> str:
    """Before a step that starts a sequence anew: what a field holds before the first step."""
    name = step.carry[h.name]
    if h.single:
        return f"{name} = started({name}, fresh.{h.name}, resets, t)"
    return f"{name} = [started(v, fresh.{h.name}[:, 0], resets, t) for v in {name}]"


def after_step(step: LoopEquations, h: History) -> str:
    """A field after a step."""
    assert h.node is not None
    name = step.carry[h.name]
    value = step.whole(h.node, h.axes)
    if step.steady(h.node):
        value = f"spread_axes({value}, like, self._shape({h.axes!r}))"
    return value if h.single else f"[*{name}, {value}][1:]"
