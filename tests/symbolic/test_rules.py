"""Every rewriting rule: with 50 digits and more, at random and extreme arguments; symbolically."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqc.ir.ops import CONDITIONS as TRUTHS
from seqc.symbolic.evaluate import multiprecision
from seqc.symbolic.patterns import Expr, parse, variables
from seqc.symbolic.rewrite import StableBuilder
from seqc.symbolic.rules import RULES, Rule
from tests.symbolic.expressions import Built, accurate, arguments, close, exact, expressions

ids = [str(r) for r in RULES]


def conditional_variable(rule: Rule) -> frozenset[str]:
    return frozenset(rule.condition.rstrip(")").split("(")[1:])


def modest(rule: Rule, values: dict[str, float]) -> dict[str, float]:
    """The tail of the normal distribution needs x**2 digits: not too far out."""
    if "normcdf" in rule.before:
        return {k: max(-12.0, min(12.0, v)) for k, v in values.items()}
    return values


@pytest.mark.parametrize("rule", RULES, ids=ids)
def test_both_sides_are_equal_with_many_digits(rule: Rule) -> None:
    names = variables(rule.pattern)
    for seed in range(16):
        values = arguments(names, conditional_variable(rule), seed)
        values = modest(rule, values)
        before, after = exact(rule.pattern, values), exact(rule.result, values)
        if before == before and abs(before) != math.inf:
            # The two literals that stand for a logarithm of two and a half have 16 digits.
            assert abs(before - after) <= 1e-15 * abs(before) + 1e-40, values


@pytest.mark.parametrize("rule", RULES, ids=ids)
def test_the_rewritten_form_is_accurate_in_floats(rule: Rule) -> None:
    names, result = variables(rule.pattern), Built(rule.result)
    for seed in range(24):
        values = arguments(names, conditional_variable(rule), seed)
        values = modest(rule, values)
        assert accurate(rule.pattern, result, values), values


@pytest.mark.parametrize("rule", RULES, ids=ids)
def test_the_rule_fires_and_its_result_stays(rule: Rule) -> None:
    """Built through the smart constructor, the pattern is no longer what was written."""
    if rule.condition:
        # A variable under a condition is made provably positive, and logarithmic: an exponential.
        (name,) = conditional_variable(rule)
        for stand_in in ("exp(q)", "where(q >= 1, q, 1)"):
            if rule.condition.startswith("logarithmic") and stand_in != "exp(q)":
                continue
            text = substitute(rule.pattern, name, parse(stand_in))
            plain, stable = Built(text, stable=False), Built(text)
            assert plain.text() != stable.text()
    else:
        plain, stable = Built(rule.pattern, stable=False), Built(rule.pattern)
        assert plain.text() != stable.text()
        assert stable.text() == Built(rule.result).text()


def substitute(e: Expr, name: str, by: Expr) -> Expr:
    if e.op == "?":
        return by if e.name == name else e
    return Expr(e.op, tuple(substitute(a, name, by) for a in e.args), e.name, e.value)


@pytest.mark.parametrize("rule", RULES, ids=ids)
def test_sympy_agrees_where_it_can(rule: Rule) -> None:
    import sympy as sp

    from seqc.symbolic.tosympy import in_exponentials, to_sympy

    if any(op in rule.before for op in ("where", "min", "max", "inf", "normcdf", "erf")):
        pytest.skip("choices, infinities and erf are checked in numbers")
    sides = []
    for expression in (rule.pattern, rule.result):
        built = Built(expression, stable=False)
        positive = conditional_variable(rule)
        leaves = {
            p: sp.Symbol(n, real=True, positive=True if n in positive else None)
            for n, p in built.variables.items()
        }
        sides.append(in_exponentials(to_sympy(built.builder.graph, leaves)[built.root]))
    difference = sides[0] - sides[1]
    if "0.69" in rule.after:
        difference = difference.subs(sp.Rational("0.6931471805599453"), sp.log(2))
    for attempt in (
        lambda d: sp.expand(d),
        lambda d: sp.expand(sp.fraction(sp.together(d))[0]),
        lambda d: sp.simplify(sp.expand_log(sp.logcombine(d, force=True), force=True)),
        lambda d: sp.simplify(sp.exp(sides[0]) - sp.exp(sides[1])),
        lambda d: sp.simplify(d.rewrite(sp.exp)),
    ):
        if attempt(difference) == 0:
            return
    pytest.fail(f"sympy does not see that {difference} is zero")


# --- rules that one pattern cannot say

FORMS = [
    ("1 - where(c, 1 - sigmoid(k), 0)", "where(isset(c), sigmoid(k), 1)"),
    ("1 - (1 - where(c, 1 - sigmoid(k), 0))", "where(isset(c), sigmoid(neg(k)), 0)"),
    (
        "log(where(u >= 0, u + 0.5, sigmoid(u)))",
        "where(ge(u, 0), log(add(0.5, where(ge(u, 0), u, 0))), neg(softplus(neg(u))))",
    ),
    (
        "(sigmoid(f) * h + sigmoid(i) * v) / (sigmoid(f) + sigmoid(i))",
        "add(mul(h, sigmoid(sub(softplus(neg(i)), softplus(neg(f))))), "
        "mul(v, sigmoid(sub(softplus(neg(f)), softplus(neg(i))))))",
    ),
    ("exp(f) / (exp(f) + exp(i) + exp(j))", "sigmoid(sub(f, logaddexp(i, j)))"),
    ("sigmoid(l) ** (8 * sigmoid(r))", "exp(neg(mul(mul(8, sigmoid(r)), softplus(neg(l)))))"),
    ("sqrt(1 - sigmoid(x) * exp(-y) / sigmoid(x))", "sqrt(neg(expm1(neg(y))))"),
    ("min(max(sigmoid(x), 0), 1)", "sigmoid(x)"),
    ("log(sigmoid(x) * exp(y))", "sub(y, softplus(neg(x)))"),
    ("log(sigmoid(x) / exp(y))", "neg(add(y, softplus(neg(x))))"),
    ("2 + 3 * 4", "14"),
    ("where(1 > 2, x, y)", "y"),
    ("1 / 0 + x", "add(inf, x)"),
    ("0 / 0 + x", "add(div(0, 0), x)"),
]


@pytest.mark.parametrize(("text", "form"), FORMS)
def test_form(text: str, form: str) -> None:
    """Up to the order of sums and products."""
    words = [re.findall(r"[^(), ]+", t) for t in (Built(text).text(), form)]
    assert sorted(words[0]) == sorted(words[1]), Built(text).text()


STRUCTURED = [text for text, _ in FORMS if "/ 0" not in text] + [
    "log(where(u > 0, u, sigmoid(u)))",
    "log(where(u < 1, 1.5 - u, exp(u)))",
    "log(where(u <= 1, exp(u), u))",
    "log(exp(x) + sigmoid(y))",
    "log(max(exp(x), sigmoid(y)))",
    "log(min(exp(x), sigmoid(y)))",
    "(exp(x) * u - exp(y) * v) / (exp(x) + exp(y))",
    "(sigmoid(x) * u) / (sigmoid(x) + exp(y) + sigmoid(z))",
    "exp(x) / (exp(x) + 2)",
    "1 - where(c, sigmoid(x), exp(y))",
    "log(where(c, sigmoid(x), exp(y)) * sigmoid(z))",
]


@pytest.mark.parametrize("text", STRUCTURED)
def test_structured_rules_are_accurate(text: str) -> None:
    names, built = variables(parse(text)), Built(text)
    for seed in range(24):
        values = arguments(names, frozenset(), seed)
        assert accurate(text, built, values), values


@pytest.mark.parametrize("f", [-1e4, -800.0, 0.0, 40.0, 1e4])
@pytest.mark.parametrize("i", [-1e4, 0.0, 800.0])
def test_minlstm_gates_at_extreme_pre_activations(f: float, i: float) -> None:
    text = "sigmoid(f) / (sigmoid(f) + sigmoid(i))"
    got, want = Built(text)(f=f, i=i), exact(text, {"f": f, "i": i})
    assert close(got, want, ulps=1e5)  # exp of a difference of 1e4: its argument's last bit counts


def test_a_guarded_logarithm_is_a_number_where_it_is_not_taken() -> None:
    built = Built("log(where(u >= 0, u + 0.5, sigmoid(u)))")
    for u in (-1e4, -0.5, -0.25, 0.0, 1.0):
        values = built.values({"u": u})
        assert not any(isinstance(v, float) and math.isnan(v) for v in values)


def test_a_product_of_thousands_of_factors_does_not_exhaust_the_stack() -> None:
    b = StableBuilder()
    x = b.add("symbol", axes=(), attrs=("x",))
    total = b.op("sigmoid", x)
    for k in range(5000):
        total = b.op("mul", total, b.op("sigmoid", b.op("add", x, b.const(k))))
    b.op("log", total)
    chain = x
    for _ in range(5000):
        chain = b.op("sub", b.const(1.0), b.op("where", b.op("gt", x, b.const(0.0)), chain, x))
    assert len(b.nodes) < 200_000


def test_literal_zero_wins() -> None:
    b = StableBuilder(("hidden",))
    x = b.add("read", axes=("hidden",), attrs=("x", 0))
    assert b.value(b.op("mul", x, b.const(0.0))) == 0.0
    assert b.value(b.op("sub", x, x)) == 0.0


# --- random graphs

numbers = st.floats(-8, 8).filter(lambda v: abs(v) > 1e-3)


@settings(max_examples=150)
@given(expressions(), numbers, numbers, numbers)
def test_random_expressions_keep_their_exact_value(e: Expr, x: float, y: float, z: float) -> None:
    leaves = {"x": x, "y": y, "z": z}
    digits = multiprecision(200)
    plain = Built(e, stable=False)
    values = plain.values(leaves, digits)
    # Away from what is undefined, infinite, or beyond any number of digits; and from choices at a
    # tie, which rounding decides.
    if not all(v == v and (v == 0 or 1e-60 < abs(v) < 1e60) for v in values):
        return
    for node in plain.builder.graph:
        if node.op in TRUTHS and abs(values[node.args[0]] - values[node.args[1]]) < 1e-30:
            return
    want = values[plain.root]
    got = Built(e)(digits, **leaves)
    assert abs(got - want) <= 1e-12 * abs(want) + 1e-12
