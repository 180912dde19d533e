"""What a sound spec comes to."""

from __future__ import annotations

import pytest

from seqc.diagnostics import Source, render
from seqc.frontend import parse_spec
from seqc.ir.inits import Init
from seqc.ir.recurrence import Recurrence

MINGRU = """\
# Minimal GRU (Feng et al., 2024)
def g(u) = where(u >= 0, u + 0.5, sigmoid(u))

layer MinGRU
size   input, hidden
input  x[t]: input
state  h[t]: hidden

z[t]: hidden = sigmoid(linear(x[t]))
v[t]: hidden = g(linear(x[t]))
h[t] = (1 - z[t]) * h[t-1] + z[t] * v[t]

output h[t]
"""

QRNN = """\
# QRNN with fo-pooling (Bradbury et al., 2017)
layer QRNN
size   input, hidden, width = 2
hyper  zoneout = 0.0
input  x[t]: input
state  c[t]: hidden

z[t]: hidden = tanh(conv(x[t], width))
f[t]: hidden = 1 - drop(1 - sigmoid(conv(x[t], width)), zoneout)
o[t]: hidden = sigmoid(conv(x[t], width))
c[t] = f[t] * c[t-1] + (1 - f[t]) * z[t]
h[t] = o[t] * c[t]

output h[t]
"""


def layer(text: str) -> Recurrence:
    """The one layer of a text, verified, without warnings."""
    (found,), warnings = parse_spec(Source(text, "test.seq"))
    assert not warnings, "\n".join(render(w) for w in warnings)
    assert list(found.problems()) == []
    return found


def test_mingru_prints() -> None:
    assert (
        str(layer(MINGRU))
        == """\
recurrence MinGRU
  size input = None
  size hidden = None
  input x: input
  map 0 linear z: hidden
  map 1 linear v: hidden
  %0 = read(x, 0): input
  %1 = map(0, %0): hidden
  %2 = sigmoid(%1): hidden
  %3 = map(1, %0): hidden
  %4 = const(0.0)
  %5 = ge(%3, %4): hidden
  %6 = const(0.5)
  %7 = add(%3, %6): hidden
  %8 = sigmoid(%3): hidden
  %9 = where(%5, %7, %8): hidden
  %10 = const(1.0)
  %11 = sub(%10, %2): hidden
  %12 = read(h, 1): hidden
  %13 = mul(%11, %12): hidden
  %14 = mul(%2, %9): hidden
  %15 = add(%13, %14): hidden
  state h: init %4, update %15
  z[t] = %2
  v[t] = %9
  h[t] = %15
  output h"""
    )


def test_qrnn_prints() -> None:
    assert (
        str(layer(QRNN))
        == """\
recurrence QRNN
  size input = None
  size hidden = None
  size width = 2
  hyper zoneout = 0.0
  input x: input
  map 0 conv z: hidden
  map 1 conv f: hidden
  map 2 conv o: hidden
  %0 = read(x, 0): input
  %1 = map(0, %0): hidden
  %2 = tanh(%1): hidden
  %3 = const(1.0)
  %4 = map(1, %0): hidden
  %5 = sigmoid(%4): hidden
  %6 = sub(%3, %5): hidden
  %7 = hyper(zoneout)
  %8 = keep(f, %7): hidden
  %9 = const(0.0)
  %10 = where(%8, %6, %9): hidden
  %11 = sub(%3, %10): hidden
  %12 = map(2, %0): hidden
  %13 = sigmoid(%12): hidden
  %14 = read(c, 1): hidden
  %15 = mul(%11, %14): hidden
  %16 = sub(%3, %11): hidden
  %17 = mul(%2, %16): hidden
  %18 = add(%15, %17): hidden
  %19 = mul(%13, %18): hidden
  state c: init %9, update %18
  z[t] = %2
  f[t] = %11
  o[t] = %13
  c[t] = %18
  h[t] = %19
  output h"""
    )


def test_maps_of_the_examples() -> None:
    q = layer(QRNN)
    assert [(m.prefix, m.kind, m.width, m.causal, m.bias) for m in q.maps] == [
        (p, "conv", "width", True, True) for p in "zfo"
    ]
    assert q.maps[0].sources == (("input",),)
    assert q.doc == "QRNN with fo-pooling (Bradbury et al., 2017)"
    assert layer(MINGRU).doc == "Minimal GRU (Feng et al., 2024)"


def test_equations_in_any_order_give_the_same_layer() -> None:
    lines = QRNN.splitlines()
    turned = "\n".join([*lines[:6], *reversed(lines[6:12]), *lines[12:]])
    a, b = layer(QRNN), layer(turned)
    assert {e.name for e in a.equations} == {e.name for e in b.equations}
    place = {e.name: i for i, e in enumerate(b.equations)}
    assert place["z"] < place["c"] < place["h"]


def test_crlf_tabs_and_a_byte_order_mark_change_nothing() -> None:
    assert str(layer("\ufeff" + MINGRU.replace("\n", "\r\n").replace("   ", "\t"))) == str(
        layer(MINGRU)
    )


def test_newlines_inside_brackets_do_not_count() -> None:
    spread = MINGRU.replace("(1 - z[t])", "(1 # one\n\n - \n z[t]\n)").replace(
        "linear(x[t])", "linear(\n  x[t]\n)"
    )
    assert str(layer(spread)) == str(layer(MINGRU))


def test_several_layers_share_defs_and_have_their_own_comments() -> None:
    text = "# head\n\ndef f(u) = tanh(u)\n\n" + "".join(
        f"{comment}layer {name}\nsize a\nstate h[t]: a\nh[t] = f(h[t-1])\noutput h[t]\n"
        for name, comment in (("A", ""), ("B", "# two\n#   lines\n"))
    )
    layers, warnings = parse_spec(Source(text))
    assert [(r.name, r.doc) for r in layers] == [("A", "head"), ("B", "two\n  lines")]
    assert not warnings


HEAD = (
    "layer L\nsize a, k = 3, other = a\nhyper p = -1e-3\ninput x[t]: a\nparam w: a = normal(0, 1)\n"
)


def node_of(text: str, name: str = "y") -> tuple[Recurrence, str]:
    """A layer with one equation, and its node printed."""
    (found,), _ = parse_spec(Source(f"{HEAD}{text}\noutput {name}[t]\n"))
    assert list(found.problems()) == []
    position = found.definition(name)
    assert position is not None
    return found, _expression(found, position)


def _expression(r: Recurrence, position: int) -> str:
    node = r.nodes[position]
    parts = [str(a) for a in node.attrs] + [_expression(r, a) for a in node.args]
    return f"{node.op}({', '.join(parts)})"


@pytest.mark.parametrize(
    "source, expected",
    [
        ("x[t] - w - 1", "sub(sub(read(x, 0), param(w)), const(1.0))"),
        ("x[t] / w / p", "div(div(read(x, 0), param(w)), hyper(p))"),
        ("-x[t] ^ 2", "neg(pow(read(x, 0), const(2.0)))"),
        ("x[t] ^ -p ^ 2", "pow(read(x, 0), neg(pow(hyper(p), const(2.0))))"),
        ("--x[t] + -1", "add(read(x, 0), const(-1.0))"),
        ("x[t] * sqrt(k)", "mul(read(x, 0), sqrt(size(k)))"),
        ("x[t-2] + x[t - 0]", "add(read(x, 2), read(x, 0))"),
        ("x[t-k]", "read(x, k)"),
        ("where(x[t], 1, 0)", "where(isset(read(x, 0)), const(1.0), const(0.0))"),
        ("where(x[t] != 1, 1, 0)", "where(ne(read(x, 0), const(1.0)), const(1.0), const(0.0))"),
        ("max(x[t], 0)", "max(read(x, 0), const(0.0))"),
        ("max(x[t], a)", "reduce(max, a, read(x, 0))"),
        ("max(k, x[t])", "max(size(k), read(x, 0))"),
        ("sum(x[t], a) + mean(w, a)", "add(reduce(sum, a, read(x, 0)), reduce(mean, a, param(w)))"),
        ("index(a) * x[t]", "mul(index(a), read(x, 0))"),
        ("cumsum(x[t], a)", "cumsum(a, read(x, 0))"),
        ("shift(x[t], a, -2)", "shift(a, -2, read(x, 0))"),
        ("drop(x[t], p)", "where(keep(y, hyper(p)), read(x, 0), const(0.0))"),
        ("min(inf, pi * x[t])", "min(const(inf), mul(const(3.141592653589793), read(x, 0)))"),
        ("relu(x[t])", "where(le(read(x, 0), const(0.0)), const(0.0), read(x, 0))"),
        ("silu(x[t])", "mul(read(x, 0), sigmoid(read(x, 0)))"),
        ("gelu(x[t])", "mul(read(x, 0), normcdf(read(x, 0)))"),
        ("logsigmoid(x[t])", "neg(softplus(neg(read(x, 0))))"),
        (
            "clamp(x[t], -1, 1)",
            "where(lt(read(x, 0), const(-1.0)), "
            "where(lt(const(-1.0), const(1.0)), const(-1.0), const(1.0)), "
            "where(gt(read(x, 0), const(1.0)), const(1.0), read(x, 0)))",
        ),
        (
            "elu(x[t])",
            "where(gt(read(x, 0), const(0.0)), read(x, 0), expm1(read(x, 0)))",
        ),
    ],
)
def test_terms(source: str, expected: str) -> None:
    assert node_of(f"y[t] = {source}")[1] == expected


def test_each_drop_has_a_mask_of_its_own() -> None:
    _, text = node_of("y[t] = drop(x[t], p) + drop(x[t], p)")
    assert "keep(y, hyper(p))" in text
    assert "keep(y.2, hyper(p))" in text


def test_names_may_hide_pi_but_not_functions() -> None:
    _, text = node_of("pi = 3\ny[t] = x[t] * pi")
    assert text == "mul(const(3.0), read(x, 0))"


def test_a_files_def_takes_the_place_of_the_librarys() -> None:
    (found,), _ = parse_spec(Source(f"def relu(u) = u\n{HEAD}y[t] = relu(x[t])\noutput y[t]"))
    assert found.nodes[found.definition("y") or 0].op == "read"


def test_axes_are_inferred_and_stand_in_the_order_of_the_sizes() -> None:
    found, _ = node_of("param m: (k, a) = 0\no[t] = m * x[t]\ny[t] = sum(o[t], k)")
    assert {e.name: e.axes for e in found.equations} == {"o": ("a", "k"), "y": ("a",)}
    assert found.axes == ("a", "k", "other")


def test_an_equation_is_spread_over_its_declared_axes() -> None:
    found, _ = node_of("c: k = p\nb[t]: (a, k) = x[t]\ny[t] = sum(b[t] * c, k)")
    assert {e.name: e.axes for e in found.equations}["b"] == ("a", "k")
    assert all(found.nodes[e.node].axes == e.axes for e in found.equations)


def test_constants_are_marked() -> None:
    found, text = node_of("c = w * p\ny[t] = c * x[t]")
    assert [(e.name, e.constant) for e in found.equations] == [("c", True), ("y", False)]
    assert text == "mul(mul(param(w), hyper(p)), read(x, 0))"


def test_states_start_where_they_are_told() -> None:
    text = (
        "layer L\nsize a\nhyper p = 2\nparam w: a = uniform(-1, 1)\n"
        "state f[t], g[t]: a = learned, h[t]: a = w * p + sqrt(a), o[t]: 1\n"
        "f[t] = f[t-1]\ng[t] = g[t-1]\nh[t] = h[t-1]\no[t] = o[t-1] + 1\n"
        "output f[t], g[t], h[t], o[t]"
    )
    r = layer(text)
    assert [p.name for p in r.params] == ["w", "f.init", "g.init"]
    assert r.params[0].init == Init("uniform", (-1.0, 1.0))
    assert _expression(r, r.state("g").init) == "param(g.init)"
    assert _expression(r, r.state("h").init) == "add(mul(param(w), hyper(p)), sqrt(size(a)))"
    assert _expression(r, r.state("o").init) == "const(0.0)"
    assert r.outputs == ("f", "g", "h", "o")


@pytest.mark.parametrize(
    "text, init",
    [
        ("0.5", Init("number", (0.5,))),
        ("-2 / sqrt(4)", Init("number", (-1.0,))),
        ("normal(0, 2^-3)", Init("normal", (0.0, 0.125))),
        ("orthogonal", Init("orthogonal", (1.0,))),
        ("orthogonal(2)", Init("orthogonal", (2.0,))),
    ],
)
def test_starts_of_parameters(text: str, init: Init) -> None:
    found, _ = node_of(f"param m: (a, k) = {text}\ny[t] = sum(m * x[t], k)")
    assert found.params[1].init == init


def test_maps_are_named_after_the_equation_and_the_argument() -> None:
    r = layer(
        "layer GRU\nsize input, hidden\ninput x[t]: input\nstate h[t]: hidden\n"
        "r[t]: hidden = sigmoid(linear(x[t]) + linear(h[t-1], bias = false))\n"
        "n[t]: hidden = tanh(linear(x[t], r[t] * h[t-1], weight = orthogonal))\n"
        "h[t] = linear(n[t])\noutput h[t]"
    )
    assert [(m.prefix, m.sources, m.bias) for m in r.maps] == [
        ("r.x", (("input",),), True),
        ("r.h", (("hidden",),), False),
        ("n", (("input",), ("hidden",)), True),
        ("h", (("hidden",),), True),
    ]
    assert r.maps[2].weight == Init("orthogonal", (1.0,))


def test_conv_options() -> None:
    found, _ = node_of("y[t]: a = conv(tanh(x[t]), 3, causal = false, depthwise = true)")
    m = found.maps[0]
    assert (m.kind, m.width, m.causal, m.depthwise) == ("conv", 3, False, True)
    found, _ = node_of("y[t]: a = conv(x[t], width = k)")
    assert found.maps[0].width == "k"


def test_a_size_is_a_number_where_no_axis_is_wanted() -> None:
    assert "gt(read(x, 0), size(k)), size(k), " in node_of("y[t] = clamp(x[t], 0, k)")[1]


def test_a_depthwise_conv_may_go_to_an_alias_of_its_axis() -> None:
    found, _ = node_of("y[t]: other = conv(x[t], k, depthwise = true)")
    assert found.sizes[2].alias == "a"


def test_a_delay_of_an_equation_is_no_state() -> None:
    found, text = node_of("v[t] = tanh(x[t])\ny[t] = v[t] - v[t-1]")
    assert text == "sub(tanh(read(x, 0)), read(v, 1))"
    assert not found.states


def test_the_loop_may_close_through_an_equation() -> None:
    r = layer(
        "layer L\nsize a\ninput x[t]: a\nstate h[t]: a\n"
        "u[t] = tanh(h[t-1])\nh[t] = u[t] + x[t]\noutput u[t]"
    )
    assert [e.name for e in r.equations] == ["u", "h"]


def test_spans_are_those_of_the_terms() -> None:
    r = layer(MINGRU)
    spans = {str(n): n.span.text for n in r.nodes if n.span is not None}
    assert spans["mul(%11, %12): hidden"] == "(1 - z[t]) * h[t-1]"
    assert spans["where(%5, %7, %8): hidden"] == "g(linear(x[t]))"  # a def's nodes: the call
    assert r.equations[0].span is not None
    assert r.equations[0].span.text == "z[t]: hidden = sigmoid(linear(x[t]))"
    assert r.states[0].span is not None
    assert (r.states[0].span.line, r.states[0].span.column) == (7, 8)
    assert all(n.span is not None for n in r.nodes)


def test_spans_take_no_part_in_equality() -> None:
    assert layer(MINGRU).nodes == layer("\n\n" + MINGRU.replace(" - ", "   -   ")).nodes
