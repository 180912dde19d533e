"""The records of exponentials, logarithms, and what is made of them: a new function goes here."""

from __future__ import annotations

import math

from seqc.ir.operations import floats, ranges
from seqc.ir.operations.record import TRANSCENDENTAL, Operation

_INF = math.inf

FUNCTIONS = (
    Operation(
        "exp", 1,
        value=floats.exp,
        definition=lambda m, x: m.exp(x),
        range=ranges.EXP,
        derivative=("r",),
        steep=True, cost=TRANSCENDENTAL,
    ),
    Operation(
        "expm1", 1,
        value=floats.expm1,
        definition=lambda m, x: m.exp(x) - 1,
        range=ranges.increasing(floats.expm1, -1.0, _INF, (0.0,)),
        derivative=("exp(x)",),  # 1 + r would cancel where x is very negative
        named=True, steep=True, cost=TRANSCENDENTAL,
    ),
    Operation(
        "log", 1,
        value=floats.log,
        definition=lambda m, x: m.log(x),
        range=ranges.LOG,
        derivative=("1 / x",),
        steep=True, cost=TRANSCENDENTAL,
    ),
    Operation(
        "log1p", 1,
        value=floats.log1p,
        definition=lambda m, x: m.log(1 + x),
        range=ranges.logarithm(floats.log1p, -1.0, 0.0),
        derivative=("1 / (1 + x)",),
        named=True, steep=True, cost=TRANSCENDENTAL,
    ),
    # Of (-inf, -inf) the derivatives are 0, not NaN.
    Operation(
        "logaddexp", 2,
        value=floats.logaddexp,
        definition=lambda m, x, y: m.log(m.exp(x) + m.exp(y)),
        range=ranges.logaddexp,
        derivative=(
            "where(r > -inf, sigmoid(x - y), 0)",
            "where(r > -inf, sigmoid(y - x), 0)",
        ),
        named=True, commutative=True, steep=True, cost=TRANSCENDENTAL, torch="logaddexp",
    ),
    Operation(
        "tanh", 1,
        value=math.tanh,
        definition=lambda m, x: m.tanh(x),
        range=ranges.increasing(math.tanh, -1.0, 1.0, (0.0,)),
        derivative=("1 - r * r",),
        cost=TRANSCENDENTAL,
    ),
    Operation(
        "sigmoid", 1,
        value=floats.sigmoid,
        definition=lambda m, x: 1 / (1 + m.exp(-x)),
        range=ranges.increasing(floats.sigmoid, 0.0, 1.0, (0.0,)),
        derivative=("r * sigmoid(-x)",),
        named=True, cost=TRANSCENDENTAL, torch="sigmoid",
    ),
    Operation(
        "softplus", 1,
        value=floats.softplus,
        definition=lambda m, x: m.log(1 + m.exp(x)),
        range=ranges.increasing(floats.softplus, 0.0, _INF),
        derivative=("sigmoid(x)",),
        named=True, cost=TRANSCENDENTAL, torch="softplus",
    ),
    # The distribution function of the standard normal distribution.
    Operation(
        "normcdf", 1,
        value=floats.normcdf,
        definition=lambda m, x: m.erfc(-x / m.sqrt(2)) / 2,
        range=ranges.increasing(floats.normcdf, 0.0, 1.0, (0.0,), 1e-12),
        derivative=("0.3989422804014327 * exp(-0.5 * (x * x))",),
        named=True, cost=TRANSCENDENTAL, torch="torch.special.ndtr",
    ),
    # The error function, which is 2 normcdf(x sqrt(2)) - 1; that cancels near 0.
    Operation(
        "erf", 1,
        value=math.erf,
        definition=lambda m, x: m.erf(x),
        range=ranges.increasing(math.erf, -1.0, 1.0, (0.0,)),
        derivative=("1.1283791670955126 * exp(-(x * x))",),
        cost=TRANSCENDENTAL,
    ),
    Operation(
        "sin", 1,
        value=floats.periodic(math.sin),
        definition=lambda m, x: m.sin(x),
        range=ranges.bounded(-1.0, 1.0),
        derivative=("cos(x)",),
        cost=TRANSCENDENTAL,
    ),
    Operation(
        "cos", 1,
        value=floats.periodic(math.cos),
        definition=lambda m, x: m.cos(x),
        range=ranges.bounded(-1.0, 1.0),
        derivative=("-sin(x)",),
        cost=TRANSCENDENTAL,
    ),
)  # fmt: skip
