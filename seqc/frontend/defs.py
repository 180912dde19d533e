"""The `def`s of a file and of the prelude: closed, not recursive, checked before any call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from seqc.diagnostics import Label
from seqc.frontend import syntax as s
from seqc.frontend.functions import BUILTIN, LATER_FUNCTIONS, MAPS
from seqc.frontend.order import components
from seqc.frontend.problems import Problems, shorten
from seqc.frontend.reserved import refusal

#: Names that stand for numbers; anything else that a spec defines may hide them.
NUMBERS = ("pi", "inf")


@dataclass
class Function:
    """A `def`; ``sound`` is False where its body has errors, so that calls add none."""

    define: s.Define
    library: bool = False
    sound: bool = True
    used: bool = False


def declare_functions(
    own: Iterable[s.Define], library: dict[str, Function], problems: Problems
) -> dict[str, Function]:
    """The functions that a file may call: its own, then the library's."""
    functions: dict[str, Function] = {}
    for define in own:
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
    merged = {**{k: Function(f.define, True) for k, f in library.items()}, **functions}
    for function in functions.values():
        _check_body(function, merged, problems)
    _check_recursion(functions, problems)
    return merged


def _check_body(function: Function, functions: dict[str, Function], problems: Problems) -> None:
    define = function.define
    before = len(problems.errors) + problems.hidden
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
    for name in parameters.values():
        if name.text not in read:
            problems.warn(
                "W001", f"the parameter `{name.text}` is never used", name.span, hint="take it out"
            )
    function.sound = len(problems.errors) + problems.hidden == before


def _calls(define: s.Define) -> list[s.Name]:
    """The functions that a def's body names in calls."""
    found: list[s.Name] = []
    todo: list[s.Expr] = [define.body]
    while todo:
        term = todo.pop()
        if isinstance(term, s.Call) and isinstance(term.function, s.Name):
            found.append(term.function)
        todo.extend(s.children(term))
    return found


def _check_recursion(functions: dict[str, Function], problems: Problems) -> None:
    calls = {
        name: tuple(dict.fromkeys(c.text for c in _calls(f.define) if c.text in functions))
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
        call = next(c for c in _calls(first) if c.text in members)
        problems.error(
            "E025",
            f"the def `{first.name.text}` calls itself"
            + ("" if len(members) == 1 else f", through `{call.text}`"),
            call.span,
            hint="a def is written out at each call, so it can't be recursive; what goes on in "
            "time is a state",
            related=[Label(first.name.span, "defined here")],
        )
