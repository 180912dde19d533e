"""The adjoint of a kernel: again a kernel, opposite in time and affine in what it carries."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace

from seqc.ir.algebra import linear_algebra
from seqc.ir.graph import Node, reachable, rebuild
from seqc.ir.kernel import (
    Before,
    Carry,
    Constant,
    Held,
    Kernel,
    Outer,
    Output,
    Scan,
    Stream,
    Total,
)
from seqc.ir.ops import POINTWISE
from seqc.symbolic.differentiate import pull_back
from seqc.symbolic.rewrite import StableBuilder


def adjoint(kernel: Kernel) -> Kernel:
    """The vector-Jacobian product of a kernel that reads no other's states.

    With g the cotangents of the outputs and m_t what arrives at a carry from
    step t + 1, the carry's adjoint is l_t = m_t + g_t (through the outputs),
    and m_{t-1} = J_t^T l_t + (what else reads the step before).

    What it reads: the kernel's streams, then the cotangents of its outputs; the kernel's
    constants, then the cotangents of its totals; of its carries those (``befores``) that
    derivatives depend on.  What it writes: an output ``d_…`` for each stream, and a total for
    each constant, whose derivative is not zero.  Its carries are the kernel's, in their order:
    each starts from the cotangent of the carry's last value, and comes to that of its start; at
    a reset the cotangent of the fresh value leaves.
    """
    if kernel.befores:
        raise ValueError(f"{kernel.name} reads states of another kernel: make those streams first")
    builder = StableBuilder(kernel.axes)

    def copy(node: Node, args: tuple[int, ...]) -> int:
        """The kernel's own step, what its carries were being read as ``before``."""
        op = "before" if node.op == "prev" else node.op
        return builder.add(op, *args, axes=node.axes, attrs=node.attrs, span=node.span)

    forward = rebuild(kernel.body, builder, copy)
    around = frozenset(kernel.axes) - frozenset(kernel.inner)
    seeds: list[tuple[int, int, frozenset[str]]] = []
    for i, output in enumerate(kernel.outputs):
        leaf = builder.add("load", axes=output.axes, attrs=(len(kernel.streams) + i,))
        seeds.append((forward[output.node], leaf, around - set(output.axes)))
    for i, total in enumerate(kernel.totals):
        leaf = builder.add("constant", axes=total.axes, attrs=(len(kernel.constants) + i,))
        seeds.append((forward[total.node], leaf, around - set(total.axes)))
    arriving = [builder.add("prev", axes=c.axes, attrs=(i,)) for i, c in enumerate(kernel.carries)]
    for c, leaf in zip(kernel.carries, arriving, strict=True):
        seeds.append((forward[c.after], leaf, frozenset()))

    def leaves(op: str, count: int) -> list[int | None]:
        found: list[int | None] = [None] * count
        for i, node in enumerate(kernel.body):
            if node.op == op:
                found[int(node.attrs[0])] = forward[i]
        return found

    befores = leaves("prev", len(kernel.carries))
    matrices = leaves("matrix", len(kernel.constants))
    loads = leaves("load", len(kernel.streams))
    constants = leaves("constant", len(kernel.constants))
    wanted = [n for group in (befores, loads, constants, matrices) for n in group if n is not None]
    cotangents = pull_back(builder, seeds, wanted, kernel.inner, around)

    def result(n: int | None) -> int | None:
        return None if n is None else cotangents.get(n)

    zero = builder.const(0.0)
    after = [zero if (n := result(b)) is None else n for b in befores]
    scans = [
        _scan(builder, kernel, scan, forward, befores, arriving, after)
        for scan in reversed(kernel.scans)
    ]
    made = Kernel(
        name=f"{kernel.name}_adjoint",
        axes=kernel.axes,
        streams=(
            *kernel.streams, *(Stream(f"d_{o.name}", o.axes) for o in kernel.outputs),
        ),
        constants=(
            *kernel.constants, *(Constant(f"d_{t.name}", t.axes) for t in kernel.totals),
        ),
        scalars=kernel.scalars,
        masks=kernel.masks,
        carries=tuple(
            Carry(f"adjoint_{c.name}", c.state, c.lag, c.axes, n)
            for c, n in zip(kernel.carries, after, strict=True)
        ),
        scans=tuple(scans),
        outputs=tuple(
            Output(f"d_{s.name}", n, s.axes)
            for s, leaf in zip(kernel.streams, loads, strict=True)
            if (n := result(leaf)) is not None
        ),
        totals=tuple(
            Total(f"d_{c.name}", n, c.axes)
            for c, leaf in zip(kernel.constants, constants, strict=True)
            if (n := result(leaf)) is not None
        ),
        body=builder.graph,
        outers=tuple(
            Outer(f"d_{c.name}", i, left, right)
            for i, (c, leaf) in enumerate(zip(kernel.constants, matrices, strict=True))
            for left, right in _outers(builder, result(leaf))
        ),
        stepped=kernel.stepped,
        inner=kernel.inner,
        befores=tuple(
            Before(f"{c.name}_before", i, c.axes) for i, c in enumerate(kernel.carries)
        ),
        backward=not kernel.backward,
    )  # fmt: skip
    products = {forward[n]: n for n, node in enumerate(kernel.body) if node.op == "product"}
    return pruned(_holding(made, products))


def _outers(builder: StableBuilder, n: int | None) -> list[tuple[int, int]]:
    """The rows and columns whose outer products a matrix's gradient is the sum of."""
    if n is None:
        return []
    node = builder.nodes[n]
    if node.op == "add":
        return [pair for a in node.args for pair in _outers(builder, a)]
    if node.op != "outer":
        raise AssertionError(f"{node}: no gradient of a matrix")
    left, right = node.args
    return [(left, right)]


def _holding(made: Kernel, products: dict[int, int]) -> Kernel:
    """The adjoint with the kernel's own products held from the way there, not taken again."""
    if not products:
        return made
    order = [n for n in products if n in reachable(made.body, _roots(made), _past(products, made))]
    place = {n: i for i, n in enumerate(order)}
    body = tuple(
        replace(node, op="held", args=(), attrs=(place[n],)) if n in place else node
        for n, node in enumerate(made.body)
    )
    held = tuple(Held(f"product{i}", products[n], made.body[n].axes) for n, i in place.items())
    return replace(made, body=body, held=held)


def _past(products: Container[int], kernel: Kernel) -> Callable[[int], Iterable[int]]:
    """What nodes need, of products nothing."""
    return lambda n: () if n in products else kernel.body[n].args


def _scan(
    builder: StableBuilder, kernel: Kernel, scan: Scan, forward: dict[int, int],
    befores: Sequence[int | None], arriving: Sequence[int], after: Sequence[int],
) -> Scan:  # fmt: skip
    """The adjoint of a scan: linear in what arrives, whatever the scan's law."""
    if scan.law is None:
        return Scan(scan.carries)
    zero = builder.const(0.0)
    mine = [befores[i] for i in scan.carries]
    wanted = [n for n in mine if n is not None]
    entries: dict[tuple[int, int], int] = {}
    for i, carry in enumerate(scan.carries):
        seed = (forward[kernel.carries[carry].after], builder.const(1.0), frozenset[str]())
        slopes = pull_back(builder, [seed], wanted, kernel.inner, frozenset())
        for j, n in enumerate(mine):
            slope = None if n is None else slopes.get(n)
            entries[j, i] = zero if slope is None else slope
    held = {arriving[i] for i in scan.carries}
    offsets = _without(builder, [after[i] for i in scan.carries], held)
    count = range(len(scan.carries))
    matrix = [entries[j, i] for j in count for i in count]
    return Scan(scan.carries, linear_algebra(len(scan.carries)), (*matrix, *offsets))


def _without(builder: StableBuilder, roots: Iterable[int], gone: set[int]) -> list[int]:
    """The roots where some leaves are zero."""
    roots = list(roots)
    zero = builder.const(0.0)
    made: dict[int, int] = {}
    for n in sorted(reachable(builder.graph, roots)):
        node: Node = builder.nodes[n]
        args = tuple(made[a] for a in node.args)
        if n in gone:
            made[n] = zero
        elif args == node.args:
            made[n] = n
        elif node.op in POINTWISE:
            made[n] = builder.op(node.op, *args, span=node.span)
        elif node.op == "reduce" and builder.value(args[0]) == 0.0:
            made[n] = zero
        else:
            made[n] = builder.add(node.op, *args, axes=node.axes, attrs=node.attrs, span=node.span)
    return [made[r] for r in roots]


def _roots(kernel: Kernel) -> list[int]:
    """The nodes that a kernel is for."""
    roots = [c.after for c in kernel.carries] + [p for s in kernel.scans for p in s.parts]
    roots += [o.node for o in kernel.results]
    return roots + [n for o in kernel.outers for n in (o.left, o.right)]


def pruned(kernel: Kernel) -> Kernel:
    """Without nodes that nothing needs, and states before the step that nothing reads."""
    roots = _roots(kernel)
    kept = sorted(reachable(kernel.body, roots))
    place = {old: new for new, old in enumerate(kept)}
    read = sorted({int(n.attrs[0]) for i in kept if (n := kernel.body[i]).op == "before"})
    renamed = {old: new for new, old in enumerate(read)}

    def moved(node: Node) -> Node:
        attrs = (renamed[int(node.attrs[0])],) if node.op == "before" else node.attrs
        return replace(node, args=tuple(place[a] for a in node.args), attrs=attrs)

    return replace(
        kernel,
        body=tuple(moved(kernel.body[i]) for i in kept),
        carries=tuple(replace(c, after=place[c.after]) for c in kernel.carries),
        scans=tuple(replace(s, parts=tuple(place[p] for p in s.parts)) for s in kernel.scans),
        outputs=tuple(replace(o, node=place[o.node]) for o in kernel.outputs),
        totals=tuple(replace(t, node=place[t.node]) for t in kernel.totals),
        outers=tuple(replace(o, left=place[o.left], right=place[o.right]) for o in kernel.outers),
        befores=tuple(kernel.befores[i] for i in read),
    )
