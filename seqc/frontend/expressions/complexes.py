"""Complex values as pairs of real ones, which is all that the rest of the compiler sees.

While a layer is built a complex value is a node ``complex`` of its two parts; when it
is done, none is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from seqc.ir.graph import Graph, GraphBuilder, rebuild

#: The real and the imaginary part.
Parts = tuple[int, int]
#: A real or a complex value.
Value = int | Parts

#: The largest whole power that is written out.
_POWER = 64

#: What to write where only a real value can stand.
INSTEAD = "take `re(…)`, `im(…)` or `abs(…)` of it"
#: What can be done with complex values.
ARITHMETIC = (
    "of complex values there are + - * / and whole powers, exp, abs, re, im, conj, where, sums, "
    "means, cumsum, shift and rename"
)


class Arithmetic:
    """Complex arithmetic by a way to make real nodes: ``make(op, *args)`` and ``const(value)``."""

    def __init__(self, make: Callable[..., int], const: Callable[[float], int]) -> None:
        self.make = make
        self.const = const

    def parts(self, value: Value) -> Parts:
        """Real and imaginary part; of a real value, itself and 0."""
        return value if isinstance(value, tuple) else (value, self.const(0.0))

    def apply(self, op: str, args: Sequence[Value], power: float | None) -> Value | None:
        """An operation of values of which one at least is complex; None where there is none.

        ``power`` is the second argument where that is a literal.
        """
        match op, args:
            case "add" | "sub", (left, right):
                return self.added(op, left, right)
            case "mul", (left, right):
                return self.product(left, right)
            case "div", (left, right):
                return self.quotient(left, right)
            case "neg", (value,):
                re, im = self.parts(value)
                return self.make("neg", re), self.make("neg", im)
            case "exp", (value,):
                re, im = self.parts(value)
                return self.product(self.make("exp", re), self.turn(im))
            case "abs", (value,):
                return self.size(value)
            case "where", (int(condition), yes, no):
                (a, b), (c, d) = self.parts(yes), self.parts(no)
                return self.make("where", condition, a, c), self.make("where", condition, b, d)
            case "pow", (value, int()) if power is not None and power in range(1, _POWER + 1):
                return self.power(value, int(power))
        return None

    def added(self, op: str, left: Value, right: Value) -> Parts:
        if not isinstance(right, tuple):
            re, im = self.parts(left)
            return self.make(op, re, right), im
        if not isinstance(left, tuple):
            re, im = right
            return self.make(op, left, re), im if op == "add" else self.make("neg", im)
        return self.make(op, left[0], right[0]), self.make(op, left[1], right[1])

    def product(self, left: Value, right: Value) -> Parts:
        if not isinstance(left, tuple):
            left, right = right, left
        a, b = self.parts(left)
        if not isinstance(right, tuple):
            return self.make("mul", a, right), self.make("mul", b, right)
        c, d = right
        re = self.make("sub", self.make("mul", a, c), self.make("mul", b, d))
        return re, self.make("add", self.make("mul", a, d), self.make("mul", b, c))

    def quotient(self, left: Value, right: Value) -> Parts:
        if not isinstance(right, tuple):
            re, im = self.parts(left)
            return self.make("div", re, right), self.make("div", im, right)
        # The divisor as (large) * (u + iv) with the larger of u and v one: no square overflows.
        c, d = right
        large = self.make("max", self.make("abs", c), self.make("abs", d))
        u, v = self.make("div", c, large), self.make("div", d, large)
        under = self.make("add", self.make("mul", c, u), self.make("mul", d, v))
        re, im = self.product(left, (u, self.make("neg", v)))
        return self.make("div", re, under), self.make("div", im, under)

    def turn(self, angle: int) -> Parts:
        """cos + i sin."""
        return self.make("cos", angle), self.make("sin", angle)

    def size(self, value: Value) -> int:
        """The absolute value; no square overflows, and the gradient at 0 is 0."""
        re, im = (self.make("abs", part) for part in self.parts(value))
        large, small = self.make("max", re, im), self.make("min", re, im)
        share = self.make("div", small, large)
        root = self.make("sqrt", self.make("add", self.const(1.0), self.make("mul", share, share)))
        zero = self.const(0.0)
        some = self.make("gt", large, zero)
        return self.make("where", some, self.make("mul", large, root), zero)

    def power(self, value: Value, count: int) -> Value:
        result: Value | None = None
        while True:
            if count & 1:
                result = value if result is None else self.product(result, value)
            count >>= 1
            if not count:
                assert result is not None
                return result
            value = self.product(value, value)


def without_pairs(
    graph: Graph, axis_order: tuple[str, ...], roots: Sequence[int]
) -> tuple[Graph, dict[int, int]]:
    """The nodes that the roots, all of them real, need; and where each has gone."""
    builder = GraphBuilder(axis_order)
    moved = rebuild(graph, builder, None, roots)
    return builder.graph, moved
