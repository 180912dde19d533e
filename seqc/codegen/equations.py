"""The equations of a layer as PyTorch, in the three places where they are needed.

* constant in time: initial states, and what a call computes once;
* one step: the reference backend and ``step``;
* a whole sequence: what runs between fused kernels.
"""

from __future__ import annotations

from collections.abc import Iterable

from seqc.codegen.contractions import contract, renamed, reordered
from seqc.codegen.names import Namer
from seqc.codegen.parameters import block, product_text
from seqc.codegen.torch_printer import RESERVED, Text, TorchPrinter, align, number_text, wrap
from seqc.ir.contraction import Contraction, contractions
from seqc.ir.graph import Node
from seqc.ir.maps import LearnedMap, Window
from seqc.ir.plan import History, KernelStage, Plan
from seqc.ir.recurrence import time_varying


class Equations:
    """Prints nodes of a layer's graph; subclasses say where sequences and the past come from."""

    #: The extents of the leading dimensions, as text.
    leading = ""

    def __init__(self, plan: Plan, reserved: Iterable[str] = ()) -> None:
        self.plan = plan
        self.recurrence = plan.recurrence
        self.nodes = plan.recurrence.nodes
        kernels = (s.kernel.name for s in plan.stages if isinstance(s, KernelStage))
        module = (f"{plan.recurrence.name}_{k}" for k in kernels)
        self.namer = Namer(RESERVED | frozenset(reserved) | frozenset(module))
        names: dict[int, str] = {}
        for e in self.recurrence.equations:
            names.setdefault(e.node, e.name)
        for s in self.recurrence.states:
            names.setdefault(s.update, s.name)
        self.inputs = {i.name: self.namer.fresh(i.name) for i in self.recurrence.inputs}
        self.printer = TorchPrinter(self.nodes, self.leaf, self.namer, names)
        self.products = contractions(self.recurrence)

    @property
    def lines(self) -> list[str]:
        """The statements so far."""
        return self.printer.lines

    def prepare(self, roots: Iterable[int]) -> None:
        """Count uses below the roots, so that shared values get variables."""
        self.printer.count_uses(roots, self.arguments)

    def value(self, root: int) -> Text:
        """The text of a node, having printed what it needs."""
        return self.printer.visit(root, self.arguments)

    def arguments(self, n: int) -> tuple[int, ...]:
        """What a node is computed from."""
        product = self.product(n)
        return self.nodes[n].args if product is None else product.factors

    def product(self, n: int) -> Contraction | None:
        """The factors of a sum of products, where it is computed without its terms."""
        return self.products.get(n)

    def whole(self, root: int, axes: tuple[str, ...]) -> str:
        """A value's text with a dimension for each of the axes."""
        return align(self.value(root), axes).code

    def steady(self, root: int) -> bool:
        """Whether a printed value is constant in time, so that it lacks the leading dimensions."""
        value = self.printer.values[root]
        return value.number or not value.lead

    # Leaves --------------------------------------------------------------------------

    def leaf(self, n: int, node: Node) -> Text | None:
        """The text of a node that is not pointwise."""
        match node.op:
            case "const":
                return number_leaf(float(node.attrs[0]))
            case "hyper" | "size":
                return Text(f"self.{node.attrs[0]}", number=True)
            case "param":
                return self.parameter(node)
            case "index":
                axis = node.axes[0]
                code = f"torch.arange(self.{axis}, dtype=wide, device=like.device)"
                return Text(code, axes=node.axes, lead=False)
            case "read":
                return self.read(n, node)
            case "keep":
                return self.mask(node)
            case "map":
                return self.printer.keep(n, self.map(node), self.map_name(node))
            case "reduce" | "cumsum" | "shift" | "rename":
                product = self.product(n)
                if product is not None:
                    text = contract(self.printer, product, node)
                else:
                    text = self.across(node)
                # What looks along an axis is computed once, however often it is used.
                often = self.printer.uses.get(n, 0) > 1 and node.op != "rename"
                return self.printer.keep(n, text) if often else text
        return None

    def parameter(self, node: Node) -> Text:
        param = next(p for p in self.recurrence.params if p.name == node.attrs[0])
        code = reordered(f"cast(self.{node.attrs[0]}, wide)", param.declared, node.axes)
        return Text(code if node.axes else f"{code}[0]", axes=node.axes, lead=False)

    def map_name(self, node: Node) -> str:
        prefix = self.recurrence.map_of(node).label
        return prefix.replace(".", "_") + "_pre"

    def across(self, node: Node) -> Text:
        """A reduction, running sum or shift along a named axis, or axes called otherwise."""
        source = self.printer.values[node.args[0]]
        inner = self.nodes[node.args[0]].axes
        axis = str(node.attrs[1] if node.op == "reduce" else node.attrs[0])
        if source.number or axis not in inner:
            raise AssertionError(f"{node}: {axis} is not an axis of its argument")
        dim = inner.index(axis) - len(inner)
        code = wrap(source, 9)
        if node.op == "rename":
            return Text(renamed(code, inner, node), axes=node.axes, lead=source.lead)
        if node.op == "reduce":
            call = {"sum": "sum", "mean": "mean", "max": "amax", "min": "amin"}[str(node.attrs[0])]
            return Text(f"{code}.{call}({dim})", axes=node.axes, lead=source.lead)
        if node.op == "cumsum":
            return Text(f"{code}.cumsum({dim})", axes=node.axes, lead=source.lead)
        by = node.attrs[1]
        amount = f"self.{by}" if isinstance(by, str) else str(by)
        return Text(f"shift({source.code}, {dim}, {amount})", axes=node.axes, lead=source.lead)

    # What differs from place to place ------------------------------------------------

    def read(self, n: int, node: Node) -> Text:
        raise AssertionError(f"{node}: a sequence is read where all is constant in time")

    def mask(self, node: Node) -> Text:
        raise AssertionError(f"{node}: dropout where all is constant in time")

    def window(self, node: Node, order: tuple[str, ...], window: Window) -> str:
        raise AssertionError(f"{node}: a window where all is constant in time")

    # Learned maps --------------------------------------------------------------------

    def flat(self, n: int, order: tuple[str, ...]) -> str:
        """A map's argument with its axes, in the order given, flattened into one.

        It has its leading dimensions even where it came to what is constant in time.
        """
        axes = self.nodes[n].axes
        value = self.printer.values[n]
        if value.number:
            return f"like.new_full(({self.leading}, 1), {value.code}, dtype=wide)"
        code = value.code
        if not axes:
            code = f"{wrap(value, 9)}.unsqueeze(-1)"
        elif len(axes) > 1:
            code = f"{reordered(wrap(value, 9), axes, order)}.flatten({-len(axes)})"
        if value.lead:
            return code
        code = f"({code})" if axes and len(axes) == 1 and value.binds < 9 else code
        return f"{code}.expand({self.leading}, -1)"

    def map_sources(self, node: Node, m: LearnedMap) -> list[str]:
        """What a learned map is called with: its arguments flat, or a window over its one."""
        if m.window is not None:
            return [self.window(node, m.sources[0], m.window)]
        return list(map(self.flat, node.args, m.sources))

    def map(self, node: Node) -> Text:
        """A learned map of one step, widened to the dtype of states."""
        m = self.recurrence.map_of(node)
        bias = block(m, f"self.{m.prefix}.bias") if m.bias else "None"
        weight = block(m, f"self.{m.prefix}.weight")
        code = m.step(self.map_sources(node, m), weight, bias)
        return Text(reordered(unflatten(code, m.declared), m.declared, m.axes), axes=m.axes)


def unflatten(code: str, axes: tuple[str, ...]) -> str:
    """A flat result with its axes."""
    if not axes:
        return f"{code}[..., 0]"
    if len(axes) == 1:
        return code
    return f"{code}.unflatten(-1, ({', '.join(f'self.{a}' for a in axes)}))"


def number_leaf(value: float) -> Text:
    """A literal; a negative one binds as a sign does."""
    return Text(number_text(value), 7 if value < 0 else 9, number=True)


class StepEquations(Equations):
    """One step: a value is (B, *axes), the past is in ``state``."""

    leading = "like.shape[0]"

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.fields = {h.name: h for h in plan.histories}
        self.ahead = non_causal(plan)

    def read(self, n: int, node: Node) -> Text:
        name, lag = str(node.attrs[0]), node.attrs[1]
        if lag == 0:
            return Text(self.inputs[name], axes=node.axes)
        return Text(past_step(self.fields[name], lag), axes=node.axes)

    def mask(self, node: Node) -> Text:
        return Text(f"keep[{self.recurrence.sites.index(str(node.attrs[0]))}]", axes=node.axes)

    def map(self, node: Node) -> Text:
        index = int(node.attrs[0])
        if index in self.ahead:
            position = len(self.recurrence.inputs) + self.ahead.index(index)
            return Text(f"inputs[{position}]", axes=node.axes)
        return super().map(node)

    def window(self, node: Node, order: tuple[str, ...], window: Window) -> str:
        field = window_field(self.plan, node)
        value = self.flat(node.args[0], order)
        past = flat_past(f"state.{field.name}", field.axes, order)
        return f"push({past}, {value}, {product_text((window.width,))})"


def window_field(plan: Plan, node: Node) -> History:
    """The state's field that holds a learned map's window."""
    name = plan.recurrence.window_name(node)
    return next(h for h in plan.histories if h.name == name)


def flat_past(code: str, axes: tuple[str, ...], order: tuple[str, ...]) -> str:
    """A past (B, K, *axes) with its axes, in the order given, flattened into one."""
    if not axes:
        return f"{code}.unsqueeze(-1)"
    return code if len(axes) == 1 else f"{reordered(code, axes, order)}.flatten(2)"


def flat_before(field: History, order: tuple[str, ...]) -> str:
    """What a window of the field sees before the first step, (B, C); None for zero."""
    if not field.state or len(field.axes) == 1:
        return before(field)
    if not field.axes:
        return f"{before(field)}.unsqueeze(-1)"
    return f"{reordered(before(field), field.axes, order)}.flatten(1)"


def past_step(field: History, lag: object) -> str:
    """A lagged value as a step finds it in the state."""
    if field.single:
        return f"state.{field.name}"
    back = f"-self.{lag}" if isinstance(lag, str) else f"-{lag}"
    return f"state.{field.name}[:, {back}]"


def non_causal(plan: Plan) -> tuple[int, ...]:
    """Maps that see later steps, so that a step-by-step run needs them computed ahead."""
    maps = plan.recurrence.maps
    used = {int(n.attrs[0]) for n in plan.recurrence.nodes if n.op == "map"}
    return tuple(i for i, m in enumerate(maps) if i in used and m.sees_later)


class SequenceEquations(Equations):
    """A whole sequence: a value is (B, T, *axes)."""

    leading = "batch, steps"

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.fields = {h.name: h for h in plan.histories}
        self.known: dict[int, Text] = {}

    def prepare(self, roots: Iterable[int]) -> None:
        super().prepare(roots)
        # Choices that change with time are made in the kernels: here they guard nothing.
        timed = time_varying(self.recurrence)
        self.printer.guards = {
            n: tuple(g for g in guards if not timed[g.condition])
            for n, guards in self.printer.guards.items()
        }

    def leaf(self, n: int, node: Node) -> Text | None:
        return self.known.get(n) or super().leaf(n, node)

    def arguments(self, n: int) -> tuple[int, ...]:
        return () if n in self.known or self.nodes[n].op == "map" else super().arguments(n)

    def product(self, n: int) -> Contraction | None:
        # Terms that a kernel has written down are there to be summed.
        written = n in self.products and self.nodes[n].args[0] in self.known
        return None if written else super().product(n)

    def value(self, root: int) -> Text:
        # What a stage has computed since counts for more than what was printed before.
        if root in self.known:
            self.printer.values[root] = self.known[root]
        return super().value(root)

    def sequence(self, root: int, axes: tuple[str, ...]) -> str:
        """A value's text over batch, time and axes, even if it is constant in time."""
        value = self.value(root)
        if value.number:
            extents = "".join(f", self.{a}" for a in axes)
            return f"like.new_full((batch, steps{extents}), {value.code}, dtype=wide)"
        if value.lead:
            return value.code
        extents = "".join(f", self.{a}" for a in axes)
        return f"{wrap(align(value, axes), 9)}.expand(batch, steps{extents})"

    def read(self, n: int, node: Node) -> Text:
        name, lag = str(node.attrs[0]), node.attrs[1]
        if lag == 0:
            return Text(self.inputs[name], axes=node.axes)
        field = self.fields[name]
        source = self.inputs[name] if field.node is None else self.sequence(field.node, field.axes)
        amount = f"self.{lag}" if isinstance(lag, str) else str(lag)
        code = f"lagged({source}, {past(field)}, {amount}, resets, {before(field)})"
        return self.printer.keep(n, Text(code, axes=node.axes), f"{name}_lag")

    def mask(self, node: Node) -> Text:
        return Text(f"keep[{self.recurrence.sites.index(str(node.attrs[0]))}]", axes=node.axes)

    def window(self, node: Node, order: tuple[str, ...], window: Window) -> str:
        source = self.flat(node.args[0], order)
        width = product_text((window.width,))
        if not window.causal:
            return f"centred_windows({source}, {width}, resets)"
        field = window_field(self.plan, node)
        earlier = flat_past(past(field), field.axes, order)
        return f"windows({source}, {earlier}, {width}, resets, {flat_before(field, order)})"


def past(field: History) -> str:
    """A field as steps (B, K, *axes)."""
    return f"state.{field.name}.unsqueeze(1)" if field.single else f"state.{field.name}"


def before(field: History) -> str:
    """What a read of the field sees before the first step, (B, *axes); None for zero."""
    if not field.state:
        return "None"
    return (
        f"fresh and fresh.{field.name}" if field.single else f"fresh and fresh.{field.name}[:, 0]"
    )
