"""A layer as typed equations: what the frontend hands to the mathematics.

``Recurrence.nodes`` is the graph of one time step; equations, states and
outputs name positions in it.  Batch and time are implicit: a value with axes
``(hidden,)`` is a tensor (B, T, hidden), one with no axes is (B, T, 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from seqc.diagnostics import Source, Span
from seqc.ir.algebra import Algebra
from seqc.ir.graph import Graph, Node, verify_graph
from seqc.ir.inits import Init
from seqc.ir.maps import LearnedMap
from seqc.ir.solving import EXACT, Feedback, Newton


@dataclass(frozen=True)
class Size:
    """``size a``, ``size width = 2`` (default) or ``size src = hidden`` (alias of another).

    One with ``terms`` is no axis, but a lag: the sum of these, as the lag of ``h[t-1-delay]``.
    """

    name: str
    default: int | None = None
    alias: str | None = None
    span: Span | None = field(default=None, compare=False, repr=False)
    terms: tuple[int | str, ...] = ()


@dataclass(frozen=True)
class Bound:
    """A relation that a hyper keeps: ``sign`` (> >= < <=) to a number or to an earlier hyper."""

    sign: str
    to: float | str

    def __str__(self) -> str:
        return f"{self.sign} {self.to if isinstance(self.to, str) else f'{self.to:g}'}"


@dataclass(frozen=True)
class Hyper:
    """A real number that shapes nothing and may be changed on the built module, in its domain.

    With ``options`` it is the place of one of them, chosen when the layer is built.
    """

    name: str
    default: float
    span: Span | None = field(default=None, compare=False, repr=False)
    domain: tuple[Bound, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ordered:
    """What a caller sees, its axes in the order in which the declaration names them.

    ``axes`` are in the layer's order, as everywhere within; ``order`` is that of the
    declaration where it is another one, else empty.
    """

    name: str
    axes: tuple[str, ...]
    order: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def declared(self) -> tuple[str, ...]:
        """The axes as a caller sees them."""
        return self.order or self.axes


@dataclass(frozen=True)
class Input(Ordered):
    """A sequence (B, T, *declared); no axes means (B, T, 1)."""

    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Param(Ordered):
    """A learned tensor of shape ``declared`` (no axes: shape (1,)), constant in time."""

    init: Init = field(default_factory=Init)
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class State(Ordered):
    """A carried value; ``update`` is the node of its value at t, ``init`` the node before step 0.

    ``init`` is a node of params, hypers, sizes and numbers; ``init = learned``
    makes the parameter ``{name}.init`` and its ``param`` node.
    """

    init: int
    update: int
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Equation:
    """``name[t]: axes = …`` (or ``name: axes = …``, constant in time)."""

    name: str
    node: int
    axes: tuple[str, ...]
    constant: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)
    order: tuple[str, ...] = ()

    @property
    def declared(self) -> tuple[str, ...]:
        """The axes as a caller sees them: in the order of the declaration, if it names them."""
        return self.order or self.axes


@dataclass(frozen=True)
class Application:
    """``state[t] = algebra(parts)(states[t-1])``: the algebra that a spec itself names.

    ``parts`` are nodes.  The update is apply's expression written out, so a reference
    needs none of this; a scan takes the algebra at its word, once its laws are proved.
    """

    state: str
    algebra: Algebra
    parts: tuple[int, ...]
    states: tuple[str, ...]
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Solve:
    """How a state's stratum is to be computed; ``state`` is empty for all that name none.

    ``method``: ``scan``, ``sequential`` or ``newton`` (``newton`` then says how); ``domain`` of a
    scan: ``linear``, ``log``, or empty.
    """

    state: str
    method: str
    domain: str = ""
    span: Span | None = field(default=None, compare=False, repr=False)
    newton: Newton | None = None


@dataclass(frozen=True)
class Recurrence:
    """A whole layer, checked: every name resolved, every axis known, no cycle within a step.

    ``equations`` stand in dependence order (a state's own equation among them)
    and hold only what the spec names; ``axes`` is the order of the layer's axes
    (the order of its sizes).
    """

    name: str
    axes: tuple[str, ...]
    sizes: tuple[Size, ...]
    hypers: tuple[Hyper, ...]
    inputs: tuple[Input, ...]
    params: tuple[Param, ...]
    maps: tuple[LearnedMap, ...]
    states: tuple[State, ...]
    equations: tuple[Equation, ...]
    outputs: tuple[str, ...]
    nodes: Graph
    doc: str = ""
    applied: tuple[Application, ...] = ()
    solves: tuple[Solve, ...] = ()
    source: Source | None = field(default=None, compare=False, repr=False)
    span: Span | None = field(default=None, compare=False, repr=False)
    feedbacks: tuple[Feedback, ...] = ()

    def shown_lag(self, lag: int | float | str) -> int | str:
        """A lag as a spec writes it after ``t-``."""
        found = next((s.terms for s in self.sizes if s.name == lag), ())
        if found:
            return "-".join(str(k) for k in found if k)
        return lag if isinstance(lag, str) else int(lag)

    def feedback(self, *names: str) -> Feedback:
        """How gradients come back through states that are solved together."""
        found = {s.state: s for s in self.feedbacks}
        return next((found[n] for n in (*names, "") if n in found), EXACT)

    def solve(self, *names: str) -> Solve | None:
        """How states that are solved together are to be, where the spec says."""
        found = {s.state: s for s in self.solves}
        return next((found[n] for n in (*names, "") if n in found), None)

    def state(self, name: str) -> State:
        """The state of that name."""
        return next(s for s in self.states if s.name == name)

    def declared(self, name: str, axes: tuple[str, ...]) -> tuple[str, ...]:
        """The axes of a value in the order of its declaration; where it has none, as given."""
        named: tuple[Input | State | Equation, ...] = (
            *self.inputs, *self.states, *self.equations
        )  # fmt: skip
        return next((v.declared for v in named if v.name == name), axes)

    def definition(self, name: str) -> int | None:
        """The node of an equation or state at t; None for an input."""
        for e in self.equations:
            if e.name == name:
                return e.node
        return next((s.update for s in self.states if s.name == name), None)

    def value_name(self, n: int) -> str | None:
        """What the spec calls a node: an input, an equation or a state; None for a bare term."""
        node = self.nodes[n]
        if node.op == "read" and node.attrs[1] == 0:
            return str(node.attrs[0])
        for e in self.equations:
            if e.node == n and not e.constant:
                return e.name
        return next((s.name for s in self.states if s.update == n), None)

    def map_of(self, node: Node) -> LearnedMap:
        """The learned map of a ``map`` node."""
        return self.maps[int(node.attrs[0])]

    @property
    def sites(self) -> tuple[str, ...]:
        """The dropout sites, in the order in which a call draws their masks."""
        return tuple(dict.fromkeys(str(n.attrs[0]) for n in self.nodes if n.op == "keep"))

    def window_name(self, node: Node) -> str:
        """What the past of a convolution's argument is called in the layer's state."""
        prefix = self.map_of(node).label
        return self.value_name(node.args[0]) or prefix.replace(".", "_") + "_past"

    def __str__(self) -> str:
        lines = [f"recurrence {self.name}"]
        lines += [
            f"  size {s.name} = {' + '.join(map(str, s.terms)) or s.alias or s.default}"
            for s in self.sizes
        ]
        lines += [
            f"  hyper {' '.join([h.name, *map(str, h.domain)])} = {h.default}" for h in self.hypers
        ]
        lines += [f"  input {i.name}: {' '.join(i.declared) or 1}" for i in self.inputs]
        lines += [f"  param {p.name}: {' '.join(p.declared) or 1}" for p in self.params]
        lines += [
            f"  map {i} {m.kind} {m.label}: {' '.join(m.declared) or 1}"
            for i, m in enumerate(self.maps)
        ]
        lines += [f"  %{i} = {n}" for i, n in enumerate(self.nodes)]
        lines += [f"  state {s.name}: init %{s.init}, update %{s.update}" for s in self.states]
        lines += [
            f"  {' '.join(a.states)} by {a.algebra.name}({', '.join(f'%{p}' for p in a.parts)})"
            for a in self.applied
            if a.state == a.states[0]
        ]
        lines += [f"  {e.name}{'' if e.constant else '[t]'} = %{e.node}" for e in self.equations]
        lines += [f"  output {' '.join(self.outputs)}"]
        return "\n".join(lines)

    def problems(self) -> Iterator[str]:
        """What a verifier finds wrong; nothing when the recurrence is sound."""
        yield from verify_graph(self.nodes, self.axes)
        named = {e.name for e in self.equations} | {i.name for i in self.inputs}
        named |= {s.name for s in self.states}
        for n in self.nodes:
            if n.op == "read" and n.attrs[0] not in named:
                yield f"{n}: reads a name that is not there"
            if n.op == "map" and not 0 <= int(n.attrs[0]) < len(self.maps):
                yield f"{n}: no such learned map"
        for name in self.outputs:
            if name not in named:
                yield f"output {name}: no such value"


def time_varying(recurrence: Recurrence) -> list[bool]:
    """For each node, whether its value depends on the step.

    A learned map's does, even of what is constant: a window looks back before the first step.
    """
    out: list[bool] = []
    for node in recurrence.nodes:
        out.append(node.op in ("read", "keep", "map") or any(out[a] for a in node.args))
    return out
