"""``seqc explain``: what kernels cost, and strata of many parts, carries and none of a law."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest

import seqc
from seqc import cli
from seqc.ir.algebra import Algebra
from seqc.ir.costs import Work
from seqc.ir.graph import GraphBuilder
from seqc.ir.report import Report
from seqc.lower.derive import derive
from seqc.lower.plan import plan as finished
from seqc.lower.staging import stage
from seqc.passes.pages import page
from seqc.report.layers import layer_report
from tests.cli.pages import S6, equations, parsed, shown

ROOT = Path(__file__).parents[2]


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
    plan = finished(derive(stage(replace(layer.plan.analysis, strata=(new,)))))
    text = page(Report((layer_report(plan),)))
    found = equations(text)
    assert found["sub{h,t}"] == "tanh(sub{h,t−1}−0.5sub{h,t−2})+sub{x,t}"
    assert "subsup{λ,t−1,h}" in found
    assert "subsup{λ,t−1,h,2}" in found
    assert found["sub{δ,2,t}"] == "∂sub{h,t}+subsup{λ,t,h}"
    assert found["∂sub{x,t}"] == "sub{δ,2,t}"
    words = " ".join(" ".join(parsed(text).itertext()).split())
    assert "march step by step within one fused kernel" in words
    assert "r.lanes([&](const auto c) SEQC_LAMBDA {" in words
