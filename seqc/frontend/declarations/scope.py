"""The one namespace of a layer, as the checks read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from seqc.diagnostics import Span
from seqc.frontend.text import syntax as s
from seqc.ir.recurrence import Hyper, Input, Param, Size

#: How messages call each kind of symbol.
KINDS = {
    "size": "a size",
    "hyper": "a hyper-parameter",
    "input": "an input",
    "state": "a state",
    "param": "a parameter",
    "equation": "an equation",
    "constant": "constant in time",
    "later": "a space",
    "part": "a name of the algebra",
    "map": "a map",
    "choice": "a choice of functions",
}
#: The kinds that have a value at every step.
SEQUENCES = frozenset({"input", "state", "equation"})
#: What the parts of a complex name are called: `z_re`, `z_im`.
SUFFIXES = ("re", "im")


@dataclass
class Symbol:
    """A declared name; ``axes`` is None where they are to be inferred, and then ``complex`` too.

    ``axes`` are in the layer's order; ``order`` is the one in which the declaration names
    them, where that is another (else empty).
    """

    name: str
    kind: str
    span: Span
    axes: tuple[str, ...] | None = None
    used: bool = False
    complex: bool = False
    order: tuple[str, ...] = ()


@dataclass(frozen=True)
class Member:
    """Which part of which bundle an equation is: `g[t][index]` of ``count``."""

    bundle: str
    index: int
    count: int


@dataclass
class Scope:
    """Everything that a layer declares, in the order of the file."""

    symbols: dict[str, Symbol] = field(default_factory=dict)
    sizes: list[Size] = field(default_factory=list)
    hypers: list[Hyper] = field(default_factory=list)
    inputs: list[Input] = field(default_factory=list)
    params: list[Param] = field(default_factory=list)
    states: dict[str, s.Expr | None] = field(default_factory=dict)
    equations: dict[str, s.EquationStatement] = field(default_factory=dict)
    outputs: list[s.Target] = field(default_factory=list)
    #: lags that are sums of sizes and numbers, by what they are called
    sums: dict[tuple[int | str, ...], Size] = field(default_factory=dict)
    #: the maps that are declared by themselves
    maps: dict[str, s.MapStatement] = field(default_factory=dict)
    #: the functions that are chosen when the layer is built
    choices: dict[str, s.Choice] = field(default_factory=dict)
    #: the equations that are parts of bundles
    members: dict[str, Member] = field(default_factory=dict)

    def sorted(self, axes: tuple[str, ...]) -> tuple[str, ...]:
        """Axes in the layer's order."""
        return tuple(a for a in self.axis_order if a in axes)

    @property
    def axis_order(self) -> tuple[str, ...]:
        """The names of the sizes in order: within a layer the axes of a value stand in it."""
        return tuple(size.name for size in self.sizes)

    def is_size(self, name: str) -> bool:
        """Whether a name is that of a size."""
        symbol = self.symbols.get(name)
        return symbol is not None and symbol.kind == "size"

    def extent(self, axis: str) -> str:
        """The size that an axis' extent comes from (aliases followed)."""
        for size in self.sizes:
            if size.name == axis:
                return size.alias or axis
        return axis

    def lag(self, terms: tuple[int | str, ...], span: Span) -> str:
        """What a lag that is the sum of sizes (and a number) is called on the layer."""
        found = self.sums.get(terms)
        if found is None:
            name = "_".join(map(str, (*terms[1:], terms[0])))
            while name in self.symbols or any(s.name == name for s in self.sums.values()):
                name += "_"
            found = self.sums[terms] = Size(name, span=span, terms=terms)
        return found.name

    def shown(self, name: str) -> str:
        """A name as the spec writes it."""
        member = self.members.get(name)
        return name if member is None else f"{member.bundle}[t][{member.index}]"

    def owner(self, name: str) -> str:
        """What an equation is declared as: a bundle, where it is a part of one."""
        member = self.members.get(name)
        return name if member is None else member.bundle

    def named(self, *kinds: str) -> Iterator[str]:
        """The names of some kinds."""
        return (name for name, symbol in self.symbols.items() if symbol.kind in kinds)


def part_names(name: str) -> tuple[str, str]:
    """What the parts of a complex name are called."""
    re, im = SUFFIXES
    return f"{name}_{re}", f"{name}_{im}"
