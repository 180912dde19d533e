"""Maps that a layer declares, `map f(u): hidden = linear(u)`: one weight wherever `f` is called."""

from __future__ import annotations

from dataclasses import replace

from seqc.diagnostics import Label
from seqc.frontend.expressions.builder import Builder
from seqc.frontend.expressions.maps import flattened, map_options
from seqc.frontend.expressions.nodes import Call, Evaluation, Shared
from seqc.frontend.messages.problems import a_number
from seqc.frontend.text import syntax as s
from seqc.ir.maps import MAPS, Linear


def declare_maps(builder: Builder) -> None:
    """Check the layer's `map` statements, and enter what each is into ``builder.shared``."""
    for name, statement in builder.scope.maps.items():
        builder.shared[name] = _declared(builder, statement)


def _declared(builder: Builder, statement: s.MapStatement) -> Shared | None:
    name, value = statement.name.text, statement.value
    parameters = [p.text for p in statement.parameters]
    listed = ", ".join(parameters) or "u"
    shown = f"map {name}({listed}): axes = linear({listed})"
    function = value.function if isinstance(value, s.Call) else None
    kind = function.text if isinstance(function, s.Name) else ""
    if not isinstance(value, s.Call) or kind not in MAPS:
        builder.problems.error(
            "E064",
            f"`map {name}` is not a learned map",
            value.span,
            hint=f"write `{shown}`; what is done with its result belongs to the equations",
        )
        return None
    if MAPS[kind] is not Linear:
        builder.problems.error(
            "E064",
            f"a `{kind}` can't be shared",
            value.span,
            hint=f"only `linear` can: `{shown}`; give each `{kind}` an equation of its own",
        )
        return None
    given = [a.value for a in value.arguments if a.keyword is None]
    names = [g.text if isinstance(g, s.Name) else "" for g in given]
    if not parameters or names != parameters or len(set(parameters)) < len(parameters):
        builder.problems.error(
            "E054",
            f"`{name}` maps its own arguments, each once and in order",
            value.span,
            hint=f"write `{shown}`, and call it with any value: `{name}(r[t] * h[t-1])`",
        )
        return None
    symbol = builder.scope.symbols[name]
    if symbol.complex:
        builder.problems.error(
            "E070",
            f"the map `{name}` is complex",
            statement.axes.span,
            hint="declare a map for each part",
        )
        return None
    options = map_options(builder, value, Linear, len(given))
    return None if options is None else Shared(len(given), options)


def shared_map(builder: Builder, expr: s.Call, name: str, call: Call | None) -> Evaluation:
    """The `map` node of a call of a declared map."""
    symbol = builder.scope.symbols[name]
    symbol.used = True
    parameters = [p.text for p in builder.scope.maps[name].parameters]
    wanted = a_number(len(parameters), "argument")
    keyword = next((a.keyword for a in expr.arguments if a.keyword is not None), None)
    if keyword is not None or len(expr.arguments) != len(parameters):
        told = (
            f"`{name}` takes its arguments in order"
            if keyword is not None
            else f"`{name}` takes {wanted}, not {len(expr.arguments)}"
        )
        builder.error(
            "E061" if keyword is not None else "E060",
            told,
            expr.span if keyword is None else keyword.span,
            call,
            hint=f"write `{name}({', '.join(parameters)})`",
        )
        return None
    values: list[int] = []
    for argument in expr.arguments:
        hint = f"map its parts: `{name}(re(…))` and `{name}(im(…))`"
        value = yield builder.real(argument.value, call, hint)
        if value is not None:
            values.append(value)
    if builder.place.kind != "equation":
        builder.error(
            "E064",
            f"`{name}` maps a sequence, so it can't be constant in time",
            expr.span,
            call,
            hint="declare a `param`, or write the equation with `[t]`",
        )
        return None
    for argument, value in zip(expr.arguments, values, strict=False):
        if len(values) == len(parameters) and not builder.varies[value]:
            builder.error(
                "E062",
                f"`{name}` maps what changes in time",
                argument.value.span,
                call,
                label="this is constant",
                hint="multiply by a `param` and reduce: `sum(w * a, axis)`",
            )
            return None
    shared = builder.shared[name]
    if len(values) < len(parameters) or shared is None or symbol.axes is None:
        return None
    sources = tuple(
        flattened(builder, a.value, builder.axes_of(v))
        for a, v in zip(expr.arguments, values, strict=True)
    )
    if not _same_axes(builder, expr, name, shared, sources, call):
        return None
    # Each value that it is called with is a map of its own from here on, but for the parameters.
    index = shared.uses.setdefault((sources, tuple(values)), len(builder.maps))
    if index == len(builder.maps):
        span, use = builder.scope.maps[name].span, len(shared.uses) - 1
        made = Linear(name, sources, symbol.axes, order=symbol.order, span=span, use=use)
        builder.maps.append(replace(made, **shared.options))
    return builder.add("map", *values, axes=symbol.axes, attrs=(index,), span=expr.span)


def _same_axes(
    builder: Builder,
    expr: s.Call,
    name: str,
    shared: Shared,
    sources: tuple[tuple[str, ...], ...],
    call: Call | None,
) -> bool:
    """Whether values have the extents of those that the map was called with first."""
    extents = tuple(tuple(builder.scope.extent(a) for a in axes) for axes in sources)
    if shared.extents is None:
        shared.extents, shared.place = extents, expr.span
        return True
    if extents == shared.extents:
        return True
    shown = ["; ".join(", ".join(axes) or "1" for axes in e) for e in (extents, shared.extents)]
    builder.problems.error(
        "E054",
        f"`{name}` has one weight, and is called with values of other axes",
        expr.span if call is None else call.span,
        label=f"({shown[0]}), not ({shown[1]})",
        hint="declare another map for these",
        related=[Label(shared.place or expr.span, "first here")],
    )
    return False
