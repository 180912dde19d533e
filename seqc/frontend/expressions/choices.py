"""Functions that are chosen when a layer is built: `choice act = tanh, relu`, called as `act(u)`.

All of them are in the graph, and the hyper-parameter of the choice's name selects: 0 is the first.
"""

from __future__ import annotations

from collections.abc import Callable

from seqc.diagnostics import Label
from seqc.frontend.declarations.functions import POINTWISE_FUNCTIONS
from seqc.frontend.expressions.builder import Builder
from seqc.frontend.expressions.nodes import Call, Evaluation
from seqc.frontend.messages.problems import a_number, shorten
from seqc.frontend.text import syntax as s
from seqc.ir.ops import OF_SIGN


def check_choices(builder: Builder) -> None:
    """Say which of the functions to choose from are none of one number."""
    for name, statement in builder.scope.choices.items():
        seen: dict[str, s.Name] = {}
        for option in statement.options:
            text = option.text
            if text in seen:
                builder.problems.error(
                    "E055",
                    f"`{text}` stands twice in the choice `{name}`",
                    option.span,
                    hint="take one out",
                    related=[Label(seen[text].span, "first here")],
                )
            seen[text] = option
            if not _of_one_number(builder, text):
                builder.problems.error(
                    "E055",
                    f"`{shorten(text)}` is no function of one number",
                    option.span,
                    hint=builder.problems.guess(
                        text,
                        [*POINTWISE_FUNCTIONS, *builder.functions],
                        f"define one: `def {shorten(text)}(u) = …`",
                    ),
                )


def _of_one_number(builder: Builder, name: str) -> bool:
    function = builder.functions.get(name)
    if name in POINTWISE_FUNCTIONS:
        return POINTWISE_FUNCTIONS[name] == 1
    return function is not None and len(function.define.parameters) == 1


def chosen(
    builder: Builder,
    expr: s.Call,
    name: str,
    call: Call | None,
    written_out: Callable[..., Evaluation],
) -> Evaluation:
    """The node of `act(u)`: what the chosen function makes of it; ``written_out`` does a def."""
    builder.scope.symbols[name].used = True
    span = expr.span if call is None else call.span
    if len(expr.arguments) != 1 or expr.arguments[0].keyword is not None:
        builder.error(
            "E060",
            f"`{name}` takes one value, not {a_number(len(expr.arguments), 'argument')}"
            if len(expr.arguments) != 1
            else f"`{name}` takes its value without a name",
            expr.span,
            call,
            hint=f"write `{name}(u)`",
        )
        return None
    value = yield builder.real(expr.arguments[0].value, call)
    if value is None:
        return None
    results: list[int] = []
    for option in builder.scope.choices[name].options:
        if not _of_one_number(builder, option.text):
            return None  # which has been said
        function = builder.functions.get(option.text)
        result: int | None
        if option.text in POINTWISE_FUNCTIONS or function is None:
            result = builder.pointwise(option.text, value, span=span, term=expr.span, call=call)
        else:
            function.used = True
            result = yield written_out(builder, function, [value], expr, call)
        if result is None:
            return None
        results.append(result)
    which = builder.add("hyper", axes=(), attrs=(name,), span=span)
    found = results[-1]
    for k in range(len(results) - 2, -1, -1):
        number = builder.const(float(k), span)
        is_this = builder.add(OF_SIGN["=="], which, number, span=span)
        found = builder.add("where", is_this, results[k], found, span=span)
    return found
