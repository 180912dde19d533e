"""The `def`s of a file and of the prelude: closed, not recursive, checked before any call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from seqc.diagnostics import Label
from seqc.frontend.declarations.functions import BUILTIN, LATER_FUNCTIONS
from seqc.frontend.declarations.order import components
from seqc.frontend.declarations.reserved import refusal
from seqc.frontend.messages.problems import Problems, a_number, shorten
from seqc.frontend.text import syntax as s
from seqc.ir.maps import MAPS

#: Names that stand for numbers; anything else that a spec defines may hide them.
NUMBERS = ("pi", "inf")


@dataclass
class Function:
    """A `def`; ``sound`` is False where its body has errors, so that calls add none."""

    define: s.Define
    library: bool = False
    sound: bool = True
    used: bool = False
    gradient: s.Gradient | None = None


def declare_functions(
    own: Iterable[s.Define | s.Gradient], library: dict[str, Function], problems: Problems
) -> dict[str, Function]:
    """The functions that a file may call: its own, then the library's."""
    functions: dict[str, Function] = {}
    own = tuple(own)
    for define in own:
        if isinstance(define, s.Gradient):
            state_gradient(define, functions, own, library, problems)
            continue
        name = define.name.text
        reason = refusal(name, "layer")  # a def is no attribute: only keywords are in its way
        if name in BUILTIN:
            reason = f"`{name}` is a function of the language"
        if reason is not None:
            problems.error(
                "E023",
                f"`{shorten(name)}` can't be the name of a def",
                define.name.span,
                label=reason,
                hint="choose another name",
            )
        elif name in functions:
            problems.error(
                "E022",
                f"the def `{name}` stands twice",
                define.name.span,
                hint="rename one",
                related=[Label(functions[name].define.name.span, "first here")],
            )
        else:
            functions[name] = Function(define)
    known = {k: Function(f.define, True, gradient=f.gradient) for k, f in library.items()}
    merged = {**known, **functions}
    for function in functions.values():
        before = len(problems.errors) + problems.hidden
        _check_body(function.define, merged, problems)
        if function.gradient is not None:
            _check_body(function.gradient, merged, problems)
        if len(problems.errors) + problems.hidden > before:
            function.sound = False
    _check_recursion(functions, problems)
    return merged


def state_gradient(
    stated: s.Gradient,
    functions: dict[str, Function],
    own: tuple[s.Define | s.Gradient, ...],
    library: dict[str, Function],
    problems: Problems,
) -> None:
    """Note a gradient with the def before it, whose parameters it must have."""
    name = stated.name.text
    function = functions.get(name)
    if function is None:
        hint = problems.guess(name, functions, f"write `def {shorten(name)}(u) = …` before it")
        if name in BUILTIN or name in library:
            hint = f"give it a name of its own: `def my_{name}(u) = {name}(u)`"
        elif any(isinstance(d, s.Define) and d.name.text == name for d in own):
            hint = "put it after the def"
        problems.error(
            "E092", f"no def before this is called `{shorten(name)}`", stated.name.span, hint=hint
        )
        return
    wanted = ", ".join(p.text for p in function.define.parameters)
    if function.gradient is not None:
        problems.error(
            "E022",
            f"the gradient of `{name}` is stated twice",
            stated.name.span,
            hint="take one out",
            related=[Label(function.gradient.name.span, "first here")],
        )
        return
    count = len(function.define.parameters)
    slopes = slopes_of(stated)
    if len(stated.parameters) != count or len(slopes) != count:
        parts = ", ".join(f"d{p.text}" for p in function.define.parameters)
        parts = f"({parts})" if count > 1 else parts
        what = f"{a_number(count, 'parameter')}, and a derivative by each"
        problems.error(
            "E092",
            f"`{name}` has {what}",
            stated.span if len(stated.parameters) != count else stated.body.span,
            hint=f"write `gradient {name}({wanted}) = {parts}`",
            related=[Label(function.define.name.span, "defined here")],
        )
        function.sound = False
        return
    function.gradient = stated


def slopes_of(stated: s.Gradient) -> tuple[s.Expr, ...]:
    """The derivative by each parameter."""
    return stated.body.parts if isinstance(stated.body, s.Tuple) else (stated.body,)


def _check_body(
    define: s.Define | s.Gradient, functions: dict[str, Function], problems: Problems
) -> None:
    parameters: dict[str, s.Name] = {}
    for name in define.parameters:
        if name.text in parameters or name.text == "t":
            problems.error(
                "E022" if name.text != "t" else "E023",
                f"the parameter `{name.text}` stands twice"
                if name.text != "t"
                else "`t` can't be the name of a parameter",
                name.span,
                hint="rename it",
            )
        parameters[name.text] = name
    read: set[str] = set()
    todo: list[s.Expr] = [define.body]
    while todo:
        term = todo.pop()
        if isinstance(term, s.Name):
            read.add(term.text)
            if term.text not in parameters and term.text not in NUMBERS:
                hint = problems.guess(
                    term.text, parameters, "a def is closed: pass what it needs as an argument"
                )
                problems.error(
                    "E026",
                    f"`{shorten(term.text)}` is not a parameter of `{define.name.text}`",
                    term.span,
                    hint=hint,
                )
        elif isinstance(term, s.Indexed):
            base = term.base.text if isinstance(term.base, s.Name) else "x"
            read.add(base)
            problems.error(
                "E041",
                "a def knows no time",
                term.span,
                hint=f"write `{shorten(base)}` here, and pass `{shorten(base)}[t]` in the call",
            )
        elif isinstance(term, s.Call):
            if isinstance(term.function, s.Name):
                name_text = term.function.text
                called = functions.get(name_text)
                if name_text in MAPS:
                    problems.error(
                        "E064",
                        f"`{name_text}` can't stand in a def: a def has no parameters of its own",
                        term.span,
                        hint="pass the map's result as an argument",
                    )
                elif called is not None:
                    called.used = True
                elif name_text in LATER_FUNCTIONS:
                    code, instead = LATER_FUNCTIONS[name_text]
                    problems.error(
                        code, f"`{name_text}` is not available yet", term.span, hint=instead
                    )
                elif name_text not in BUILTIN:
                    hint = problems.guess(name_text, [*sorted(BUILTIN), *functions])
                    problems.error(
                        "E024",
                        f"no function is called `{name_text}`",
                        term.function.span,
                        hint=hint,
                    )
                # `weight = …` and the like are read where the call is built; of `rename` both
                # sides are axes, so parameters.
                axes = name_text == "rename" and called is None
                todo.extend(a.value for a in term.arguments if axes or a.keyword is None)
                if axes:
                    todo.extend(a.keyword for a in term.arguments if a.keyword is not None)
            else:
                todo.extend(s.children(term))
        else:
            todo.extend(s.children(term))
    # A derivative need not depend on every parameter.
    for name in parameters.values() if isinstance(define, s.Define) else ():
        if name.text not in read:
            problems.warn(
                "W001", f"the parameter `{name.text}` is never used", name.span, hint="take it out"
            )


def _calls(function: Function) -> list[s.Name]:
    """The functions that a def's body, and its stated gradient, name in calls."""
    found: list[s.Name] = []
    todo: list[s.Expr] = [function.define.body]
    if function.gradient is not None:
        todo.append(function.gradient.body)
    while todo:
        term = todo.pop()
        if isinstance(term, s.Call) and isinstance(term.function, s.Name):
            found.append(term.function)
        todo.extend(s.children(term))
    return found


def _check_recursion(functions: dict[str, Function], problems: Problems) -> None:
    calls = {
        name: tuple(dict.fromkeys(c.text for c in _calls(f) if c.text in functions))
        for name, f in functions.items()
    }
    for component in components(calls):
        if len(component) == 1 and component[0] not in calls[component[0]]:
            continue
        members = set(component)
        ordered = [name for name in functions if name in members]
        for name in ordered:
            functions[name].sound = False
        first = functions[ordered[0]].define
        call = next(c for c in _calls(functions[ordered[0]]) if c.text in members)
        problems.error(
            "E025",
            f"the def `{first.name.text}` calls itself"
            + ("" if len(members) == 1 else f", through `{call.text}`"),
            call.span,
            hint="a def is written out at each call, so it can't be recursive; what goes on in "
            "time is a state",
            related=[Label(first.name.span, "defined here")],
        )
