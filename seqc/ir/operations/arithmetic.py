"""The records of arithmetic, parts of numbers, choices, conditions and stated derivatives."""

from __future__ import annotations

import operator

from seqc.ir.operations import floats, ranges
from seqc.ir.operations.record import SELECTION, TRANSCENDENTAL, Operation

_SUM, _PRODUCT, _COMPARISON = 5, 6, 3  # how tightly they bind

ARITHMETIC = (
    Operation(
        "add", 2,
        value=lambda x, y: x + y,
        definition=lambda m, x, y: x + y,
        range=ranges.add,
        derivative=("1", "1"),
        commutative=True, called=False, sign="+", binds=_SUM,
    ),
    Operation(
        "sub", 2,
        value=lambda x, y: x - y,
        definition=lambda m, x, y: x - y,
        range=lambda x, y: ranges.add(x, ranges.negate(y)),
        derivative=("1", "-1"),
        called=False, sign="-", binds=_SUM,
    ),
    Operation(
        "mul", 2,
        value=lambda x, y: x * y,
        definition=lambda m, x, y: x * y,
        range=ranges.mul,
        derivative=("y", "x"),
        commutative=True, called=False, sign="*", binds=_PRODUCT,
    ),
    Operation(
        "div", 2,
        value=floats.div,
        definition=lambda m, x, y: m.div(x, y),
        range=ranges.div,
        derivative=("1 / y", "-r / y"),
        steep=True, called=False, sign="/", binds=_PRODUCT,
    ),
    Operation(
        "neg", 1,
        value=lambda x: -x,
        definition=lambda m, x: -x,
        range=ranges.negate,
        derivative=("-1",),
        called=False,
    ),
    Operation(
        "pow", 2,
        value=floats.pow,
        definition=lambda m, x, y: m.pow(x, y),
        range=ranges.power,
        derivative=(
            "where(y == 0, 0, y * x ** (y - 1))",
            "where(x == 0, 0, r * log(x))",
        ),
        steep=True, cost=TRANSCENDENTAL, called=False,
    ),
    Operation(
        "sqrt", 1,
        value=floats.sqrt,
        definition=lambda m, x: m.sqrt(x),
        range=ranges.sqrt,
        derivative=("0.5 / r",),
        steep=True,
    ),
    Operation(
        "abs", 1,
        value=abs,
        definition=lambda m, x: abs(x),
        range=ranges.absolute,
        derivative=("sign(x)",),
    ),
    Operation(
        "sign", 1,
        value=floats.sign,
        definition=lambda m, x: m.sign(x),
        range=ranges.sign,
        flat=True, cost=SELECTION,
    ),
    Operation(
        "floor", 1,
        value=floats.floor,
        definition=lambda m, x: m.floor(x),
        range=ranges.floor,
        flat=True, cost=SELECTION,
    ),
)  # fmt: skip

# They pass the cotangent to what they choose, half each at a tie, as torch.minimum has it.
CHOICES = (
    Operation(
        "min", 2,
        value=floats.minimum,
        definition=lambda m, x, y: m.min(x, y),
        range=ranges.minimum,
        commutative=True, torch="minimum",
    ),
    Operation(
        "max", 2,
        value=floats.maximum,
        definition=lambda m, x, y: m.max(x, y),
        range=ranges.maximum,
        commutative=True, torch="maximum",
    ),
    Operation(
        "where", 3,
        value=lambda c, x, y: x if c else y,
        definition=lambda m, c, x, y: m.where(c, x, y),
        range=None,
        cost=SELECTION,
    ),
)  # fmt: skip

#: A truth value, only ever the first argument of `where`.  ``isset`` turns a number into one.
CONDITIONS = tuple(
    Operation(
        name, 2,
        value=getattr(operator, name),
        definition=lambda m, x, y, name=name: getattr(m, name)(x, y),
        range=ranges.bounded(0.0, 1.0),
        commutative=name in ("eq", "ne"),
        flat=True, truth=True, cost=SELECTION, called=False, sign=sign, binds=_COMPARISON,
    )
    for name, sign in zip(
        ("lt", "le", "gt", "ge", "eq", "ne"), ("<", "<=", ">", ">=", "==", "!="), strict=True
    )
) + (
    Operation(
        "isset", 1,
        value=lambda x: x != 0,
        definition=lambda m, x: m.ne(x, 0),
        range=ranges.bounded(0.0, 1.0),
        flat=True, truth=True, cost=SELECTION, called=False,
    ),
)  # fmt: skip

STATED = (
    # The value, with the derivative 0.
    Operation(
        "stop", 1,
        value=lambda x: x,
        definition=lambda m, x: x,
        range=lambda x: x,
        flat=True, called=False,
    ),
    # graft(value, x, slope): the value, whose derivative is 1 by `value`, `slope` by x and, the
    # slope being a derivative already, 0 by `slope`.
    Operation(
        "graft", 3,
        value=lambda value, x, slope: value,
        definition=lambda m, value, x, slope: value,
        range=lambda value, x, slope: value,
        steep=True, called=False, torch="graft",
    ),
)  # fmt: skip
