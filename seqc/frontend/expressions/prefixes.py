"""`prefix(share, sharpness, epsilon)`: the mask that lets the first part of an axis through."""

from __future__ import annotations

from seqc.diagnostics import Label
from seqc.frontend.expressions.builder import Builder
from seqc.frontend.expressions.nodes import Call, Evaluation
from seqc.frontend.text import syntax as s


def prefix_mask(builder: Builder, expr: s.Call, call: Call | None) -> Evaluation:
    """A soft step along the equation's axis: near 1 before ``share * extent``, near 0 after it.

    Entry i = 1, … of D is sigmoid(sharpness * (share * D - i)), made 1 where it is above
    1 - epsilon and 0 where it is below epsilon.  The gradient flows where it is neither.

    Source: Jernite, Grave, Joulin, Mikolov, "Variable computation in recurrent neural networks"
    (2017).
    """
    place = builder.place
    if place.axes is None or len(place.axes) != 1:
        wanted = builder.scope.axis_order[-1:] or ("hidden",)
        builder.error(
            "E047",
            f"the equation of `{place.name}` needs one axis, along which `prefix` goes",
            expr.span,
            call,
            hint=f"write `{place.name}[t]: {wanted[0]} = …`"
            if place.axes is None
            else "give the mask an equation of its own",
        )
        return None
    (axis,) = place.axes
    values: list[int] = []
    for argument in expr.arguments:
        value = yield builder.real(argument.value, call)
        if value is None:
            return None
        if axis in builder.axes_of(value):
            builder.problems.error(
                "E062",
                f"`prefix` makes the axis `{axis}`, which this has already",
                argument.value.span,
                hint=f"declare it without that axis, as in `share[t]: 1 = …`, or take a "
                f"`mean(…, {axis})`",
                related=[Label(place.span, "the mask")],
            )
            return None
        values.append(value)
    share, sharpness, epsilon = values
    span = expr.span if call is None else call.span

    def make(op: str, *args: int) -> int:
        return builder.add(op, *args, span=span)

    one, zero = builder.const(1.0, span), builder.const(0.0, span)
    index = builder.add("index", axes=(axis,), attrs=(axis,), span=span)
    extent = builder.add("size", axes=(), attrs=(axis,), span=span)
    ahead = make("sub", make("mul", share, extent), make("add", index, one))
    soft = make("sigmoid", make("mul", sharpness, ahead))
    low = make("where", make("lt", soft, epsilon), zero, soft)
    return make("where", make("gt", soft, make("sub", one, epsilon)), one, low)
