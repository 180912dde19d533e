"""The dependence graph as a drawing: strata boxed, what is read from the past dashed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from seqc.report.dependence import Dependence, Value
from seqc.report.layered import LANE, Edge, Item, Layout, lay_out
from seqc.report.mathml import GREEK

#: More values than this make no readable drawing.
LIMIT = 80
MARGIN, CAPTION, INSIDE = 10.0, 14.0, 14.0
PORTS = 36.0
_LONGEST = 22


@dataclass(frozen=True)
class Box:
    """A drawn value."""

    value: Value
    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        """Its middle, from the left."""
        return self.x + self.width / 2

    @property
    def radius(self) -> int:
        """How round its corners are."""
        return {"input": 20, "output": 20, "past": 13, "learned": 3}.get(self.value.kind, 7)

    @property
    def name(self) -> str:
        """The name, cut to fit."""
        return shortened(GREEK.get(self.value.name, self.value.name))

    @property
    def index(self) -> str:
        """What stands below the name, cut to fit."""
        return shortened(self.value.index)

    @property
    def note(self) -> str:
        """The small line, cut to fit."""
        return shortened(self.value.note)


@dataclass(frozen=True)
class Frame:
    """A drawn stratum."""

    caption: tuple[str, ...]
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Line:
    """A drawn edge: its ends' keys, whether it is lagged or ends in an arrow, and its path.

    One that leaves a frame ends there, at ``out KEY``, and goes on as others.
    """

    source: str
    target: str
    lagged: bool
    arrow: bool
    path: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Drawing:
    """Everything drawn, with its places."""

    boxes: tuple[Box, ...]
    frames: tuple[Frame, ...]
    lines: tuple[Line, ...]
    width: float
    height: float


def draw(graph: Dependence, captions: Sequence[tuple[str, ...]]) -> Drawing:
    """Place a graph: each stratum by itself first, then the strata among the other values."""
    values = {v.key: v for v in graph.values}
    home = {k: i for i, members in enumerate(graph.strata) for k in members}
    inner = [_Stratum(graph, i, captions[i]) for i in range(len(graph.strata))]

    items = []
    placed: set[int] = set()
    for v in graph.values:
        where = home.get(v.key)
        if where is None:
            items.append(Item(v.key, *size(v)))
        elif where not in placed:
            placed.add(where)
            items.append(Item(f"stratum {where}", inner[where].width, inner[where].height))
    edges: dict[Edge, None] = {}
    routes: dict[Edge, list[tuple[str, str]]] = {}
    for a, b in graph.edges:
        i, j = home.get(a), home.get(b)
        if i is not None and i == j:
            continue
        e = Edge(
            a if i is None else f"stratum {i}",
            b if j is None else f"stratum {j}",
            None if i is None else inner[i].port(a, False),
            None if j is None else inner[j].port(a, True),
        )
        edges[e] = None
        routes.setdefault(e, []).append((a, b))
    layout = lay_out(items, tuple(edges))

    boxes = [_box(values[i.key], layout, MARGIN, MARGIN) for i in items if i.key in values]
    frames, lines = [], []
    for e, route in zip(edges, layout.routes, strict=True):
        a, b = routes[e][0]
        # One that goes on inside a frame has its arrow there.
        points = _moved(route, MARGIN, MARGIN)
        lines.append(_line(a, b, values[b].kind == "past", e.target == b, points))
    for i, stratum in enumerate(inner):
        x, y = layout.places[f"stratum {i}"]
        x, y = x + MARGIN, y + MARGIN
        frames.append(Frame(captions[i], x, y, stratum.width, stratum.height))
        more_boxes, more_lines = stratum.drawn(x, y)
        boxes += more_boxes
        lines += more_lines
    return Drawing(
        tuple(boxes), tuple(frames), tuple(lines),
        layout.width + 2 * MARGIN, layout.height + 2 * MARGIN,
    )  # fmt: skip


class _Stratum:
    """A stratum's members in a frame, with ports where edges come in and leave."""

    def __init__(self, graph: Dependence, number: int, caption: tuple[str, ...]) -> None:
        members = set(graph.strata[number])
        self.values = {v.key: v for v in graph.values}
        self.members = [v for v in graph.values if v.key in members]
        inside = [(a, b) for a, b in graph.edges if a in members and b in members]
        # What goes around in time is drawn at the side; what is left has no cycle.
        self.back = [(a, b) for a, b in inside if self.values[b].kind == "past"]
        self.forth = [(a, b) for a, b in inside if self.values[b].kind != "past"]
        sources = {a: None for a, b in graph.edges if b in members and a not in members}
        sinks = {a: None for a, b in graph.edges if a in members and b not in members}
        entries = [(f"in {a}", b) for a, b in graph.edges if a in sources and b in members]
        leaving = [(a, f"out {a}") for a in sinks]
        items = [Item(v.key, *size(v), rank=1 if v.kind == "past" else 0) for v in self.members] + [
            Item(p, LANE, 0) for p in [*(f"in {a}" for a in sources), *(b for _, b in leaving)]
        ]
        self.edges = [*self.forth, *entries, *leaving]
        self.layout = lay_out(
            items, [Edge(a, b) for a, b in self.edges], gap=PORTS,
            top=frozenset(f"in {a}" for a in sources), bottom=frozenset(b for _, b in leaving),
        )  # fmt: skip
        self.loops = [self._loop(i, a, b) for i, (a, b) in enumerate(self.back)]
        side = 12.0 * len(self.back) + (6.0 if self.back else 0.0)
        # The caption stands in the left lower corner, left of all that leaves there.
        wide = max(text_width(line, 11) for line in caption) + 18
        lowest = min((self.layout.places[b][0] for _, b in leaving), default=wide)
        self.left = INSIDE + max(0.0, wide - lowest - INSIDE)
        self.top = INSIDE + 6.0 * len(self.back)
        low = max((y for loop in self.loops for _, y in loop), default=0.0)
        self.width = max(self.layout.width + self.left + INSIDE + side, wide)
        # The ports' own band, where there is one, is room for the caption too.
        room = CAPTION * len(caption) + 10 - (PORTS if leaving else 0.0)
        self.height = max(self.layout.height, low) + self.top + max(room, INSIDE)

    def port(self, key: str, entering: bool) -> float:
        """Where the edges of a value pass the frame, from its left."""
        x, _ = self.layout.places[f"{'in' if entering else 'out'} {key}"]
        return self.left + x + LANE / 2

    def _loop(self, i: int, a: str, b: str) -> tuple[tuple[float, float], ...]:
        """From a value around the right side to where its past is read."""
        places, layer, bands = self.layout.places, self.layout.layer, self.layout.bands
        channel = self.layout.width + 12.0 * (i + 1)
        sizes = {v.key: size(v) for v in self.members}

        def last(key: str) -> bool:
            x, _ = places[key]
            return all(places[k][0] <= x for k in sizes if layer[k] == layer[key])

        (x, y), (w, h) = places[a], sizes[a]
        first = [k for k, _ in enumerate(self.back) if self.back[k][0] == a].index(i)
        if last(a):
            points = [(x + w, y + h / 2 + 6.0 * first), (channel, y + h / 2 + 6.0 * first)]
        else:
            low = bands[layer[a]][1] + 8.0 + 5.0 * i
            points = [(x + w - 10.0, y + h), (x + w - 10.0, low), (channel, low)]
        (x, y), (w, h) = places[b], sizes[b]
        if last(b):
            points += [(channel, y + h / 2), (x + w, y + h / 2)]
        else:
            high = bands[layer[b]][0] - 6.0 - 5.0 * i
            points += [(channel, high), (x + w / 2, high), (x + w / 2, y)]
        return tuple(points)

    def drawn(self, x: float, y: float) -> tuple[list[Box], list[Line]]:
        """The members and the edges among them, the frame's corner being at (x, y)."""
        x0, y0 = x + self.left, y + self.top
        boxes = [_box(v, self.layout, x0, y0) for v in self.members]
        members = {v.key for v in self.members}
        lines = []
        for (a, b), route in zip(self.edges, self.layout.routes, strict=True):
            points = list(_moved(route, x0, y0))
            source = a.removeprefix("in ")
            if a.startswith("in "):
                points[0] = (points[0][0], y)
            if b.startswith("out "):
                points[-1] = (points[-1][0], y + self.height)
            lines.append(_line(source, b, False, b in members, points))
        for (a, b), loop in zip(self.back, self.loops, strict=True):
            points = [*_moved(loop, x0, y0)]
            path = "M" + " L".join(f"{_n(px)} {_n(py)}" for px, py in points)
            lines.append(Line(a, b, True, True, path, tuple(points)))
        return boxes, lines


def size(value: Value) -> tuple[float, float]:
    """How large a value's box is."""
    if value.kind == "past":
        return round(text_width(shortened(value.name), 14) + text_width(value.index, 10) + 20), 26.0
    first = text_width(shortened(value.name), 14) + text_width(shortened(value.index), 10)
    return round(max(first, text_width(shortened(value.note), 11), 30.0) + 22), 42.0


def text_width(text: str, points: int) -> float:
    """About how wide a text is, on the safe side; a wide character counts twice."""
    return sum(1.0 if ord(c) > 0x2E7F else 0.62 for c in text) * points


def shortened(text: str) -> str:
    """A text that fits a box."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _box(value: Value, layout: Layout, x: float, y: float) -> Box:
    width, height = size(value)
    left, top = layout.places[value.key]
    return Box(value, round(left + x, 1), round(top + y, 1), width, height)


def _moved(
    points: Sequence[tuple[float, float]], x: float, y: float
) -> tuple[tuple[float, float], ...]:
    return tuple((round(px + x, 1), round(py + y, 1)) for px, py in points)


def _line(a: str, b: str, lagged: bool, arrow: bool, points: Sequence[tuple[float, float]]) -> Line:
    """Vertical stretches, and curves between them."""
    path = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for (x0, y0), (x1, y1) in pairwise(points):
        if (x0, y0) == (x1, y1):
            continue  # it would leave the arrow at the end without a direction
        if x0 == x1:
            path.append(f"V{_n(y1)}")
        else:
            middle = _n((y0 + y1) / 2)
            path.append(f"C{_n(x0)} {middle} {_n(x1)} {middle} {_n(x1)} {_n(y1)}")
    return Line(a, b, lagged, arrow, "".join(path), tuple(points))


def _n(x: float) -> str:
    return f"{x:.1f}".removesuffix(".0")
