"""Small well-formed specs of states: over several axes, summed, coupled, delayed, clamped."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

Axes = tuple[str, ...]
ALL: Axes = ("hidden", "slots", "keys")
#: Numbers stay of the order of one, so that relative errors mean something.
UNARY = (
    "tanh({})", "sigmoid({})", "sin({})", "0.5 * {}", "-{}", "softplus({})", "relu({})", "abs({})",
    "exp(tanh({}))", "clamp({}, -1, 1)", "silu({})", "drop({}, share)",
)  # fmt: skip
BINARY = (
    "{} + {}", "{} - {}", "{} * {}", "max({}, {})", "min({}, {})", "where({} > 0.1, {}, {})",
    "where({} <= {}, {}, {})", "logaddexp({}, {})", "{} / (1 + ({})^2)", "{} * {}", "{} + {}",
)  # fmt: skip
GATES = ("sigmoid({})", "0.9 * tanh({})", "1 / (1 + ({})^2)", "exp(-softplus({}))", "0.8", "0.5")
FORMS = (
    "{a} * {h} + {b}", "{b} - ({a}) * {h}", "{a} * {h} + (1 - {a}) * {b}",
    "max({h} - abs({a}), {b})",    "min({h} + abs({a}), {b})", "logaddexp({h} - 1 - abs({a}), {b})",
    "clamp({a} * {h} + {b}, -1, 1)", "relu({a} * {h} + {b})", "max({h}, {b})", "{h} + 0.1 * ({b})",
    "({h} + {b} + 3) / (0.1 * abs({h}) + 3)", "tanh({a} * {h} + {b})", "{b}", "0.3 * {h}",
    "(1.5 + abs({h})) / (2 + abs({h}))", "{h} * sigmoid({h} + {b})",
)  # fmt: skip
LINEAR = 4


@dataclass
class Value:
    """Something to read: its name and axes, and whether it moves with time."""

    name: str
    axes: Axes
    timed: bool = True
    lags: tuple[int, ...] = (0,)


@dataclass
class Spec:
    """A spec being written."""

    r: Random
    lines: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    states: list[Value] = field(default_factory=list)
    count: int = 0
    #: how likely a value is to have each axis
    likely: tuple[float, ...] = (0.75, 0.6, 0.2)

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def axes(self, least: int = 0) -> Axes:
        r = self.r
        while True:
            chosen = tuple(a for a, p in zip(ALL, self.likely, strict=True) if r.random() < p)
            if len(chosen) >= least:
                return chosen

    def read(self, v: Value) -> str:
        if not v.timed:
            return v.name
        lag = self.r.choice(v.lags)
        return f"{v.name}[t-{lag}]" if lag else f"{v.name}[t]"

    def leaf(self, axes: Axes) -> str:
        fitting = [v for v in self.values if set(v.axes) <= set(axes)]
        chance = self.r.random()
        if not fitting or chance < 0.08:
            return self.r.choice(["0.5", "rate", "2", "-1", "0", "1"])
        if axes and chance < 0.11:
            return f"index({self.r.choice(axes)})"
        wide = [v for v in fitting if v.axes]
        return self.read(self.r.choice(wide if wide and chance < 0.6 else fitting))

    def expression(self, axes: Axes, depth: int) -> str:
        r = self.r
        if depth and r.random() < 0.12:
            total = self.total(axes, depth - 1)
            if total:
                return total
        if depth == 0 or r.random() < 0.15:
            return self.leaf(axes)
        form = r.choice(UNARY if r.random() < 0.4 else BINARY)
        parts = (f"({self.expression(axes, depth - 1)})" for _ in range(form.count("{}")))
        return form.format(*parts)

    def total(self, axes: Axes, depth: int) -> str:
        """A sum over an axis that the result lacks."""
        r = self.r
        over = [a for a in ALL if a not in axes]
        if not over:
            return ""
        axis = r.choice(over[:2] if r.random() < 0.8 else over)
        wide = tuple(a for a in ALL if a in axes or a == axis)
        reads = [v for v in self.values if axis in v.axes and set(v.axes) <= set(wide)]
        if not reads:
            return ""
        return (
            f"{r.choice(['sum', 'sum', 'mean'])}({self.read(r.choice(reads))}"
            f" * ({self.expression(wide, depth)}), {axis})"
        )

    def declare_state(self) -> None:
        r = self.r
        axes = self.axes()
        name = self.name("h")
        init = r.choice(["", "", " = learned", " = 0.5", " = rate"])
        self.lines.append(f"state {name}[t]: {declared(axes)}{init}")
        v = Value(name, axes, True, r.choice([(1,), (1,), (1,), (1, 2), (1, 1, 3), (1, 4)]))
        self.states.append(v)
        self.values.append(v)

    def update(self, v: Value) -> None:
        r = self.r
        a = r.choice(GATES).format(f"({self.expression(v.axes, r.randint(0, 2))})")
        b = f"({self.expression(v.axes, r.randint(0, 2))})"
        lag = r.choice(v.lags) if r.random() < 0.3 else 1
        mates = [s for s in self.states if s.axes == v.axes]
        h = f"{v.name}[t-{lag}]"
        if len(mates) > 1 and r.random() < 0.3:
            h = r.choice(mates).name + "[t-1]"
        forms = FORMS[:LINEAR] if r.random() < 0.6 else FORMS
        text = r.choice(forms).format(a=a, b=b, h=h)
        if len(mates) > 1 and r.random() < 0.3:
            text = f"{text} + 0.2 * {r.choice(mates).name}[t-1]"
        self.lines.append(f"{v.name}[t] = {text}")
        self.values.append(Value(v.name, v.axes, True, (0, *v.lags)))

    def equation(self) -> None:
        r = self.r
        name, axes = self.name("e"), self.axes()
        kind = r.random()
        text = ""
        if kind < 0.5:
            text = self.total(axes, r.randint(0, 2))
        elif kind < 0.62:
            reads = [v for v in self.values if v.timed and 0 in v.lags]
            text = (
                f"linear({', '.join(f'{v.name}[t]' for v in r.sample(reads, min(len(reads), 2)))})"
            )
        elif kind < 0.68:
            reads = [v for v in self.values if v.timed and 0 in v.lags and set(axes) == set(v.axes)]
            if reads and axes:
                form = r.choice(["cumsum({}, {})", "shift({}, {}, 1)", "max({}, {})"])
                axis = r.choice(axes)
                if form.startswith("max"):
                    axes = tuple(a for a in axes if a != axis)
                text = form.format(f"{r.choice(reads).name}[t]", axis)
        text = text or self.expression(axes, r.randint(1, 3))
        self.lines.append(f"{name}[t]: {declared(axes)} = {text}")
        self.values.append(Value(name, axes, True, r.choice([(0,), (0,), (0, 1), (0, 1, 2)])))


def declared(axes: Axes) -> str:
    """Axes as a declaration writes them."""
    return {0: "1", 1: "".join(axes)}.get(len(axes), f"({', '.join(axes)})")


def random_flat(r: Random) -> str:
    """The same along one axis alone, so that nothing is summed."""
    return random_states(r, (0.9, 0.0, 0.0))


def random_states(r: Random, likely: tuple[float, ...] = Spec.likely) -> str:
    """A layer: one to four states and as many equations, each of anything that came before."""
    s = Spec(r, likely=likely)
    sizes = list(ALL)
    r.shuffle(sizes)
    head = ["layer Random", f"size {', '.join(sizes)}", "hyper rate = 0.3, share = 0.3"]
    for _ in range(r.randint(1, 3)):
        axes, name = s.axes(), s.name("x")
        head.append(f"input {name}[t]: {declared(axes)}")
        s.values.append(Value(name, axes, True, r.choice([(0,), (0,), (0, 1), (0, 1, 2)])))
    for _ in range(r.randint(0, 2)):
        axes, name = s.axes(), s.name("p")
        head.append(f"param {name}: {declared(axes)} = normal(0, 1)")
        s.values.append(Value(name, axes, False))
    for _ in range(r.choice([1, 1, 2, 2, 3, 4])):
        s.declare_state()
    waiting = list(s.states)
    steps = ["state"] * len(waiting) + ["equation"] * r.randint(0, 4)
    r.shuffle(steps)
    for step in steps:
        if step == "state":
            s.update(waiting.pop())
        else:
            s.equation()
    made = list({v.name: v for v in s.values if v.timed and not v.name.startswith("x")}.values())
    outputs = r.sample(made, min(len(made), r.randint(1, 3)))
    return "\n".join(
        ["", *head, *s.lines, "output " + ", ".join(f"{v.name}[t]" for v in outputs), ""]
    )
