"""The dependence graph: what needs what, and a drawing in which nothing lies on anything else."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path

import pytest

import seqc
from seqc.report.dependence import Dependence, Value, dependence
from seqc.report.dependence_svg import Box, Drawing, Frame, draw
from seqc.report.layered import Edge, Item, lay_out

ROOT = Path(__file__).parents[2]
SPECS = {
    p.stem: p for p in [*(ROOT / "examples").glob("*.seq"), *(ROOT / "seqc/zoo").glob("*.seq")]
}
TEXTS = {
    "lstm": """
layer LSTM
size   input, hidden
input  x[t]: input
state  h[t]: hidden
state  c[t]: hidden
i[t]: hidden = sigmoid(linear(x[t]) + linear(h[t-1]))
f[t]: hidden = sigmoid(linear(x[t]) + linear(h[t-1]))
o[t]: hidden = sigmoid(linear(x[t]) + linear(h[t-1]))
g[t]: hidden = tanh(linear(x[t]) + linear(h[t-1]))
c[t] = f[t] * c[t-1] + i[t] * g[t]
h[t] = o[t] * tanh(c[t])
output h[t], c[t]
""",
    "delays": """
layer Delays
size  hidden, far = 3
input x[t]: hidden, with_a_name_as_long_as_a_name_may_be[t]: hidden
state h[t]: hidden
state s[t]: hidden
late[t] = x[t-far] + h[t-2] * with_a_name_as_long_as_a_name_may_be[t-1]
h[t] = 0.5 * h[t-1] + 0.1 * h[t-2] + x[t-1]
s[t] = 0.5 * s[t-1] + h[t-1] + late[t]
y[t] = late[t] + s[t] + s[t-3]
output y[t], h[t]
""",
}


def graph_of(spec: Path | str) -> list[tuple[Dependence, Drawing]]:
    found = []
    for layer in seqc.check(spec).layers:
        graph = dependence(layer.plan.recurrence, [s.states for s in layer.strata])
        captions = [(f"stratum {i}", s.algebra, s.method) for i, s in enumerate(layer.strata)]
        found.append((graph, draw(graph, captions)))
    return found


def overlap(a: Box | Frame, b: Box | Frame) -> bool:
    return (
        a.x < b.x + b.width
        and b.x < a.x + a.width
        and a.y < b.y + b.height
        and b.y < a.y + a.height
    )


def inside(a: Box, frame: Frame) -> bool:
    return (
        frame.x <= a.x
        and a.x + a.width <= frame.x + frame.width
        and frame.y <= a.y
        and a.y + a.height <= frame.y + frame.height
    )


def check_drawing(graph: Dependence, drawing: Drawing) -> None:
    """Boxes apart, members framed, every edge between boxes that are there and through no other."""
    assert {b.value.key for b in drawing.boxes} == {v.key for v in graph.values}
    assert len(drawing.boxes) == len(graph.values)
    for a, b in itertools.combinations(drawing.boxes, 2):
        assert not overlap(a, b), (a, b)
    for a, b in itertools.combinations(drawing.frames, 2):
        assert not overlap(a, b), (a, b)
    assert len(drawing.frames) == len(graph.strata)
    for frame, members in zip(drawing.frames, graph.strata, strict=True):
        for box in drawing.boxes:
            if box.value.key in members:
                assert inside(box, frame), (box, frame)
            else:
                assert not overlap(box, frame), (box, frame)
    places = {b.value.key: b for b in drawing.boxes}
    for b in drawing.boxes:
        assert b.x >= 0
        assert b.x + b.width <= drawing.width
        assert b.y + b.height <= drawing.height
    drawn = {(line.source, line.target) for line in drawing.lines if line.arrow}
    ending = {target for _, target in drawn}
    assert {b for _, b in graph.edges} == ending
    for line in drawing.lines:
        assert line.source in places
        assert line.target in places or (line.target == f"out {line.source}" and not line.arrow)
        lagged = line.target in places and places[line.target].value.kind == "past"
        assert line.lagged == lagged
        if line.arrow:
            x, y = line.points[-1]
            box = places[line.target]
            assert box.x - 0.2 <= x <= box.x + box.width + 0.2
            assert box.y - 0.2 <= y <= box.y + box.height + 0.2
        for (x0, y0), (x1, y1) in itertools.pairwise(line.points):
            for box in drawing.boxes:
                crosses = (
                    min(x0, x1) < box.x + box.width - 0.2
                    and max(x0, x1) > box.x + 0.2
                    and min(y0, y1) < box.y + box.height - 0.2
                    and max(y0, y1) > box.y + 0.2
                )
                assert not crosses, (line, box)


@pytest.mark.parametrize("name", [*SPECS, *TEXTS])
def test_nothing_lies_on_anything_else(name: str) -> None:
    for graph, drawing in graph_of(SPECS.get(name) or TEXTS[name]):
        check_drawing(graph, drawing)


@pytest.mark.parametrize("name", [*SPECS, *TEXTS])
def test_a_drawing_is_the_same_from_run_to_run(name: str) -> None:
    spec = SPECS.get(name) or TEXTS[name]
    assert graph_of(spec) == graph_of(spec)


@pytest.mark.parametrize("seed", range(40))
def test_graphs_drawn_at_random(seed: int) -> None:
    """Random values with random strata, each a cycle through its past."""
    rng = random.Random(seed)
    count = rng.randint(2, 25)
    values: list[Value] = []
    edges: dict[tuple[str, str], None] = {}
    strata = []
    for i in range(count):
        key = f"v{i}"
        kind = rng.choice(["input", "learned", "equation", "state"])
        values.append(Value(key, kind, "n" * rng.randint(1, 30), "t", "note " * rng.randint(0, 6)))
        for j in rng.sample(range(i), min(i, rng.randint(0, 3))):
            edges[f"v{j}", key] = None
        if kind == "state":
            past = Value(f"past {key}", "past", key, "t−1", "")
            values.append(past)
            edges[key, past.key] = None
            edges[past.key, key] = None
            strata.append((key, past.key))
    values.append(Value("output", "output", "y", "t", "output"))
    edges[f"v{count - 1}", "output"] = None
    graph = Dependence(tuple(values), tuple(edges), tuple(strata))
    check_drawing(graph, draw(graph, [("stratum", "nonlinear", "sequential")] * len(strata)))


def test_what_mingru_needs() -> None:
    graph = dependence(seqc.check(SPECS["mingru"])["MinGRU"].plan.recurrence, [("h",)])
    assert [(v.key, v.kind) for v in graph.values] == [
        ("x", "input"), ("z", "equation"), ("v", "equation"), ("h", "state"),
        ("map z", "learned"), ("map v", "learned"), ("past h 1", "past"), ("output h", "output"),
    ]  # fmt: skip
    # As rewritten, h reads the map of z itself: 1 - sigmoid(k) is sigmoid(-k).
    assert set(graph.edges) == {
        ("x", "map z"), ("x", "map v"), ("map z", "z"), ("map z", "h"), ("map v", "v"),
        ("z", "h"), ("v", "h"), ("h", "past h 1"), ("past h 1", "h"), ("h", "output h"),
    }  # fmt: skip
    assert graph.strata == (("h", "past h 1"),)


def test_a_cycle_through_time_is_one_stratum() -> None:
    ((graph, drawing),) = graph_of(TEXTS["lstm"])
    (members,) = graph.strata
    assert {"h", "c", "i", "f", "o", "g", "past h 1", "past c 1"} <= set(members)
    assert "x" not in members
    assert len([x for x in drawing.lines if x.lagged]) == 2


def test_a_learned_map_that_is_the_equation_is_one_box() -> None:
    spec = SPECS["mingru"]
    graph = dependence(seqc.check(spec)["MinGRUPlain"].plan.recurrence, [("h",)])
    kinds = {v.key: v.kind for v in graph.values}
    assert kinds["v"] == "learned"
    assert "map v" not in kinds


# --- the layout by itself


def test_layers_are_longest_paths() -> None:
    items = [Item(k, 30, 20) for k in "abcd"]
    layout = lay_out(items, [Edge("a", "b"), Edge("b", "c"), Edge("a", "c"), Edge("d", "c")])
    # d needs nothing: it stands just above what needs it.
    assert layout.layer == {"a": 0, "b": 1, "c": 2, "d": 1}
    for e, route in zip("abad", layout.routes, strict=True):
        assert route[0][1] == layout.places[e][1] + 20


def test_a_cycle_is_refused() -> None:
    with pytest.raises(ValueError, match="cycle"):
        lay_out([Item("a", 1, 1), Item("b", 1, 1)], [Edge("a", "b"), Edge("b", "a")])


def test_nothing_to_place() -> None:
    layout = lay_out([], [])
    assert (layout.places, layout.width, layout.height) == ({}, 0.0, 0.0)


def test_paths_are_plain_numbers() -> None:
    for _, drawing in graph_of(SPECS["qrnn"]):
        for line in drawing.lines:
            assert re.fullmatch(r"[MVCL0-9. -]+", line.path)
