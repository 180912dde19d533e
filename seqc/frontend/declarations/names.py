"""What a layer declares: one namespace of sizes, hypers, inputs, states, params and equations."""

from __future__ import annotations

from collections.abc import Iterable

from seqc.diagnostics import Label
from seqc.frontend.declarations.axes import is_complex, resolve_axes
from seqc.frontend.declarations.constants import matrix_only, read_init
from seqc.frontend.declarations.hypers import read_hyper
from seqc.frontend.declarations.reserved import refusal
from seqc.frontend.declarations.scope import KINDS, Scope, Symbol, part_names
from seqc.frontend.messages.limits import MAX_SIZE, MAX_SIZES
from seqc.frontend.messages.problems import Problems, shorten
from seqc.frontend.text import syntax as s
from seqc.ir.inits import Init
from seqc.ir.recurrence import Bound, Hyper, Input, Param, Size


class Declarations:
    """Reads the declarations of one layer into a :class:`Scope`."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.scope = Scope()

    def read(self, statements: Iterable[s.Statement]) -> Scope:
        """The scope of a layer's statements; sizes and hypers first, which anything may name."""
        statements = tuple(statements)
        for statement in statements:
            if isinstance(statement, s.Settings) and statement.kind == "size":
                for item in statement.items:
                    self._declare("size", item.name)
            elif isinstance(statement, s.Later) and statement.kind == "space":
                for name in statement.names:
                    self._declare("later", name)
        self._sizes(statements)
        for statement in statements:
            if isinstance(statement, s.Settings) and statement.kind == "hyper":
                for item in statement.items:
                    read_hyper(item, self._declare("hyper", item.name), self.scope, self.problems)
            elif isinstance(statement, s.Choice):
                self._choice(statement)
        for statement in statements:
            if isinstance(statement, s.Declaration):
                self._declaration(statement)
            elif isinstance(statement, s.MapStatement):
                self._map(statement)
        for statement in statements:
            if isinstance(statement, s.EquationStatement):
                self._equation(statement)
            elif isinstance(statement, s.Output):
                self.scope.outputs.extend(statement.targets)
        return self.scope

    def _declare(
        self, kind: str, name: s.Name, axes: tuple[str, ...] | None = None
    ) -> Symbol | None:
        """A new symbol; None (and an error) where the name is taken.  A reserved name is refused
        but declared, so that its uses aren't reported as well."""
        reason = refusal(name.text, kind) if name.text else None  # without one it has been said
        if reason is not None:
            self.problems.error(
                "E023",
                f"`{shorten(name.text)}` can't be the name of {KINDS.get(kind, 'anything')}",
                name.span,
                label=reason,
                hint=f"choose another name, for example `{name.text}_`"
                if refusal(f"{name.text}_", kind) is None
                else "choose another name",
            )
        taken = self.scope.symbols.get(name.text)
        if taken is not None:
            self.problems.error(
                "E022",
                f"`{name.text}` is defined twice",
                name.span,
                hint="sizes, inputs, states, parameters and equations share one namespace",
                related=[Label(taken.span, f"it is {KINDS[taken.kind]} already")],
            )
            return None
        symbol = Symbol(name.text, kind, name.span, axes)
        if axes is not None:
            symbol.axes = self.scope.sorted(axes)
            symbol.order = axes if axes != symbol.axes else ()
        self.scope.symbols[name.text] = symbol
        return symbol

    # ---- sizes and hypers

    def _sizes(self, statements: tuple[s.Statement, ...]) -> None:
        items = [
            item
            for statement in statements
            if isinstance(statement, s.Settings) and statement.kind == "size"
            for item in statement.items
        ]
        # The first statement about a name counts; a second is an error already noted.
        first = {item.name.text: item for item in reversed(items)}
        if len(first) > MAX_SIZES:
            self.problems.error(
                "E002",
                f"the layer has {len(first)} sizes; {MAX_SIZES} are the most",
                items[0].span,
                hint="a size is an axis or an extent, not a number to compute with",
            )
            del items[MAX_SIZES:]
        for item in items:
            if first[item.name.text] is not item:
                continue
            default, alias = None, None
            value = item.value
            if isinstance(value, s.Name):
                alias = self._root(item, first)
            elif value is not None:
                number = value.whole if isinstance(value, s.Number) else None
                if number is None or not 1 <= number <= MAX_SIZE:
                    self.problems.error(
                        "E086",
                        "a size is a positive whole number, or the name of another size",
                        value.span,
                        hint=f"write `size {item.name.text}` and give the number when building",
                    )
                else:
                    default = number
            self.scope.sizes.append(Size(item.name.text, default, alias, item.name.span))

    def _root(self, item: s.Setting, items: dict[str, s.Setting]) -> str | None:
        """The size at the end of `size a = b`, `size b = c`, …"""
        seen = {item.name.text}
        value = item.value
        while isinstance(value, s.Name):
            name = value.text
            if name in seen:
                self.problems.error(
                    "E086",
                    f"the size `{item.name.text}` is defined by itself",
                    item.span,
                    hint="give one of these sizes no other's name",
                )
                return None
            if name not in items:
                hint = self.problems.guess(name, items)
                self.problems.error("E021", f"no size is called `{name}`", value.span, hint=hint)
                return None
            seen.add(name)
            self.scope.symbols[name].used = True
            root, value = name, items[name].value
        return root

    # ---- inputs, states, params

    def _declaration(self, statement: s.Declaration) -> None:
        # `input x[t], y[t]: axes`: an item without axes has those of the next that has some.
        axes: s.Axes | None = None
        value: s.Expr | None = None
        resolved: list[tuple[s.Declared, s.Axes | None, s.Expr | None]] = []
        for item in reversed(statement.items):
            if item.axes is not None:
                axes, value = item.axes, item.value
            resolved.append((item, axes, item.value if item.value is not None else value))
        for item, item_axes, item_value in reversed(resolved):
            self._item(statement.kind, item, item_axes, item_value)

    def _item(self, kind: str, item: s.Declared, axes: s.Axes | None, value: s.Expr | None) -> None:
        name = item.target.name
        if kind == "param":
            if item.target.index is not None:
                self.problems.error(
                    "E041",
                    f"the parameter `{name.text}` is constant in time",
                    item.target.span,
                    hint=f"write `param {name.text}: axes = init`",
                )
        else:
            self._now(item.target, kind)
        if axes is None:
            self.problems.error(
                "E047",
                f"{KINDS[kind]} needs its axes",
                item.target.span,
                hint=f"write `{kind} {item.target.span.text}: {self._some_axis()}`, "
                "or `: 1` for one number a step",
            )
        symbol = self._declare(
            kind, name, None if axes is None else resolve_axes(axes, self.scope, self.problems)
        )
        if symbol is None or symbol.axes is None:
            return
        symbol.complex = is_complex(axes)
        if kind == "input":
            if symbol.complex and axes is not None:
                self.problems.error(
                    "E071",
                    f"the input `{name.text}` is complex",
                    axes.span,
                    hint="take its parts as two real inputs, of `z.real` and `z.imag`",
                )
            if value is not None:
                self.problems.error(
                    "E089", "an input has no start", value.span, hint="leave out the `= …`"
                )
            span = item.target.span
            self.scope.inputs.append(Input(name.text, symbol.axes, span, order=symbol.order))
        elif kind == "state":
            self.scope.states[name.text] = value
        else:
            init = Init("default") if value is None else read_init(value, self.scope, self.problems)
            if value is None:
                self.problems.error(
                    "E088",
                    f"the parameter `{name.text}` has no start",
                    item.span,
                    hint="write `= 0`, `= normal(0, 0.02)`, `= uniform(-0.1, 0.1)`, …",
                )
            elif init is not None and init.of_matrices and len(symbol.axes) < 2:
                matrix_only(init, value, self.problems)
            span, init, order = item.target.span, init or Init(), symbol.order
            if not symbol.complex:
                self.scope.params.append(Param(name.text, symbol.axes, init, span, order=order))
                return
            re, im = part_names(name.text)
            other = Init("number", (0.0,)) if init.kind == "number" else init
            self.scope.params.append(Param(re, symbol.axes, init, span, order=order))
            self.scope.params.append(Param(im, symbol.axes, other, span, order=order))

    def _choice(self, statement: s.Choice) -> None:
        """`choice act = tanh, relu`: a hyper that says which, from 0."""
        name = statement.name.text
        if self._declare("choice", statement.name) is not None:
            self.scope.choices[name] = statement
            options = tuple(o.text for o in statement.options)
            last = Bound("<=", float(len(options) - 1))
            domain = (Bound(">=", 0.0), last)
            self.scope.hypers.append(Hyper(name, 0.0, statement.name.span, domain, options))

    def _map(self, statement: s.MapStatement) -> None:
        """`map f(u): hidden = linear(u)`."""
        axes = resolve_axes(statement.axes, self.scope, self.problems)
        symbol = self._declare("map", statement.name, axes)
        if symbol is not None:
            symbol.complex = is_complex(statement.axes)
            self.scope.maps[statement.name.text] = statement

    def _some_axis(self) -> str:
        return next(reversed(self.scope.axis_order), "hidden")

    # ---- equations

    def _now(self, target: s.Target, kind: str) -> None:
        """Check that a target is `name[t]`."""
        index = target.index
        if index is None or not (isinstance(index, s.Name) and index.text == "t"):
            self.problems.error(
                "E040" if index is None else "E043",
                f"{KINDS[kind]} is declared as `{target.name.text}[t]`",
                target.span,
                hint="write it with `[t]`: it has a value at every step",
            )

    def _equation(self, statement: s.EquationStatement) -> None:
        target = statement.target
        name = target.name.text
        symbol = self.scope.symbols.get(name)
        axes = (
            None
            if statement.axes is None
            else resolve_axes(statement.axes, self.scope, self.problems)
        )
        if symbol is not None and symbol.kind == "input":
            self.problems.error(
                "E085",
                f"the input `{name}` is assigned",
                target.span,
                hint="give the equation another name",
                related=[Label(symbol.span, "it is an input")],
            )
            return
        if target.index is not None:
            self._now(target, "equation")
        if symbol is not None and symbol.kind == "state" and name not in self.scope.equations:
            if target.index is None:
                self.problems.error(
                    "E040",
                    f"the state `{name}` has a value at every step",
                    target.span,
                    hint=f"write `{name}[t] = …`",
                )
            declared = (axes, is_complex(statement.axes))
            if axes is not None and declared != (symbol.order or symbol.axes, symbol.complex):
                self.problems.error(
                    "E048",
                    f"the axes of `{name}` are not those of its state",
                    statement.axes.span if statement.axes else target.span,
                    hint="leave them out here",
                    related=[Label(symbol.span, "declared here")],
                )
            self.scope.equations[name] = statement
            return
        if symbol is not None and symbol.kind == "state":
            first = self.scope.equations[name]
            self.problems.error(
                "E022",
                f"the state `{name}` is updated twice",
                target.span,
                hint="a state has one equation: choose with `where(condition, then, else)`",
                related=[Label(first.target.span, "first here")],
            )
            return
        kind = "constant" if target.index is None else "equation"
        equation = self._declare(kind, target.name, axes)
        if equation is not None:
            equation.complex = is_complex(statement.axes)
            self.scope.equations[name] = statement
