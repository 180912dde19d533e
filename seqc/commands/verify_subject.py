"""The layer under test: its sizes, its tensors, and the ways to run it.

Works from the class attributes of a built layer alone (SIZES, INPUTS, OUTPUTS), so for any spec.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from seqc.commands.common import CommandError

Mode = Literal["parallel", "chunked", "step"]

# Odd and unequal: a kernel that mixes up two axes, or forgets the rest after a
# vector register's worth, shows.
SMALL = (3, 5, 2, 7)
WIDE = (19, 37, 11, 13)


@dataclass(frozen=True)
class Feed:
    """What goes into one call; ``state`` is None, or the fields of a state."""

    inputs: tuple[Tensor, ...]
    state: tuple[Any, ...] | None


@dataclass(frozen=True)
class Run:
    """What came out, by name; a gradient that did not arrive is missing from ``gradients``."""

    outputs: dict[str, Tensor]
    states: dict[str, Tensor]
    gradients: dict[str, Tensor]

    def everything(self) -> dict[str, Tensor]:
        """All tensors of the run."""
        return {**self.outputs, **self.states, **self.gradients}


class Subject:
    """A layer class with sizes filled in, from which layers and inputs are made."""

    def __init__(
        self,
        layer_class: type[Any],
        fill: Sequence[int],
        seed: int,
        sizes: Mapping[str, int],
        emulated: bool = False,
    ) -> None:
        self.layer_class = layer_class
        self.emulated = emulated
        self.seed = seed
        required = [name for name, default in layer_class.SIZES.items() if default is None]
        filled = {n: fill[i % len(fill)] for i, n in enumerate(required)}
        unknown = set(sizes) - set(layer_class.SIZES)
        if unknown:
            have = ", ".join(layer_class.SIZES) or "none"
            raise CommandError(
                f"the layer has no size {sorted(unknown)[0]!r}", hint=f"its sizes: {have}", code=2
            )
        self.sizes = {**filled, **sizes}
        master = self._build(torch.float64)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(seed)
            for p in master.parameters():
                # What starts at 0 hides every error that it multiplies; what does not keeps its
                # sign, which the spec may rely on.
                noise = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
                p.copy_(torch.where(p == 0, 0.1 * noise, p * (1 + 0.1 * noise.clamp(-3, 3))))
        self._master: dict[str, Tensor] = master.state_dict()

    def _build(self, dtype: torch.dtype, made: type[Any] | None = None) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            layer = (made or self.layer_class)(**self.sizes, dtype=dtype)
        return layer.eval()  # dropout draws masks of its own in training: no two runs compare

    def layer(self, backend: str, dtype: torch.dtype, *, values: torch.dtype | None = None) -> Any:
        """A layer whose parameters hold the subject's values, rounded to ``values`` first.

        Whatever its backend, it takes tensors of the CPU and gives such back.
        """
        on_gpu = backend == "cuda" and not self.emulated
        layer = self._build(dtype, _on_gpu(self.layer_class) if on_gpu else None)
        rounded = {
            k: v.to(_like(v, values or dtype)).to(_like(v, dtype)) for k, v in self._master.items()
        }
        layer.load_state_dict(rounded)
        if on_gpu:
            layer.cuda()
        # Emulated kernels stand in the place of those of the CPU.
        layer.backend = "cpp" if backend == "cuda" and self.emulated else backend
        return layer

    def inputs(
        self, batch: int, time: int, dtype: torch.dtype, scale: float = 1.0
    ) -> tuple[Tensor, ...]:
        """Normal inputs, the same numbers for every dtype (up to its rounding)."""
        generator = torch.Generator().manual_seed(self.seed + 7919 * time + batch)
        found = []
        for axes in self.layer_class.INPUTS.values():
            shape = (batch, time, *self._extents(axes))
            x = torch.randn(shape, generator=generator, dtype=torch.float64)
            found.append((scale * x).to(dtype))
        return tuple(found)

    def _extents(self, axes: Sequence[str]) -> tuple[int, ...]:
        """The extents of axes; no axes are one number a step, a last axis of 1."""
        return tuple(self._extent(a) for a in axes) or (1,)

    def _extent(self, axis: str) -> int:
        if axis.isdigit():
            return int(axis)
        if axis in self.sizes:
            return self.sizes[axis]
        default = self.layer_class.SIZES.get(axis)
        if default is not None:
            return int(default)
        # A derived size is an attribute of the layer; an axis that the layer does not know the
        # extent of (space) may have any.
        extent = getattr(self._build(torch.float64), axis, None)
        return extent if isinstance(extent, int) else 4

    def output_shapes(self, batch: int, time: int) -> list[tuple[int, ...]]:
        """The shape that each output has to have."""
        return [(batch, time, *self._extents(axes)) for axes in self.layer_class.OUTPUTS.values()]

    def feed(self, batch: int, time: int, dtype: torch.dtype, *, scale: float = 1.0) -> Feed:
        """Inputs, and a state such as a few steps leave behind."""
        with torch.no_grad():
            warm = self.layer("reference", dtype)(*self.inputs(batch, 2, dtype))[1]
        return Feed(self.inputs(batch, time, dtype, scale), tuple(warm))


def _on_gpu(layer_class: type[Any]) -> type[Any]:
    """The layer on a GPU, for callers that know the CPU alone."""

    class OnGpu(layer_class):  # type: ignore[misc]
        def forward(self, *inputs: Any, **more: Any) -> Any:
            found = super().forward(*_moved(inputs, "cuda"), **_moved(more, "cuda"))
            return _moved(found, "cpu")

        def step(self, *inputs: Any, **more: Any) -> Any:
            found = super().step(*_moved(inputs, "cuda"), **_moved(more, "cuda"))
            return _moved(found, "cpu")

    return OnGpu


def _moved(value: Any, device: str) -> Any:
    """Tensors on a device, and tuples (named ones too) and dicts of them."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {k: _moved(v, device) for k, v in value.items()}
    if isinstance(value, tuple):
        parts = [_moved(v, device) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def widen(feed: Feed) -> Feed:
    """The same numbers in float64, for the oracle."""
    state = None if feed.state is None else tuple(_wide(f) for f in feed.state)
    return Feed(tuple(_wide(x) for x in feed.inputs), state)


def nudge(layer: Any, feed: Feed, eps: float, seed: int) -> Feed:
    """Move a layer's parameters, and a feed's inputs and states, by up to ``eps`` of each number.

    What results move by then is how far roundings alone can carry them.
    """
    generator = torch.Generator().manual_seed(seed)

    def moved(t: Any) -> Any:
        if not differentiable(t):
            return t
        draw = 2 * torch.rand(t.shape, generator=generator, dtype=torch.float64) - 1
        return t * (1 + eps * draw)

    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(moved(p))
    state = None if feed.state is None else tuple(map(moved, feed.state))
    return Feed(tuple(map(moved, feed.inputs)), state)


def execute(
    layer: Any,
    feed: Feed,
    mode: Mode = "parallel",
    *,
    resets: Tensor | None = None,
    restart: int | None = None,
) -> Run:
    """Run a layer and take the gradient of a random projection of all that it returns.

    ``resets`` goes to the layer as it is; ``restart`` is a step at which the state is dropped.
    """
    x = tuple(v.clone().requires_grad_() for v in feed.inputs)
    state = None
    fields: tuple[Any, ...] = ()
    if feed.state is not None:
        fields = tuple(f.clone().requires_grad_() if differentiable(f) else f for f in feed.state)
        state = state_type(layer, x)(*fields)
    with comparable_gradients(layer):
        if resets is not None:
            y, final = layer(*x, state=state, resets=resets)
            outputs = as_tuple(y)
        elif restart is not None:
            before, _ = layer(*(v[:, :restart] for v in x), state=state)
            after, final = layer(*(v[:, restart:] for v in x))
            both = zip(as_tuple(before), as_tuple(after), strict=True)
            outputs = tuple(torch.cat(pair, dim=1) for pair in both)
        else:
            outputs, final = _call(layer, x, state, mode)
    names = list(type(layer).OUTPUTS)
    made = {f"output {n}": y for n, y in zip(names, outputs, strict=True)}
    left: dict[str, Tensor] = {
        f"state {n}": s for n, s in zip(field_names(final), final, strict=True)
    }
    leaves = {f"d {n}": v for n, v in zip(type(layer).INPUTS, x, strict=True)}
    leaves |= {
        f"d state {n}": f
        for n, f in zip(field_names(final), fields, strict=False)
        if differentiable(f)
    }
    leaves |= {f"d {n}": p for n, p in layer.named_parameters()}
    arrived = gradients_of([*made.values(), *left.values()], leaves)
    return Run(
        {n: y.detach() for n, y in made.items()},
        {n: s.detach() for n, s in left.items()},
        arrived,
    )


def comparable_gradients(layer: Any) -> torch.autograd.grad_mode.set_grad_enabled:
    """No gradients where a spec asks for others than exact ones: the reference has none of them."""
    return torch.set_grad_enabled(not getattr(layer, "FEEDBACK", ""))


def gradients_of(values: Sequence[Any], leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of a random projection of values, for the leaves that it reaches."""
    loss = projection(values)
    if not loss.requires_grad:
        return {}
    found: Sequence[Tensor | None] = torch.autograd.grad(
        loss, list(leaves.values()), allow_unused=True
    )
    return {n: g.detach().cpu() for n, g in zip(leaves, found, strict=True) if g is not None}


def _call(
    layer: Any, x: tuple[Tensor, ...], state: Any, mode: Mode
) -> tuple[tuple[Tensor, ...], Any]:
    time = x[0].shape[1]
    if mode == "parallel":
        y, state = layer(*x, state=state)
        return as_tuple(y), state
    parts: list[tuple[Tensor, ...]] = []
    if mode == "step":
        for t in range(time):
            y, state = layer.step(*(v[:, t] for v in x), state)
            parts.append(tuple(v.unsqueeze(1) for v in as_tuple(y)))
    else:
        # Unequal chunks, one of a single step: shorter than any window a layer carries.
        cuts = sorted({0, time // 3, time // 3 + 1, time})
        for a, b in itertools.pairwise(cuts):
            y, state = layer(*(v[:, a:b] for v in x), state=state)
            parts.append(as_tuple(y))
    return tuple(torch.cat(p, dim=1) for p in zip(*parts, strict=True)), state


def state_type(layer: Any, x: Sequence[Tensor]) -> Any:
    """The type of the layer's states: what any call hands out."""
    with torch.no_grad():
        _, state = layer(*(v.new_zeros((v.shape[0], 1, *v.shape[2:])) for v in x))
    return type(state)


def field_names(state: Any) -> tuple[str, ...]:
    """The names of a state's fields."""
    return tuple(getattr(state, "_fields", ())) or tuple(str(i) for i in range(len(state)))


def as_tuple(y: Any) -> tuple[Tensor, ...]:
    """What a layer returns for its outputs, as a tuple always."""
    return y if isinstance(y, tuple) else (y,)


def differentiable(value: Any) -> bool:
    """Whether a gradient can reach the value."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def projection(values: Sequence[Any], seed: int = 0) -> Tensor:
    """A scalar that depends on every number of every value, each with a weight of its own."""
    generator = torch.Generator().manual_seed(seed + 1)
    total = torch.zeros((), dtype=torch.float64)
    for v in values:
        if differentiable(v):
            real = torch.view_as_real(v) if v.is_complex() else v
            weight = torch.randn(real.shape, generator=generator, dtype=torch.float64)
            total = total + (real.double() * weight).sum()
    return total


def discrepancy(got: Mapping[str, Tensor], true: Mapping[str, Tensor]) -> tuple[float, str]:
    """The largest error, relative to the largest number of its tensor, and where it is.

    Where the truth is not finite nothing is asked; a NaN elsewhere is an error of NaN. A missing
    gradient counts as 0. A tensor much smaller than its fellows is measured against them: it is
    what is left when they cancel.
    """
    scales = {n: _largest(t) for n, t in true.items()}
    floor = 1e-3 * max(scales.values(), default=0.0)
    worst, where = 0.0, ""
    for name, truth in true.items():
        wide = _wide(truth)
        value = _wide(got[name]) if name in got else torch.zeros_like(wide)
        if value.shape != wide.shape:
            return math.inf, f"{name} is {tuple(value.shape)}, not {tuple(wide.shape)}"
        finite = torch.isfinite(wide)
        error = (value - wide).abs()[finite]
        if error.numel() == 0:
            continue
        if bool(torch.isnan(error).any()):
            return math.nan, f"{name} is NaN"
        if not bool(torch.isfinite(error).all()):
            return math.inf, f"{name} is infinite"
        relative = float(error.max()) / (max(scales[name], floor) or 1.0)
        if relative > worst:
            worst, where = relative, name
    return worst, where


def _largest(t: Tensor) -> float:
    magnitude = _wide(t).abs()
    magnitude = magnitude[torch.isfinite(magnitude)]
    return float(magnitude.max()) if magnitude.numel() else 0.0


def _like(t: Tensor, dtype: torch.dtype) -> torch.dtype:
    # Complex parameters have a complex dtype of the same precision; whole numbers stay.
    if t.is_complex():
        return torch.complex128 if dtype == torch.float64 else torch.complex64
    return dtype if t.is_floating_point() else t.dtype


def _wide(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.to(_like(value, torch.float64))
