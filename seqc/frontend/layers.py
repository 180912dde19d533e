"""One layer: declarations, order, equations, and what they come to as a `Recurrence`."""

from __future__ import annotations

from collections.abc import Sequence

from seqc.diagnostics import Label, Source
from seqc.frontend import syntax as s
from seqc.frontend.calls import evaluate
from seqc.frontend.defs import Function
from seqc.frontend.expressions import Budget, Builder, Place, TooLarge
from seqc.frontend.limits import MAX_TERMS
from seqc.frontend.maps import count_maps
from seqc.frontend.names import Declarations
from seqc.frontend.order import Reference, build_order, references
from seqc.frontend.problems import Problems, listing, shorten
from seqc.frontend.scope import KINDS, SEQUENCES, Scope
from seqc.frontend.warnings import warn_outer_products, warn_unused
from seqc.ir.recurrence import Equation, Init, Param, Recurrence, State

LATER_STATEMENTS = {
    "space": ("E100", "flatten the space into an axis: `size pixels`"),
    "solve": ("E104", "leave it out: how a layer is solved is chosen when it is compiled"),
    "gradient": (
        "E105",
        "leave it out: gradients are exact; to state a def's derivative, write `gradient f(u) = …`",
    ),
    "penalty": ("E106", "output the value and add it to the loss outside the layer"),
}


def refuse_later(statement: s.Later, problems: Problems) -> None:
    """Say that a statement's kind is not available yet."""
    code, instead = LATER_STATEMENTS[statement.kind]
    problems.error(code, f"`{statement.kind}` is not available yet", statement.span, hint=instead)


def build_layer(
    head: s.Layer,
    statements: Sequence[s.Statement],
    functions: dict[str, Function],
    source: Source,
    doc: str,
    problems: Problems,
    budget: Budget,
) -> Recurrence | None:
    """The recurrence of one layer; None where it has errors."""
    before = len(problems.errors) + problems.hidden
    for statement in statements:
        if isinstance(statement, s.Later):
            refuse_later(statement, problems)
    scope = Declarations(problems).read(statements)
    mentions: dict[str, tuple[Reference, ...]] = {
        name: references(e.value, scope, problems) for name, e in scope.equations.items()
    }
    order = build_order(scope, mentions, problems)
    builder = Builder(scope, functions, problems, budget, evaluate)
    name = head.name.text
    try:
        nodes = {equation: _equation(builder, equation) for equation in order}
        params = list(scope.params)
        starts = {state: _start(builder, state, params) for state in scope.states}
    except TooLarge:
        problems.error(
            "E009",
            f"once every def is written out, the layer comes to more than {MAX_TERMS:,} terms",
            head.span,
            hint="give what a def is called with again and again an equation of its own",
        )
        return None
    _check_states(scope, problems)
    outputs = _outputs(scope, head, problems)
    warn_unused(scope, mentions, outputs, problems)
    if len(problems.errors) + problems.hidden > before:
        return None
    states = tuple(
        State(n, scope.symbols[n].axes or (), starts[n] or 0, nodes[n] or 0, scope.symbols[n].span)
        for n in scope.states
    )
    equations = tuple(
        Equation(
            n,
            nodes[n] or 0,
            builder.axes_of(nodes[n] or 0),
            scope.symbols[n].kind == "constant",
            scope.equations[n].span,
        )
        for n in order
    )
    recurrence = Recurrence(
        name,
        scope.axis_order,
        tuple(scope.sizes),
        tuple(scope.hypers),
        tuple(scope.inputs),
        tuple(params),
        tuple(builder.maps),
        states,
        equations,
        outputs,
        builder.graph.graph,
        doc,
        source,
        head.span,
    )
    warn_outer_products(recurrence, scope, problems)
    return recurrence


def _equation(builder: Builder, name: str) -> int | None:
    """The node of an equation, with exactly the axes that it is declared to have."""
    scope = builder.scope
    statement, symbol = scope.equations[name], scope.symbols[name]
    place = Place(
        name,
        "constant" if symbol.kind == "constant" else "equation",
        symbol.axes,
        statement.target.span,
        count_maps(statement.value),
    )
    node = builder.expression(statement.value, place)
    if node is not None and symbol.axes is not None:
        node = _with_axes(builder, node, symbol.axes, name, statement.value, statement.axes)
    builder.built[name] = node
    return node


def _with_axes(
    builder: Builder,
    node: int,
    axes: tuple[str, ...],
    name: str,
    expr: s.Expr,
    declared: s.Axes | None,
) -> int | None:
    """The node, spread over declared axes that it doesn't have; one too many is an error."""
    found = builder.axes_of(node)
    extra = [a for a in found if a not in axes]
    if extra:
        place = declared.span if declared is not None else builder.scope.symbols[name].span
        widened = ", ".join(a for a in builder.scope.axis_order if a in (*axes, *extra))
        builder.problems.error(
            "E048",
            f"`{name}` is declared without the axis {listing(extra)} that its value has",
            expr.span,
            label=f"this has ({', '.join(found)})",
            hint=f"declare `({widened})`, or reduce: `sum(…, {extra[0]})`",
            related=[Label(place, "declared here")],
        )
        return None
    # There is no node that only broadcasts: an index along the axis lends it.
    for axis in axes:
        if axis not in found:
            index = builder.add("index", axes=(axis,), attrs=(axis,), span=expr.span)
            zero = builder.const(0.0, expr.span)
            everywhere = builder.add("ge", index, zero, span=expr.span)
            node = builder.add("where", everywhere, node, zero, span=expr.span)
    return node


def _start(builder: Builder, name: str, params: list[Param]) -> int | None:
    """The node of a state's value before the first step."""
    symbol = builder.scope.symbols[name]
    value = builder.scope.states[name]
    axes = symbol.axes or ()
    if value is None:
        return builder.const(0.0, symbol.span)
    if isinstance(value, s.Name) and value.text == "learned":
        taken = builder.prefixes.get(f"{name}.init")
        if taken is not None:
            builder.problems.error(
                "E066",
                f"a learned map and the start of a state are both called `{name}.init`",
                taken,
                hint="give the map an equation of its own",
                related=[Label(value.span, "the start")],
            )
        params.append(Param(f"{name}.init", axes, Init(), value.span))
        return builder.add("param", axes=axes, attrs=(f"{name}.init",), span=value.span)
    node = builder.expression(value, Place(name, "start", axes, symbol.span))
    if node is None:
        return None
    extra = [a for a in builder.axes_of(node) if a not in axes]
    if extra:
        builder.problems.error(
            "E048",
            f"the start of `{name}` has the axis {listing(extra)}, which the state has not",
            value.span,
            hint=f"reduce it: `sum(…, {extra[0]})`",
            related=[Label(symbol.span, "declared here")],
        )
        return None
    return node


def _check_states(scope: Scope, problems: Problems) -> None:
    for name in scope.states:
        if name not in scope.equations:
            problems.error(
                "E084",
                f"the state `{name}` is never updated",
                scope.symbols[name].span,
                hint=f"write its equation: `{name}[t] = …`",
            )


def _outputs(scope: Scope, head: s.Layer, problems: Problems) -> tuple[str, ...]:
    if not scope.outputs:
        last = next(reversed(scope.states), None) or next(reversed(scope.equations), "h")
        problems.error(
            "E082",
            f"the layer `{head.name.text}` has no output",
            head.span,
            hint=f"end it with `output {last}[t]`",
        )
    found: dict[str, s.Target] = {}
    for target in scope.outputs:
        name = target.name.text
        symbol = scope.symbols.get(name)
        if symbol is None:
            hint = problems.guess(name, scope.named(*SEQUENCES), f"write `{name}[t] = …`")
            problems.error(
                "E083", f"the output `{shorten(name)}` is not defined", target.span, hint=hint
            )
            continue
        symbol.used = True
        if symbol.kind not in ("state", "equation"):
            hint = "an output is a state or an equation"
            if symbol.kind == "input":
                hint = f"give it an equation: `out[t] = {name}[t]`"
            elif symbol.kind in ("constant", "param", "hyper", "size"):
                hint = f"give it a value at every step: `out[t] = {name}`"
            problems.error(
                "E083",
                f"`{name}` is {KINDS[symbol.kind]}, which can't be an output",
                target.span,
                hint=hint,
            )
        elif not (isinstance(target.index, s.Name) and target.index.text == "t"):
            problems.error(
                "E040" if target.index is None else "E043",
                f"an output is written `{name}[t]`",
                target.span,
                hint="write it with `[t]`"
                if target.index is None
                else f"to hand out an earlier value, give it an equation: `out[t] = {name}[t-1]`",
            )
        elif name in found:
            problems.error(
                "E022",
                f"the output `{name}` stands twice",
                target.span,
                hint="take one out",
                related=[Label(found[name].span, "first here")],
            )
        found.setdefault(name, target)
    return tuple(found)
