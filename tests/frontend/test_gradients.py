"""`gradient f(u) = …`: what it comes to, and what a wrong one is told."""

from __future__ import annotations

import pytest

from seqc.diagnostics import SeqcError, Source
from seqc.frontend import parse_spec

LAYER = """\
layer L
size a, b
input x[t]: a
input y[t]: b
state h[t]: a
h[t] = {}
output h[t]
"""


def nodes(defs: str, term: str) -> list[str]:
    (layer,), warnings = parse_spec(Source(defs + LAYER.format(term)))
    assert list(layer.problems()) == []
    assert all("never used" in w.message for w in warnings)
    return [str(n) for n in layer.nodes]


def test_a_value_and_its_slope() -> None:
    defs = "def f(u) = sign(u)\ngradient f(v) = exp(-v)\n"
    assert nodes(defs, "f(x[t])")[:5] == [
        "read(x, 0): a",
        "sign(%0): a",
        "stop(%1): a",
        "neg(%0): a",
        "exp(%3): a",
    ]
    assert "graft(%2, %0, %4): a" in nodes(defs, "f(x[t])")


def test_a_slope_of_zero_is_a_stop() -> None:
    defs = "def stop(u) = u\ngradient stop(u) = 0\n"
    found = nodes(defs, "stop(x[t])")
    assert "stop(%0): a" in found
    assert not any("graft" in n for n in found)


def test_one_by_each_parameter() -> None:
    defs = "def f(u, v) = floor(u * v)\ngradient f(u, v) = (v, u)\n"
    found = nodes(defs, "sum(f(x[t], y[t]), b)")
    assert "graft(%4, %0, %1): a b" in found
    assert "graft(%5, %1, %0): a b" in found


def test_numbers_have_none() -> None:
    defs = "def f(u, v) = floor(u * v)\ngradient f(u, v) = (v, u)\n"
    assert sum("graft" in n for n in nodes(defs, "f(x[t], 2)")) == 1


def test_a_def_may_call_one_whose_gradient_is_stated() -> None:
    defs = "def f(u) = sign(u)\ngradient f(u) = 1\ndef g(u) = 2 * f(u)\n"
    assert any("graft" in n for n in nodes(defs, "g(x[t])"))


@pytest.mark.parametrize(
    "defs, text",
    [
        (
            "gradient relu(u) = 1\n",
            """\
error[E092]: no def before this is called `relu`
 --> cell.seq:1:10
  |
1 | gradient relu(u) = 1
  |          ^^^^
  = hint: give it a name of its own: `def my_relu(u) = relu(u)`""",
        ),
        (
            "def f(u, v) = u * v\ngradient f(u, v) = v\n",
            """\
error[E092]: `f` has 2 parameters, and a derivative by each
 --> cell.seq:2:20
  |
1 | def f(u, v) = u * v
  |     - defined here
2 | gradient f(u, v) = v
  |                    ^
  = hint: write `gradient f(u, v) = (du, dv)`""",
        ),
        (
            "def f(u) = sum(u, u)\ngradient f(u) = f(u)\n",
            """\
error[E025]: the def `f` calls itself
 --> cell.seq:2:17
  |
1 | def f(u) = sum(u, u)
  |     - defined here
2 | gradient f(u) = f(u)
  |                 ^
  = hint: a def is written out at each call, so it can't be recursive; what goes on in time is \
a state""",
        ),
    ],
)
def test_wrong_ones(defs: str, text: str) -> None:
    with pytest.raises(SeqcError) as caught:
        parse_spec(Source(defs + LAYER.format("h[t-1]"), "cell.seq"))
    assert str(caught.value) == text


def test_a_gradient_of_a_sum() -> None:
    defs = "def total(u, axis) = sum(u, axis)\ngradient total(u, axis) = (1, 0)\n"
    with pytest.raises(SeqcError) as caught:
        parse_spec(Source(defs + LAYER.format("total(x[t], a) * h[t-1]"), "cell.seq"))
    assert (
        str(caught.value)
        == """\
error[E092]: the gradient of `total` is stated entry by entry, but its value has not the axis \
`a` of its argument
 --> cell.seq:8:8
  |
2 | gradient total(u, axis) = (1, 0)
  |          ----- here
...
8 | h[t] = total(x[t], a) * h[t-1]
  |        ^^^^^^^^^^^^^^ in this call of `total`
  = hint: the value has no axes: state the gradient of what is done to each entry"""
    )
