"""One layer: declarations, order, equations, and what they come to as a `Recurrence`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from seqc.diagnostics import Label, Source
from seqc.frontend.declarations.defs import Function
from seqc.frontend.declarations.names import Declarations
from seqc.frontend.declarations.order import Reference, build_order, references
from seqc.frontend.declarations.scope import KINDS, SEQUENCES, Scope, Symbol, part_names
from seqc.frontend.expressions.applications import Algebras, check_applications
from seqc.frontend.expressions.builder import Budget, Builder, Place, TooLarge
from seqc.frontend.expressions.calls import evaluate
from seqc.frontend.expressions.choices import check_choices
from seqc.frontend.expressions.complexes import INSTEAD, without_pairs
from seqc.frontend.expressions.maps import count_maps
from seqc.frontend.expressions.shared import declare_maps
from seqc.frontend.messages.limits import MAX_TERMS
from seqc.frontend.messages.problems import Problems, listing, shorten
from seqc.frontend.specs.bundles import unbundle
from seqc.frontend.specs.solves import read_feedbacks, read_solves
from seqc.frontend.specs.warnings import warn_flat, warn_outer_products, warn_unused
from seqc.frontend.text import syntax as s
from seqc.ir.inits import Init
from seqc.ir.recurrence import Equation, Param, Recurrence, Solve, State
from seqc.ir.solving import Feedback

#: What a statement asks of a state.
Asked = TypeVar("Asked", Solve, Feedback)
#: The parts of each name, with their nodes.
Named = dict[str, tuple[tuple[str, int], ...]]

LATER_STATEMENTS = {
    "space": ("E100", "flatten the space into an axis: `size pixels`"),
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
    algebras: Algebras,
) -> Recurrence | None:
    """The recurrence of one layer; None where it has errors."""
    before = len(problems.errors) + problems.hidden
    for statement in statements:
        if isinstance(statement, s.Later):
            refuse_later(statement, problems)
    try:
        statements, members = unbundle(statements, problems)
    except TooLarge:
        _too_large(head, problems)
        return None
    scope = Declarations(problems).read(statements)
    scope.members = members
    mentions: dict[str, tuple[Reference, ...]] = {
        name: references(e.value, scope, problems) for name, e in scope.equations.items()
    }
    order = build_order(scope, mentions, problems)
    builder = Builder(scope, functions, problems, budget, evaluate)
    builder.algebras = algebras
    declare_maps(builder)
    check_choices(builder)
    name = head.name.text
    try:
        nodes = {equation: _equation(builder, equation) for equation in order}
        params = list(scope.params)
        starts = {state: _start(builder, state, params) for state in scope.states}
    except TooLarge:
        _too_large(head, problems)
        return None
    _check_states(scope, problems)
    check_applications(builder, scope, problems)
    _check_parts(scope, problems)
    solves = read_solves(statements, scope, problems)
    feedbacks = read_feedbacks(statements, scope, problems)
    outputs = _outputs(scope, head, problems)
    warn_unused(scope, mentions, outputs, problems)
    if len(problems.errors) + problems.hidden > before:
        return None
    graph, moved = builder.graph.graph, dict(enumerate(range(len(builder.graph.nodes))))
    real = {name: builder.named(name, nodes[name] or 0) for name in order}
    roots = [n for named in real.values() for _, n in named]
    if any(node.op == "complex" for node in graph):
        roots += [n for s in scope.states for _, n in builder.named(s, starts[s] or 0)]
        roots += [n for a in builder.applied.values() for n in a.parts]
        graph, moved = without_pairs(graph, scope.axis_order, roots)
    states = tuple(
        State(part, symbol.axes or (), moved[start], moved[update], symbol.span, order=symbol.order)
        for n in scope.states
        for symbol in (scope.symbols[n],)
        for (part, update), (_, start) in zip(
            real[n], builder.named(n, starts[n] or 0), strict=True
        )
    )
    equations = tuple(
        Equation(
            part,
            moved[node],
            graph[moved[node]].axes,
            scope.symbols[n].kind == "constant",
            scope.equations[n].span,
            scope.symbols[n].order,
        )
        for n in order
        for part, node in real[n]
    )
    recurrence = Recurrence(
        name,
        scope.axis_order,
        (*scope.sizes, *scope.sums.values()),
        tuple(scope.hypers),
        tuple(scope.inputs),
        tuple(params),
        tuple(builder.maps),
        states,
        equations,
        outputs,
        graph,
        doc,
        tuple(
            replace(a, parts=tuple(moved[n] for n in a.parts))
            for a in (builder.applied[n] for n in order if n in builder.applied)
        ),
        _of_parts(solves, real),
        source,
        head.span,
        _of_parts(feedbacks, real),
    )
    owners = {part: name for name, named in real.items() for part, _ in named}
    warn_outer_products(recurrence, scope, owners, problems)
    warn_flat(recurrence, problems)
    return recurrence


def _too_large(head: s.Layer, problems: Problems) -> None:
    problems.error(
        "E009",
        "once every def and bundle is written out, the layer comes to more than "
        f"{MAX_TERMS:,} terms",
        head.span,
        hint="give what a def is called with again and again an equation of its own",
    )


def _of_parts(asked: tuple[Asked, ...], real: Named) -> tuple[Asked, ...]:
    """What is asked of a complex state is asked of its parts."""
    found = [s for s in asked if not s.state]
    for one in asked:
        if one.state:
            found += [replace(one, state=part) for part, _ in real[one.state]]
    return tuple(found)


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
        statement.value,
        complex=symbol.complex,
        order=symbol.order,
    )
    node = builder.expression(statement.value, place)
    if node is not None and symbol.axes is not None:
        node = _of_kind(builder, node, symbol, statement.value, statement.axes)
    elif node is not None:
        symbol.complex = builder.parts(node) is not None
    # Both parts of a complex value have its axes.
    axes = symbol.axes
    if node is not None and axes is None and symbol.complex:
        axes = builder.axes_of(node)
    if node is not None and axes is not None:
        node = _with_axes(builder, node, axes, name, statement.value, statement.axes)
    builder.built[name] = node
    return node


def _of_kind(
    builder: Builder, node: int, symbol: Symbol, expr: s.Expr, declared: s.Axes | None
) -> int | None:
    """The node as what its name is declared to be, real or complex."""
    if symbol.complex and builder.parts(node) is None:
        return builder.joined((node, builder.const(0.0, expr.span)), expr.span)
    if not symbol.complex and builder.parts(node) is not None:
        axes = ", ".join(symbol.axes or ("1",))
        axes = f"({axes})" if len(symbol.axes or ()) > 1 else axes
        builder.problems.error(
            "E070",
            f"`{builder.scope.owner(symbol.name)}` is declared real, its value is complex",
            expr.span,
            hint=f"declare it `complex {axes}`, or {INSTEAD}",
            related=[Label(declared.span if declared else symbol.span, "declared here")],
        )
        return None
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
        shown = builder.scope.owner(name)
        widened = ", ".join(a for a in builder.scope.axis_order if a in (*axes, *extra))
        builder.problems.error(
            "E048",
            f"`{shown}` is declared without the axis {listing(extra)} that its value has",
            expr.span,
            label=f"this has ({', '.join(found)})",
            hint=f"declare `({widened})`, or reduce: `sum(…, {extra[0]})`",
            related=[Label(place, "declared here")],
        )
        return None
    parts = builder.parts(node)
    if parts is None:
        return builder.spread(node, axes, expr.span)
    re, im = (builder.spread(part, axes, expr.span) for part in parts)
    return builder.joined((re, im), expr.span)


def _start(builder: Builder, name: str, params: list[Param]) -> int | None:
    """The node of a state's value before the first step."""
    symbol = builder.scope.symbols[name]
    value = builder.scope.states[name]
    axes = symbol.axes or ()
    if value is None:
        return builder.zero(symbol, symbol.span)
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
        found = []
        for part in part_names(name) if symbol.complex else (name,):
            params.append(Param(f"{part}.init", axes, Init(), value.span, order=symbol.order))
            attrs = (f"{part}.init",)
            found.append(builder.add("param", axes=axes, attrs=attrs, span=value.span))
        return found[0] if len(found) == 1 else builder.joined((found[0], found[1]), value.span)
    node = builder.expression(value, Place(name, "start", axes, symbol.span))
    if node is not None:
        node = _of_kind(builder, node, symbol, value, None)
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


def _check_parts(scope: Scope, problems: Problems) -> None:
    """The names of the parts of complex values are nobody else's."""
    for name, symbol in scope.symbols.items():
        for part in part_names(name) if symbol.complex else ():
            taken = scope.symbols.get(part)
            if taken is not None:
                problems.error(
                    "E022",
                    f"`{part}` is defined twice",
                    taken.span,
                    hint="rename it",
                    related=[
                        Label(symbol.span, f"a part of this complex value is called `{part}`")
                    ],
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
        elif symbol.complex:
            problems.error(
                "E071",
                f"the output `{name}` is complex",
                target.span,
                hint=f"output its parts: `a[t] = re({name}[t])` and `b[t] = im({name}[t])`",
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
