"""seqc as the benchmarks see it. When seqc's insides change, this is the file that follows."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.contract import Startup, backward_by_autograd

NAME = "seqc"

STARTUP: Startup | None = Startup(
    imports="import seqc",
    build="layer = seqc.compile(spec)(input=64, hidden=128)",
    call="y, state = layer(torch.ones(4, 64, 64))",
    cache_variable="SEQC_CACHE_DIR",
)

# The order in which a layer packs its maps: that of the equations in the spec.
_EQUATIONS = {"MinGRU": ("z", "v")}


def unavailable() -> str | None:
    """Why nothing can be measured here, or None."""
    try:
        layer = make_layer("MinGRU", input=4, hidden=4)
        packed = torch.zeros(1, 3, 8)
        kernel_forward(layer, packed)()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def make_layer(
    name: str, *, input: int, hidden: int, dtype: torch.dtype = torch.float32
) -> torch.nn.Module:
    """A layer of the zoo, with the C++ kernels and nothing in their place."""
    import seqc

    layer = getattr(cast(Any, seqc).zoo, name)(input=input, hidden=hidden, dtype=dtype)
    layer.backend = "cpp"
    return cast(torch.nn.Module, layer)


def pack(layer: torch.nn.Module, parts: Mapping[str, Tensor]) -> Tensor:
    """Pre-activations by equation, each (B, T, hidden), as one packed, contiguous tensor."""
    return torch.cat([parts[name] for name in _equations(layer)], dim=-1)


def unpack(layer: torch.nn.Module, packed: Tensor) -> dict[str, Tensor]:
    """The views of a packed tensor, by equation."""
    names = _equations(layer)
    return dict(zip(names, packed.chunk(len(names), dim=-1), strict=True))


def kernel_forward(layer: torch.nn.Module, packed: Tensor) -> Callable[[], Tensor]:
    """A call of the bare forward kernel, returning h (B, T, hidden)."""
    call = _call(layer, packed)
    tail = (*call.tail[:-1], False)  # nothing saved for a backward pass

    @torch.no_grad()
    def run() -> Tensor:
        return _first(call.operator(packed, *tail))

    return run


def kernel_backward(layer: torch.nn.Module, packed: Tensor, dy: Tensor) -> Callable[[], Tensor]:
    """A call of the backward kernel, returning the packed gradient."""
    return backward_by_autograd(lambda leaf: kernel_apply(layer, leaf), packed, dy)


def kernel_apply(layer: torch.nn.Module, packed: Tensor) -> Tensor:
    """h as a differentiable function of the packed pre-activations."""
    call = _call(layer, packed)
    return _first(call.operator(packed, *call.tail))


@dataclass(frozen=True)
class _Call:
    """The layer's one kernel, and its arguments after the packed pre-activations."""

    operator: Callable[..., Any]
    tail: tuple[Any, ...]


_CALLS: weakref.WeakKeyDictionary[torch.nn.Module, dict[Any, _Call]] = weakref.WeakKeyDictionary()


def _call(layer: torch.nn.Module, packed: Tensor) -> _Call:
    """What the layer launches for such a batch, beside the packed pre-activations."""
    calls = _CALLS.setdefault(layer, {})
    key = (tuple(packed.shape), packed.dtype)
    if key not in calls:
        seen = cast(Any, layer)
        if len(seen.KERNELS) != 1:
            raise RuntimeError(f"{type(layer).__name__} has {len(seen.KERNELS)} kernels, not one")
        (kernel,) = seen.KERNELS
        batch, steps = packed.shape[:2]
        wide = torch.float64 if packed.dtype == torch.float64 else torch.float32
        start = torch.zeros(batch, seen.hidden, dtype=wide)
        extents = (batch, steps, seen.hidden)
        # States are saved for a backward pass.
        calls[key] = _Call(kernel.run, (start, None, None, (), extents, packed.dtype, True))
    return calls[key]


def _first(result: Tensor | tuple[Tensor, ...]) -> Tensor:
    return result if isinstance(result, Tensor) else result[0]


def _equations(layer: torch.nn.Module) -> tuple[str, ...]:
    return _EQUATIONS[type(layer).__name__]
