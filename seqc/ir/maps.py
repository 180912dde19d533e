"""Learned maps: a class each, which knows its parameters, its window and how it is called.

A map's node in the graph is ``map`` with attrs (index,), a position in ``Recurrence.maps``, and one
argument a source.  Its parameters are ``{prefix}.weight`` and ``{prefix}.bias``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import ClassVar, TypeAlias

from seqc.diagnostics import Span
from seqc.ir.inits import Init

#: A number in terms of sizes: a sum of products of sizes and whole numbers.
Extent: TypeAlias = tuple[tuple[int | str, ...], ...]


@dataclass(frozen=True)
class Window:
    """The steps that a map sees: the last ``width``, or as many around the present one."""

    width: int | str
    causal: bool = True


@dataclass(frozen=True)
class LearnedMap:
    """What all learned maps have; a subclass says what is its own, as ``Linear`` does.

    Several axes flatten in the order in which their declaration names them: ``sources`` stand in
    that order, and the result in ``order`` (empty: that of ``axes``, which are in the layer's).
    """

    #: What a spec calls it, how it is called, and what an error calls it and its arguments.
    kind: ClassVar[str]
    usage: ClassVar[str]
    noun: ClassVar[str]
    takes: ClassVar[str]
    example: ClassVar[str]
    #: The number of its sources; 0: one or more.
    arity: ClassVar[int] = 0
    #: What follows the sources, or is named: positive whole numbers or sizes.
    counts: ClassVar[tuple[str, ...]] = ()
    #: Those of them that name an axis, and are no numbers.
    along: ClassVar[tuple[str, ...]] = ()
    #: What is true or false, where a spec does not say.
    flags: ClassVar[Mapping[str, bool]] = MappingProxyType({"bias": True})
    #: Whether it may see steps other than the present one.
    windowed: ClassVar[bool] = False
    #: The runtime's functions that it is printed as, by the module of seqc.runtime they are in.
    runtime: ClassVar[Mapping[str, str]]
    #: Between weight and source where a formula is drawn; empty: nothing.
    sign: ClassVar[str] = ""

    prefix: str
    sources: tuple[tuple[str, ...], ...]
    axes: tuple[str, ...]
    bias: bool = field(default=True, kw_only=True)
    weight: Init = field(default=Init(), kw_only=True)
    #: How the bias starts; ``default``: as torch.nn.Linear's.
    offset: Init = field(default=Init(), kw_only=True)
    order: tuple[str, ...] = field(default=(), kw_only=True)
    #: Of a bundle's map: which block of the parameters' rows is its own, of how many.
    part: tuple[int, int] = field(default=(0, 1), kw_only=True)
    #: Of a declared map, which is called with several values: which of them, from 0.
    use: int = field(default=0, kw_only=True)
    span: Span | None = field(default=None, compare=False, repr=False, kw_only=True)

    @property
    def declared(self) -> tuple[str, ...]:
        """The result's axes in the order in which they lie flat in the weight."""
        return self.order or self.axes

    @property
    def label(self) -> str:
        """What it is called, parts of bundles and uses of one map apart."""
        k, count = self.part
        found = self.prefix if count == 1 else f"{self.prefix}.{k}"
        return f"{found}.{self.use + 1}" if self.use else found

    @property
    def rows(self) -> Extent:
        """The rows of the parameters: an entry of the result each, those of a bundle's parts."""
        count = self.part[1]
        return (self.axes if count == 1 else (count, *self.axes),)

    @property
    def shape(self) -> tuple[Extent, ...]:
        """The weight's shape, its rows first."""
        raise NotImplementedError

    @property
    def fan_in(self) -> Extent:
        """The products that an entry of the result is a sum of."""
        raise NotImplementedError

    @property
    def factors(self) -> tuple[Extent, ...]:
        """``fan_in`` as a report writes it: a product of sums, what is 1 left out."""
        raise NotImplementedError

    @property
    def window(self) -> Window | None:
        """The steps that it sees; None: the present one alone."""
        return None

    @property
    def sees_later(self) -> bool:
        """Whether a result depends on later steps."""
        return self.window is not None and not self.window.causal

    @property
    def alone(self) -> bool:
        """Whether its rows stay where they are, so that it shares no matrix product: no other's
        rows join them, and in a loop its columns are not cut."""
        return False

    def fitted(self) -> LearnedMap:
        """The same map, its axes in the order in which its weight has them."""
        return self

    def misfit(self, extent: Callable[[str], str]) -> tuple[str, str] | None:
        """What is wrong with its axes, and what to do; ``extent`` names the size of an axis."""
        return None

    @property
    def packing(self) -> tuple[object, ...]:
        """Maps of one argument with one of these run as one matrix product."""
        return (type(self), self.sources)

    def step(self, sources: Sequence[str], weight: str, bias: str) -> str:
        """The call for one step, as Python: sources are texts (B, C), or the window (B, W, C)."""
        raise NotImplementedError

    def sequence(self, sources: Sequence[str], weight: str, bias: str) -> str:
        """The call for a sequence: sources (B, T, C), or the window (B, T, W, C)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Linear(LearnedMap):
    """``linear(a, b, …)``: a matrix product with its sources side by side.

    weight (prod(out axes), sum over sources of prod(source axes)), torch's layout.
    """

    kind = "linear"
    usage = "linear(a, b, …, bias = true, weight = init)"
    noun = "linear map"
    takes = "a value or more"
    example = "linear(x[t])"
    runtime = MappingProxyType({"linear": "steps", "project": "maps"})

    @property
    def shape(self) -> tuple[Extent, ...]:
        return self.rows, self.sources

    @property
    def fan_in(self) -> Extent:
        return self.sources

    @property
    def factors(self) -> tuple[Extent, ...]:
        return (self.sources,)

    def step(self, sources: Sequence[str], weight: str, bias: str) -> str:
        return f"linear(({', '.join(sources)},), {weight}, {bias}, wide)"

    def sequence(self, sources: Sequence[str], weight: str, bias: str) -> str:
        joined = sources[0] if len(sources) == 1 else f"torch.cat(({', '.join(sources)}), -1)"
        return f"project({joined}, {weight}, {bias})"


@dataclass(frozen=True)
class Conv(LearnedMap):
    """``conv(x[t], width)``: over time.

    weight (out, in, width) as torch.nn.Conv1d has it; depthwise: (out, 1, width).
    The last tap, weight[..., width-1], multiplies the present step when causal.
    Not causal: output t sees inputs t-(width-1)//2 … t+width//2 … (centred).
    """

    kind = "conv"
    usage = "conv(x[t], width, causal = true, depthwise = false)"
    noun = "convolution"
    takes = "a sequence and a width"
    example = "conv(x[t], 3)"
    arity = 1
    counts = ("width",)
    windowed = True
    flags = MappingProxyType({"causal": True, "depthwise": False, "bias": True})
    runtime = MappingProxyType({"convolve": "sequence"})
    sign = "∗"

    width: int | str
    causal: bool = True
    depthwise: bool = False

    @property
    def shape(self) -> tuple[Extent, ...]:
        return self.rows, (self._channels,), ((self.width,),)

    @property
    def fan_in(self) -> Extent:
        return ((self.width, *self._channels),)

    @property
    def factors(self) -> tuple[Extent, ...]:
        return ((self.width,),), *(() if self.depthwise else (self.sources,))

    @property
    def window(self) -> Window:
        return Window(self.width, self.causal)

    @property
    def alone(self) -> bool:
        return self.depthwise

    def fitted(self) -> LearnedMap:
        if self.depthwise and set(self.sources[0]) == set(self.axes):
            return replace(self, sources=(self.declared,))  # a channel goes to that of its name
        return self

    def misfit(self, extent: Callable[[str], str]) -> tuple[str, str] | None:
        (source,) = self.sources
        if not self.depthwise or [*map(extent, source)] == [*map(extent, self.declared)]:
            return None
        message = f"a depthwise {self.noun} keeps its axes"
        return message, "give the equation the argument's axes, or leave `depthwise` out"

    @property
    def packing(self) -> tuple[object, ...]:
        return (*super().packing, self.width, self.causal, self.depthwise)

    @property
    def _channels(self) -> tuple[int | str, ...]:
        return (1,) if self.depthwise else self.sources[0] or (1,)

    def step(self, sources: Sequence[str], weight: str, bias: str) -> str:
        return f"convolve({sources[0]}, {weight}, {bias}, {self.depthwise}, wide)"

    def sequence(self, sources: Sequence[str], weight: str, bias: str) -> str:
        return f"convolve({sources[0]}, {weight}, {bias}, {self.depthwise}, None)"


@dataclass(frozen=True)
class Blockwise(LearnedMap):
    """``blockwise(x[t], heads)``: a matrix of its own for each head, an axis of both sides.

    weight (heads * out, in), the rows of a head together: the layout of a torch.nn.Conv1d of
    width 1 with ``groups``, less the width.
    """

    kind = "blockwise"
    usage = "blockwise(x[t], axis, bias = true, weight = init)"
    noun = "block-diagonal map"
    takes = "a value and the axis of its blocks"
    example = "blockwise(x[t], heads)"
    arity = 1
    counts = along = ("axis",)
    runtime = MappingProxyType({"blockwise": "maps"})

    axis: str

    @property
    def shape(self) -> tuple[Extent, ...]:
        return self.rows, self.fan_in

    @property
    def fan_in(self) -> Extent:
        return (tuple(a for a in self.sources[0] if a != self.axis) or (1,),)

    @property
    def factors(self) -> tuple[Extent, ...]:
        return (self.fan_in,)

    @property
    def alone(self) -> bool:
        return True

    def fitted(self) -> LearnedMap:
        source, out = map(self._axis_first, (self.sources[0], self.declared))
        return replace(self, sources=(source,), order=() if out == self.axes else out)

    def misfit(self, extent: Callable[[str], str]) -> tuple[str, str] | None:
        if all(self.axis in axes for axes in (self.sources[0], self.axes)):
            return None
        message = f"the blocks of a {self.noun} are an axis of its argument and of its result"
        return message, "name an axis that both have, or write `linear(…)`"

    def step(self, sources: Sequence[str], weight: str, bias: str) -> str:
        return f"blockwise({sources[0]}, {weight}, {bias}, self.{self.axis}, wide)"

    def sequence(self, sources: Sequence[str], weight: str, bias: str) -> str:
        return f"blockwise({sources[0]}, {weight}, {bias}, self.{self.axis}, None)"

    def _axis_first(self, axes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(axes, key=lambda a: a != self.axis))


#: The language's learned maps, by name.
MAPS: Mapping[str, type[LearnedMap]] = MappingProxyType(
    {m.kind: m for m in (Linear, Conv, Blockwise)}
)
#: The runtime's functions that maps are printed as, and the module that each is in.
MAP_FUNCTIONS: Mapping[str, str] = MappingProxyType(
    {name: module for m in MAPS.values() for name, module in m.runtime.items()}
)
