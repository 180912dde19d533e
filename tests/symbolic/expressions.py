"""Expressions as text, for the tests: built plainly or stably, in floats or with many digits."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from seqc.ir.graph import GraphBuilder
from seqc.ir.ops import CONDITIONS as TRUTHS
from seqc.symbolic.evaluate import FLOATS, evaluate, multiprecision
from seqc.symbolic.patterns import Expr, build, parse, variables
from seqc.symbolic.rewrite import StableBuilder

#: Variables that stand for conditions in the rules.
CONDITIONS = ("c", "d")


class Built:
    """A builder, the nodes of the variables, and the node of the expression."""

    def __init__(
        self,
        text: str | Expr,
        stable: bool = True,
        axes: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        expression = parse(text) if isinstance(text, str) else text
        order = tuple(dict.fromkeys(a for group in (axes or {}).values() for a in group))
        self.builder: Any = StableBuilder(order) if stable else GraphBuilder(order)
        b = self.builder
        self.variables: dict[str, int] = {}
        for name in variables(expression):
            own = (axes or {}).get(name, ())
            leaf = b.add("symbol", axes=own, attrs=(name,))
            self.variables[name] = leaf
        bound = dict(self.variables)
        for name in CONDITIONS:
            if name in bound:
                bound[name] = b.add("isset", bound[name])
        op = b.op if stable else b.add

        def make(name: str, *args: int) -> int:
            if name == "keep":
                return int(b.add("keep", *args, attrs=("site",)))
            return int(op(name, *args))

        self.root = build(expression, bound, make, b.const)

    def text(self, position: int | None = None) -> str:
        """The expression as nested calls."""
        n = self.builder.nodes[self.root if position is None else position]
        if n.op == "symbol":
            return str(n.attrs[0])
        if n.op == "const":
            return f"{n.attrs[0]:g}"
        return f"{n.op}({', '.join(self.text(a) for a in n.args)})"

    def values(self, leaves: Mapping[str, Any], arithmetic: Any = FLOATS) -> list[Any]:
        """Every node's value."""
        held = {self.variables[k]: v for k, v in leaves.items() if k in self.variables}
        return evaluate(self.builder.graph, held, arithmetic)

    def __call__(self, arithmetic: Any = FLOATS, **leaves: Any) -> Any:
        return self.values(leaves, arithmetic)[self.root]


def exact(text: str | Expr, leaves: Mapping[str, float]) -> Any:
    """The value of the expression as it stands, with digits enough for any cancellation here."""
    digits = 60 + int(1.3 * sum(min(abs(v), 2e4) for v in leaves.values() if math.isfinite(v)))
    return Built(text, stable=False)(multiprecision(digits), **leaves)


def sensitivity(text: str | Expr, leaves: Mapping[str, float]) -> float:
    """How far the exact value moves when an argument moves by its rounding."""
    centre = exact(text, leaves)
    total = 0.0
    for name, value in leaves.items():
        if name in CONDITIONS or not math.isfinite(value):
            continue
        for side in (-1, 1):
            moved = value * (1 + side * 2**-50)
            total += abs(float(exact(text, {**leaves, name: moved}) - centre))
    return total


def close(got: float, want: Any, slack: float = 0.0, ulps: float = 32.0) -> bool:
    """Equal up to rounding; beyond the range of a double, as a double has it."""
    want = float(want)
    if math.isnan(want):
        return True  # not defined: any value will do
    if math.isinf(want):
        return got == want or abs(got) > 1e307
    return abs(got - want) <= ulps * 2**-52 * abs(want) + slack + 1e-300


def accurate(text: str | Expr, built: Built, leaves: Mapping[str, float]) -> bool:
    """The built form, in floats, is the exact value up to rounding of it or of the arguments."""
    want = exact(text, leaves)
    if want != want or abs(want) == math.inf:
        return True
    got = built(**leaves)
    return close(got, want) or close(got, want, sensitivity(text, leaves))


EXTREMES = (0.0, 1.0, -1.0, 0.5, -0.5, 1e-8, -1e-8, 1e-300, 30.0, -30.0, 300.0, -300.0)


def arguments(names: tuple[str, ...], positive: frozenset[str], seed: int) -> dict[str, float]:
    """Random arguments: extreme ones, and ordinary ones of several sizes."""
    r = random.Random(seed)
    out = {}
    for name in names:
        if name in CONDITIONS:
            out[name] = float(r.random() < 0.5)
            continue
        if seed in (0, 1):
            x = (1e3, -1e3)[seed] if len(out) == 0 else r.gauss(0, 1)
        else:
            x = (
                r.choice(EXTREMES)
                if r.random() < 0.4
                else r.gauss(0, 1) * r.choice((0.01, 1.0, 20.0))
            )
        if name in positive:
            x = abs(x) or 1.0
        out[name] = x
    return out


# --- random expressions

UNARY = ["neg", "exp", "log", "sigmoid", "softplus", "tanh", "abs", "sqrt", "expm1", "log1p"]
BINARY = ["add", "sub", "mul", "div", "min", "max", "logaddexp"]


def expressions() -> st.SearchStrategy[Expr]:
    leaf = st.sampled_from(["x", "y", "z"]).map(lambda n: Expr("?", name=n)) | st.sampled_from(
        [0.0, 1.0, -1.0, 2.0, 0.5]
    ).map(lambda v: Expr("const", value=v))

    def grow(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
        one = st.builds(lambda op, a: Expr(op, (a,)), st.sampled_from(UNARY), inner)
        two = st.builds(lambda op, a, b: Expr(op, (a, b)), st.sampled_from(BINARY), inner, inner)
        chosen = st.builds(
            lambda op, p, q, a, b: Expr("where", (Expr(op, (p, q)), a, b)),
            st.sampled_from(sorted(TRUTHS - {"isset", "eq", "ne"})),
            inner,
            inner,
            inner,
            inner,
        )
        return one | two | chosen

    return st.recursive(leaf, grow, max_leaves=12)
