"""What a derivative passes through, and what each operation makes of one: both modes need it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from seqc.ir.graph import Node
from seqc.ir.operations import OPERATIONS
from seqc.ir.ops import FLAT, POINTWISE
from seqc.symbolic.patterns import build, parse
from seqc.symbolic.rewrite import StableBuilder

#: Operations that choose one of their arguments.
CHOICES = frozenset({"where", "min", "max"})
#: Those whose derivative is stated by the spec: graft(value, x, slope).
STATED = frozenset({"graft"})


def depending(
    b: StableBuilder, leaves: Iterable[int], last: int, summed: Sequence[str] = ()
) -> set[int]:
    """The nodes up to ``last`` through which a derivative by the leaves passes."""
    found = set(leaves)
    for n in range(last + 1):
        node = b.nodes[n]
        args = node.args[1:] if node.op == "where" else node.args
        if node.op in STATED:
            args = args[:2]
        if node.op not in FLAT and any(a in found for a in args):
            passes = node.op in POINTWISE or node.op == "product" or _across(node, summed)
            if not passes and n not in found:
                raise ValueError(f"%{n} = {node}: only pointwise operations are differentiated")
            found.add(n)
    return found


def _across(node: Node, summed: Sequence[str]) -> bool:
    """Whether a node looks along axes that the graph has all of."""
    if node.op == "rename":
        return all(a in summed for a in node.attrs)
    kinds = ("sum", "max", "min")
    return node.op == "reduce" and node.attrs[0] in kinds and node.attrs[1] in summed


def times(b: StableBuilder, value: int, n: int, argument: int) -> int:
    """value * (the derivative of node n by that argument)."""
    node = b.nodes[n]
    if node.op in STATED:
        return value if argument == 0 else b.op("mul", value, node.args[2])
    bound = {"r": n, **dict(zip("xy", node.args, strict=False))}
    slope = build(parse(OPERATIONS[node.op].derivative[argument]), bound, b.op, b.const)
    return b.op("mul", value, slope)


def shares(b: StableBuilder, n: int) -> tuple[int, int]:
    """Of a largest (least) of some: where it is, and at how many places, which share its slope."""
    node = b.nodes[n]
    there = b.op("eq", node.args[0], n)
    each = b.op("where", there, b.const(1.0), b.const(0.0))
    return there, b.add("reduce", each, axes=node.axes, attrs=("sum", node.attrs[1]))


def called(b: StableBuilder, value: int, names: Mapping[str, str]) -> int:
    """A value whose axes are called otherwise."""
    own = b.nodes[value].axes
    pairs = [(old, new) for old, new in names.items() if old in own]
    if not pairs:
        return value
    axes = b.union(tuple(names.get(a, a) for a in own))
    return b.add("rename", value, axes=axes, attrs=tuple(a for pair in pairs for a in pair))


def names_of(node: Node) -> dict[str, str]:
    """What a rename calls each axis."""
    return dict(zip(map(str, node.attrs[::2]), map(str, node.attrs[1::2]), strict=True))
