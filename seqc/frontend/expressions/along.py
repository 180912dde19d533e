"""What looks along an axis: reductions, running sums, shifts, and axes called otherwise."""

from __future__ import annotations

from seqc.diagnostics import Span
from seqc.frontend.declarations.constants import whole
from seqc.frontend.declarations.functions import usage
from seqc.frontend.expressions.builder import Builder
from seqc.frontend.expressions.complexes import INSTEAD
from seqc.frontend.expressions.nodes import Call, Evaluation, SizeName
from seqc.frontend.messages.limits import MAX_LAG
from seqc.frontend.messages.problems import listing
from seqc.frontend.text import syntax as s


def along(builder: Builder, expr: s.Call, name: str, axis: str, call: Call | None) -> Evaluation:
    """A reduction, a running sum or a shift along an axis that the value must have."""
    span = expr.span if call is None else call.span
    value = yield builder.number(expr.arguments[0].value, call)
    if value is None:
        return None
    axes = builder.axes_of(value)
    if axis not in axes:
        hint = f"it has {axes_text(axes)}"
        if name in ("max", "min") and not axes:
            hint += f"; to compare with the size as a number, write it first: `{name}({axis}, …)`"
        builder.error(
            "E049",
            f"`{name}` goes along `{axis}`, which the value does not have",
            expr.arguments[0].value.span,
            call,
            hint=hint,
        )
        return None
    if builder.parts(value) is not None and name in ("max", "min"):
        builder.error("E070", "complex values have no order", expr.span, call, hint=INSTEAD)
        return None
    if name == "cumsum":
        return _apart(builder, value, axes, ("cumsum", (axis,)), axes, span)
    if name == "shift":
        term = expr.arguments[2].value
        steps = whole(term)
        if steps is None or abs(steps) > MAX_LAG:
            builder.error(
                "E062",
                "a shift is a whole number",
                term.span,
                call,
                hint="`shift(e, axis, 1)` moves every entry one place up; a zero enters",
            )
            return None
        return _apart(builder, value, axes, ("shift", (axis, steps)), axes, span)
    rest = tuple(a for a in axes if a != axis)
    return _apart(builder, value, axes, ("reduce", (name, axis)), rest, span)


def _apart(
    builder: Builder,
    value: int,
    inner: tuple[str, ...],
    node: tuple[str, tuple[str | int, ...]],
    axes: tuple[str, ...],
    span: Span,
) -> int:
    """A structural node, or one of each part of a complex value, which spans ``inner``."""
    op, attrs = node
    parts = builder.parts(value)
    if parts is None:
        return builder.add(op, value, axes=axes, attrs=attrs, span=span)

    def one(part: int) -> int:
        found = builder.graph.nodes[part]
        if builder.graph.value(part) == 0.0:
            return part  # the imaginary part of a real value
        if attrs[0] == "sum" and found.op in ("add", "sub") and _is_product(builder, found.args):
            left, right = (
                builder.add(op, a, axes=axes, attrs=attrs, span=span) for a in found.args
            )
            return builder.add(found.op, left, right, span=span)
        spread = builder.spread(part, inner, span)
        return builder.add(op, spread, axes=axes, attrs=attrs, span=span)

    return builder.joined((one(parts[0]), one(parts[1])), span)


def _is_product(builder: Builder, terms: tuple[int, ...]) -> bool:
    """Whether the terms are products larger than their factors, as in a complex matrix product:
    their sums, one by one, are matrix products, and the sum of their sum would not be.
    """
    nodes = builder.graph.nodes
    for t in terms:
        args = nodes[t].args
        # A factor as large as the product has its axes, and varies in time if that does.
        if nodes[t].op != "mul" or any(
            nodes[a].axes == nodes[t].axes and builder.varies[a] == builder.varies[t] for a in args
        ):
            return False
    return nodes[terms[0]].axes == nodes[terms[1]].axes


def rename_axes(builder: Builder, expr: s.Call, call: Call | None) -> Evaluation:
    """`rename(e, old = new)`: the value with axes called otherwise, all of them at once.

    Where one renaming makes room for the next they are a chain of nodes; a swap, as in a
    transpose, is one node with several pairs.
    """
    values = [a.value for a in expr.arguments if a.keyword is None]
    wanted = [a for a in expr.arguments if a.keyword is not None]
    if len(values) != 1 or not wanted or expr.arguments[0].keyword is not None:
        builder.error(
            "E060",
            "`rename` takes a value, then axes and their new names",
            expr.span,
            call,
            hint=f"write `{usage('rename')}`",
        )
        return None
    value = yield builder.number(values[0], call)
    pairs: list[tuple[str, str]] = []
    sound = value is not None
    for argument in wanted:
        old = axis_of(builder, argument.keyword, call)
        new = axis_of(builder, argument.value, call)
        for term, axis in ((argument.keyword, old), (argument.value, new)):
            if axis is None and term is not None:
                not_an_axis(builder, term, call)
        if old is None or new is None or value is None:
            sound = False
            continue
        sound = _can_rename(builder, argument, value, old, new, call) and sound
        pairs.append((old, new))
    if not sound or value is None:
        return None
    axes = builder.axes_of(value)
    left = [a for a in axes if a not in dict(pairs)]
    for i, (old, new) in enumerate(pairs):
        again = old in (o for o, _ in pairs[:i])
        if again or new == old or new in left or new in (n for _, n in pairs[:i]):
            stays = f"`{old}` is renamed already" if again else f"the value has `{new}` already"
            builder.error(
                "E051",
                f"`{old}` can't be renamed to `{new}`",
                wanted[i].span,
                call,
                label=stays,
                hint="give the meeting axis a name of its own: "
                f"`size {new}_2 = {builder.scope.extent(new)}`",
            )
            return None
    span = expr.span if call is None else call.span
    while pairs:
        present = builder.axes_of(value)
        free = next((p for p in pairs if p[1] not in present), None)
        step = pairs if free is None else [free]
        pairs = [p for p in pairs if p not in step]
        value = renamed(builder, value, tuple(step), span)
    return value


def renamed(builder: Builder, value: int, pairs: tuple[tuple[str, str], ...], span: Span) -> int:
    """The node of a value with some axes called otherwise."""
    parts = builder.parts(value)
    if parts is not None:
        inner = builder.axes_of(value)
        re, im = (renamed(builder, builder.spread(p, inner, span), pairs, span) for p in parts)
        return builder.joined((re, im), span)
    names = dict(pairs)
    present = {names.get(a, a) for a in builder.axes_of(value)}
    axes = tuple(a for a in builder.scope.axis_order if a in present)
    attrs = tuple(name for pair in pairs for name in pair)
    return builder.add("rename", value, axes=axes, attrs=attrs, span=span)


def _can_rename(
    builder: Builder, argument: s.Argument, value: int, old: str, new: str, call: Call | None
) -> bool:
    """Whether the value has the axis, and the new one has the same extent."""
    axes = builder.axes_of(value)
    if old not in axes:
        builder.error(
            "E049",
            f"`rename` is of `{old}`, which the value does not have",
            argument.span,
            call,
            hint=f"it has {axes_text(axes)}",
        )
        return False
    if builder.scope.extent(old) != builder.scope.extent(new):
        builder.error(
            "E052",
            f"`{old}` and `{new}` may have different extents",
            argument.span,
            call,
            hint=f"declare the new axis as another name of the old: `size {new} = {old}`",
        )
        return False
    return True


def axis_of(builder: Builder, expr: s.Expr | None, call: Call | None) -> str | None:
    """The size that a term is the bare name of."""
    if not isinstance(expr, s.Name):
        return None
    if call is not None:
        bound = call.bindings.get(expr.text)
        return bound.name if isinstance(bound, SizeName) else None
    if builder.scope.is_size(expr.text):
        builder.scope.symbols[expr.text].used = True
        return expr.text
    return None


def axes_text(axes: tuple[str, ...]) -> str:
    if not axes:
        return "no axes"
    return f"the {'axis' if len(axes) == 1 else 'axes'} {listing(axes)}"


def not_an_axis(builder: Builder, expr: s.Expr, call: Call | None) -> None:
    text = expr.text if isinstance(expr, s.Name) else ""
    hint = "an axis is the bare name of a size"
    if call is None and text and text not in builder.scope.symbols:
        hint = builder.problems.guess(text, builder.scope.axis_order, hint)
    builder.error("E021", "this is not an axis", expr.span, call, hint=hint)
