"""`rename`: what it comes to, and what a wrong one is told."""

from __future__ import annotations

import pytest

from seqc.diagnostics import SeqcError, Source
from seqc.frontend import parse_spec
from seqc.ir.recurrence import Recurrence

HEAD = "layer L\nsize hidden, src = hidden, other = src, b\nstate h[t]: hidden\n"


def nodes(lines: str) -> list[str]:
    (layer,), _ = parse_spec(Source(f"{HEAD}{lines}\noutput h[t]"))
    assert isinstance(layer, Recurrence)
    assert list(layer.problems()) == []
    return [str(n) for n in layer.nodes if n.op == "rename"]


def test_an_axis_is_called_otherwise() -> None:
    assert nodes("h[t] = sum(rename(h[t-1], hidden = src), src) * h[t-1]") == [
        "rename(hidden, src, %0): src"
    ]


def test_several_are_a_chain_where_one_makes_room_for_the_next() -> None:
    lines = """\
param w: (hidden, src) = 0
v = rename(w, hidden = src, src = other)
h[t] = h[t-1] * sum(sum(v, src), other)"""
    assert nodes(lines) == [
        "rename(src, other, %0): hidden other",
        "rename(hidden, src, %1): src other",
    ]


def test_a_transpose_is_one_node() -> None:
    lines = """\
param w: (hidden, src) = 0
v = w - rename(w, hidden = src, src = hidden)
h[t] = h[t-1] * sum(v, src)"""
    assert nodes(lines) == ["rename(hidden, src, src, hidden, %0): hidden src"]


def test_axes_are_parameters_of_a_def() -> None:
    text = f"def shown(u, a, b) = sum(rename(u, a = b), b)\n{HEAD}"
    text += "h[t] = h[t-1] * shown(h[t-1], hidden, src)\noutput h[t]"
    (layer,), _ = parse_spec(Source(text))
    assert "rename(hidden, src, %0): src" in [str(n) for n in layer.nodes]


@pytest.mark.parametrize(
    "term, text",
    [
        (
            "rename(h[t-1], hidden = b)",
            """\
error[E052]: `hidden` and `b` may have different extents
 --> cell.seq:4:27
  |
4 | h[t] = sum(rename(h[t-1], hidden = b), src)
  |                           ^^^^^^^^^^
  = hint: declare the new axis as another name of the old: `size b = hidden`""",
        ),
        (
            "rename(h[t-1], src = other)",
            """\
error[E049]: `rename` is of `src`, which the value does not have
 --> cell.seq:4:27
  |
4 | h[t] = sum(rename(h[t-1], src = other), src)
  |                           ^^^^^^^^^^^
  = hint: it has the axis `hidden`""",
        ),
        (
            "rename(h[t-1] * index(src), hidden = src)",
            """\
error[E051]: `hidden` can't be renamed to `src`
 --> cell.seq:4:40
  |
4 | h[t] = sum(rename(h[t-1] * index(src), hidden = src), src)
  |                                        ^^^^^^^^^^^^ the value has `src` already
  = hint: give the meeting axis a name of its own: `size src_2 = hidden`""",
        ),
        (
            "rename(h[t-1])",
            """\
error[E060]: `rename` takes a value, then axes and their new names
 --> cell.seq:4:12
  |
4 | h[t] = sum(rename(h[t-1]), src)
  |            ^^^^^^^^^^^^^^
  = hint: write `rename(e, old = new)`""",
        ),
    ],
)
def test_wrong_ones(term: str, text: str) -> None:
    with pytest.raises(SeqcError) as caught:
        parse_spec(Source(f"{HEAD}h[t] = sum({term}, src)\noutput h[t]", "cell.seq"))
    assert str(caught.value) == text
