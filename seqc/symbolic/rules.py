"""The rewriting rules: value-preserving, and better in floating point or shorter.

Each line reads ``rule(before, after, condition)``: a node of the form ``before``
becomes ``after``, which goes through the rules again.  The equality holds in
exact arithmetic wherever ``before`` is defined; the tests check every line with
50 digits and more, at random and at extreme arguments, and symbolically.

``positive(x)`` and ``nonnegative(x)`` are decided by intervals;
``logarithmic(x)`` says that x is positive and that its logarithm has a form of
its own, which neither underflows nor overflows (logarithms.py).

Two liberties are taken, both for a differentiator that writes literal zeros and
ones: ``x * 0`` is 0 and ``x - x`` is 0 even where x is infinite or NaN.  The sign
of a zero is not kept.

Rules that a pattern cannot say (sums of any length, branches) are in
logarithms.py and quotients.py.

Sources: Higham, "Accuracy and Stability of Numerical Algorithms" (2nd ed., §1);
Mächler, "Accurately computing log(1 - exp(-|a|))" (2012); the equations of
minGRU/minLSTM (arXiv 2410.01201, appendix B).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from seqc.symbolic.patterns import Expr, parse


@dataclass(frozen=True)
class Rule:
    """``before`` becomes ``after`` where ``condition`` holds (empty: always)."""

    before: str
    after: str
    condition: str = ""

    @property
    def pattern(self) -> Expr:
        """``before`` as an expression."""
        return parse(self.before)

    @property
    def result(self) -> Expr:
        """``after`` as an expression."""
        return parse(self.after)

    def __str__(self) -> str:
        return f"{self.before} -> {self.after}" + (
            f"  if {self.condition}" if self.condition else ""
        )


rule = Rule

RULES: tuple[Rule, ...] = (
    # sums
    rule("x + 0", "x"),
    rule("x + -y", "x - y"),
    rule("x + x", "2 * x"),
    rule("1 + expm1(x)", "exp(x)"),
    rule("exp(x) + -1", "expm1(x)"),
    rule("1 + tanh(x)", "2 * sigmoid(2 * x)"),
    rule("sigmoid(x) + -1", "-sigmoid(-x)"),
    rule("2 * sigmoid(x) + -1", "tanh(0.5 * x)"),
    rule("x + (y - x)", "y"),
    # differences: what cancels gets a form that does not
    rule("x - 0", "x"),
    rule("0 - x", "-x"),
    rule("x - x", "0"),
    rule("x - -y", "x + y"),
    rule("-x - y", "-(x + y)"),
    rule("x - (x - y)", "y"),
    rule("x - (x + y)", "-y"),
    rule("(x + y) - x", "y"),
    rule("(x - y) - x", "-y"),
    rule("1 - sigmoid(x)", "sigmoid(-x)"),
    rule("sigmoid(x) - 1", "-sigmoid(-x)"),
    rule("1 - normcdf(x)", "normcdf(-x)"),
    rule("1 - erf(x)", "2 * normcdf(-1.4142135623730951 * x)"),
    rule("1 - exp(x)", "-expm1(x)"),
    rule("exp(x) - 1", "expm1(x)"),
    rule("1 - tanh(x)", "2 * sigmoid(-2 * x)"),
    rule("2 * sigmoid(x) - 1", "tanh(0.5 * x)"),
    rule("1 - 2 * sigmoid(x)", "-tanh(0.5 * x)"),
    rule("softplus(x) - x", "softplus(-x)"),
    rule("x - softplus(x)", "-softplus(-x)"),
    rule("softplus(x) - softplus(-x)", "x"),
    rule("softplus(-x) - softplus(x)", "-x"),
    rule("logaddexp(x, y) - y", "softplus(x - y)"),
    rule("y - logaddexp(x, y)", "-softplus(x - y)"),
    # signs
    rule("-(-x)", "x"),
    rule("-(x - y)", "y - x"),
    # products
    rule("x * 0", "0"),
    rule("x * 1", "x"),
    rule("x * -1", "-x"),
    rule("-x * y", "-(x * y)"),
    rule("exp(x) * exp(y)", "exp(x + y)"),
    rule("exp(x) * sigmoid(-x)", "sigmoid(x)"),
    rule("exp(-x) * sigmoid(x)", "sigmoid(-x)"),
    rule("sqrt(x) * sqrt(x)", "x", "nonnegative(x)"),
    rule("x * (y / x)", "y", "positive(x)"),
    rule("x * (1 / y)", "x / y"),
    # quotients
    rule("x / 1", "x"),
    rule("x / -1", "-x"),
    rule("x / x", "1", "positive(x)"),
    rule("0 / x", "0", "positive(x)"),
    rule("-x / y", "-(x / y)"),
    rule("x / -y", "-(x / y)"),
    rule("(x * y) / x", "y", "positive(x)"),
    rule("exp(x) / exp(y)", "exp(x - y)"),
    rule("x / exp(y)", "x * exp(-y)"),
    rule("exp(x) / (1 + exp(x))", "sigmoid(x)"),
    rule("exp(x) / (exp(x) + exp(y))", "sigmoid(x - y)"),
    rule("(exp(x) - exp(-x)) / (exp(x) + exp(-x))", "tanh(x)"),
    rule("expm1(x) / (1 + exp(x))", "tanh(0.5 * x)"),
    rule("y / (1 + exp(x))", "y * sigmoid(-x)"),
    # exponentials
    rule("exp(log(x))", "x", "nonnegative(x)"),
    rule("exp(-log(x))", "1 / x", "positive(x)"),
    rule("exp(log1p(x))", "1 + x", "nonnegative(x)"),
    rule("exp(-softplus(x))", "sigmoid(-x)"),
    rule("expm1(log1p(x))", "x", "nonnegative(x)"),
    rule("expm1(log(x))", "x - 1", "positive(x)"),
    rule("expm1(-softplus(x))", "-sigmoid(x)"),
    # logarithms
    rule("log(exp(x))", "x"),
    rule("log(sigmoid(x))", "-softplus(-x)"),
    rule("log(1 + exp(x))", "softplus(x)"),
    rule("log(exp(x) + exp(y))", "logaddexp(x, y)"),
    rule("log(1 + x)", "log1p(x)"),
    rule("log(1 - x)", "log1p(-x)"),
    rule("log(sqrt(x))", "0.5 * log(x)", "logarithmic(x)"),
    rule("log1p(exp(x))", "softplus(x)"),
    rule("log1p(expm1(x))", "x"),
    rule("log1p(-sigmoid(x))", "-softplus(x)"),
    rule("logaddexp(x, -inf)", "x"),
    rule("logaddexp(x, 0)", "softplus(x)"),
    rule("logaddexp(x, x)", "x + 0.6931471805599453"),
    rule("logaddexp(-softplus(x), -softplus(-x))", "0"),
    rule("softplus(log(x))", "log1p(x)", "positive(x)"),
    # powers
    rule("x ** 0", "1"),
    rule("x ** 1", "x"),
    rule("1 ** x", "1"),
    rule("x ** 2", "x * x"),
    rule("x ** 3", "x * x * x"),
    rule("x ** 4", "(x * x) * (x * x)"),
    rule("x ** -1", "1 / x"),
    rule("x ** -2", "1 / (x * x)"),
    rule("x ** 0.5", "sqrt(x)"),
    rule("x ** -0.5", "1 / sqrt(x)"),
    rule("x ** y", "exp(y * log(x))", "logarithmic(x)"),
    # roots, absolute values, smaller and larger
    rule("sqrt(x * x)", "abs(x)"),
    rule("sqrt(exp(x))", "exp(0.5 * x)"),
    rule("abs(x)", "x", "nonnegative(x)"),
    rule("abs(-x)", "abs(x)"),
    rule("min(x, x)", "x"),
    rule("max(x, x)", "x"),
    rule("min(x, inf)", "x"),
    rule("max(x, -inf)", "x"),
    rule("max(x, 0)", "x", "nonnegative(x)"),
    # choices
    rule("where(c, x, x)", "x"),
    rule("where(c, where(c, x, y), z)", "where(c, x, z)"),
    rule("where(c, x, where(c, y, z))", "where(c, x, z)"),
    rule("where(isset(where(c, 1, 0)), x, y)", "where(c, x, y)"),
)


@cache
def rules_of(op: str) -> tuple[Rule, ...]:
    """The rules whose ``before`` is this operation, in order."""
    return tuple(r for r in RULES if r.pattern.op == op)
