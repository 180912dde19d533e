"""Parameters as a generated layer declares and reads them: shapes in its sizes, orders of axes."""

from __future__ import annotations

from collections.abc import Sequence

from seqc.ir.maps import Extent, LearnedMap


def shape_text(axes: tuple[str, ...]) -> str:
    """A parameter's shape in terms of the layer's sizes."""
    return "(" + "".join(f"self.{a}, " for a in axes or ()).strip() + ")" if axes else "(1,)"


def product_text(factors: Sequence[int | str]) -> str:
    """A product of sizes and numbers, as a method of the layer reads it."""
    return " * ".join(str(f) if isinstance(f, int) else f"self.{f}" for f in factors) or "1"


def extent_text(extent: Extent) -> str:
    return " + ".join(map(product_text, extent))


def map_parameters(m: LearnedMap) -> list[str]:
    """The declarations of a learned map's weight and bias, in torch's layouts."""
    out, fan = product_text(m.axes), extent_text(m.fan_in)
    shape = ", ".join(map(extent_text, m.shape))
    init = f'"{m.weight.kind}", {m.weight.values!r}, {fan}'
    lines = [f'self._parameter("{m.prefix}.weight", ({shape}), {init})']
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


def columns_of(m: LearnedMap, arguments: Sequence[int]) -> str:
    """The index of the columns of some neighbouring arguments in a weight (out, in)."""
    begin = extent_text(m.sources[: arguments[0]]) if arguments[0] else ""
    last = arguments[-1] + 1
    end = extent_text(m.sources[:last]) if last < len(m.sources) else ""
    return f"[:, {begin}:{end}]"
