"""Learned maps: `linear`, `conv` and others, their arguments and the names of their parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from seqc.diagnostics import Label
from seqc.frontend.declarations.constants import matrix_only, read_init, read_weight
from seqc.frontend.declarations.defs import NUMBERS
from seqc.frontend.declarations.functions import INITS, usage
from seqc.frontend.declarations.scope import SUFFIXES
from seqc.frontend.expressions.builder import Builder
from seqc.frontend.expressions.nodes import Call, Evaluation
from seqc.frontend.messages.limits import MAX_LAG
from seqc.frontend.messages.problems import a_number, shorten
from seqc.frontend.text import syntax as s
from seqc.ir.inits import Init
from seqc.ir.maps import MAPS, LearnedMap


def count_maps(expr: s.Expr) -> int:
    """How many learned maps an expression holds."""
    count, todo = 0, [expr]
    while todo:
        term = todo.pop()
        if isinstance(term, s.Call) and isinstance(term.function, s.Name):
            count += term.function.text in MAPS
        todo.extend(s.children(term))
    return count


def learned_map(builder: Builder, expr: s.Call, kind: str, call: Call | None) -> Evaluation:
    """The `map` node of `linear(…)`, `conv(…)` or another learned map."""
    made = MAPS[kind]
    positional = [a.value for a in expr.arguments if a.keyword is None]
    options = _options_of(builder, expr, made)
    positional += [
        a.value for a in expr.arguments if a.keyword is not None and a.keyword.text in made.counts
    ]
    wanted = made.arity + len(made.counts)
    if made.arity and len(positional) != wanted:
        given = a_number(len(positional), "argument")
        builder.error(
            "E060",
            f"`{kind}` takes {made.takes}, not {given}",
            expr.span,
            call,
            hint=f"write `{usage(kind)}`",
        )
        positional, options = positional[: made.arity], None
    elif not positional:
        builder.error(
            "E060",
            f"`{kind}` takes {made.takes}",
            expr.span,
            call,
            hint=f"write `{made.example}`",
        )
        return None
    else:
        for name in reversed(made.counts):
            count = _count(builder, positional.pop(), made, name)
            options = None if options is None or count is None else {**options, name: count}
    values = []
    for argument in positional:
        value = yield builder.real(argument, call, f"map its parts: `{kind}(re(…), im(…))`")
        values.append(value)
        if value is not None and not builder.varies[value] and builder.place.kind == "equation":
            builder.error(
                "E062",
                f"`{kind}` maps what changes in time",
                argument.span,
                call,
                label="this is constant",
                hint="multiply by a `param` and reduce: `sum(w * a, axis)`",
            )
            values[-1] = None
    prefix = _prefix(builder, expr, kind, positional)
    if not _allowed(builder, expr, kind):
        return None
    axes = builder.place.axes
    sources = tuple(
        flattened(builder, argument, builder.axes_of(v))
        for argument, v in zip(positional, values, strict=True)
        if v is not None
    )
    if options is None or prefix is None or axes is None:
        return None
    if len(sources) < len(values) or not _shared_out(builder, expr, options, len(sources)):
        return None
    member = builder.scope.members.get(builder.place.name)
    learned = made(
        prefix,
        sources,
        axes,
        order=builder.place.order,
        part=(0, 1) if member is None else (member.index, member.count),
        span=expr.span,
        **options,
    ).fitted()
    wrong = learned.misfit(builder.scope.extent)
    if wrong is not None:
        before, after = (", ".join(a) or "1" for a in (sources[0], builder.place.order or axes))
        label = f"from ({before}) to ({after})"
        builder.error("E069", wrong[0], expr.span, call, label=label, hint=wrong[1])
        return None
    arguments = [v for v in values if v is not None]
    # A complex value has a map for each of its parts.
    names = [f"{prefix}.{part}" for part in SUFFIXES] if builder.place.complex else [prefix]
    nodes = []
    for name in names:
        builder.maps.append(replace(learned, prefix=name))
        index = (len(builder.maps) - 1,)
        nodes.append(builder.add("map", *arguments, axes=axes, attrs=index, span=expr.span))
    return nodes[0] if len(nodes) == 1 else builder.joined((nodes[0], nodes[1]), expr.span)


def map_options(
    builder: Builder, expr: s.Call, made: type[LearnedMap], count: int
) -> dict[str, Any] | None:
    """The flags and starts of a map of so many arguments; None where one is wrong."""
    options = _options_of(builder, expr, made)
    return options if options and _shared_out(builder, expr, options, count) else None


def _shared_out(builder: Builder, expr: s.Call, options: dict[str, Any], count: int) -> bool:
    """Whether a weight's starts, where there is one an argument, are as many as the arguments."""
    parts = options["weight"].parts
    if parts and len(parts) != count:
        given = next(a for a in expr.arguments if a.keyword and a.keyword.text == "weight")
        builder.problems.error(
            "E062",
            f"{len(parts)} starts are given for {a_number(count, 'argument')}",
            given.value.span,
            hint="give one for all, or one each in the order of the arguments",
        )
        return False
    return True


def _allowed(builder: Builder, expr: s.Call, kind: str) -> bool:
    """Learned maps stand in equations with `[t]` whose axes are known beforehand."""
    place = builder.place
    if place.kind != "equation":
        builder.problems.error(
            "E064",
            f"`{kind}` maps a sequence, so it can't be constant in time",
            expr.span,
            hint="declare a `param`, or write the equation with `[t]`",
        )
        return False
    if place.axes is None:
        sizes = [size for size in builder.scope.axis_order if size != "input"]
        example = sizes[0] if sizes else "hidden"
        builder.problems.error(
            "E047",
            f"the equation of `{place.name}` needs its axes",
            expr.span,
            label="this map's result could have any",
            hint=f"write `{place.name}[t]: {example} = …`",
            related=[Label(place.span, "here")],
        )
        return False
    return True


def _options_of(builder: Builder, expr: s.Call, made: type[LearnedMap]) -> dict[str, Any] | None:
    """The flags and the weight's start, by name; None where one is wrong."""
    kind, known = made.kind, (*made.counts, *made.flags, "weight")
    flags = dict(made.flags)
    weight: Init | None = Init()
    offset: Init | None = Init()
    sound = True
    seen: dict[str, s.Name] = {}
    for argument in expr.arguments:
        if argument.keyword is None:
            if seen:
                builder.problems.error(
                    "E062",
                    "an argument without a name after one with a name",
                    argument.span,
                    hint=f"write `{usage(kind)}`",
                )
                sound = False
            continue
        name = argument.keyword.text
        if name not in known:
            hint = builder.problems.guess(name, known, f"write `{usage(kind)}`")
            builder.problems.error(
                "E061",
                f"`{kind}` has no argument called `{shorten(name)}`",
                argument.keyword.span,
                hint=hint,
            )
            sound = False
        elif name in seen:
            builder.problems.error(
                "E061",
                f"`{name}` is given twice",
                argument.keyword.span,
                related=[Label(seen[name].span, "first here")],
            )
            sound = False
        elif name in made.counts:
            pass  # taken with the positional arguments
        elif name == "weight":
            weight = read_weight(argument.value, builder.scope, builder.problems)
        else:
            value = argument.value
            text = value.text if isinstance(value, s.Name) else ""
            if name == "bias" and _starts(builder, value):
                offset = _bias(builder, value)
                text = "true"
            if text not in ("true", "false"):
                other = " or a start, as `0` or `normal(0, 1)`" if name == "bias" else ""
                builder.problems.error(
                    "E062",
                    f"`{name}` is `true` or `false`{other}",
                    value.span,
                    hint=f"write `{name} = {str(not flags[name]).lower()}`",
                )
                sound = False
            flags[name] = text == "true"
        seen[name] = argument.keyword
    if not sound or weight is None or offset is None:
        return None
    return {**flags, "weight": weight, "offset": offset}


def _starts(builder: Builder, expr: s.Expr) -> bool:
    """Whether a `bias` tells how it starts: anything but a word that is no start's."""
    if not isinstance(expr, s.Name):
        return True
    symbol = builder.scope.symbols.get(expr.text)
    known = symbol is not None and symbol.kind in ("size", "hyper")
    return known or expr.text in INITS or expr.text in NUMBERS


def _bias(builder: Builder, expr: s.Expr) -> Init | None:
    """How a bias starts, where it is said; a row of numbers, so not by rows and columns."""
    init = read_init(expr, builder.scope, builder.problems)
    if init is not None and init.of_matrices:
        matrix_only(init, expr, builder.problems)
        return None
    return init


def _count(builder: Builder, expr: s.Expr, made: type[LearnedMap], name: str) -> int | str | None:
    """Such as the width of a convolution: a positive whole number or a size."""
    number = name not in made.along
    if (
        number
        and isinstance(expr, s.Number)
        and expr.whole is not None
        and 1 <= expr.whole <= MAX_LAG
    ):
        return expr.whole
    if isinstance(expr, s.Name) and builder.scope.is_size(expr.text):
        builder.scope.symbols[expr.text].used = True
        return expr.text
    kinds = "positive whole number or a size" if number else "size"
    hint = f"write `{made.example}`" + (f", or declare `size {name} = 3`" if number else "")
    if isinstance(expr, s.Name) and expr.text not in builder.scope.symbols:
        hint = builder.problems.guess(expr.text, builder.scope.axis_order, hint)
    builder.problems.error(
        "E062",
        f"the {name} of a {made.noun} is a {kinds}",
        expr.span,
        hint=hint,
    )
    return None


def _prefix(builder: Builder, expr: s.Call, kind: str, arguments: list[s.Expr]) -> str | None:
    """What the parameters are named after: the equation, and where it holds several maps, the
    equation and the map's argument."""
    place = builder.place
    prefix = owner = builder.scope.owner(place.name)
    if place.maps > 1:
        names = []
        for argument in arguments:
            if not (isinstance(argument, s.Indexed) and isinstance(argument.base, s.Name)):
                builder.problems.error(
                    "E065",
                    f"the parameters of this `{kind}` have no name",
                    expr.span,
                    label=f"the equation holds {place.maps} maps; "
                    f"`{shorten(argument.span.text, 24)}` is no plain name",
                    hint=f"give the map an equation of its own: `a[t]: … = {kind}(…)`",
                )
                return None
            names.append(argument.base.text)
        prefix = f"{owner}.{'_'.join(names)}"
    other = builder.prefixes.setdefault(prefix, expr.span)
    if other is not expr.span:
        builder.problems.error(
            "E066",
            f"two maps are called `{prefix}`",
            expr.span,
            hint="give one of them an equation of its own",
            related=[Label(other, "the other")],
        )
        return None
    return prefix


def flattened(builder: Builder, argument: s.Expr, axes: tuple[str, ...]) -> tuple[str, ...]:
    """A map's argument's axes in the order in which they flatten: that of its declaration."""
    if isinstance(argument, s.Indexed) and isinstance(argument.base, s.Name):
        symbol = builder.scope.symbols.get(argument.base.text)
        if symbol is not None and symbol.order:
            return symbol.order
    return axes
