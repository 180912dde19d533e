"""Where the boxes and edges of an acyclic graph go: in layers, from top to bottom.

Longest-path layering, barycentre ordering, and positions by isotonic regression.  Boxes of a layer
never overlap; an edge runs straight through the layers that it passes, in a lane of its own, and
bends only between layers, so that it meets no box but its own two.  The same graph gives the same
drawing on every machine.

Source: Sugiyama, Tagawa, Toda, "Methods for visual understanding of hierarchical system
structures" (1981).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

GAP, LANE = 22.0, 10.0
_SWEEPS = 12


@dataclass(frozen=True)
class Item:
    """A box to place.  ``rank``: where among its layer it is to stand (0: anywhere, 1: right)."""

    key: str
    width: float
    height: float
    rank: int = 0


@dataclass(frozen=True)
class Edge:
    """From one box's bottom to another's top, at offsets from their left (None: the middle)."""

    source: str
    target: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Layout:
    """The left upper corners of the boxes, the points of the edges, and the whole extent.

    The points of an edge come in pairs, each pair a vertical stretch; curves join the pairs.
    ``bands`` are the layers' tops and bottoms.
    """

    places: Mapping[str, tuple[float, float]]
    layer: Mapping[str, int]
    routes: Sequence[tuple[tuple[float, float], ...]]
    bands: Sequence[tuple[float, float]]
    width: float
    height: float


@dataclass
class _Slot:
    """A box, or the lane of an edge that passes a layer."""

    width: float
    rank: int
    x: float = 0.0  # its middle
    weight: float = 1.0
    above: list[tuple[_Slot, float, float]] = field(default_factory=list)
    below: list[tuple[_Slot, float, float]] = field(default_factory=list)


def lay_out(
    items: Sequence[Item], edges: Sequence[Edge], *, gap: float = 44.0,
    top: frozenset[str] = frozenset(), bottom: frozenset[str] = frozenset(),
) -> Layout:  # fmt: skip
    """Place items; ``gap`` between layers; ``top`` and ``bottom`` are held at the ends.

    Raises ValueError for a cycle.
    """
    layer = _layers(items, edges, top, bottom)
    count = max(layer.values(), default=-1) + 1
    rows: list[list[_Slot]] = [[] for _ in range(count)]
    slots = {}
    for item in items:
        slots[item.key] = _Slot(item.width, item.rank)
        rows[layer[item.key]].append(slots[item.key])
    chains: list[list[_Slot]] = []
    for e in edges:
        chain = [slots[e.source]]
        for i in range(layer[e.source] + 1, layer[e.target]):
            chain.append(_Slot(LANE, 0, weight=3.0))
            rows[i].append(chain[-1])
        chain.append(slots[e.target])
        for i, (a, b) in enumerate(pairwise(chain)):
            # Offsets from the middles of the two boxes.
            start = 0.0 if i or e.start is None else e.start - a.width / 2
            end = 0.0 if b is not chain[-1] or e.end is None else e.end - b.width / 2
            a.below.append((b, start, end))
            b.above.append((a, end, start))
        chains.append(chain)
    _order(rows)
    _align(rows)

    left = min((s.x - s.width / 2 for r in rows for s in r), default=0.0)
    right = max((s.x + s.width / 2 for r in rows for s in r), default=0.0)
    heights = [max(i.height for i in items if layer[i.key] == n) for n in range(count)]
    bands, y = [], 0.0
    for h in heights:
        bands.append((y, y + h))
        y += h + gap
    places = {}
    for item in items:
        low, high = bands[layer[item.key]]
        x = slots[item.key].x - left - item.width / 2
        places[item.key] = (round(x, 1), round((low + high - item.height) / 2, 1))
    routes = _routes(items, edges, chains, places, layer, bands, left)
    return Layout(places, layer, routes, bands, round(right - left, 1), max(0.0, y - gap))


def _layers(
    items: Sequence[Item], edges: Sequence[Edge], top: frozenset[str], bottom: frozenset[str]
) -> dict[str, int]:
    above: dict[str, list[str]] = {i.key: [] for i in items}
    below: dict[str, list[str]] = {i.key: [] for i in items}
    for e in edges:
        above[e.target].append(e.source)
        below[e.source].append(e.target)
    layer: dict[str, int] = {}
    waiting = [i.key for i in items]
    while waiting:
        ready = [k for k in waiting if all(a in layer for a in above[k])]
        if not ready:
            raise ValueError(f"a cycle through {waiting[0]}")
        for k in ready:
            layer[k] = max((layer[a] + 1 for a in above[k]), default=0)
        waiting = [k for k in waiting if k not in layer]
    # What needs nothing stands just above what needs it.
    for key in [i.key for i in items if not above[i.key] and i.key not in top]:
        layer[key] = max(0, min((layer[b] for b in below[key]), default=1) - 1)
    last = max(layer.values(), default=0)
    if any(layer[k] == last for k in layer if k not in bottom) and bottom:
        last += 1
    return layer | dict.fromkeys(sorted(bottom), last)


def _order(rows: list[list[_Slot]]) -> None:
    """Sort each layer by the mean place of its neighbours, downwards and upwards in turn."""
    for r in rows:
        r.sort(key=lambda s: s.rank)
        _pack(r)
    best, fewest = [list(r) for r in rows], _crossings(rows)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for r in rows if down else rows[::-1]:
            means = {id(s): _mean(s.above if down else s.below, s.x) for s in r}
            r.sort(key=lambda s, means=means: (s.rank, means[id(s)]))  # type: ignore[misc]
            _pack(r)
        crossings = _crossings(rows)
        if crossings < fewest:
            best, fewest = [list(r) for r in rows], crossings
    rows[:] = best
    for r in rows:
        _pack(r)


def _mean(neighbours: list[tuple[_Slot, float, float]], default: float) -> float:
    """Where a box's middle is to be for its edges to run straight."""
    if not neighbours:
        return default
    return sum(s.x + there - here for s, here, there in neighbours) / len(neighbours)


def _pack(row: list[_Slot]) -> None:
    """Side by side, about the middle."""
    total = sum(s.width for s in row) + sum(_between(a, b) for a, b in _pairs(row))
    x = -total / 2
    for i, s in enumerate(row):
        x += _between(row[i - 1], s) if i else 0.0
        s.x = x + s.width / 2
        x += s.width


def _pairs(row: list[_Slot]) -> list[tuple[_Slot, _Slot]]:
    return list(pairwise(row))


def _between(a: _Slot, b: _Slot) -> float:
    return LANE if a.width == LANE and b.width == LANE else GAP


def _crossings(rows: list[list[_Slot]]) -> int:
    """How often edges between neighbouring layers cross."""
    total = 0
    for r in rows:
        lines = [(s.x + here, t.x + there) for s in r for t, here, there in s.below]
        for i, (a, b) in enumerate(lines):
            total += sum((a - c) * (b - d) < 0 for c, d in lines[i + 1 :])
    return total


def _align(rows: list[list[_Slot]]) -> None:
    """Move each layer's boxes towards their neighbours, keeping order and distance."""
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for r in rows if down else rows[::-1]:
            # The last two sweeps look both ways.
            both = sweep >= _SWEEPS - 2
            wish = [
                _mean(s.above + s.below if both else s.above if down else s.below, s.x) for s in r
            ]
            for s, x in zip(r, _spread(r, wish), strict=True):
                s.x = x


def _spread(row: list[_Slot], wish: list[float]) -> list[float]:
    """The middles nearest to those wished for (in squares) that keep order and distances."""
    shift, shifts = 0.0, []
    for i, s in enumerate(row):
        if i:
            shift += (row[i - 1].width + s.width) / 2 + _between(row[i - 1], s)
        shifts.append(shift)
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for s, x, moved in zip(row, wish, shifts, strict=True):
        block = (x - moved, s.weight, 1)
        while blocks and blocks[-1][0] > block[0]:
            mean, weight, length = blocks.pop()
            total = weight + block[1]
            block = ((mean * weight + block[0] * block[1]) / total, total, length + block[2])
        blocks.append(block)
    means = [mean for mean, _, length in blocks for _ in range(length)]
    return [m + moved for m, moved in zip(means, shifts, strict=True)]


def _routes(
    items: Sequence[Item], edges: Sequence[Edge], chains: list[list[_Slot]],
    places: Mapping[str, tuple[float, float]], layer: Mapping[str, int],
    bands: Sequence[tuple[float, float]], left: float,
) -> list[tuple[tuple[float, float], ...]]:  # fmt: skip
    sizes = {i.key: i for i in items}
    # Where several edges come in at one box, side by side, in the order of where they come from.
    ends: dict[int, float] = {}
    for item in items:
        mine = [i for i, e in enumerate(edges) if e.target == item.key and e.end is None]
        mine.sort(key=lambda i: (chains[i][-2].x, i))
        step = min(18.0, (item.width - 16) / max(1, len(mine)))
        for k, i in enumerate(mine):
            ends[i] = item.width / 2 + (k - (len(mine) - 1) / 2) * step
    routes = []
    for i, e in enumerate(edges):
        a, b = sizes[e.source], sizes[e.target]
        x = places[a.key][0] + (a.width / 2 if e.start is None else e.start)
        points = [(x, places[a.key][1] + a.height), (x, bands[layer[a.key]][1])]
        for n, slot in enumerate(chains[i][1:-1], layer[a.key] + 1):
            points += [(slot.x - left, bands[n][0]), (slot.x - left, bands[n][1])]
        x = places[b.key][0] + (ends[i] if e.end is None else e.end)
        points += [(x, bands[layer[b.key]][0]), (x, places[b.key][1])]
        routes.append(tuple((round(x, 1), round(y, 1)) for x, y in points))
    return routes
