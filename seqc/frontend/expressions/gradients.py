"""Calls of defs whose derivative is stated: `gradient f(u) = …`."""

from __future__ import annotations

from collections.abc import Sequence

from seqc.frontend.declarations.defs import Function, slopes_of
from seqc.frontend.expressions.along import axes_text
from seqc.frontend.expressions.builder import Builder
from seqc.frontend.expressions.complexes import INSTEAD
from seqc.frontend.expressions.nodes import Call, Evaluation, SizeName
from seqc.ir.ops import CONDITIONS

#: What has no gradient to begin with.
_STEADY = CONDITIONS | {"const", "size", "hyper", "index", "keep"}


def grafted(
    builder: Builder,
    function: Function,
    arguments: Sequence[int | SizeName | None],
    call: Call,
) -> Evaluation:
    """The value of the def's body, its derivatives by the arguments those that are stated."""
    stated = function.gradient
    assert stated is not None
    name = function.define.name.text
    value = yield builder.real(function.define.body, call)
    if value is None:
        return None
    if any(isinstance(a, int) and builder.parts(a) is not None for a in arguments):
        builder.error(
            "E070",
            f"the gradient of `{name}` is stated for real arguments",
            stated.name.span,
            call,
            hint=INSTEAD,
        )
        return None
    inner = Call(
        dict(zip((p.text for p in stated.parameters), arguments, strict=True)), call.span, name
    )
    result = builder.add("stop", value, span=call.span)
    for slope, argument in zip(slopes_of(stated), arguments, strict=True):
        if not isinstance(argument, int) or builder.graph.nodes[argument].op in _STEADY:
            continue
        missing = [a for a in builder.axes_of(argument) if a not in builder.axes_of(value)]
        if missing:
            builder.error(
                "E092",
                f"the gradient of `{name}` is stated entry by entry, but its value has not the "
                f"axis `{missing[0]}` of its argument",
                stated.name.span,
                call,
                hint=f"the value has {axes_text(builder.axes_of(value))}: state the gradient of "
                "what is done to each entry",
            )
            return None
        factor = yield builder.real(slope, inner)
        if factor is None:
            return None
        if builder.graph.value(factor) != 0.0:
            result = builder.add("graft", result, argument, factor, span=call.span)
    return result
