"""A kernel's mirror: the same results in plain torch, differentiable to any order."""

from __future__ import annotations

from seqc.codegen.contractions import renamed
from seqc.codegen.equations import number_leaf
from seqc.codegen.names import Namer
from seqc.codegen.statements import tidy
from seqc.codegen.torch_printer import RESERVED, Text, TorchPrinter, align, wrap
from seqc.ir.graph import Node
from seqc.ir.kernel import Output
from seqc.ir.ops import GATHERED
from seqc.ir.plan import KernelStage

_EXTRA = frozenset({"full", "stacked", "started", "split", "shape", "t", "results"})


class _Mirror:
    """Prints a kernel's body as one step of a loop over time."""

    def __init__(self, stage: KernelStage) -> None:
        self.stage, self.kernel = stage, stage.kernel
        kernel = stage.kernel
        self.namer = Namer(RESERVED | _EXTRA)
        self.operands = [self.namer.fresh(o.name) for o in stage.operands]
        self.constants = [self.namer.fresh(c.name) for c in kernel.constants]
        self.masks = [self.namer.fresh(m.name) for m in kernel.masks]
        self.starts = [self.namer.fresh(f"{c.name}_start") for c in kernel.carries]
        self.fresh = [self.namer.fresh(f"{c.name}_fresh") for c in kernel.carries]
        self.scalars = [self.namer.fresh(s) for s in kernel.scalars]
        self.streams = [self.namer.fresh(f"{s.name}_t") for s in kernel.streams]
        self.carries = [self.namer.fresh(c.name) for c in kernel.carries]
        self.outputs = [self.namer.fresh(f"{o.name}_out") for o in kernel.outputs]
        self.printer = TorchPrinter(kernel.body, self.leaf, self.namer, {})

    def leaf(self, n: int, node: Node) -> Text | None:
        index = int(node.attrs[0]) if node.attrs and node.op not in (*GATHERED, "const") else 0
        match node.op:
            case "const":
                return number_leaf(float(node.attrs[0]))
            case "load":
                return Text(f"{self.streams[index]}[:, t]", axes=node.axes)
            case "constant":
                return Text(self.constants[index], axes=node.axes, lead=False)
            case "scalar":
                return Text(self.scalars[index], number=True)
            case "keep":
                return Text(f"{self.masks[index]}[:, t]", axes=node.axes)
            case "prev":
                return Text(self.carries[index], axes=node.axes)
            case "reduce":
                source = self.printer.values[node.args[0]]
                inner = self.kernel.body[node.args[0]].axes
                dim = inner.index(str(node.attrs[1])) - len(inner)
                call = {"sum": "sum", "max": "amax", "min": "amin"}[str(node.attrs[0])]
                return Text(f"{wrap(source, 9)}.{call}({dim})", axes=node.axes, lead=source.lead)
            case "matrix":
                return Text(self.constants[index], axes=(), lead=False)
            case "product":
                return self.product(node)
            case "rename":
                source = self.printer.values[node.args[0]]
                code = renamed(wrap(source, 9), self.kernel.body[node.args[0]].axes, node)
                return Text(code, axes=node.axes, lead=source.lead)
        return None

    def product(self, node: Node) -> Text:
        """A matrix, or its transpose, times what a step has."""
        values, of = node.args
        matrix = self.kernel.constants[int(self.kernel.body[of].attrs[0])]
        taken = tuple(map(str, node.attrs[1:]))
        shared, rows = matrix.axes[: matrix.shared], matrix.axes[matrix.shared :]
        columns, turned = matrix.columns or (), matrix.turned
        if node.attrs[0]:
            rows, columns, turned = columns, rows, not turned
        given = align(self.printer.values[values], taken).code
        shapes = ", ".join(f"({self.extents(axes)})" for axes in (shared, rows, columns))
        code = f"multiplied({given}, {self.printer.values[of].code}, {shapes}, {turned})"
        return self.printer.keep(-1, Text(code, axes=node.axes), "product")

    def extents(self, axes: tuple[str, ...]) -> str:
        """The extents of some axes, each with a comma."""
        every = (*self.kernel.axes, *self.stage.other_axes)
        return "".join(f"extents[{2 + every.index(a)}], " for a in axes)

    def lines(self) -> list[str]:
        """The function's body."""
        kernel, out, extents = self.kernel, [], self.extents
        out.append("wide = state_dtype(dtype)")
        if kernel.scalars:
            out.append(f"({', '.join(self.scalars)},) = scalars")
        for (index, part_of), variable in zip(self.stage.sources, self.streams, strict=True):
            operand = self.stage.operands[index]
            source = self.operands[index]
            if operand.packed:
                shapes = ", ".join(f"({extents(part)})" for part in operand.parts)
                source = f"split({source}, ({shapes},), {part_of})"
            out.append(f"{variable} = {source}.to(wide)")
        for name, start in zip(self.carries, self.starts, strict=True):
            out.append(f"{name} = {start}.to(wide)")
        for name in self.outputs:
            out.append(f"{name} = []")
        roots = [c.after for c in kernel.carries] + [o.node for o in kernel.outputs]
        self.printer.count_uses(roots, lambda n: kernel.body[n].args)
        step: list[str] = []
        for name, fresh in zip(self.carries, self.fresh, strict=True):
            step.append(f"{name} = started({name}, {fresh}, resets, t)")
        for root in roots:
            self.printer.visit(root, lambda n: kernel.body[n].args)
        step += self.printer.lines

        def value(n: int, axes: tuple[str, ...], dtype: str) -> str:
            shown = align(self.printer.values[n], axes).code
            return f"full({shown}, (extents[0], {extents(axes)}), {dtype})"

        def folded(o: Output) -> str:
            """An output's value, summed over the axes that are its node's alone."""
            lanes = [a for a in kernel.body[o.node].axes if a not in o.axes]
            if not lanes:
                return value(o.node, o.axes, "dtype")
            whole = (*o.axes, *lanes)
            dims = ", ".join(str(-1 - i) for i in range(len(lanes)))
            return f"{value(o.node, whole, 'wide')}.sum(({dims},)).to(dtype)"

        for o, name in zip(kernel.outputs, self.outputs, strict=True):
            step.append(f"{name}.append({folded(o)})")
        if kernel.carries:
            after = [value(c.after, c.axes, "wide") for c in kernel.carries]
            step.append(f"{', '.join(self.carries)} = {', '.join(after)}")
        out.append("for t in range(extents[1]):")
        out += [f"    {line}" for line in step]
        results = [
            f"stacked({name}, (extents[0], {extents(o.axes)}), dtype, {self.witness})"
            for o, name in zip(kernel.outputs, self.outputs, strict=True)
        ]
        out.append(f"return ({', '.join([*results, *self.carries])},)")
        return out

    @property
    def witness(self) -> str:
        """A tensor that says on which device results lie."""
        return (*self.operands, *self.constants, *self.masks, *self.starts)[0]

    @property
    def arguments(self) -> list[str]:
        """The function's arguments, in the order of the forward operator's."""
        tensors = [*self.operands, *self.constants, *self.masks, *self.starts, *self.fresh]
        return [*tensors, "resets", "scalars", "extents", "dtype"]


def print_mirror(stage: KernelStage, name: str) -> str:
    """The mirror as a Python function."""
    mirror = _Mirror(stage)
    kernel = stage.kernel
    body = tidy(mirror.lines())
    head = f"def {name}({', '.join(mirror.arguments)}):"
    doc = f'    """{kernel.name} in plain torch, for derivatives of higher order."""'
    return "\n".join([head, doc, *(f"    {line}" for line in body)])
