"""The tangent of a kernel: again a kernel, of the same direction, on dual numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from seqc.ir.algebra import linear_algebra
from seqc.ir.graph import rebuild
from seqc.ir.kernel import Carry, Kernel, Output, Scan, Stream
from seqc.lower.adjoint import pruned
from seqc.symbolic.differentiate import push_forward
from seqc.symbolic.rewrite import StableBuilder


def tangent(kernel: Kernel) -> Kernel:
    """What a kernel computes, then its directional derivative: the kernel on dual numbers.

    What it reads: the kernel's streams, then their tangents; its constants, then theirs; the same
    masks and scalars (which are held).  Its carries are the kernel's, then their tangents; its
    outputs the kernel's, then theirs.  It starts, starts anew and comes to what those say, so
    it is a kernel like any forward one, with an adjoint by the same pass.

    A scan keeps its law.  That of its tangent is affine, whatever the scan's: a matrix that may
    read the carries themselves, which an earlier scan advances.

    The adjoint of this kernel gives both orders of a second derivative, in one march: with
    cotangents (w, g) of what was computed and of its tangent, J^T g for the tangents of the inputs,
    and J^T w + d<J v, g>/dx for the inputs.

    Raises:
        ValueError: the kernel reads states of another, or has totals: it is an adjoint.
    """
    if kernel.befores or kernel.totals or kernel.backward:
        raise ValueError(f"{kernel.name} is an adjoint: take the tangent first, then its adjoint")
    builder = StableBuilder(kernel.axes)
    copied = rebuild(kernel.body, builder)
    firsts = {
        "load": len(kernel.streams), "constant": len(kernel.constants), "prev": len(kernel.carries),
        "matrix": len(kernel.constants),
    }  # fmt: skip
    seeds: dict[int, int] = {}
    own: dict[int, int] = {}
    for n, node in enumerate(kernel.body):
        if node.op in firsts:
            place = int(node.attrs[0])
            attrs = (firsts[node.op] + place,)
            seeds[copied[n]] = builder.add(node.op, axes=node.axes, attrs=attrs)
            if node.op == "prev":
                own[place] = copied[n]
    zero = builder.const(0.0)

    def moved(roots: Iterable[int], by: Mapping[int, int]) -> list[int]:
        """The tangents of some nodes."""
        roots = [copied[r] for r in roots]
        found = push_forward(builder, by, roots, kernel.inner) if by else {}
        return [zero if (t := found.get(r)) is None else t for r in roots]

    afters = moved((c.after for c in kernel.carries), seeds)
    outputs = moved((o.node for o in kernel.outputs), seeds)
    made = Kernel(
        name=f"{kernel.name}_tangent",
        axes=kernel.axes,
        streams=(*kernel.streams, *(Stream(f"{s.name}_dot", s.axes) for s in kernel.streams)),
        constants=(
            *kernel.constants, *(replace(c, name=f"{c.name}_dot") for c in kernel.constants),
        ),
        scalars=kernel.scalars,
        masks=kernel.masks,
        carries=(
            *(replace(c, after=copied[c.after]) for c in kernel.carries),
            *(
                Carry(f"{c.name}_dot", f"{c.state}_dot", c.lag, c.axes, n)
                for c, n in zip(kernel.carries, afters, strict=True)
            ),
        ),
        scans=(
            *(replace(s, parts=tuple(copied[p] for p in s.parts)) for s in kernel.scans),
            *(_scan(builder, kernel, s, seeds, own, moved) for s in kernel.scans),
        ),
        outputs=(
            *(replace(o, node=copied[o.node]) for o in kernel.outputs),
            *(
                Output(f"{o.name}_dot", n, o.axes)
                for o, n in zip(kernel.outputs, outputs, strict=True)
            ),
        ),
        body=(),
        inner=kernel.inner,
        stepped=kernel.stepped,
    )  # fmt: skip
    return pruned(replace(made, body=builder.graph))


def _scan(
    builder: StableBuilder, kernel: Kernel, scan: Scan, seeds: Mapping[int, int],
    own: Mapping[int, int], moved: Callable[[Iterable[int], Mapping[int, int]], list[int]],
) -> Scan:  # fmt: skip
    """The tangent of a scan: affine in its own tangents, whatever the scan's law."""
    places = tuple(len(kernel.carries) + i for i in scan.carries)
    if scan.law is None:
        return Scan(places)
    afters = [kernel.carries[i].after for i in scan.carries]
    one, zero = builder.const(1.0), builder.const(0.0)
    columns = [
        moved(afters, {own[j]: one}) if j in own else [zero] * len(afters) for j in scan.carries
    ]
    matrix = [column[i] for i in range(len(afters)) for column in columns]
    mine = {own[j] for j in scan.carries if j in own}
    offsets = moved(afters, {n: t for n, t in seeds.items() if n not in mine})
    return Scan(places, linear_algebra(len(afters)), (*matrix, *offsets))
