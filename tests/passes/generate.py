"""Small well-formed specs, drawn at random: what the language can say, put together anyhow."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from random import Random

AXES: tuple[tuple[str, ...], ...] = ((), ("hidden",), ("slots",), ("hidden", "slots"))
#: Numbers stay of the order of one, so that relative errors mean something.
UNARY = (
    "tanh({})", "sigmoid({})", "softplus({})", "sin({})", "cos({})", "silu({})", "relu({})",
    "abs({})", "-{}", "exp(tanh({}))", "log1p(abs({}))", "sqrt(1 + ({})^2)", "gelu({})", "elu({})",
    "logsigmoid({})", "expm1(sin({}))", "clamp({}, -1, 1)", "sign({})", "floor({})", "0.5 * {}",
)  # fmt: skip
BINARY = (
    "{} + {}", "{} - {}", "{} * {}", "{} / (1 + ({})^2)", "min({}, {})", "max({}, {})",
    "logaddexp({}, {})", "where({} > {}, {}, {})", "where({} <= 0.1, {}, {})",
)  # fmt: skip
BOUNDED = ("sigmoid({})", "tanh({})", "sin({})", "1 / (1 + ({})^2)", "where({} > 0, 0.9, rate)")
NAMES = (
    "a b c d e f g h i j k m n p q r s u v y z first row at tasks chunk product local carry last "
    "start wide pre0 k0 full split x_lag h_start z_t data extents batch steps state_1 windows "
    "remember lagged place edge begin shape value0 v0 v1 c0 c1 keep_k like begins found other"
).split()


@dataclass
class Value:
    """Something that an expression can read: its text at lag 0, or at a lag."""

    name: str
    axes: tuple[str, ...]
    timed: bool = True
    varies: bool = True
    lags: tuple[str, ...] = ("",)

    def read(self, r: Random) -> str:
        if not self.timed:
            return self.name
        lag = "" if r.random() < 0.7 else r.choice(self.lags)
        return f"{self.name}[t{lag}]"


@dataclass
class Spec:
    """A spec being written."""

    r: Random
    lines: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def name(self) -> str:
        return self.names.pop()

    def leaf(self, axes: tuple[str, ...]) -> str:
        fitting = [v for v in self.values if set(v.axes) <= set(axes)]
        if not fitting or self.r.random() < 0.12:
            return self.r.choice(["0.5", "rate", "2", "gain", "0.25", "hidden / 4", "-1"])
        if axes and self.r.random() < 0.05:
            return f"index({self.r.choice(axes)})"
        return self.r.choice(fitting).read(self.r)

    def expression(self, axes: tuple[str, ...], depth: int) -> str:
        r = self.r
        if depth == 0 or r.random() < 0.2:
            return self.leaf(axes)
        if r.random() < 0.4:
            return r.choice(UNARY).format(self.group(axes, depth - 1))
        form = r.choice(BINARY)
        return form.format(*(self.group(axes, depth - 1) for _ in range(form.count("{}"))))

    def group(self, axes: tuple[str, ...], depth: int) -> str:
        return f"({self.expression(axes, depth)})"

    def steady(self, axes: tuple[str, ...]) -> str:
        """An expression constant in time."""
        fitting = [v.name for v in self.values if not v.timed and set(v.axes) <= set(axes)]
        one = self.r.choice([*fitting, "rate", "0.5", "gain"])
        other = self.r.choice([*fitting, "rate", "0.3"])
        return self.r.choice(["tanh({0})", "{0} * {1}", "where({0} > {1}, {0}, 0.5 * {1})"]).format(
            one, other
        )

    def varying(self) -> list[Value]:
        """What a map may read: it must change in time."""
        return [v for v in self.values if v.varies and v.timed]

    def changes(self, text: str) -> bool:
        """Whether an expression reads something that changes in time."""
        return any(re.search(rf"\b{v.name}\[t", text) for v in self.varying())

    def add(self, name: str, axes: tuple[str, ...], text: str) -> None:
        self.lines.append(f"{name}[t]: {declared(axes)} = {text}")
        lags = ("", "-1", "-2", "-3", "-lag")
        self.values.append(Value(name, axes, True, self.changes(text), lags))

    def equation(self) -> None:
        r, name = self.r, self.name()
        kind = r.choice(["pointwise"] * 5 + ["linear", "linear", "conv", "reduce", "across"])
        axes = r.choice(AXES)
        if kind == "pointwise":
            self.add(name, axes, self.expression(axes, r.randint(1, 3)))
        elif kind == "linear":
            sources = r.sample(self.varying(), min(len(self.varying()), r.randint(1, 2)))
            reads = ", ".join(v.read(r) for v in sources)
            bias = r.choice(["", ", bias = false"])
            form = r.choice(["linear({})", "sigmoid(linear({}))"])
            self.add(name, axes, form.format(reads + bias))
        elif kind == "conv":
            source = r.choice(self.varying())
            width = r.choice(["1", "2", "3", "4", "width"])
            depthwise = r.random() < 0.3
            extra = ", depthwise = true" if depthwise else ""
            read = f"{source.name}[t]"
            self.add(name, source.axes if depthwise else axes, f"conv({read}, {width}{extra})")
        else:
            wide = [v for v in self.values if v.timed and v.axes]
            if not wide:
                self.add(name, axes, self.expression(axes, 2))
                return
            source = r.choice(wide)
            axis = r.choice(source.axes)
            read = source.read(r)
            if kind == "reduce":
                left = tuple(a for a in source.axes if a != axis)
                call = r.choice(["sum", "mean", "max", "min"])
                self.add(name, left, f"{call}(tanh({read}), {axis})")
            else:
                form = r.choice(["cumsum({}, {})", "shift({}, {}, 1)", "shift({}, {}, -1)"])
                self.add(name, source.axes, form.format(f"sin({read})", axis))

    def state(self) -> None:
        r, name, axes = self.r, self.name(), self.r.choice(AXES)
        fitting = [v.name for v in self.values if not v.timed and set(v.axes) <= set(axes)]
        inits = ["", " = learned", " = 0.5", " = rate * gain", *(f" = {n}" for n in fitting)]
        init = r.choice(inits)
        self.lines.insert(0, f"state {name}[t]: {declared(axes)}{init}")
        coefficient = r.choice(BOUNDED).format(self.expression(axes, r.randint(0, 2)))
        if r.random() < 0.3:
            coefficient = r.choice(["0.5", "rate", self.steady(axes), f"tanh({self.steady(axes)})"])
            coefficient = f"tanh({coefficient})"
        offset = self.group(axes, r.randint(0, 2))
        past = f"{name}[t-1]"
        form = r.choice(
            ["{a} * {h} + {b}", "{b} - {h} * ({a})", "({a}) * ({h} - {b}) + {b}", "{b}"]
            if r.random() < 0.9
            else ["{b}"]
        )
        text = form.format(a=coefficient, b=offset, h=past)
        self.lines.append(f"{name}[t] = {text}")
        varies = form != "{b}" or self.changes(text)
        self.values.append(Value(name, axes, True, varies, ("", "-1", "-1", "-2", "-lag")))

    def loop(self) -> None:
        """A state that no kernel runs: its channels meet in a learned map."""
        r, name, mapped, axes = self.r, self.name(), self.name(), self.r.choice(AXES)
        self.lines.insert(0, f"state {name}[t]: {declared(axes)}{r.choice(['', ' = learned'])}")
        past = f"{name}[t{r.choice(['-1', '-1', '-2', '-lag'])}]"
        reads = [past, *(v.read(r) for v in r.sample(self.varying(), r.randint(0, 1)))]
        r.shuffle(reads)
        inner = r.choice([x for x in AXES if set(x) <= set(axes)])
        self.lines.append(f"{mapped}[t]: {declared(inner)} = linear({', '.join(reads)})")
        form = r.choice(
            [
                "tanh({m} + {b})", "sigmoid({m}) * {h} + {b} * sigmoid(-{m})",
                "where({h} > {c}, {b}, tanh({m}))", "0.5 * {h} + sin({m}) * {b}",
                "where({m} > 0, sqrt({m}) / (1 + {m}), {b}) + 0.3 * {h}",
            ]
        )  # fmt: skip
        text = form.format(
            m=f"{mapped}[t]", h=f"{name}[t-1]", b=self.group(axes, r.randint(0, 2)),
            c=self.group(axes, 0),
        )  # fmt: skip
        self.lines.append(f"{name}[t] = {text}")
        self.values.append(Value(name, axes, True, True, ("", "-1", "-1", "-2", "-lag")))
        self.values.append(Value(mapped, inner, True, True, ("", "-1", "-2", "-lag")))


def declared(axes: tuple[str, ...]) -> str:
    """Axes as a declaration writes them."""
    return {0: "1", 1: "".join(axes)}.get(len(axes), f"({', '.join(axes)})")


def random_spec(r: Random, loops: bool = False) -> str:
    """A layer: inputs, params, equations, one to three states, maps, lags, one to three outputs.

    ``loops``: one or two more states that no kernel runs.
    """
    s = Spec(r, names=r.sample(NAMES, len(NAMES)))
    head = ["layer Random"]
    order = r.choice(["hidden, slots", "slots, hidden"])
    head.append(f"size {order}, lag = 2, width = 3")
    head.append("hyper rate = 0.3, gain = 0.7")
    for _ in range(r.randint(1, 3)):
        name, axes = s.name(), r.choice(AXES)
        head.append(f"input {name}[t]: {declared(axes)}")
        s.values.append(Value(name, axes, True, True, ("", "-1", "-2", "-lag")))
    for _ in range(r.randint(0, 2)):
        name, axes = s.name(), r.choice(AXES)
        head.append(f"param {name}: {declared(axes)} = normal(0, 1)")
        s.values.append(Value(name, axes, False, False))
    if r.random() < 0.3:
        name, axes = s.name(), r.choice(AXES)
        s.lines.append(f"{name}: {declared(axes)} = {s.steady(axes)}")
        s.values.append(Value(name, axes, False, False))
    steps = ["state"] * r.randint(1, 3) + ["equation"] * r.randint(0, 4)
    steps += ["loop"] * (r.randint(1, 2) if loops else 0)
    r.shuffle(steps)
    inputs = [v for v in s.values if v.timed]
    for step in steps:
        getattr(s, step)()
    made = [v for v in s.values if v.timed and v not in inputs]
    outputs = r.sample(made, min(len(made), r.randint(1, 3)))
    if r.random() < 0.5:  # equations may stand in any order
        r.shuffle(s.lines)
    foot = "output " + ", ".join(f"{v.name}[t]" for v in outputs)
    return "\n".join(["", *head, *s.lines, foot, ""])
