"""What ``seqc.check`` says of the layers that there are: its attributes, and readable formulas."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import seqc
from seqc.ir.report import LayerReport

ROOT = Path(__file__).resolve().parents[2]
SPECS = sorted([*(ROOT / "seqc/zoo").glob("*.seq"), *(ROOT / "examples").glob("*.seq")])
LAYERS = [
    pytest.param(path, name, id=f"{path.stem}-{name}")
    for path in SPECS
    for name in seqc.check(path)
]
LEAVES = r"\(\)|, ,|\b(load|constant|scalar|prev|grad|adjoint)\("
METHODS = {"scan", "march", "newton", "sequential"}
JACOBIANS = {"diagonal", "block", "full"}


@pytest.mark.parametrize("path, name", LAYERS)
def test_every_stratum_is_described(path: Path, name: str) -> None:
    report = seqc.check(path)
    layer = report[name]
    assert isinstance(layer, LayerReport)
    assert layer.name == name
    states = {s.name for s in layer.plan.recurrence.states}
    assert {s for stratum in layer.strata for s in stratum.states} == states
    assert layer.equations
    assert layer.stages
    for stratum in layer.strata:
        assert str(stratum.verdict) in ("proved", "refuted", "unknown")
        assert stratum.method in METHODS
        assert stratum.jacobian in JACOBIANS
        assert stratum.domain
        assert stratum.domain_reason or stratum.method != "scan"
        if stratum.method != "scan":
            continue
        if stratum.algebra == "affine":
            assert stratum.coefficient_range is not None
            assert stratum.coefficient_range.lo <= stratum.coefficient_range.hi
            assert stratum.coefficient
            assert stratum.offset
        assert {w.law for w in stratum.laws}
        assert all(str(w.verdict) == "proved" for w in stratum.laws)
        assert any(line.startswith(f"adj_{stratum.states[0]}[t-1] = ") for line in stratum.adjoint)


@pytest.mark.parametrize("path, name", LAYERS)
def test_formulas_are_complete(path: Path, name: str) -> None:
    layer = seqc.check(path)[name]
    for stratum in layer.strata:
        lines = [stratum.coefficient, stratum.offset, *stratum.adjoint, *layer.equations]
        for line in lines:
            assert "const()" not in line
            assert not re.search(LEAVES, line), line


def test_reports_are_json() -> None:
    for path in SPECS:
        report = seqc.check(path)
        again = json.loads(json.dumps(report.to_json()))
        assert list(again["layers"]) == list(report)
        assert len(again["layers"]) == len(report)


def test_an_unknown_layer() -> None:
    with pytest.raises(KeyError, match="MinGRU"):
        seqc.check(SPECS[0])["Nothing"]


def test_the_adjoint_of_a_known_layer() -> None:
    report = seqc.check("""
layer Known
size  hidden
input x[t]: hidden
param p: hidden = 0.5
state h[t]: hidden
h[t] = 0.25 * h[t-1] + 3 * x[t] + p
output h[t]
""")
    (stratum,) = report["Known"].strata
    assert stratum.coefficient == "0.25"
    assert "0.25" in stratum.adjoint[0]
    assert any(re.match(r"d_x\[t\] = .*\b3\b", line) for line in stratum.adjoint)
    assert any(line.startswith("d_p = sum over t: ") for line in stratum.adjoint)


def test_a_layer_that_marches() -> None:
    report = seqc.check("""
layer Slow
size  hidden
input x[t]: hidden
state h[t]: hidden
h[t] = tanh(h[t-1] + x[t])
output h[t]
""")
    (stratum,) = report["Slow"].strata
    assert (stratum.method, stratum.algebra, stratum.jacobian) == (
        "march", "nonlinear", "diagonal"
    )  # fmt: skip
    assert stratum.adjoint[0].startswith("adj_h[t-1] = ")
    assert report["Slow"].stages[0].startswith("k0: fused kernel over (hidden)")
    assert [d.code for d in report.diagnostics] == ["W101"]


def test_constants_go_by_their_names_in_the_spec() -> None:
    """A param and an equation without time; what has no name is said before it is used."""
    report = seqc.check("""
layer Constants
size  hidden
input x[t]: hidden
state h[t]: hidden
param u: hidden = 0.5
param w: hidden = 0.5
rate = sigmoid(w)
h[t] = tanh(u * h[t-1] + rate * x[t] - exp(w))
output h[t]
""")
    layer = report["Constants"]
    (stratum,) = layer.strata
    known = {line.split(" = ")[0]: line.split(" = ")[1] for line in stratum.adjoint}
    assert known["d_u"].startswith("sum over t: h[t-1] * ")
    assert known["d_rate"].startswith("sum over t: x[t] * ")
    (own,) = (name for name, text in known.items() if text == "exp(w)")
    assert f"d_{own}" in known
    assert own in known["d_u"]
    assert "; marches h; " in layer.stages[-1]


def test_stages_tell_a_march_from_a_scan() -> None:
    found = {}
    for name in ("mingru", "deltanet"):
        (layer, *_) = seqc.check(ROOT / f"seqc/zoo/{name}.seq").layers
        found[name] = layer.stages
    assert "; scans h; " in found["mingru"][-1]
    assert "; scans no state; " in found["deltanet"][1]
    assert "; marches S; " in found["deltanet"][-1]


def test_a_comparison_in_the_way_is_called_one() -> None:
    (layer,) = seqc.check("""
layer Rectified
size  hidden
input x[t]: hidden
state h[t]: hidden
param u: hidden = 0.5
h[t] = relu(x[t] + u * h[t-1]) * h[t-1]
output h[t]
""").layers
    assert layer.strata[0].reason.endswith("a comparison with a term that depends on it")
