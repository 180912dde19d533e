"""``seqc explain --html``: a page that stands alone, says everything, and trusts no spec."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

import seqc
from seqc import cli
from seqc.passes.pages import page
from tests.cli.pages import DELAYS, GRU, S6, equations, headings, parsed

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted([*(ROOT / "seqc/zoo").glob("*.seq"), *(ROOT / "examples").glob("*.seq")])
PAGES = [pytest.param(p, id=p.stem) for p in EXAMPLES]
PAGES += [pytest.param(t, id=n) for t, n in [(S6, "S6"), (GRU, "GRU"), (DELAYS, "Delays")]]


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
        "over time", "backwards over time", "r.lanes([&](const auto c) SEQC_LAMBDA {",
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
    assert found["sub{l,t}"] == "−sub{dt,t}·A"  # exp of it may be large: the log domain
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
