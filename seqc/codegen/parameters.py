"""Parameters as a generated layer declares and reads them: shapes in its sizes, orders of axes."""

from __future__ import annotations

from seqc.ir.recurrence import LearnedMap


def shape_text(axes: tuple[str, ...]) -> str:
    """A parameter's shape in terms of the layer's sizes."""
    return "(" + "".join(f"self.{a}, " for a in axes or ()).strip() + ")" if axes else "(1,)"


def product_text(axes: tuple[str, ...]) -> str:
    return " * ".join(f"self.{a}" for a in axes) or "1"


def map_parameters(m: LearnedMap) -> list[str]:
    """The declarations of a learned map's weight and bias, in torch's layouts."""
    out = product_text(m.axes)
    if m.kind == "conv":
        width = m.width if isinstance(m.width, int) else f"self.{m.width}"
        source = "1" if m.depthwise else product_text(m.sources[0])
        fan = f"{width} * {source}"
        shape = f"({out}, {source}, {width})"
    else:
        fan = " + ".join(product_text(s) for s in m.sources)
        shape = f"({out}, {fan})"
    init = f'"{m.weight.kind}", {m.weight.values!r}, {fan}'
    lines = [f'self._parameter("{m.prefix}.weight", {shape}, {init})']
    if m.bias:
        lines.append(f'self._parameter("{m.prefix}.bias", ({out},), "default", (), {fan})')
    return lines


def rows(m: LearnedMap, code: str) -> str:
    """A weight's or bias's text with its rows in the layer's order of axes."""
    if not m.order:
        return code
    extents = ", ".join(f"self.{a}" for a in m.order)
    places = tuple(m.order.index(a) for a in m.axes)
    return f"turn_rows({code}, ({extents}), {places!r})"
