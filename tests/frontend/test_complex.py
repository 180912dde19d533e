"""Complex values: what they come to, and what wrong ones are told."""

from __future__ import annotations

import pytest

from seqc.diagnostics import SeqcError, Source
from seqc.frontend import parse_spec

ROTATION = """\
layer Rotation
size hidden
input x[t]: hidden
state z[t]: complex hidden
z[t] = cis(0.1) * z[t-1] + x[t]
y[t] = re(z[t])
output y[t]
"""


def test_a_state_is_two() -> None:
    (layer,), warnings = parse_spec(Source(ROTATION))
    assert not warnings
    assert list(layer.problems()) == []
    assert (
        str(layer)
        == """\
recurrence Rotation
  size hidden = None
  input x: hidden
  %0 = const(0.1)
  %1 = cos(%0)
  %2 = sin(%0)
  %3 = read(z_re, 1): hidden
  %4 = read(z_im, 1): hidden
  %5 = mul(%1, %3): hidden
  %6 = mul(%2, %4): hidden
  %7 = sub(%5, %6): hidden
  %8 = mul(%1, %4): hidden
  %9 = mul(%2, %3): hidden
  %10 = add(%8, %9): hidden
  %11 = read(x, 0): hidden
  %12 = add(%7, %11): hidden
  %13 = const(0.0)
  state z_re: init %13, update %12
  state z_im: init %13, update %10
  z_re[t] = %12
  z_im[t] = %10
  y[t] = %12
  output y"""
    )


def names(lines: str) -> tuple[list[str], list[str]]:
    """Parameters and states of a layer with these lines."""
    head = "layer L\nsize a, b\ninput x[t]: a\nstate h[t]: a\n"
    (layer,), _ = parse_spec(Source(f"{head}{lines}\noutput h[t]"))
    assert list(layer.problems()) == []
    assert all(n.op != "complex" for n in layer.nodes)
    maps = [m.prefix for m in layer.maps]
    return [p.name for p in layer.params] + maps, [s.name for s in layer.states]


def test_parameters_maps_and_inits_are_two() -> None:
    lines = """\
param c: complex (a, b) = normal(0, 1)
state z[t]: complex b = learned
v[t]: complex b = linear(x[t])
z[t] = z[t-1] * cis(1) + v[t] + linear(h[t-1])
h[t] = re(sum(c * z[t], b))"""
    params, states = names(lines)
    assert params == ["c_re", "c_im", "z_re.init", "z_im.init", "v.re", "v.im", "z.re", "z.im"]
    assert states == ["h", "z_re", "z_im"]


def test_a_number_starts_the_real_part() -> None:
    text = ROTATION.replace("+ x[t]", "+ x[t] * c") + "param c: complex hidden = 2\n"
    (layer,), _ = parse_spec(Source(text))
    assert [p.init.values for p in layer.params] == [(2.0,), (0.0,)]


def test_a_real_start_and_real_updates_are_welcome() -> None:
    lines = "state z[t]: complex a = 1\nz[t] = x[t]\nh[t] = abs(z[t-1])"
    assert names(lines)[1] == ["h", "z_re", "z_im"]


def test_what_is_not_declared_is_complex_where_its_value_is() -> None:
    lines = "v[t] = x[t] * cis(x[t-1])\nh[t] = h[t-1] * im(v[t] - v[t-1])"
    assert names(lines)[1] == ["h"]


def test_an_outer_product_is_warned_of_once() -> None:
    lines = "v[t]: b = linear(x[t])\no[t] = v[t] * x[t] * cis(1)\nh[t] = h[t-1]\nq[t] = re(o[t])"
    head = "layer L\nsize a, b\ninput x[t]: a\nstate h[t]: a\n"
    _, warnings = parse_spec(Source(f"{head}{lines}\noutput h[t], q[t]"))
    assert [w.message.split(" ")[0] for w in warnings if w.code == "W002"] == ["`o`"]


@pytest.mark.parametrize(
    "lines, text",
    [
        (
            "z[t] = tanh(z[t-1])\ny[t] = re(z[t])",
            """\
error[E070]: no `tanh` of complex values
 --> cell.seq:5:8
  |
5 | z[t] = tanh(z[t-1])
  |        ^^^^^^^^^^^^
  = hint: of complex values there are + - * / and whole powers, exp, abs, re, im, conj, where, \
sums, means, cumsum, shift and rename""",
        ),
        (
            "z[t] = z[t-1]\ny[t] = where(z[t] > 1, 1, 0)",
            """\
error[E070]: complex values have no order
 --> cell.seq:6:14
  |
6 | y[t] = where(z[t] > 1, 1, 0)
  |              ^^^^^^^^
  = hint: take `re(…)`, `im(…)` or `abs(…)` of it""",
        ),
        (
            "z[t] = z[t-1]\ny[t]: hidden = z[t]",
            """\
error[E070]: `y` is declared real, its value is complex
 --> cell.seq:6:16
  |
6 | y[t]: hidden = z[t]
  |                ^^^^
  |       ------ declared here
  = hint: declare it `complex hidden`, or take `re(…)`, `im(…)` or `abs(…)` of it""",
        ),
        (
            "z[t] = z[t-1]\ny[t] = 2 * z[t]",
            """\
error[E071]: the output `y` is complex
 --> cell.seq:7:8
  |
7 | output y[t]
  |        ^^^^
  = hint: output its parts: `a[t] = re(y[t])` and `b[t] = im(y[t])`""",
        ),
        (
            "z[t] = z[t-1]\ny[t]: hidden = linear(z[t])",
            """\
error[E070]: this is complex
 --> cell.seq:6:23
  |
6 | y[t]: hidden = linear(z[t])
  |                       ^^^^
  = hint: map its parts: `linear(re(…), im(…))`""",
        ),
    ],
)
def test_wrong_ones(lines: str, text: str) -> None:
    head, tail = ROTATION.split("z[t] = cis")[0], "\noutput y[t]\n"
    with pytest.raises(SeqcError) as caught:
        parse_spec(Source(head + lines + tail, "cell.seq"))
    assert str(caught.value) == text


def test_a_complex_input() -> None:
    text = ROTATION.replace("input x[t]: hidden", "input x[t]: complex hidden")
    with pytest.raises(SeqcError) as caught:
        parse_spec(Source(text, "cell.seq"))
    assert (
        str(caught.value)
        == """\
error[E071]: the input `x` is complex
 --> cell.seq:3:13
  |
3 | input x[t]: complex hidden
  |             ^^^^^^^^^^^^^^
  = hint: take its parts as two real inputs, of `z.real` and `z.imag`"""
    )
