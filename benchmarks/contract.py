"""What an implementation must offer to be measured: the one seam between benchmarks and seqc.

``benchmarks.seqc_adapter`` is the implementation; ``--implementation MODULE`` measures another, a
hand-written kernel say, with the same code.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor


@dataclass(frozen=True)
class Startup:
    """Python source of the steps from nothing to a first output, each run once, in this order.

    ``imports`` runs after ``import torch``; ``build`` makes ``layer`` from the spec file at
    ``spec``; ``call`` gives the first output. ``cache_variable`` is the environment variable that
    names the cache folder.
    """

    imports: str
    build: str
    call: str
    cache_variable: str


class Implementation(Protocol):
    """A module with these names.

    ``packed`` is what the forward kernel reads: the pre-activations of one layer side by side,
    (B, T, maps * hidden), in whatever order the layer has. The equations of MinGRU are "z" (update
    gate) and "v" (candidate).
    """

    NAME: str
    STARTUP: Startup | None

    def unavailable(self) -> str | None:
        """Why nothing can be measured here, or None."""

    def make_layer(
        self, name: str, *, input: int, hidden: int, dtype: torch.dtype = torch.float32
    ) -> torch.nn.Module:
        """The layer "MinGRU", "QRNN" (fo-pooling, width 2) or "MinLSTM"; y, state = layer(x)."""

    def pack(self, layer: torch.nn.Module, parts: Mapping[str, Tensor]) -> Tensor:
        """Pre-activations by equation, each (B, T, hidden), as one packed, contiguous tensor."""

    def unpack(self, layer: torch.nn.Module, packed: Tensor) -> dict[str, Tensor]:
        """The views of a packed tensor (pre-activations or their gradients), by equation."""

    def kernel_forward(self, layer: torch.nn.Module, packed: Tensor) -> Callable[[], Tensor]:
        """A call of the bare forward kernel, gates included, returning h (B, T, hidden).

        No gradient is recorded. It may write into the same buffer at each call.
        """

    def kernel_backward(
        self, layer: torch.nn.Module, packed: Tensor, dy: Tensor
    ) -> Callable[[], Tensor]:
        """A call of the backward kernel, returning the packed gradient of ``packed``.

        What the forward pass saves is computed beforehand, outside the call.
        """

    def kernel_apply(self, layer: torch.nn.Module, packed: Tensor) -> Tensor:
        """h as a differentiable function of ``packed``, as the layer itself would run it."""


def load(module: str) -> Implementation:
    """The implementation in a module, by its dotted name."""
    return cast(Implementation, importlib.import_module(module))


def backward_by_autograd(
    apply: Callable[[Tensor], Tensor], packed: Tensor, dy: Tensor
) -> Callable[[], Tensor]:
    """``kernel_backward`` for an implementation that has no bare backward at hand.

    Costs what autograd costs, some 50 µs a call.
    """
    leaf = packed.detach().requires_grad_()
    h = apply(leaf)
    return lambda: torch.autograd.grad(h, leaf, dy, retain_graph=True)[0]
