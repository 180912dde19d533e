"""The adjoint of a kernel: again a recurrence, reverse in time and affine in what it carries."""

from __future__ import annotations

from seqc.ir.graph import reachable, rebuild
from seqc.ir.kernel import Adjoint, Kernel, Scan
from seqc.symbolic.differentiate import pull_back
from seqc.symbolic.rewrite import StableBuilder


def derive_adjoint(kernel: Kernel) -> Adjoint:
    """The vector-Jacobian product of one step of the kernel.

    With g the cotangents of the outputs and m_t what arrives at a carry from
    step t + 1, the carry's adjoint is l_t = m_t + g_t (through the outputs),
    and m_{t-1} = J_t^T l_t + (what else reads the step before).
    """
    builder = StableBuilder(kernel.axes)
    forward = rebuild(kernel.body, builder)
    seeds: dict[int, int] = {}

    def seed(node: int, op: str, index: int, axes: tuple[str, ...]) -> None:
        cotangent = builder.add(op, axes=axes, attrs=(index,))
        known = seeds.get(forward[node])
        seeds[forward[node]] = cotangent if known is None else builder.op("add", known, cotangent)

    for i, output in enumerate(kernel.outputs):
        seed(output.node, "grad", i, output.axes)
    for i, carry in enumerate(kernel.carries):
        seed(carry.after, "adjoint", i, carry.axes)

    def leaves(op: str, count: int) -> list[int | None]:
        found: list[int | None] = [None] * count
        for i, node in enumerate(kernel.body):
            if node.op == op:
                found[int(node.attrs[0])] = forward[i]
        return found

    prevs = leaves("prev", len(kernel.carries))
    loads = leaves("load", len(kernel.streams))
    constants = leaves("constant", len(kernel.constants))
    wanted = [n for group in (prevs, loads, constants) for n in group if n is not None]
    cotangents = pull_back(builder, seeds, wanted, kernel.inner)

    def result(n: int | None) -> int | None:
        return None if n is None else cotangents.get(n)

    carried = [result(n) for n in prevs]
    streams = [result(n) for n in loads]
    sums = [result(n) for n in constants]
    slopes = [jacobian(kernel, scan, builder, forward, prevs) for scan in kernel.scans]

    # Keep what is used, in order.
    entries = [n for matrix in slopes for row in matrix for n in row]
    roots = [n for n in [*carried, *entries, *streams, *sums] if n is not None]
    keep = sorted(reachable(builder.graph, roots))
    place = {old: new for new, old in enumerate(keep)}
    body = tuple(
        type(n)(n.op, tuple(place[a] for a in n.args), n.axes, n.attrs, n.span)
        for n in (builder.nodes[i] for i in keep)
    )

    def at(n: int | None) -> int | None:
        return None if n is None else place[n]

    read_back = {int(n.attrs[0]) for n in body if n.op == "prev"}
    return Adjoint(
        kernel=kernel,
        carried=tuple(at(n) for n in carried),
        slopes=tuple(tuple(tuple(at(n) for n in row) for row in matrix) for matrix in slopes),
        streams=tuple(at(n) for n in streams),
        constants=tuple(at(n) for n in sums),
        saved=tuple(sorted(read_back)),
        body=body,
    )


def jacobian(
    kernel: Kernel,
    scan: Scan,
    builder: StableBuilder,
    forward: dict[int, int],
    prevs: list[int | None],
) -> list[list[int | None]]:
    """How each carry of a scan after the step moves with each before it; rows: after."""
    if scan.law is None:
        return []
    rows: list[list[int | None]] = []
    mine = [prevs[i] for i in scan.carries]
    for i in scan.carries:
        after = forward[kernel.carries[i].after]
        found = pull_back(
            builder,
            {after: builder.const(1.0)},
            [n for n in mine if n is not None],
            kernel.inner,
        )
        rows.append([None if n is None else found.get(n) for n in mine])
    return rows
