"""Calls: pointwise functions, masks and `def`s; what looks along an axis is in `along`."""

from __future__ import annotations

from collections.abc import Sequence

from seqc.frontend.declarations.defs import Function
from seqc.frontend.declarations.functions import (
    BUILTIN,
    COMPLEX_FUNCTIONS,
    LATER_FUNCTIONS,
    REDUCTIONS,
    arity,
    usage,
)
from seqc.frontend.expressions.along import along, axis_of, not_an_axis, rename_axes
from seqc.frontend.expressions.applications import apply_algebra
from seqc.frontend.expressions.builder import Builder
from seqc.frontend.expressions.choices import chosen
from seqc.frontend.expressions.gradients import grafted
from seqc.frontend.expressions.maps import learned_map
from seqc.frontend.expressions.nodes import Call, Evaluation, SizeName
from seqc.frontend.expressions.prefixes import prefix_mask
from seqc.frontend.expressions.shared import shared_map
from seqc.frontend.messages.problems import a_number, shorten
from seqc.frontend.text import syntax as s
from seqc.ir.maps import MAPS
from seqc.ir.ops import CONDITIONS


def evaluate(builder: Builder, expr: s.Call, call: Call | None) -> Evaluation:
    """The node of a call."""
    function = expr.function
    if not isinstance(function, s.Name):
        result = yield _not_a_function(builder, expr, call)
        return result
    name = function.text
    if name in LATER_FUNCTIONS:
        code, instead = LATER_FUNCTIONS[name]
        builder.error(code, f"`{name}` is not available yet", expr.span, call, hint=instead)
        return None
    if name in builder.scope.choices:
        result = yield chosen(builder, expr, name, call, _written_out)
        return result
    if name in builder.scope.maps:
        result = yield shared_map(builder, expr, name, call)
        return result
    if name not in BUILTIN and name in builder.functions:
        result = yield _define(builder, expr, name, call)
        return result
    if name not in BUILTIN:
        _unknown(builder, function, call)
        # The arguments may have errors of their own.
        for argument in expr.arguments:
            if axis_of(builder, argument.value, call) is None:
                yield builder.value(argument.value, call)
        return None
    if name in MAPS:
        result = yield learned_map(builder, expr, name, call)
        return result
    if name == "rename":
        result = yield rename_axes(builder, expr, call)
        return result
    if not _check_shape(builder, expr, name, call):
        return None
    if name in COMPLEX_FUNCTIONS:
        result = yield _complex_function(builder, expr, name, call)
        return result
    arguments = tuple(a.value for a in expr.arguments)
    if name == "index":
        axis = axis_of(builder, arguments[0], call)
        if axis is None:
            not_an_axis(builder, arguments[0], call)
            return None
        span = expr.span if call is None else call.span
        return builder.add("index", axes=(axis,), attrs=(axis,), span=span)
    if name == "drop":
        result = yield _drop(builder, expr, call)
        return result
    if name == "prefix":
        result = yield prefix_mask(builder, expr, call)
        return result
    axis = axis_of(builder, arguments[1], call) if len(arguments) > 1 else None
    needs_axis = name in ("sum", "mean", "cumsum", "shift")
    if needs_axis or (name in REDUCTIONS and axis is not None):
        if axis is None:
            yield builder.number(arguments[0], call)
            not_an_axis(builder, arguments[1], call)
            return None
        result = yield along(builder, expr, name, axis, call)
        return result
    result = yield _pointwise(builder, expr, name, call)
    return result


def _pointwise(builder: Builder, expr: s.Call, name: str, call: Call | None) -> Evaluation:
    span = expr.span if call is None else call.span
    values: list[int | None] = []
    for i, argument in enumerate(expr.arguments):
        if name == "where" and i == 0:
            values.append((yield builder.value(argument.value, call)))
        else:
            values.append((yield builder.number(argument.value, call)))
    found = [v for v in values if v is not None]
    if len(found) < len(values):
        return None
    if name == "where" and builder.graph.nodes[found[0]].op not in CONDITIONS:
        term = expr.arguments[0].value.span
        chosen = builder.pointwise("isset", found[0], span=span, term=term, call=call)
        if chosen is None:
            return None
        found[0] = chosen
    return builder.pointwise(name, *found, span=span, term=expr.span, call=call)


def _complex_function(builder: Builder, expr: s.Call, name: str, call: Call | None) -> Evaluation:
    """`re`, `im`, `conj`; `cis(angle)`, which is cos + i sin."""
    span = expr.span if call is None else call.span
    term = expr.arguments[0].value
    if name == "cis":
        angle = yield builder.real(term, call, "`cis` takes an angle; for e^z write `exp(z)`")
        if angle is None:
            return None
        return builder.joined(builder.arithmetic(span).turn(angle), span)
    value = yield builder.number(term, call)
    if value is None:
        return None
    re, im = builder.parts(value) or (value, builder.const(0.0, span))
    if name == "conj":
        return builder.joined((re, builder.add("neg", im, span=span)), span)
    return re if name == "re" else im


def _drop(builder: Builder, expr: s.Call, call: Call | None) -> Evaluation:
    """`drop(e, p)`: `e` where this step's mask keeps it, 0 elsewhere."""
    span = expr.span if call is None else call.span
    value = yield builder.number(expr.arguments[0].value, call)
    probability = yield builder.real(expr.arguments[1].value, call)
    if builder.place.kind != "equation":
        builder.error(
            "E062",
            "`drop` takes a fresh mask at each step, so it can't be constant in time",
            expr.span,
            call,
            hint="put it into an equation with `[t]`",
        )
        return None
    if value is None or probability is None:
        return None
    if builder.varies[probability] or builder.axes_of(probability):
        builder.error(
            "E062",
            "the probability of `drop` is one number, constant in time",
            expr.arguments[1].value.span,
            call,
            hint="use a hyper-parameter: `hyper p = 0.1`",
        )
        return None
    place = builder.place
    place.masks += 1
    site = place.name if place.masks == 1 else f"{place.name}.{place.masks}"
    axes = builder.axes_of(value)
    keep = builder.add("keep", probability, axes=axes, attrs=(site,), span=span)
    zero = builder.const(0.0, span)
    return builder.pointwise("where", keep, value, zero, span=span, term=expr.span, call=call)


def _define(builder: Builder, expr: s.Call, name: str, call: Call | None) -> Evaluation:
    """Write a `def` out: its parameters stand for the nodes of the arguments."""
    function = builder.functions[name]
    function.used = True
    parameters = function.define.parameters
    for argument in expr.arguments:
        if argument.keyword is not None:
            builder.error(
                "E061",
                f"`{name}` takes its arguments in order",
                argument.keyword.span,
                call,
                hint=f"write `{name}({', '.join(p.text for p in parameters)})`",
            )
            return None
    bindings: list[int | SizeName | None] = []
    for argument in expr.arguments:
        size = axis_of(builder, argument.value, call)
        if size is not None:
            bindings.append(SizeName(size))
        else:
            bindings.append((yield builder.value(argument.value, call)))
    if len(parameters) != len(bindings):
        builder.error(
            "E060",
            f"`{name}` takes {a_number(len(parameters), 'argument')}, not {len(bindings)}",
            expr.span,
            call,
            hint=f"write `{name}({', '.join(p.text for p in parameters)})`",
        )
        return None
    if not function.sound or None in bindings:
        return None
    result = yield _written_out(builder, function, bindings, expr, call)
    return result


def _written_out(
    builder: Builder,
    function: Function,
    bindings: Sequence[int | SizeName | None],
    expr: s.Call,
    call: Call | None,
) -> Evaluation:
    """The value of a `def`'s body for what its parameters stand for."""
    name = function.define.name.text
    names = (p.text for p in function.define.parameters)
    inner = Call(
        dict(zip(names, bindings, strict=True)),
        expr.span if call is None else call.span,
        name if call is None else call.function,
    )
    if function.gradient is None:
        result = yield builder.value(function.define.body, inner)
    else:
        result = yield grafted(builder, function, bindings, inner)
    return result


def _check_shape(builder: Builder, expr: s.Call, name: str, call: Call | None) -> bool:
    """The right number of arguments, and no keywords."""
    for argument in expr.arguments:
        if argument.keyword is not None:
            builder.error(
                "E061",
                f"`{name}` has no argument called `{shorten(argument.keyword.text)}`",
                argument.keyword.span,
                call,
                hint=f"write `{usage(name)}`",
            )
            return False
    wanted = arity(name)
    if wanted is not None and len(expr.arguments) != wanted:
        builder.error(
            "E060",
            f"`{name}` takes {a_number(wanted, 'argument')}, not {len(expr.arguments)}",
            expr.span,
            call,
            hint=f"write `{usage(name)}`",
        )
        return False
    return True


def _unknown(builder: Builder, function: s.Name, call: Call | None) -> None:
    name = function.text
    symbol = builder.scope.symbols.get(name)
    if symbol is not None:
        hint = f"to multiply, write `{name} * (…)`; a time index is `{name}[t-1]`"
        message = f"`{name}` is not a function"
    else:
        hint = builder.problems.guess(
            name, [*sorted(BUILTIN), *builder.functions], "define it: `def …`"
        )
        message = f"no function is called `{shorten(name)}`"
    builder.error("E024", message, function.span, call, hint=hint)


def _not_a_function(builder: Builder, expr: s.Call, call: Call | None) -> Evaluation:
    """`affine(a, b)(h[t-1])`, or something that can't be called at all."""
    inner = expr.function
    if isinstance(inner, s.Call) and isinstance(inner.function, s.Name):
        name = inner.function
        if name.text not in BUILTIN and name.text not in builder.functions:
            result = yield apply_algebra(builder, expr, name, call)
            return result
    builder.error(
        "E024", "only a name can be called", expr.span, call, hint="to multiply, write `*`"
    )
    return None
