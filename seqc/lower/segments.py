"""Stretches of time as functions of what enters them, derived from the laws of a kernel's scans."""

from __future__ import annotations

from seqc.ir.algebra import Algebra, substitute
from seqc.ir.graph import Graph, GraphBuilder, Node, reachable, rebuild
from seqc.ir.kernel import Kernel
from seqc.ir.schedule import Function, Segment, Step, StepCarry


def segment(kernel: Kernel, s: int) -> Segment:
    """What a stretch of time does to the carries of scan ``s``, whose law is there."""
    scan = kernel.scans[s]
    law = scan.law
    assert law is not None
    return Segment(
        scan=s, law=law.name, lift=_lift(kernel, s, law), identity=_identity(law),
        compose=_compose(law), enter=_enter(law),
    )  # fmt: skip


def running(kernel: Kernel, s: int) -> tuple[int, ...]:
    """The carries of earlier scans that a scan's parts depend on."""
    roots = list(kernel.scans[s].parts)
    found: list[int] = []
    for earlier in reversed(range(s)):
        mine = kernel.scans[earlier].carries
        if any(_needs(kernel, roots, i) for i in mine):
            roots += [kernel.carries[i].after for i in mine]
            found = [*mine, *found]
    return tuple(found)


def _needs(kernel: Kernel, roots: list[int], carry: int) -> bool:
    """Whether values depend on a carry: before the step, or after it."""
    after = kernel.carries[carry].after
    # A number is nobody's: one carry's update may be 0, and so may be much else.
    told = after if kernel.body[after].op != "const" else -1
    return any(
        n == told or (kernel.body[n].op == "prev" and kernel.body[n].attrs[0] == carry)
        for n in reachable(kernel.body, roots)
    )


def _lift(kernel: Kernel, s: int, law: Algebra) -> Step:
    """One more step after those of a stretch: compose."""
    scan = kernel.scans[s]
    along = running(kernel, s)
    place = {old: new for new, old in enumerate(along)}
    builder = GraphBuilder(kernel.axes)

    def visit(node: Node, args: tuple[int, ...]) -> int:
        attrs = (place[int(node.attrs[0])],) if node.op == "prev" else node.attrs
        return builder.add(node.op, *args, axes=node.axes, attrs=attrs, span=node.span)

    afters = [kernel.carries[i].after for i in along]
    made = rebuild(kernel.body, builder, visit, [*afters, *scan.parts])
    axes = kernel.carries[scan.carries[0]].axes
    symbols = dict(zip(law.later, (made[p] for p in scan.parts), strict=True))
    for i, name in enumerate(law.earlier):
        symbols[name] = builder.add("prev", axes=axes, attrs=(len(along) + i,))
    composed = _scaled(law, substitute(law, law.compose, symbols, builder), builder)
    first = kernel.carries[scan.carries[0]].name
    carries = [
        StepCarry(kernel.carries[i].name, kernel.carries[i].axes, made[a], i)
        for i, a in zip(along, afters, strict=True)
    ]
    carries += [
        StepCarry(f"{first}_{part}", axes, n, None)
        for part, n in zip(law.parts, composed, strict=True)
    ]
    names = ", ".join(kernel.carries[i].name for i in scan.carries)
    return Step(
        f"Lift{s}", f"one more step of {names} after those of a stretch, by {law.name}",
        tuple(carries), (), (), builder.graph, kernel.backward,
    )  # fmt: skip


def _identity(law: Algebra) -> tuple[float, ...]:
    builder = GraphBuilder()
    found = [builder.value(n) for n in substitute(law, law.identity, {}, builder)]
    if any(v is None for v in found):
        raise AssertionError(f"{law.name}: the identity is not a number")
    return tuple(v for v in found if v is not None)


def _compose(law: Algebra) -> Function:
    builder = GraphBuilder()
    names = (*law.later, *law.earlier)
    symbols = {name: builder.add("element", attrs=(i,)) for i, name in enumerate(names)}
    roots = _scaled(law, substitute(law, law.compose, symbols, builder), builder)
    return _function(names, roots, builder.graph)


def _enter(law: Algebra) -> Function:
    builder = GraphBuilder()
    names = (*law.parts, *law.arguments)
    symbols = {name: builder.add("element", attrs=(i,)) for i, name in enumerate(names)}
    return _function(names, substitute(law, law.applied, symbols, builder), builder.graph)


def _function(names: tuple[str, ...], roots: list[int], body: Graph) -> Function:
    return Function(names, tuple(roots), body)


def _scaled(law: Algebra, parts: list[int], builder: GraphBuilder) -> list[int]:
    """The parts of a projective algebra divided by their size, for products of many overflow."""
    if law.projective is None:
        return parts
    (size,) = substitute(law, [law.projective], dict(zip(law.parts, parts, strict=True)), builder)
    one = builder.const(1.0)
    there = builder.add("gt", size, builder.const(0.0))
    share = builder.add("where", there, builder.add("div", one, size), one)
    return [builder.add("mul", p, share) for p in parts]
