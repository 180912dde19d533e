"""What every generated layer is built from: its tables, sizes and hypers by name, parameters."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from seqc.runtime.certificates import Solution
from seqc.runtime.environment import BACKENDS
from seqc.runtime.inits import draw, numbers
from seqc.runtime.kernels import FusedKernel

_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge
}  # fmt: skip
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


class Field(NamedTuple):
    """One field of a layer's state, its axes as declared.

    A ``single`` field is the last value, (B, *axes); any other holds the last K
    steps, (B, K, *axes) with the oldest first, K the longest of ``lags`` and of
    ``windows`` less one (numbers, or names of sizes).
    """

    name: str
    axes: tuple[str, ...]
    single: bool
    lags: tuple[int | str, ...]
    windows: tuple[int | str, ...]


class ParameterRecord(NamedTuple):
    """How a parameter was declared, for ``reset_parameters``."""

    name: str
    kind: str
    values: tuple[Any, ...]
    fan_in: int


class Shell(nn.Module):
    """A layer's tables (filled in by the generated class), its construction and its parameters."""

    SPEC: ClassVar[str] = ""
    SIZES: ClassVar[dict[str, int | None]] = {}
    ALIASES: ClassVar[dict[str, str]] = {}
    #: Lags that are sums of sizes and numbers.
    SUMS: ClassVar[dict[str, tuple[int | str, ...]]] = {}
    #: The order of axes within, that of the sizes; empty where no declaration has another.
    AXES: ClassVar[tuple[str, ...]] = ()
    HYPERS: ClassVar[dict[str, float]] = {}
    #: Of each function that is chosen when a layer is built the names; the hyper is one's place.
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {}
    #: What hypers must keep to: (hyper, sign, a number or another hyper).
    DOMAINS: ClassVar[tuple[tuple[str, str, float | str], ...]] = ()
    INPUTS: ClassVar[dict[str, tuple[str, ...]]] = {}
    STATES: ClassVar[dict[str, tuple[str, ...]]] = {}
    OUTPUTS: ClassVar[dict[str, tuple[str, ...]]] = {}
    FIELDS: ClassVar[tuple[Field, ...]] = ()
    KERNELS: ClassVar[tuple[FusedKernel, ...]] = ()
    PARALLEL: ClassVar[bool] = True
    #: Whether some of its states are taken step by step between the kernels.
    LOOPS: ClassVar[bool] = False
    #: Whether some are found by Newton's iterations.
    NEWTON: ClassVar[bool] = False
    #: What gradients its spec asks for in place of exact ones; empty where they are exact.
    FEEDBACK: ClassVar[str] = ""
    STREAMS: ClassVar[bool] = True
    #: Whether kernels alone read the state that a sequence starts from, and it is zeros if none is
    #: given: such need not be made.
    FROM_ZEROS: ClassVar[bool] = False
    State: ClassVar[Any]
    DEFAULT_BACKEND: ClassVar[str] = "auto"

    backend: str
    #: What Newton's iterations of the last call came to, a state that is solved so.
    solution: dict[str, Solution]
    _as_it_is: ClassVar[bool] = False
    #: The state before the first step where it is zeros that nobody need make.
    _nothing: ClassVar[Any] = None
    _rests: tuple[tuple[int, ...], ...] = ()
    #: The name of the first parameter, taken apart.
    _path: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str | None = None,
        **numbers: Any,
    ) -> None:
        super().__init__()
        self._take_numbers(numbers)
        self.backend = backend if backend is not None else type(self).DEFAULT_BACKEND
        self._factory = (device, dtype)
        self._records: list[ParameterRecord] = []
        self.solution = {}
        self._declare()
        del self._factory
        self.reset_parameters()

    def _declare(self) -> None:
        """Create the parameters (``self._parameter``)."""

    def _take_numbers(self, numbers: dict[str, Any]) -> None:
        """Check sizes and hypers by name, and set them as attributes."""
        kind = type(self).__name__
        known = [*self.SIZES, *self.HYPERS]
        for name in numbers:
            if name not in known:
                if name in self.ALIASES:
                    said = f"{name} is another name for {self.ALIASES[name]}: give that one"
                else:
                    said = f"it takes {', '.join(known) or 'no numbers'}"
                raise TypeError(f"{kind} has no size or hyper {name!r}; {said}")
        for name, default in self.SIZES.items():
            value: Any = numbers.get(name, default)
            if value is None:
                want = ", ".join(f"{s}=…" for s, d in self.SIZES.items() if d is None)
                raise TypeError(f"{kind} needs the size {name!r}: {kind}({want})")
            whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            if isinstance(value, bool) or not whole or value < 1:
                raise ValueError(f"{kind}: size {name!r} must be a positive integer, not {value!r}")
            setattr(self, name, int(value))
        for alias, target in self.ALIASES.items():
            setattr(self, alias, getattr(self, target))
        for lag, terms in self.SUMS.items():
            setattr(self, lag, sum(k if isinstance(k, int) else self._extent(k) for k in terms))
        hypers = {}
        for name, number in self.HYPERS.items():
            value = numbers.get(name, number)
            if name in self.CHOICES:
                hypers[name] = self._place(name, numbers.get(name, self.CHOICES[name][0]))
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
                raise ValueError(f"{kind}: hyper {name!r} must be a number, not {value!r}")
            hypers[name] = float(value)
        # First those that the caller named, so that it is they which are told of.
        for name in [h for h in numbers if h in hypers] + list(hypers):
            self._check_domain(name, hypers)
        # Together: one at a time, each would be held to what the others were before.
        self.__dict__.update(hypers)

    def _place(self, name: str, value: Any) -> float:
        """The place of a chosen function among those that there are."""
        names = self.CHOICES[name]
        if value not in names:
            raise ValueError(
                f"{type(self).__name__}: {name} is chosen from {', '.join(map(repr, names))}; it "
                f"can't be {value!r}"
            )
        return float(names.index(value))

    def _check_domain(self, name: str, hypers: dict[str, float]) -> None:
        """Raise where a hyper does not keep to what the spec says of it."""
        for hyper, sign, bound in self.DOMAINS:
            if name not in (hyper, bound):
                continue
            limit = hypers[bound] if isinstance(bound, str) else bound
            if not _HOLDS[sign](hypers[hyper], limit):
                # The value at fault stands first, whichever side of the relation it is on.
                if name == hyper:
                    told = f"{sign} {bound if isinstance(bound, str) else f'{bound:g}'}"
                    told += f", which is {limit:g}" if isinstance(bound, str) else ""
                else:
                    told = f"{_MIRRORED[sign]} {hyper}, which is {hypers[hyper]:g}"
                raise ValueError(
                    f"{type(self).__name__}: hyper {name!r} must be {told}; it can't be "
                    f"{hypers[name]!r}"
                )

    def _parameter(
        self,
        name: str,
        shape: tuple[int, ...],
        kind: str = "default",
        values: tuple[Any, ...] = (),
        fan_in: int = 0,
    ) -> None:
        """Declare ``name`` (dots make submodules, so that state_dict reads like the spec)."""
        holder: nn.Module = self
        *path, last = name.split(".")
        for part in path:
            if part not in holder._modules:
                holder.add_module(part, nn.Module())
            holder = getattr(holder, part)
        device, dtype = self._factory
        holder.register_parameter(
            last, nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        )
        self._path = self._path or tuple(name.split("."))
        values = numbers(f"{type(self).__name__}: parameter {name!r}", kind, values)
        self._records.append(ParameterRecord(name, kind, values, fan_in))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw every parameter anew from the distribution that the spec gives it.

        Where it gives none, a map's weights and biases are uniform in ±1/sqrt(fan in), as
        torch.nn.Linear's; other parameters start at zero. Numbers in terms of sizes and hypers
        are those of the layer as it was built.
        """
        for name, kind, values, fan_in in self._records:
            p = self.get_parameter(name)
            draw(p, kind, values, fan_in)

    def extra_repr(self) -> str:
        """Sizes and hypers, as given."""
        numbers = [f"{n}={getattr(self, n)}" for n in self.SIZES]
        for n in self.HYPERS:
            number = getattr(self, n)
            known = self.CHOICES.get(n)
            numbers.append(f"{n}={number:g}" if known is None else f"{n}={known[int(number)]!r}")
        return ", ".join(numbers)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.CHOICES:
            raise AttributeError(
                f"{type(self).__name__}: {name!r} is chosen when the layer is built and stays so; "
                "make another layer"
            )
        if name in self.HYPERS and not isinstance(value, (int, float)):
            if not (isinstance(value, Tensor) and value.numel() == 1):
                raise TypeError(f"hyper {name!r} must be a number, not {type(value).__name__}")
            value = float(value)
        if name in self.SIZES and self.__dict__.get(name, value) != value:
            raise AttributeError(
                f"{type(self).__name__}: size {name!r} is {self.__dict__[name]} and stays so, for "
                "the parameters have their shapes by it; make another layer"
            )
        if name == "backend" and value not in BACKENDS:
            raise ValueError(f"backend {value!r}: it can be {', '.join(BACKENDS)}")
        if name in self.HYPERS:
            value = float(value)
            if math.isnan(value):
                raise ValueError(f"{type(self).__name__}: hyper {name!r} must be a number, not nan")
            self._check_domain(name, {h: getattr(self, h) for h in self.HYPERS} | {name: value})
        super().__setattr__(name, value)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """What follows from the tables."""
        super().__init_subclass__(**kwargs)
        if cls.FROM_ZEROS:
            cls._nothing = cls.State(*(None for _ in cls.FIELDS))
        # Whether tensors are the same inside and outside: each has axes, in the layer's order.
        fields = [f.axes for f in cls.FIELDS]
        cls._as_it_is = not cls.AXES and all(
            all(x) for x in (cls.INPUTS.values(), cls.OUTPUTS.values(), fields)
        )

    def _extent(self, axis: str) -> int:
        """The number of entries along an axis."""
        return int(getattr(self, axis))

    def _shape(self, axes: Sequence[str]) -> tuple[int, ...]:
        return tuple(self._extent(a) for a in axes)

    def _within(self, axes: Sequence[str]) -> tuple[str, ...]:
        """Declared axes in the order that they have within the layer."""
        return tuple(a for a in self.AXES if a in axes) if self.AXES else tuple(axes)

    def _inwards(self, x: Tensor, axes: tuple[str, ...]) -> Tensor:
        """A caller's tensor, its axes as declared, as the equations have it: a view."""
        return _turned(x, axes, self._within(axes))

    def _outwards(self, x: Tensor, axes: tuple[str, ...]) -> Tensor:
        """A value of the equations with its axes as declared: a view."""
        return _turned(x, self._within(axes), axes)

    def _rest_of(self, index: int) -> tuple[int, ...]:
        """A field's shape without the batch, its axes in the layer's order; worked out once."""
        found = self._rests
        if not found:
            found = tuple(self._field_shape(f, 0, self._within(f.axes))[1:] for f in self.FIELDS)
            self.__dict__["_rests"] = found
        return found[index]

    def _kept_steps(self, field: Field) -> int:
        """How many past steps a field holds."""
        lags = [k if isinstance(k, int) else self._extent(k) for k in field.lags]
        spans = [(w if isinstance(w, int) else self._extent(w)) - 1 for w in field.windows]
        return max([*lags, *spans], default=0)

    def _field_shape(
        self, field: Field, batch: int, axes: tuple[str, ...] | None = None
    ) -> tuple[int, ...]:
        """A field's shape as a caller sees it, or with its axes in another order."""
        inner = self._shape(field.axes if axes is None else axes)
        return (batch, *inner) if field.single else (batch, self._kept_steps(field), *inner)


def _turned(x: Tensor, axes: tuple[str, ...], wanted: tuple[str, ...]) -> Tensor:
    """A tensor (…, *axes) with these axes in another order."""
    if axes == wanted:
        return x
    lead = x.dim() - len(axes)
    return x.permute(*range(lead), *(lead + axes.index(a) for a in wanted))
