"""What the analysis finds: coefficients and offsets, proofs, obstacles, domains."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import seqc
from seqc.diagnostics import Severity, Source
from seqc.frontend import parse_algebras, parse_spec
from seqc.ir.graph import GraphBuilder
from seqc.symbolic import affine
from seqc.symbolic.affine import Ring, linearity, prove_affine
from seqc.symbolic.analyse import analyse
from seqc.symbolic.codes import CODES
from seqc.symbolic.numeric import disagreement
from seqc.symbolic.rewrite import StableBuilder
from tests.symbolic.specs import HEAD, algebras, analysis, recurrence, shown

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "seqc" / "zoo"


def zoo(file: str, layer: str) -> str:
    """One layer of a zoo file, and the defs above it."""
    text = (ZOO / file).read_text()
    blocks = text.split("layer ")
    return blocks[0] + "layer " + next(b for b in blocks if b.split("\n")[0].strip() == layer)


FORMS = [
    (
        zoo("mingru.seq", "MinGRU"),
        "sigmoid(neg(map0))",
        "mul(sigmoid(map0), where(ge(map1, 0), add(map1, 0.5), sigmoid(map1)))",
        "(0, 1)",
        "neg(softplus(map0))",
        "sub(where(ge(map1, 0), log(add(0.5, where(ge(map1, 0), map1, 0))), "
        "neg(softplus(neg(map1)))), softplus(neg(map0)))",
    ),
    (
        zoo("minlstm.seq", "MinLSTMPlain"),
        "sigmoid(sub(softplus(neg(map1)), softplus(neg(map0))))",
        "mul(map2, sigmoid(sub(softplus(neg(map0)), softplus(neg(map1)))))",
        "(0, 1)",
        None,
        None,
    ),
    (
        zoo("qrnn.seq", "QRNN"),
        "where(keep(zoneout), sigmoid(map1), 1)",
        "mul(tanh(map0), where(keep(zoneout), sigmoid(neg(map1)), 0))",
        "(0, 1]",
        None,
        None,
    ),
    ("h[t] = 0.9 * h[t-1] + x[t]", "0.9", "x[t]", "[0.9, 0.9]", None, None),
    (
        "h[t] = h[t-1] + sigmoid(x[t]) * (x[t] - h[t-1])",
        "sigmoid(neg(x[t]))",
        "mul(x[t], sigmoid(x[t]))",
        "(0, 1)",
        None,
        None,
    ),
    ("h[t] = x[t]", "0", "x[t]", "[0, 0]", None, None),
    ("h[t] = h[t-1]", "1", "0", "[1, 1]", None, None),
    ("h[t] = -(h[t-1] - x[t]) / 4", None, None, "[-0.25, -0.25]", None, None),
    (
        "h[t] = where(x[t] > 0, h[t-1], x[t])",
        "where(gt(x[t], 0), 1, 0)",
        "where(gt(x[t], 0), 0, x[t])",
        "[0, 1]",
        None,
        None,
    ),
    (
        "h[t] = exp(x[t]) * h[t-1] + exp(-x[t])",
        "exp(x[t])",
        "exp(neg(x[t]))",
        "(0, inf)",
        "x[t]",
        "neg(x[t])",
    ),
]


@pytest.mark.parametrize(("text", "a", "b", "interval", "log_a", "log_b"), FORMS)
def test_scan(
    text: str, a: str | None, b: str | None, interval: str, log_a: str | None, log_b: str | None
) -> None:
    found = analysis(text)
    (s,) = found.strata
    nodes = found.recurrence.nodes
    domain = "log" if interval == "(0, inf)" else "linear"
    assert (s.algebra, s.method, s.jacobian, s.domain) == ("affine", "scan", "diagonal", domain)
    assert s.verdict == "proved"
    assert not found.diagnostics
    assert list(found.recurrence.problems()) == []
    if a is not None:
        assert shown(nodes, s.coefficient[0]) == a
    if b is not None:
        assert shown(nodes, s.offset[0]) == b
    assert str(s.coefficient_range) == interval
    for position, form in ((s.log_coefficient, log_a), (s.log_offset, log_b)):
        assert (None if position is None else shown(nodes, position)) == form


def test_equations_keep_their_names_and_states_their_updates() -> None:
    before = recurrence(zoo("mingru.seq", "MinGRU"))
    after = analyse(before, algebras()).recurrence
    assert [e.name for e in after.equations] == [e.name for e in before.equations]
    assert after.maps == before.maps
    assert after.state("h").update == after.definition("h")
    for e, f in zip(before.equations, after.equations, strict=True):
        assert before.nodes[e.node].axes == after.nodes[f.node].axes


REFUSED = [
    ("h[t] = tanh(linear(h[t-1]))", "W101", "nonlinear", "full", "tanh(linear(h[t-1]))"),
    ("h[t] = h[t-1] * h[t-1] + x[t]", "W101", "nonlinear", "diagonal", "h[t-1] * h[t-1]"),
    ("h[t] = x[t] + sigmoid(h[t-1])", "W101", "nonlinear", "diagonal", "sigmoid(h[t-1])"),
    ("h[t] = where(h[t-1] > 0, x[t], 0)", "W101", "nonlinear", "diagonal", "h[t-1] > 0"),
    ("h[t] = exp(x[t] * h[t-1])", "W101", "nonlinear", "diagonal", "exp(x[t] * h[t-1])"),
    ("h[t] = linear(h[t-1]) + x[t]", "W104", "none", "full", "linear(h[t-1])"),
    ("h[t] = cumsum(h[t-1], hidden) + x[t]", "W104", "none", "full", "cumsum(h[t-1], hidden)"),
    ("h[t] = shift(h[t-1], hidden, 1) + x[t]", "W104", "none", "full", "shift(h[t-1], hidden, 1)"),
    ("h[t] = 0.5 * h[t-1] + 0.2 * h[t-hidden]", "W103", "none", "diagonal", "h[t-hidden]"),
    ("h[t] = 0.5 * h[t-1] + 0.2 * h[t-40]", "W103", "none", "block", "h[t-40]"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "algebra", "jacobian", "underlined"), REFUSED)
def test_refused(text: str, code: str, algebra: str, jacobian: str, underlined: str) -> None:
    found = analysis(text)
    (s,) = found.strata
    marches = code == "W101" and jacobian != "full"
    assert (s.method, s.algebra) == ("march" if marches else "sequential", algebra)
    assert s.jacobian == jacobian
    assert s.verdict == "unknown"
    assert s.coefficient == s.offset == s.parts == ()
    assert s.law is None
    assert s.carries == ((("h", 1),) if marches else ())
    assert s.after == ((found.recurrence.state("h").update,) if marches else ())
    assert s.reason
    (d,) = found.diagnostics
    assert (d.code, d.severity) == (code, Severity.WARNING)
    assert d.span is not None
    assert d.span.text == underlined
    assert "step by step" in d.hint
    assert ("one fused kernel" in d.hint) == marches
    if algebra == "nonlinear":
        assert s.obstacle == d.span
        assert "nonlinear in h[t-1]" in d.message


def test_strata_may_differ() -> None:
    text = HEAD + "state c[t]: hidden\n"
    text += "c[t] = 0.9 * c[t-1] + x[t]\nh[t] = tanh(linear(h[t-1]) + c[t])\noutput h[t]\n"
    found = analysis(text)
    assert [(s.states, s.method) for s in found.strata] == [
        (("c",), "scan"),
        (("h",), "sequential"),
    ]


def test_gru() -> None:
    found = analysis("""
r[t]: hidden = sigmoid(linear(x[t]) + linear(h[t-1]))
u[t]: hidden = sigmoid(linear(x[t]) + linear(h[t-1]))
n[t]: hidden = tanh(linear(x[t]) + r[t] * linear(h[t-1]))
h[t] = (1 - u[t]) * n[t] + u[t] * h[t-1]
""")
    (s,) = found.strata
    assert (s.algebra, s.jacobian, s.method) == ("nonlinear", "full", "sequential")
    assert s.obstacle is not None
    assert s.obstacle.text == "sigmoid(linear(x[t]) + linear(h[t-1]))"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("h[t] = sigmoid(x[t]) * h[t-1] + x[t]", "products cannot overflow"),
        ("h[t] = tanh(x[t]) * h[t-1] + x[t]", "products cannot overflow"),
        ("h[t] = 1.5 * h[t-1] + x[t]", "1.5^T"),
        ("h[t] = x[t] * h[t-1]", "no logarithm of their own"),
        ("h[t] = x[t]", "zero"),
    ],
)
def test_domain_reason(text: str, part: str) -> None:
    (s,) = analysis(text).strata
    assert s.domain == "linear"
    assert part in s.domain_reason


def test_a_refuted_algebra_is_an_error_with_its_counterexample() -> None:
    wrong = parse_algebras(
        Source("""
algebra affine(a, b)
identity (1, 0)
compose  (a2, b2) after (a1, b1) = (a2 * a1, a1 * b2 + b1)
apply    h -> a * h + b
""")
    )[-1]
    found = analyse(recurrence("h[t] = 0.5 * h[t-1] + x[t]"), (wrong,))
    (d,) = found.diagnostics
    assert (d.code, d.severity) == ("E301", Severity.ERROR)
    assert "homomorphism" in d.message
    assert "a2 = " in d.message
    assert found.strata[0].method == "sequential"
    assert found.strata[0].verdict == "refuted"
    assert found.strata[0].verdict.counterexample


def test_without_an_algebra_nothing_is_scanned() -> None:
    found = analyse(recurrence("h[t] = 0.5 * h[t-1] + x[t]"), ())
    assert found.strata[0].method == "sequential"
    assert found.strata[0].verdict == "unknown"
    assert [d.code for d in found.diagnostics] == ["W106"]


def test_every_code_is_listed() -> None:
    rooms = (ROOT / "seqc" / "symbolic" / "refusals.py", ROOT / "seqc" / "lower" / "histories.py")
    text = "".join(room.read_text() for room in rooms)
    assert all(code in text for code in CODES)


# --- the proof itself


def ring(b: StableBuilder) -> Ring:
    return Ring(b.op, b.const)


def test_a_wrong_pair_is_not_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof checks the collecting of terms, so a mistake there is seen."""
    right = affine.combine

    def wrong(name: str, parts: object, r: Ring) -> object:
        a, b = right(name, parts, r)  # type: ignore[arg-type]
        return (r.op("neg", a), b) if name == "mul" else (a, b)

    monkeypatch.setattr(affine, "combine", wrong)
    b = GraphBuilder()
    h, x = (b.add("symbol", axes=(), attrs=(n,)) for n in "hx")
    root = b.add("add", b.add("mul", h, x), x)
    assert prove_affine(b.graph, (h,), root, [h, root - 1, root]) == "unknown"


def test_a_wrong_rule_is_seen_in_numbers() -> None:
    b = StableBuilder()
    h, x = (b.add("symbol", axes=(), attrs=(n,)) for n in "hx")
    root = b.op("add", b.op("mul", x, h), x)
    law = algebras()[0]
    assert disagreement(b.graph, (h,), (root,), law, (x, x), b.ranges) is None
    wrong = b.op("neg", x)
    assert disagreement(b.graph, (h,), (root,), law, (wrong, x), b.ranges) is not None


def test_a_proof_too_large_to_expand_goes_by_induction() -> None:
    b = StableBuilder()
    h = b.add("read", axes=(), attrs=("h", 1))
    x = b.add("read", axes=(), attrs=("x", 0))
    value = h
    for k in range(1500):
        c = b.op("gt", x, b.const(float(k)))
        value = b.op("where", c, b.op("mul", value, b.op("sigmoid", x)), b.op("add", value, x))
    found = linearity(b.graph, (h,), (value,), ring(b))
    assert found.obstacle is None
    assert value in found.pairs
    verdict = prove_affine(b.graph, (h,), value, found.past)
    assert verdict == "proved"
    assert "induction" in verdict.reason


@pytest.mark.parametrize("operation", ["neg", "add", "sub", "mul", "div", "where"])
def test_each_step_of_the_induction(operation: str) -> None:
    assert affine._step_holds(operation)


def test_analysing_what_was_analysed_changes_nothing() -> None:
    once = analysis(zoo("minlstm.seq", "MinLSTM"))
    twice = analyse(replace(once.recurrence), algebras())
    assert [s.coefficient_range for s in once.strata] == [s.coefficient_range for s in twice.strata]
    a, b = once.strata[0], twice.strata[0]
    assert shown(once.recurrence.nodes, a.coefficient[0]) == shown(
        twice.recurrence.nodes, b.coefficient[0]
    )


# --- speed, size, determinism


def test_importing_is_cheap_and_brings_no_sympy() -> None:
    code = (
        "import sys, seqc.symbolic.analyse, seqc.symbolic.differentiate, seqc.symbolic.rewrite;"
        "assert not {'sympy', 'mpmath', 'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_same_on_every_hash_seed() -> None:
    code = (
        "from tests.symbolic.test_analyse import *\n"
        "for n in ('MinGRU', 'MinLSTM', 'QRNN'):\n"
        "    a = analysis(zoo(n.lower() + '.seq', n))\n"
        "    print(a.recurrence); print(a.strata); print(a.diagnostics)\n"
        "a = analysis('h[t] = tanh(h[t-1]) + x[t]'); print(a.strata, a.diagnostics)\n"
    )
    out = [
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed, "PATH": "", "PYTHONPATH": str(ROOT)},
        ).stdout
        for seed in ("0", "1", "12345")
    ]
    assert out[0]
    assert out[0] == out[1] == out[2]


def test_a_long_layer() -> None:
    """Thousands of nodes: no recursion, and not quadratic."""
    lines = [f"a{k}[t] = tanh(a{k - 1}[t]) + {k}" for k in range(1, 900)]
    text = HEAD + "a0[t] = x[t]\n" + "\n".join(lines)
    text += "\nh[t] = sigmoid(a899[t]) * h[t-1] + a899[t]\noutput h[t]\n"
    r = parse_spec(Source(text))[0][0]
    (s,) = analyse(r, algebras()).strata
    assert s.method == "scan"


@pytest.mark.parametrize(
    "coefficient, grows",
    [
        ("3", True),
        ("-1.01", True),
        ("(1 + exp(x[t]))", True),
        ("-exp(softplus(x[t]))", True),
        ("1", False),
        ("-1", False),
        ("2 * sigmoid(x[t])", False),
        ("where(x[t] > 0, 2, -2)", False),
        ("x[t]", False),
    ],
)
def test_a_state_that_provably_grows_is_warned_of(coefficient: str, grows: bool) -> None:
    found = seqc.check(
        f"""
layer L
size  hidden
input x[t]: hidden
state h[t]: hidden
h[t] = {coefficient} * h[t-1] + x[t]
output h[t]
"""
    )
    assert [d.code for d in found.diagnostics] == (["W108"] if grows else [])
    assert found["L"].strata[0].method == "scan"


def test_what_is_said_of_a_state_that_grows() -> None:
    found = seqc.check(
        "layer L\ninput x[t]: 1\nstate h[t]: 1\nh[t] = 3 * h[t-1] + x[t]\noutput h[t]"
    )
    (warning,) = found.diagnostics
    assert warning.message == ("h grows without bound: the coefficient of h[t-1] lies in [3, 3]")
    assert warning.span is not None
    assert warning.span.line == 4
    assert warning.hint == (
        "every step multiplies it by at least 3 in size, until it overflows; keep the "
        "coefficient within 1, for example by a `sigmoid` or `tanh`"
    )
