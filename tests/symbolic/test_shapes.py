"""Which algebra each update belongs to, and that its parts, composed, are the recurrence."""

from __future__ import annotations

import random
import time

import pytest

from seqc.diagnostics import Severity
from seqc.ir.plan import Analysis, Stratum
from seqc.symbolic.algebra import apply, compose, identity
from seqc.symbolic.evaluate import evaluate
from tests.symbolic.specs import HEAD, analysis, shown

TWO = HEAD + "input y[t]: hidden\nstate c[t]: hidden\n"


def two(*equations: str) -> str:
    return TWO + "\n".join(equations) + "\noutput h[t]\n"


#: (the body or layer, algebra, the parts, the carries)
SCANS = [
    ("h[t] = max(h[t-1], x[t])", "max-plus", "0, x[t]"),
    ("h[t] = max(h[t-1] + x[t], 0)", "max-plus", "x[t], 0"),
    ("h[t] = relu(h[t-1] - x[t])", "max-plus", "neg(x[t]), 0"),
    ("h[t] = max(max(h[t-1], 1) + x[t], x[t])", "max-plus", None),
    ("h[t] = max(h[t-1] + 1, h[t-1] - x[t])", "max-plus", None),
    ("h[t] = where(x[t] > 0, max(h[t-1], x[t]), x[t])", "max-plus", None),
    ("h[t] = min(0.5 + h[t-1], x[t]) - x[t]", "min-plus", "sub(0.5, x[t]), 0"),
    ("h[t] = where(h[t-1] < x[t], h[t-1], x[t])", "min-plus", "0, x[t]"),
    ("h[t] = logaddexp(h[t-1] + x[t], x[t])", "log-affine", "x[t], x[t]"),
    ("h[t] = softplus(h[t-1] + x[t]) - 1", "log-affine", None),
    ("h[t] = log(exp(h[t-1]) + exp(x[t]))", "log-affine", "0, x[t]"),
    ("h[t] = clamp(h[t-1], x[t], 2)", "max-min", "2, min(x[t], 2)"),
    ("h[t] = max(x[t], min(sin(x[t]), h[t-1]))", "max-min", "sin(x[t]), x[t]"),
    ("h[t] = min(max(min(h[t-1], 3), x[t]), 2)", "max-min", None),
    ("h[t] = where(x[t] > 0, clamp(h[t-1], -1, x[t]), h[t-1])", "max-min", None),
    ("h[t] = relu(0.5 * h[t-1] + x[t])", "clamped-affine", "0.5, x[t], 0, inf"),
    ("h[t] = min(sigmoid(x[t]) * h[t-1], 1)", "clamped-affine", "sigmoid(x[t]), 0, -inf, 1"),
    ("h[t] = clamp(0.9 * h[t-1] + x[t], -1, 1)", "clamped-affine", "0.9, x[t], -1, 1"),
    ("h[t] = max(-1, min(1, 0.9 * h[t-1] + x[t]))", "clamped-affine", "0.9, x[t], -1, 1"),
    ("h[t] = max(x[t], min(-x[t], 0.9 * h[t-1]))", "clamped-affine", None),
    ("h[t] = 0.5 * clamp(exp(x[t]) * h[t-1], -1, 1) + x[t]", "clamped-affine", None),
    ("h[t] = where(x[t] > 0, clamp(h[t-1] + x[t], 0, 1), x[t])", "clamped-affine", None),
    # a coefficient of either sign
    ("h[t] = relu(x[t] * h[t-1] + sin(x[t]))", "clamped-affine", "x[t], sin(x[t]), 0, inf"),
    ("h[t] = x[t] - max(h[t-1], 0)", "clamped-affine", "-1, x[t], -inf, x[t]"),
    ("h[t] = -clamp(x[t] * h[t-1], -1, 2)", "clamped-affine", None),
    (
        "h[t] = x[t] * relu(h[t-1])",
        "clamped-affine",
        "x[t], 0, where(ge(x[t], 0), 0, -inf), where(ge(x[t], 0), inf, 0)",
    ),
    ("h[t] = x[t] * clamp(x[t] * h[t-1] + 1, sin(x[t]), 2 - x[t])", "clamped-affine", None),
    ("h[t] = relu(cos(9 * x[t]) * relu(x[t] * h[t-1] + 1) - 0.2)", "clamped-affine", None),
    # limits that are not known to be in order
    ("h[t] = clamp(0.9 * h[t-1], x[t], 0.2)", "clamped-affine", "0.9, 0, x[t], 0.2"),
    ("h[t] = clamp(x[t] * h[t-1], x[t], sin(x[t]))", "clamped-affine", "x[t], 0, x[t], sin(x[t])"),
    ("h[t] = min(max(x[t] * h[t-1], x[t]), 0)", "clamped-affine", "x[t], 0, x[t], 0"),
    ("h[t] = max(min(x[t] * h[t-1], x[t]), 0)", "clamped-affine", None),
    ("h[t] = x[t] / h[t-1]", "mobius", "0, x[t], 1, 0"),
    ("h[t] = x[t] + h[t-1] / (1 + h[t-1])", "mobius", None),
    ("h[t] = (h[t-1] + x[t]) / (x[t] * h[t-1] + 2)", "mobius", "1, x[t], x[t], 2"),
    ("h[t] = 1 - 1 / (2 + exp(x[t]) * h[t-1])", "mobius", None),
    ("h[t] = 0.5 * h[t-1] + 0.2 * h[t-2] + x[t]", "block-affine", "0.5, 0.2, 1, 0, x[t], 0"),
    ("h[t] = 0.5 * h[t-3] + x[t]", "block-affine", "0, 0, 0.5, 1, 0, 0, 0, 1, 0, x[t], 0, 0"),
    (
        two("h[t] = 0.9 * h[t-1] - 0.1 * c[t-1] + x[t]", "c[t] = h[t] + 0.5 * c[t-1]"),
        "block-affine",
        "0.9, -0.1, 0.9, 0.4, x[t], x[t]",
    ),
    (
        two("h[t] = 0.9 * h[t-1] + 0.1 * c[t-2] + x[t]", "c[t] = h[t-1] + y[t]"),
        "block-affine",
        "0.9, 0, 0.1, 1, 0, 0, 0, 1, 0, x[t], y[t], 0",
    ),
    (
        two(
            "h[t] = cos(x[t]) * h[t-1] - sin(x[t]) * c[t-1] + y[t]",
            "c[t] = sin(x[t]) * h[t-1] + cos(x[t]) * c[t-1]",
        ),
        "rotation",
        "cos(x[t]), sin(x[t]), y[t], 0",
    ),
    (
        two("h[t] = 0.6 * h[t-1] + 0.8 * c[t-1]", "c[t] = 0.6 * c[t-1] - 0.8 * h[t-1] + x[t]"),
        "rotation",
        "0.6, -0.8, 0, x[t]",
    ),
    # coupled and delayed, over other semirings
    (
        two("h[t] = max(h[t-1] + x[t], c[t-1])", "c[t] = max(c[t-1] - 1, h[t-1]) + y[t]"),
        "block-max-plus",
        "x[t], 0, y[t], add(y[t], -1), -inf, -inf",
    ),
    (
        two("h[t] = min(c[t-1] + x[t], y[t])", "c[t] = min(h[t-1], c[t-1]) + y[t]"),
        "block-min-plus",
        "inf, x[t], y[t], y[t], y[t], inf",
    ),
    (
        two(
            "h[t] = x[t] + logaddexp(h[t-1] - 0.1, c[t-1] - 2)",
            "c[t] = y[t] + log(exp(h[t-1] - 2) + exp(c[t-1] - 0.1))",
        ),
        "block-log-affine",
        None,
    ),
    (
        two(
            "h[t] = where(x[t] > 0, max(h[t-1], c[t-1] + y[t]), x[t])",
            "c[t] = relu(max(h[t-1] - 1, c[t-1]) + x[t])",
        ),
        "block-max-plus",
        None,
    ),
    ("h[t] = max(h[t-1] - 1, h[t-3] + x[t])", "block-max-plus", None),
    (
        two("h[t] = max(min(h[t-1], x[t]), c[t-1])", "c[t] = min(max(c[t-1], h[t-1]), y[t])"),
        "block-max-min",
        "x[t], inf, y[t], y[t], -inf, -inf",
    ),
    (
        two("h[t] = min(max(h[t-1], x[t]), c[t-1])", "c[t] = max(min(c[t-1], h[t-1]), y[t])"),
        "block-min-max",
        "x[t], -inf, y[t], y[t], inf, inf",
    ),
    ("h[t] = max(min(h[t-1], x[t]), min(h[t-2], 1))", "block-max-min", None),
    ("h[t] = softplus(logaddexp(h[t-1], h[t-2]) - x[t])", "block-log-affine", None),
    # factors that cancel
    (
        "v[t] = 0.8 * h[t-1] + 0.3\ng[t] = v[t] / (v[t] + x[t])\nh[t] = (1 - g[t]) * v[t]",
        "mobius",
        None,
    ),
    (
        "v[t] = 0.8 * h[t-1] + 0.3\ng[t] = v[t] / (v[t] + x[t])\nh[t] = v[t] - g[t] * v[t]",
        "mobius",
        None,
    ),
    (
        "v[t] = 0.8 * h[t-1] + 0.3\ng[t] = v[t] / (v[t] + x[t])\n"
        "h[t] = (1 - g[t])^2 * v[t] + g[t]^2 * x[t]",
        "mobius",
        None,
    ),
    (
        "g[t] = where(x[t] > 0.5, h[t-1] / (h[t-1] + x[t]), 0)\nh[t] = (1 - g[t]) * h[t-1] + 0.1",
        "mobius",
        None,
    ),
    ("h[t] = max_plus(x[t], 0)(h[t-1])", "max-plus", "x[t], 0"),
    ("h[t] = clamped_affine(exp(x[t]), 1, 0, 2)(h[t-1])", "clamped-affine", "exp(x[t]), 1, 0, 2"),
    (
        two(
            "h[t] = rotation(0.6, x[t], 1, 0)(h[t-1], c[t-1])",
            "c[t] = rotation(0.6, x[t], 1, 0)(h[t-1], c[t-1])",
        ),
        "rotation",
        "0.6, x[t], 1, 0",
    ),
    (
        two(
            "h[t] = block_affine(1, x[t], 0.5, 0.2, 1, 0)(c[t-1], h[t-1])",
            "c[t] = block_affine(1, x[t], 0.5, 0.2, 1, 0)(c[t-1], h[t-1])",
        ),
        "block-affine",
        "1, x[t], 0.5, 0.2, 1, 0",
    ),
    (
        "algebra plus(a)\nidentity 0\ncompose b after c = b + c\napply h -> h + a\n"
        + HEAD
        + "h[t] = plus(x[t])(h[t-1])\noutput h[t]\n",
        "plus",
        "x[t]",
    ),
]


@pytest.mark.parametrize(("text", "algebra", "parts"), SCANS)
def test_found_and_proved(text: str, algebra: str, parts: str | None) -> None:
    found = analysis(text)
    (s,) = found.strata
    assert (s.algebra, s.method, str(s.verdict)) == (algebra, "scan", "proved"), s.reason
    assert found.diagnostics == ()
    assert list(found.recurrence.problems()) == []
    assert s.law is not None
    assert s.law.title == algebra
    assert len(s.parts) == len(s.law.parts)
    assert len(s.carries) == len(s.after) == len(s.law.arguments)
    assert s.jacobian == ("diagonal" if len(s.carries) == 1 else "block")
    assert s.coefficient == s.offset == ()
    assert s.coefficient_range is None
    if parts is not None:
        assert ", ".join(shown(found.recurrence.nodes, n) for n in s.parts) == parts


@pytest.mark.parametrize(("text", "algebra", "parts"), SCANS)
def test_composed_in_any_grouping_it_is_the_recurrence(
    text: str, algebra: str, parts: str | None
) -> None:
    found = analysis(text)
    (s,) = found.strata
    assert s.law is not None
    numbers = random.Random(7)
    elements: list[tuple[float, ...]] = []
    start = tuple(numbers.uniform(0.2, 1.0) for _ in s.carries)
    states = start
    for _ in range(12):
        inputs = {"x": numbers.uniform(0.1, 1.0), "y": numbers.gauss(0.0, 1.0)}
        if algebra not in ("mobius",):
            inputs["x"] = numbers.gauss(0.0, 1.0)
        values = run(found, s, inputs, states)
        elements.append(tuple(values[n] for n in s.parts))
        states = tuple(values[n] for n in s.after)
    assert tree(s, elements, start) == pytest.approx(states, rel=1e-9, abs=1e-9)


def run(
    found: Analysis, s: Stratum, inputs: dict[str, float], states: tuple[float, ...]
) -> list[float]:
    """Every node of one step."""
    carried = dict(zip(s.carries, states, strict=True))
    leaves = {}
    for i, node in enumerate(found.recurrence.nodes):
        if node.op == "read":
            name, lag = str(node.attrs[0]), node.attrs[1]
            leaves[i] = inputs[name] if lag == 0 else carried[name, int(lag)]
    return evaluate(found.recurrence.nodes, leaves)


def tree(s: Stratum, elements: list[tuple[float, ...]], start: tuple[float, ...]) -> object:
    """The functions composed pairwise, as a scan does, with an identity among them."""
    assert s.law is not None
    level = [*elements[:5], identity(s.law), *elements[5:]]
    while len(level) > 1:
        pairs = [compose(s.law, b, a) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + ([level[-1]] if len(level) % 2 else [])
    return apply(s.law, level[0], start)


NOT = [
    "h[t] = max(h[t-1], 0.5 * h[t-1] + x[t])",
    "h[t] = abs(h[t-1])",
    "h[t] = relu(x[t] * h[t-1]) + h[t-1]",
    "h[t] = max(h[t-1], x[t]) + min(h[t-1], 0)",
    "h[t] = h[t-1] + h[t-1] / (1 + h[t-1])",
    "h[t] = h[t-1] * (1 / (1 + h[t-1])) + 1 / h[t-1]",
    "h[t] = where(h[t-1] > 0, 0, h[t-1] + 1)",
    "h[t] = where(h[t-1] < 1, 1, min(h[t-1], x[t]))",
    "h[t] = logaddexp(2 * h[t-1], x[t])",
    "h[t] = max(h[t-1], logaddexp(h[t-1], x[t]))",
    "g[t] = h[t-1] / (h[t-1] + x[t])\nh[t] = (1 - 0.5 * g[t]) * h[t-1]",
    "h[t] = (1 - h[t-1]) * x[t] * h[t-1]",
    "h[t] = max(h[t-1] + h[t-1], x[t]) - min(h[t-1], x[t])",
    "h[t] = max(min(h[t-1], x[t]), h[t-1] - 1)",
    "h[t] = max(min(h[t-1] + x[t], x[t]), min(h[t-1], 1))",
]


def test_carries_that_bound_one_another_are_linear_over_no_semiring() -> None:
    text = two("h[t] = max(min(h[t-1], c[t-1]), x[t])", "c[t] = max(min(c[t-1], y[t]), h[t-1])")
    (s,) = analysis(text).strata
    assert (s.algebra, s.method, s.law) == ("nonlinear", "march", None)


@pytest.mark.parametrize("text", NOT)
def test_what_fits_none_marches(text: str) -> None:
    found = analysis(text)
    (s,) = found.strata
    assert (s.algebra, s.method, s.law, s.parts) == ("nonlinear", "march", None, ())
    assert s.carries == (("h", 1),)
    assert s.after == (found.recurrence.state("h").update,)
    assert [d.code for d in found.diagnostics] == ["W101"]
    assert "inside one fused kernel" in found.diagnostics[0].hint


DELTA = """
layer Delta
size key, value
input k[t]: key, v[t]: value, q[t]: key
state S[t]: (key, value)
b[t] = sigmoid(sum(k[t], key))
S[t] = S[t-1] + b[t] * k[t] * (v[t] - sum(S[t-1] * k[t], key))
o[t] = sum(S[t] * q[t], key)
output o[t]
"""


def test_the_delta_rule_mixes_along_one_axis() -> None:
    found = analysis(DELTA)
    (s,) = found.strata
    assert (s.algebra, s.method, s.jacobian) == ("block-affine over key", "march", "block")
    assert s.verdict == "proved"
    assert (s.law, s.parts, s.carries) == (None, (), (("S", 1),))
    assert s.after == (found.recurrence.state("S").update,)
    assert not found.diagnostics


def test_it_may_mix_along_two_axes() -> None:
    text = DELTA.replace("sum(S[t-1] * k[t], key)", "sum(sum(S[t-1] * k[t], key), value)")
    found = analysis(text)
    (s,) = found.strata
    assert (s.verdict, s.method, s.jacobian) == ("proved", "march", "block")
    assert s.algebra == "block-affine over key and value"
    assert not found.diagnostics


def test_more_carries_than_a_scan_is_worth() -> None:
    """Known and proved, and taken step by step because composing costs more."""
    found = analysis("h[t] = 0.5 * h[t-6] + x[t]")
    (s,) = found.strata
    assert (s.algebra, s.method, s.jacobian, s.law) == ("block-affine", "march", "block", None)
    assert (str(s.verdict), s.verdict.reason) == ("proved", "update - (A h + b) expands to zero")
    assert "7.5 times the operations" in s.reason
    assert s.carries == tuple(("h", k) for k in range(1, 7))
    nodes = found.recurrence.nodes
    assert [shown(nodes, n) for n in s.after[1:]] == [f"h[t-{k}]" for k in range(1, 6)]
    assert not found.diagnostics


@pytest.mark.parametrize(
    ("count", "method"), [(2, "scan"), (4, "scan"), (5, "march"), (6, "march")]
)
@pytest.mark.parametrize(
    ("join", "algebra"),
    [
        ("{} + {}", "block-affine"),
        ("max({}, {})", "block-max-plus"),
        ("min({}, {})", "block-min-plus"),
        ("logaddexp({}, {})", "block-log-affine"),
        ("max({}, min(x[t], {}))", "block-max-min"),
        ("min({}, max(x[t], {}))", "block-min-max"),
    ],
)
def test_rings_of_coupled_states(join: str, algebra: str, count: int, method: str) -> None:
    names = [f"s{i}" for i in range(count)]
    lines = ["layer A\nsize hidden\ninput x[t]: hidden"]
    lines += [f"state {n}[t]: hidden" for n in names]
    for i, n in enumerate(names):
        terms = [f"{names[i - 1]}[t-1]", f"x[t] + {n}[t-1]"]
        if algebra == "block-affine":
            terms = [f"0.5 * {names[i - 1]}[t-1]", f"x[t] * {n}[t-1]"]
        elif "x[t]" in join:
            terms = [f"{names[i - 1]}[t-1]", f"{n}[t-1]"]
        lines.append(f"{n}[t] = {join.format(*terms)}")
    found = analysis("\n".join([*lines, f"output {', '.join(f'{n}[t]' for n in names)}\n"]))
    (s,) = found.strata
    assert (s.algebra, s.method, str(s.verdict)) == (algebra, method, "proved")
    assert (s.jacobian, len(s.carries)) == ("block", count)
    assert (s.law is None) == (s.parts == ()) == (method == "march")
    assert ("times the operations" in s.reason) == (method == "march")
    assert not found.diagnostics


MINE = """
algebra mine(a, b)
identity (1, 0)
compose  (a2, b2) after (a1, b1) = (a2 * a1, a2 * b1 + b2)
apply    h -> a * h + b
"""


def own(algebra: str, update: str = "mine(0.5, x[t])(h[t-1])") -> Analysis:
    return analysis(f"{algebra}{HEAD}h[t] = {update}\noutput h[t]\n")


def test_a_file_may_declare_its_own() -> None:
    (s,) = own(MINE).strata
    assert (s.algebra, s.method, str(s.verdict)) == ("mine", "scan", "proved")


def test_a_refuted_one_is_an_error_with_its_numbers() -> None:
    found = own(MINE.replace("a2 * b1 + b2)", "a1 * b2 + b1)"))
    (d,) = found.diagnostics
    assert (d.code, d.severity) == ("E301", Severity.ERROR)
    assert "algebra mine: " in d.message
    assert "a2 = " in d.message
    assert found.strata[0].verdict == "refuted"
    assert found.strata[0].verdict.counterexample


def test_an_unknown_one_goes_step_by_step() -> None:
    found = own(MINE.replace("a2 * b1 + b2)", "a2 * b1 + b2 * (sin(a1)^2 + cos(a1)^2))"))
    (s,) = found.strata
    assert (s.algebra, s.method, str(s.verdict)) == ("mine", "march", "unknown")
    assert [d.code for d in found.diagnostics] == ["W107"]


ROOTED = """
algebra rooted(a >= 0)
identity 0
compose  a2 after a1 = a2 + a1
apply    h -> h + a
"""


@pytest.mark.parametrize(
    ("update", "why"),
    [
        ("rooted(x[t])(h[t-1])", "a >= 0 is not proved"),
        ("affine(h[t-1], 0)(h[t-1])", "depend on the past"),
    ],
)
def test_what_a_named_algebra_needs(update: str, why: str) -> None:
    found = own(ROOTED, update)
    (s,) = found.strata
    assert s.method == "march"
    assert why in s.reason
    assert [d.code for d in found.diagnostics] == ["W107"]


def test_the_log_domain_is_chosen_for_exponentials() -> None:
    (s,) = analysis("h[t] = exp(x[t]) * h[t-1] + exp(-x[t])").strata
    assert s.domain == "log"
    assert "sums of logarithms" in s.domain_reason


def chained(count: int, term: str) -> str:
    lines = []
    for i in range(count):
        previous = f"v{i - 1}[t]" if i else "h[t-1]"
        lines.append(f"v{i}[t] = {term.format(p=previous, i=i + 1)}")
    return "\n".join([*lines, f"h[t] = v{count - 1}[t]"])


@pytest.mark.parametrize(
    ("term", "few", "algebra", "many"),
    [
        ("min(max(0.5 * {p} + x[t], x[t] - {i}), x[t] * {i})", 3, "clamped-affine", 12),
        ("x[t] + {i} / (1 + {p})", 5, "mobius", 50),
    ],
)
def test_proofs_are_bounded(term: str, few: int, algebra: str, many: int) -> None:
    """What is too large to prove marches: a file must not cost more than seconds."""
    (s,) = analysis(chained(few, term)).strata
    assert (s.algebra, s.method) == (algebra, "scan")
    begun = time.perf_counter()
    (s,) = analysis(chained(many, term)).strata
    assert (s.algebra, s.method) == ("nonlinear", "march")
    assert time.perf_counter() - begun < 10


@pytest.mark.parametrize(
    ("term", "algebra", "how"),
    [
        ("max({p} + sin(x[t] * {i}), x[t] * {i})", "max-plus", "normal form"),
        ("logaddexp(x[t] + {p}, x[t] * {i})", "log-affine", "normal form"),
        ("max({p} + x[t] * {i}, {p})", "max-plus", "by induction"),
        ("max(min({p}, sin(x[t] * {i})), x[t] * {i})", "max-min", "normal form"),
    ],
)
def test_proofs_over_semirings_are_quick(term: str, algebra: str, how: str) -> None:
    analysis("h[t] = max(h[t-1], x[t])")  # what is done once a process
    begun = time.perf_counter()
    (s,) = analysis(chained(60, term)).strata
    assert (s.algebra, s.method) == (algebra, "scan")
    assert how in s.reason
    assert time.perf_counter() - begun < 5


def test_an_algebra_too_large_to_prove_is_unknown() -> None:
    value = "h + a"
    for i in range(20):
        value = f"min(max({value}, -{i + 1}e9), {i + 1}e9)"
    text = f"algebra big(a)\nidentity 0\ncompose b after c = b + c\napply h -> {value}\n"
    found = analysis(f"{text}{HEAD}h[t] = big(x[t])(h[t-1])\noutput h[t]\n")
    assert found.strata[0].verdict == "unknown"
    assert [d.code for d in found.diagnostics] == ["W107"]
