"""Axes, as statements declare them: names of sizes."""

from __future__ import annotations

from seqc.frontend.declarations.scope import Scope
from seqc.frontend.messages.problems import Problems, shorten
from seqc.frontend.text import syntax as s


def resolve_axes(axes: s.Axes, scope: Scope, problems: Problems) -> tuple[str, ...]:
    """The axes that a statement declares, in the order it names them; unknown ones are left out."""
    if axes.qualifier is not None and not is_complex(axes):
        problems.error(
            "E006",
            f"`{axes.qualifier.text}` does not fit here",
            axes.qualifier.span,
            hint="several axes are written `(a, b)`",
        )
    found: list[str] = []
    for name in axes.names:
        symbol = scope.symbols.get(name.text)
        if symbol is None or symbol.kind not in ("size", "later"):
            hint = problems.guess(name.text, scope.axis_order, f"declare it: `size {name.text}`")
            problems.error(
                "E021", f"no size is called `{shorten(name.text)}`", name.span, hint=hint
            )
            continue
        symbol.used = True
        if name.text in found:
            problems.error(
                "E021",
                f"the axis `{name.text}` stands twice",
                name.span,
                hint=f"give the second a name of its own: `size {name.text}_2 = {name.text}`",
            )
        elif symbol.kind == "size":
            found.append(name.text)
    return tuple(found)


def is_complex(axes: s.Axes | None) -> bool:
    """Whether a statement declares a complex value: `complex hidden`."""
    return axes is not None and axes.qualifier is not None and axes.qualifier.text == "complex"
