"""Parameters as a generated layer declares and reads them: shapes in its sizes, orders of axes."""

from __future__ import annotations

from collections.abc import Sequence

from seqc.ir.inits import Formula, Init, Quantity
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
    out, fan = extent_text(m.rows), extent_text(m.fan_in)
    shape = ", ".join(map(extent_text, m.shape))
    init = f"{init_text(m.weight, m.sources)}, {fan}"
    lines = [f'self._parameter("{m.prefix}.weight", ({shape}), {init})']
    if m.bias:
        lines.append(f'self._parameter("{m.prefix}.bias", ({out},), {init_text(m.offset)}, {fan})')
    return lines


def init_text(init: Init, sources: Sequence[tuple[str, ...]] = ()) -> str:
    """A start's kind and numbers, as ``_parameter`` takes them; ``sources``: a map's arguments."""
    if init.parts:
        parts = [
            f"({init_text(part)}, {product_text(axes)})"
            for part, axes in zip(init.parts, sources, strict=True)
        ]
        return f'"{init.kind}", ({", ".join(parts)})'
    values = "".join(f"{_value_text(v)}, " for v in init.values)
    return f'"{init.kind}", ({values.strip() if len(init.values) == 1 else values[:-2]})'


def _value_text(value: Quantity) -> str:
    """A number; what it takes sizes to know is a function, since it may have no value."""
    return repr(value) if isinstance(value, float) else f"lambda: {quantity_text(value)}"


def quantity_text(value: Quantity) -> str:
    """A number in terms of a layer's sizes and hypers, as a method of the layer reads it."""
    # Written from the leaves up: a formula may be nested as deep as a spec is.
    done: list[str] = []
    todo: list[tuple[Quantity, bool]] = [(value, False)]
    while todo:
        item, ready = todo.pop()
        if isinstance(item, str):
            done.append(f"self.{item}")
        elif not isinstance(item, Formula):
            done.append(f"({item!r})" if item < 0 else f"{item!r}")
        elif not ready:
            todo.append((item, True))
            todo.extend((a, False) for a in reversed(item.args))
        else:
            parts = done[len(done) - len(item.args) :]
            del done[len(done) - len(item.args) :]
            if item.op == "neg":
                done.append(f"(-{parts[0]})")
            elif item.op == "^":
                done.append(f"math.pow({parts[0]}, {parts[1]})")
            elif item.op in ("sqrt", "log", "exp"):
                done.append(f"math.{item.op}({parts[0]})")
            else:
                done.append(f"({parts[0]} {item.op} {parts[1]})")
    text = done[0]
    return text[1:-1] if isinstance(value, Formula) and value.op in ("+", "-", "*", "/") else text


def block(m: LearnedMap, code: str, parts: int = 1) -> str:
    """A map's own rows of a weight or bias: all, or its part of a bundle's and those after it."""
    first, count = m.part
    if parts == count:
        return code
    width = product_text(m.axes)
    ends = ["" if k in (0, count) else width if k == 1 else f"{k} * {width}"
            for k in (first, first + parts)]  # fmt: skip
    return f"{code}[{':'.join(ends)}]"


def rows(m: LearnedMap, code: str) -> str:
    """A weight's or bias's text: a map's own rows, in the layer's order of axes."""
    code = block(m, code)
    # One that goes by channel or block keeps its rows' order, so its result is turned instead.
    if not m.order or m.alone:
        return code
    extents = ", ".join(f"self.{a}" for a in m.order)
    places = tuple(m.order.index(a) for a in m.axes)
    return f"turn_rows({code}, ({extents}), {places!r})"


def stacked(
    maps: Sequence[LearnedMap], codes: Sequence[str], zeros: Sequence[str] = (), columns: str = ""
) -> str:
    """The rows of several maps one below the other, from the texts of their weights or biases.

    ``columns`` is an index of those that are wanted, where it is not all. ``zeros`` stand for the
    rows of those without a bias. Parts of a bundle that follow one another are one stretch of rows,
    with nothing to put together.
    """
    pieces: list[str] = []
    i = 0
    while i < len(maps):
        m, n = maps[i], 1
        while not m.order and [(x.prefix, x.part) for x in maps[i + n : i + n + 1]] == [
            (m.prefix, (m.part[0] + n, m.part[1]))
        ]:
            n += 1
        if zeros and not m.bias:
            pieces += zeros[i : i + n]
        else:
            # Columns are taken first: what turns rows has their order alone.
            code = f"{codes[i]}{columns}"
            pieces.append(rows(m, code) if n == 1 else block(m, code, n))
        i += n
    return pieces[0] if len(pieces) == 1 else f"torch.cat(({', '.join(pieces)}))"


def columns_of(m: LearnedMap, arguments: Sequence[int]) -> str:
    """The index of the columns of some neighbouring arguments in a weight (out, in)."""
    begin = extent_text(m.sources[: arguments[0]]) if arguments[0] else ""
    last = arguments[-1] + 1
    end = extent_text(m.sources[:last]) if last < len(m.sources) else ""
    return f"[:, {begin}:{end}]"
