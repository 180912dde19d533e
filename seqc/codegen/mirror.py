"""A kernel's mirror: the same results in plain torch, differentiable to any order."""

from __future__ import annotations

from seqc.codegen.equations import number_leaf
from seqc.codegen.names import Namer
from seqc.codegen.statements import tidy
from seqc.codegen.torch_printer import RESERVED, Text, TorchPrinter, align
from seqc.ir.graph import Node
from seqc.ir.kernel import Kernel

_EXTRA = frozenset({"full", "last_step", "split", "shape"})


class _Mirror:
    """Prints a kernel's body over whole sequences, each scan once its coefficients are there."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.namer = Namer(RESERVED | _EXTRA)
        self.operands = [self.namer.fresh(o.name) for o in kernel.operands]
        self.constants = [self.namer.fresh(c.name) for c in kernel.constants]
        self.masks = [self.namer.fresh(m) for m in kernel.masks]
        self.starts = [self.namer.fresh(f"{c.name}_start") for c in kernel.carries]
        self.fresh = [self.namer.fresh(f"{c.name}_fresh") for c in kernel.carries]
        self.scalars = [self.namer.fresh(s) for s in kernel.scalars]
        self.streams = [self.namer.fresh(f"{s.name}_t") for s in kernel.streams]
        names = {o.node: o.name for o in kernel.outputs}
        self.after = {c.after: i for i, c in enumerate(kernel.carries)}
        self.printer = TorchPrinter(kernel.body, self.leaf, self.namer, names)
        self.scans: dict[int, tuple[str, str]] = {}

    def leaf(self, n: int, node: Node) -> Text | None:
        index = int(node.attrs[0]) if node.attrs and node.op != "const" else 0
        match node.op:
            case "const":
                return number_leaf(float(node.attrs[0]))
            case "load":
                return Text(self.streams[index], axes=node.axes)
            case "constant":
                return Text(self.constants[index], axes=node.axes, lead=False)
            case "scalar":
                return Text(self.scalars[index], number=True)
            case "keep":
                return Text(self.masks[index], axes=node.axes)
            case "prev":
                return Text(self.scans[index][1], axes=node.axes)
        if n in self.after:
            return Text(self.scans[self.after[n]][0], axes=node.axes)
        return None

    def needs(self, n: int) -> tuple[int, ...]:
        """What must be printed before a node: a scan's coefficients before its states."""
        node = self.kernel.body[n]
        carry = self.after.get(n)
        if node.op == "prev":
            carry = int(node.attrs[0])
        if carry is not None:
            c = self.kernel.carries[carry]
            return (c.coefficient, c.offset)
        return node.args

    def visit(self, root: int) -> Text:
        """Print a node, everything it needs first, and the scans on the way."""
        stack = [root]
        while stack:
            n = stack[-1]
            if n in self.printer.values:
                stack.pop()
                continue
            before = self.printer.needs(n, self.needs(n))
            waiting = [a for a in before if a not in self.printer.values]
            if waiting:
                stack.extend(reversed(waiting))
                continue
            node = self.kernel.body[n]
            carry = self.after.get(n, int(node.attrs[0]) if node.op == "prev" else None)
            if carry is not None and carry not in self.scans:
                self.scan(carry)
            self.printer.value(n)
            stack.pop()
        return self.printer.values[root]

    def scan(self, i: int) -> None:
        """The loop over time of one carry."""
        carry = self.kernel.carries[i]
        axes = self.kernel.axes
        self.printer.say(self.kernel.body[carry.after].span)
        after = self.namer.fresh(carry.name)
        before = self.namer.fresh(f"{carry.name}_before")
        a, b = (
            f"full({align(self.printer.values[c], axes).code}, shape, wide)"
            for c in (carry.coefficient, carry.offset)
        )
        scan = f"affine_scan({a}, {b}, {self.starts[i]}, resets, {self.fresh[i]})"
        self.printer.lines.append(f"{after}, {before} = {scan}")
        self.scans[i] = (after, before)

    def lines(self) -> list[str]:
        """The function's body."""
        kernel, out = self.kernel, self.printer.lines
        out.append("wide = state_dtype(dtype)")
        out.append(f"shape = extents[:{2 + len(kernel.axes)}]")
        if kernel.scalars:
            out.append(f"({', '.join(self.scalars)},) = scalars")
        for stream, variable in zip(kernel.streams, self.streams, strict=True):
            operand = kernel.operands[stream.operand]
            source = self.operands[stream.operand]
            if operand.packed:
                axes = (*kernel.axes, *kernel.other_axes)
                index = {a: f"extents[{2 + i}]" for i, a in enumerate(axes)}
                shapes = ", ".join(
                    "(" + "".join(f"{index[a]}, " for a in part) + ")" for part in operand.parts
                )
                source = f"split({source}, ({shapes},), {stream.position})"
            out.append(f"{variable} = {source}.to(wide)")
        roots = [c.after for c in kernel.carries] + [o.node for o in kernel.outputs]
        self.printer.count_uses(roots, self.needs)
        results = []
        for output in kernel.outputs:
            value = align(self.visit(output.node), kernel.axes)
            results.append(f"full({value.code}, shape, dtype)")
        for i, carry in enumerate(kernel.carries):
            self.visit(carry.after)
            results.append(f"last_step({self.scans[i][0]}, {self.starts[i]})")
        out.append(f"return ({', '.join(results)},)")
        return out

    @property
    def arguments(self) -> list[str]:
        """The function's arguments, in the order of the forward operator's."""
        tensors = [*self.operands, *self.constants, *self.masks, *self.starts, *self.fresh]
        return [*tensors, "resets", "scalars", "extents", "dtype"]


def print_mirror(kernel: Kernel, name: str) -> str:
    """The mirror as a Python function."""
    mirror = _Mirror(kernel)
    body = tidy(mirror.lines())
    head = f"def {name}({', '.join(mirror.arguments)}):"
    doc = f'    """{kernel.name} in plain torch, for derivatives of higher order."""'
    return "\n".join([head, doc, *(f"    {line}" for line in body)])
