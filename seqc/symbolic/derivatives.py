"""The derivative of each pointwise operation, one table, in the notation of the rules.

``x`` and ``y`` are the arguments, ``r`` is the operation's own value.  At an edge
the derivative is the one that a person expects: logaddexp(-inf, -inf) has 0, not
NaN; x ** y has 0 in y at x = 0, and 0 in x at y = 0; abs has 0 at 0.  ``where``,
``min`` and ``max`` pass the cotangent to what they choose (half each at a tie, as
torch.minimum has it), so they stand in differentiate.py, as does ``graft``; conditions,
``sign``, ``floor`` and ``stop`` have none.
"""

from __future__ import annotations

from seqc.ir.ops import FLAT

__all__ = ["CHOICES", "DERIVATIVES", "FLAT", "STATED"]

#: operation -> its derivative by each argument.
DERIVATIVES: dict[str, tuple[str, ...]] = {
    "add": ("1", "1"),
    "sub": ("1", "-1"),
    "mul": ("y", "x"),
    "div": ("1 / y", "-r / y"),
    "neg": ("-1",),
    "pow": ("where(y == 0, 0, y * x ** (y - 1))", "where(x == 0, 0, r * log(x))"),
    "exp": ("r",),
    "expm1": ("exp(x)",),  # 1 + r would cancel where x is very negative
    "log": ("1 / x",),
    "log1p": ("1 / (1 + x)",),
    "logaddexp": (
        "where(r > -inf, sigmoid(x - y), 0)",
        "where(r > -inf, sigmoid(y - x), 0)",
    ),
    "sqrt": ("0.5 / r",),
    "abs": ("sign(x)",),
    "tanh": ("1 - r * r",),
    "sigmoid": ("r * sigmoid(-x)",),
    "softplus": ("sigmoid(x)",),
    "normcdf": ("0.3989422804014327 * exp(-0.5 * (x * x))",),
    "sin": ("cos(x)",),
    "cos": ("-sin(x)",),
}

#: Operations whose derivative is stated by the spec: graft(value, x, slope) has 1 by its value,
#: ``slope`` by x and, the slope being a derivative already, none by the slope.
STATED = frozenset({"graft"})

#: Operations that choose one of their arguments.
CHOICES = frozenset({"where", "min", "max"})
