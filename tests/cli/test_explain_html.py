"""``seqc explain --html``: a page that stands alone, says everything, and trusts no spec."""

from __future__ import annotations

import functools
import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import seqc
from seqc import cli
from seqc.ir.algebra import Algebra
from seqc.ir.costs import Work
from seqc.ir.graph import GraphBuilder
from seqc.ir.report import Report
from seqc.passes.pages import page
from seqc.passes.reports import layer_report
from seqc.passes.staging import stage

ROOT = Path(__file__).parents[2]
S6 = """
# The selective state space of Mamba (Gu and Dao, 2023)
layer S6
size  hidden, slots
input x[t]: hidden
param A: (hidden, slots) = uniform(0.1, 1)
state h[t]: (hidden, slots)
dt[t]: hidden = softplus(linear(x[t]))
B[t]: slots = linear(x[t], bias = false)
C[t]: slots = linear(x[t], bias = false)
h[t] = exp(-dt[t] * A) * h[t-1] + dt[t] * B[t] * x[t]
y[t] = sum(C[t] * h[t], slots)
output y[t]
"""
GRU = """
layer GRU
size   input, hidden
input  x[t]: input
state  h[t]: hidden
r[t]: hidden = sigmoid(linear(x[t]) + linear(h[t-1]))
u[t]: hidden = sigmoid(linear(x[t]) + linear(h[t-1]))
n[t]: hidden = tanh(linear(x[t]) + r[t] * linear(h[t-1]))
h[t] = (1 - u[t]) * n[t] + u[t] * h[t-1]
output h[t]
"""
DELAYS = """
layer Delays
size  hidden, far = 3
input x[t]: hidden
state h[t]: hidden
state unread[t]: hidden
hyper p = 0.1
param start: hidden = 2
k: hidden = 1e-9 * start ^ 2
late[t] = x[t-far] + h[t-2]
unread[t] = -2 * x[t] - (late[t] - k)
d[t] = cumsum(x[t], hidden)
h[t] = where(drop(x[t], p) > 0, k, where(x[t] < -1, 0, sqrt(abs(k)))) * h[t-1] + d[t]
y[t] = max(late[t], hidden) + shift(h[t], hidden, 1) / exp(unread[t])
output y[t], h[t]
"""
EXAMPLES = sorted([*(ROOT / "seqc/zoo").glob("*.seq"), *(ROOT / "examples").glob("*.seq")])
PAGES = [pytest.param(p, id=p.stem) for p in EXAMPLES]
PAGES += [pytest.param(t, id=n) for t, n in [(S6, "S6"), (GRU, "GRU"), (DELAYS, "Delays")]]


def parsed(text: str) -> ET.Element:
    """The page's tree; it is well-formed as XML too, but for the doctype."""
    return ET.fromstring(text.removeprefix("<!DOCTYPE html>\n"))


def headings(text: str) -> list[str]:
    return [
        "".join(e.itertext()).strip() for e in parsed(text).iter() if re.fullmatch("h[1-4]", e.tag)
    ]


def shown(element: ET.Element) -> str:
    """What is printed of a formula, its structure in braces."""
    inner = (element.text or "") + "".join(shown(e) + (e.tail or "") for e in element)
    if element.tag in ("mfrac", "msub", "msup", "msubsup", "munder", "mover", "msqrt"):
        parts = ",".join(shown(e) for e in element)
        return f"{element.tag[1:]}{{{parts}}}"
    return inner


def equations(text: str) -> dict[str, str]:
    """Left sides to right sides, the first of each."""
    found: dict[str, str] = {}
    for row in parsed(text).iter("tr"):
        cells = row.findall("td")
        if len(cells) == 3 and shown(cells[1]) == "=":
            right = "".join(shown(e) for e in cells[2] if e.tag == "math")
            found.setdefault(shown(cells[0]), right.replace("\u2061", "").replace("\u2062", ""))
    return found


@pytest.mark.parametrize("spec", PAGES)
def test_a_page_is_well_formed_and_stands_alone(spec: str | Path) -> None:
    text = page(seqc.check(spec))
    root = parsed(text)
    tags = {e.tag for e in root.iter()}
    assert not tags & {"script", "link", "img", "iframe", "object", "base"}
    for e in root.iter():
        for name, value in e.attrib.items():
            assert not name.lower().startswith("on")
            if name.endswith(("href", "src")):
                assert value.startswith("#")
    assert "@import" not in text
    assert "url(" not in re.sub(r'marker-end="url\(#[\w-]+\)"', "", text)
    ids = [e.attrib["id"] for e in root.iter() if "id" in e.attrib]
    assert len(ids) == len(set(ids))
    for link in root.iter("a"):
        assert link.attrib["href"][1:] in ids
    assert str(ROOT) not in text


@pytest.mark.parametrize("spec", PAGES)
def test_a_page_is_the_same_from_run_to_run(spec: str | Path) -> None:
    assert page(seqc.check(spec)) == page(seqc.check(spec))


@pytest.mark.parametrize("spec", PAGES)
def test_formulas_have_the_arguments_that_mathml_wants(spec: str | Path) -> None:
    wanted = {"mfrac": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2, "msubsup": 3}
    for e in parsed(page(seqc.check(spec))).iter():
        if e.tag in wanted:
            assert len(e) == wanted[e.tag], ET.tostring(e, encoding="unicode")
        assert e.tag not in ("mfenced", "mstyle")


def test_a_page_says_everything() -> None:
    text = page(seqc.check(ROOT / "seqc/zoo/minlstm.seq"))
    assert headings(text)[:2] == ["minlstm.seq", "MinLSTM 1 stratum, 1 proved; 1 fused kernel"]
    for part in (
        "The spec", "The equations", "What depends on what", "Stratum 0: h", "The plan",
        "As rewritten, so that nothing overflows or cancels", "A step, as the algebra has it",
        "In the log domain", "Two steps are one step", "The adjoint, backwards in time",
        "Diagnostics",
    ):  # fmt: skip
        assert part in headings(text)
    words = " ".join(" ".join(parsed(text).itertext()).split())
    for part in (
        "associativity proved", "left identity proved", "floats proved", "homomorphism proved",
        "method scan", "jacobian diagonal", "coefficient in (0, 1)", "products cannot overflow",
        "k0: fused kernel over (hidden)", "k0, a step and element of (hidden), in float32",
        "void forward_step(", "void backward_step(",
        "// minlstm.seq:28: v[t]: hidden = g(linear(x[t]))",
        "How to read this page", "None: no errors and no warnings.",
    ):  # fmt: skip
        assert part in words, part
    # Both layers of the file, each with its own part of the spec.
    assert [h.split()[0] for h in headings(text)].count("MinLSTMPlain") == 1


def test_known_equations() -> None:
    found = equations(page(seqc.check(ROOT / "seqc/zoo/minlstm.seq")))
    v = "sub{mover,t}".replace("mover", "over{v,^}")
    assert found[v] == "sub{W,v}sub{x,t}+sub{b,v}"
    assert found["sub{f,t}"] == "sigmoid(sub{W,f}sub{x,t}+sub{b,f})"
    assert found["sub{v,t}"] == f"{{{v}+0.5if\u00a0{v}≥0sigmoid({v})otherwise"
    assert found["sub{h,t}"] == ("frac{sub{f,t}⊙sub{h,t−1}+sub{i,t}⊙sub{v,t},sub{f,t}+sub{i,t}}")
    assert found["(sub{a,2},sub{b,2})∘(sub{a,1},sub{b,1})"] == (
        "(sub{a,2}·sub{a,1},sub{a,2}·sub{b,1}+sub{b,2})"
    )
    assert found["id"] == "(1,0)"

    found = equations(page(seqc.check(S6)))
    assert found["sub{y,t}"] == "under{∑,slots}sub{C,t}·sub{h,t}"
    assert found["sub{a,t}"] == "exp(−sub{dt,t}·A)"
    assert found["subsup{λ,t−1,h}"].startswith("sub{a,t}⊙")
    assert found["∂A"].startswith("under{∑,t}")

    found = equations(page(seqc.check(DELAYS)))
    assert found["k"] == "1×sup{10,−9}sup{start,2}".removeprefix("1×")
    assert found["sub{late,t}"] == "sub{x,t−far}+sub{h,t−2}"
    assert found["sub{unread,t}"] == "−2sub{x,t}−(sub{late,t}−k)"
    assert "sqrt{|k|}otherwise" in found["sub{h,t}"]
    assert "under{max,hidden}(sub{late,t})" in found["sub{y,t}"]


def test_names_of_its_own_keep_out_of_the_way() -> None:
    """A delta of the spec's looks like δ; a term that does not move with time has no index."""
    found = equations(
        page(
            seqc.check("""
layer Delta
size  hidden
input x[t]: hidden
param w: hidden = 1
state h[t]: hidden
p: hidden = sin(pi * cos(w)) + 1
q: hidden = sin(pi * cos(w)) - 1
delta[t] = sigmoid(x[t])
h[t] = delta[t] * h[t-1] + p * q
output h[t]
""")
        )
    )
    assert found["u"] == "sin(π·cos(w))".replace("π·", "π")
    assert found["p"] == "u+1"
    assert found["sub{δ,t}"] == "sigmoid(sub{x,t})"
    assert found["sub{ε,t}"] == "∂sub{h,t}+subsup{λ,t,h}"
    assert found["subsup{λ,t−1,h}"] == "sub{δ,t}⊙sub{ε,t}"


def test_the_adjoint_of_mingru() -> None:
    found = equations(page(seqc.check(ROOT / "seqc/zoo/mingru.seq")))
    assert found["sub{δ,1,t}"] == "∂sub{h,t}+subsup{λ,t,h}"
    # The coefficient is called what the algebra calls it.
    assert found["sub{a,t}"] == "sigmoid(−sub{over{z,^},t})"
    assert found["subsup{λ,t−1,h}"] == "sub{a,t}⊙sub{δ,1,t}"
    assert "∂sub{over{z,^},t}" in found


def test_costs_of_mingru_counted_by_hand() -> None:
    """Forward: σ(−ẑ), σ(ẑ), g(v̂) = v̂ + ½ or σ(v̂), a h + z v.

    −ẑ, v̂ + ½, two products, a sum: 5.  Three sigmoids.  v̂ ≥ 0 and the choice.
    Reads ẑ and v̂; writes h, which backward reads again.

    Backward: those of a, z and g again (−ẑ, v̂ + ½, three sigmoids, two selections), and
    ∂h + λ, its products with h, a, g and z, −v̂ and σ(−v̂), σ(v̂) σ(−v̂) and its product, the
    choice, a z, the products with g's and h's, their difference.
    """
    (cost,) = seqc.check(ROOT / "seqc/zoo/mingru.seq")["MinGRU"].costs
    forward, backward = cost.forward, cost.backward
    assert forward.work == (Work(("hidden",), 5, 3, 2),)
    assert [t.size for t in forward.read] == [8]
    assert [t.size for t in forward.written] == [4]
    assert forward.kept == 0
    assert backward.work == (Work(("hidden",), 14, 4, 3),)
    assert backward.read[0].names == ("z_pre", "v_pre", "d_h", "h[t-1]")
    assert [t.size for t in backward.read] == [16]
    assert [t.size for t in backward.written] == [8]


def test_costs_of_what_fewer_axes_share() -> None:
    """Δ A, −, B Δ, x, a h, the sum, C h, and its part of the sum over slots: 8; one exponential.

    Once for each of hidden: the softplus.  The state is stored once in some dozen steps.
    """
    (cost,) = seqc.check(S6)["S6"].costs
    forward = cost.forward
    assert {t.axes: t.size for t in forward.read if t.size} == {("hidden",): 8, ("slots",): 8}
    assert {t.axes: t.size for t in forward.written if t.size} == {("hidden",): 4}
    assert forward.work == (Work(("hidden", "slots"), 8, 1, 0), Work(("hidden",), 0, 1, 0))
    assert "8 B a (hidden) + 8 B a (slots)" in str(forward)
    assert forward.counted("transcendental") == "1 + 1 a (hidden)"


def test_explain_counts_in_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "MinGRU"]) == 0
    text = capsys.readouterr().out
    assert "k0 forward   reads 8 B, writes 4 B; 5 flops, 3 transcendental, 2 selections" in text
    assert "backward  reads 16 B, writes 8 B; 14 flops" in text


def test_an_obstacle_is_underlined() -> None:
    root = parsed(page(seqc.check(GRU)))
    marked = ["".join(e.itertext()) for e in root.iter("span") if e.get("class") == "obstacle"]
    # In the spec, and again with its stratum.
    assert marked == ["sigmoid(linear(x[t]) + linear(h[t-1]))"] * 2
    text = "".join(root.itertext())
    assert "What stands in the way" in text
    assert "warning[W101]: h is nonlinear" in text
    assert "<text>:" in text


HOSTILE = """
# <script>alert("file")</script> \u202e
layer Bad
# </style></code><img src=x onerror=alert(1)> {{ 7 * 7 }} {% raw %}
size hidden
input x[t]: hidden      # ]]> &amp; <!-- --> <script>alert('comment')</script>
state h[t]: hidden
h[t] = tanh(h[t-1]) + x[t]  # <b>
output h[t]
"""


def test_a_hostile_spec_is_text() -> None:
    text = page(seqc.check(HOSTILE))
    root = parsed(text)
    assert not [e for e in root.iter() if e.tag in ("script", "img", "b")]
    assert "<script" not in text
    assert "&lt;script&gt;alert" in text
    assert "&amp;amp;" in text
    assert "{{ 7 * 7 }}" in text
    assert "\u202e" not in text

    class Tags(HTMLParser):
        found: frozenset[str] = frozenset()

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found |= {tag}

    tags = Tags()
    tags.feed(text)
    assert not tags.found & {"script", "img", "b"}


def test_a_doc_is_text() -> None:
    spec = HOSTILE.replace("# </style>", "# <script>doc()</script> </style>")
    text = page(seqc.check("# <script>doc()</script>\nlayer" + spec.split("layer", 1)[1]))
    assert "<script" not in text
    assert "&lt;script&gt;doc()" in text


def coupled() -> Algebra:
    """(h1, h2) -> (a h1 + b h2 + e, c h1 + d h2 + f)."""
    b = GraphBuilder()

    def of(text: str) -> int:
        """A sum of products of symbols and numbers."""
        terms = []
        for term in text.split("+"):
            found = [
                b.const(float(x)) if x.isdigit() else b.add("symbol", attrs=(x,))
                for x in term.split()
            ]
            terms.append(functools.reduce(lambda x, y: b.add("mul", x, y), found))
        return functools.reduce(lambda x, y: b.add("add", x, y), terms)

    composed = ["a2 a1 + b2 c1", "a2 b1 + b2 d1", "c2 a1 + d2 c1", "c2 b1 + d2 d1",
                "a2 e1 + b2 f1 + e2", "c2 e1 + d2 f1 + f2"]  # fmt: skip
    return Algebra(
        name="coupled", parts=tuple("abcdef"), later=tuple(x + "2" for x in "abcdef"),
        earlier=tuple(x + "1" for x in "abcdef"), arguments=("h1", "h2"),
        identity=tuple(of(x) for x in "100100"), compose=tuple(of(x) for x in composed),
        applied=(of("a h1 + b h2 + e"), of("c h1 + d h2 + f")), nodes=b.graph,
    )  # fmt: skip


def test_an_algebra_of_many_parts_and_carries() -> None:
    """A stratum with two carries, h one and two steps ago, whose law has six parts."""
    law = coupled()
    report = seqc.check(ROOT / "seqc/zoo/qrnn.seq")
    layer = report["QRNN"]
    r = layer.plan.recurrence
    read = next(n for n, node in enumerate(r.nodes) if node.op == "read" and node.attrs[1] == 1)
    z, f = (r.definition(name) for name in "zf")
    assert z is not None
    assert f is not None
    (old,) = layer.plan.analysis.strata
    new = replace(
        old, law=law, parts=(f, z, z, f, *old.offset, z), carries=(("c", 1), ("c", 2)),
        after=(r.state("c").update, read), coefficient=(), offset=(),
    )  # fmt: skip
    plan = replace(layer.plan, analysis=replace(layer.plan.analysis, strata=(new,)))
    text = page(replace(report, layers=(replace(layer, plan=plan),)))
    found = equations(text)
    # f is a name of the spec's, so the parts carry the state's.
    assert found["sub{c,t}"].startswith("sub{f,t}")
    rows = [shown(row) for row in parsed(text).iter("tr")]
    for line in (
        "sub{c,t}=subsup{e,t,c}+subsup{a,t,c}·sub{c,t−1}+subsup{b,t,c}·sub{c,t−2}",
        "sub{c,t−1}=subsup{f,t,c}+subsup{c,t,c}·sub{c,t−1}+subsup{d,t,c}·sub{c,t−2}",
        "subsup{c,t,c}=sub{z,t} in (−1, 1)",
    ):
        assert line in rows
    assert "(1,0,0,1,0,0)" in found["id"]


def test_a_stratum_that_marches_with_a_delay() -> None:
    """What no algebra fits, but runs in one kernel: two carries, h one and two steps ago."""
    layer = seqc.check("""
layer Echo
size  hidden
input x[t]: hidden
state h[t]: hidden
h[t] = tanh(h[t-1] - 0.5 * h[t-2]) + x[t]
output h[t]
""")["Echo"]
    r = layer.plan.recurrence
    one = next(n for n, node in enumerate(r.nodes) if node.attrs == ("h", 1))
    (old,) = layer.plan.analysis.strata
    new = replace(
        old, method="march", carries=(("h", 1), ("h", 2)), after=(r.state("h").update, one)
    )
    plan = stage(replace(layer.plan.analysis, strata=(new,)))
    text = page(Report((layer_report(plan),)))
    found = equations(text)
    assert found["sub{h,t}"] == "tanh(sub{h,t−1}−0.5sub{h,t−2})+sub{x,t}"
    assert "subsup{λ,t−1,h}" in found
    assert "subsup{λ,t−1,h,2}" in found
    assert found["sub{δ,2,t}"] == "∂sub{h,t}+subsup{λ,t,h}"
    assert found["∂sub{x,t}"] == "sub{δ,2,t}"
    words = " ".join(" ".join(parsed(text).itertext()).split())
    assert "march step by step within one fused kernel" in words
    assert "void forward_step(" in words


def test_a_long_spec_has_a_page_without_a_drawing() -> None:
    chain = "\n".join(f"y{i}[t] = y{i - 1}[t] * y{i - 1}[t] + x[t]" for i in range(1, 100))
    text = page(
        seqc.check(
            "layer Long\nsize hidden\ninput x[t]: hidden\ny0[t] = tanh(x[t])\n"
            f"{chain}\noutput y99[t]\n"
        )
    )
    assert "too many for a drawing" in text
    assert "<svg" not in text


# --- the command


def test_the_command_writes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "page.html"
    target.write_text("older", encoding="utf-8")
    assert cli.main(["explain", "MinGRU", "--html", str(target)]) == 0
    assert capsys.readouterr().out == ""
    text = target.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>\n")
    assert text.endswith("</html>\n")
    # A built-in name stands for one layer of its file.
    assert "layer-MinGRU" in text
    assert "MinGRUPlain" not in text
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_the_command_writes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "MinGRU", "--html", "-"]) == 0
    assert capsys.readouterr().out.startswith("<!DOCTYPE html>\n")


def test_a_terminal_without_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", out)
    assert cli.main(["explain", "MinGRU", "--html", "-"]) == 0
    out.flush()
    text = out.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert "&#8857;" in text
    parsed(text)


@pytest.mark.parametrize("where, why", [("", "directory"), ("none/page.html", "No such file")])
def test_what_cannot_be_written(
    where: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / where
    assert cli.main(["explain", "MinGRU", "--html", str(target)]) == 1
    err = capsys.readouterr().err
    assert "cannot be written" in err
    assert why in err
    assert list(tmp_path.iterdir()) == []


def test_a_refused_spec_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "bad.seq"
    spec.write_text(GRU.replace("u[t] * h[t-1]", "w[t] * h[t-1]"), encoding="utf-8")
    assert cli.main(["explain", str(spec), "--html", str(tmp_path / "page.html")]) == 1
    assert "error" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
