"""What tangents and second derivatives of a whole layer cost, in its own forwards and backwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

LAYERS = ("MinGRU", "QRNN", "MinLSTM")


def calls(layer: nn.Module, shape: tuple[int, int, int]) -> dict[str, Callable[[], object]]:
    """Forward + backward; the tangent along a direction of the input; backward of the backward.

    The last has all gradients of the first, weighed, differentiated by all they are gradients of:
    forward and the first backward are in its time.
    """
    data = torch.Generator().manual_seed(0)
    x, dx, dy = (torch.randn(shape, generator=data) for _ in range(3))
    params = list(layer.parameters())
    weights = [torch.randn(p.shape, generator=data) for p in (x, *params)]

    def gradients(again: bool) -> tuple[list[Tensor], Any]:
        at = [x.detach().requires_grad_(), *params]
        y, _ = layer(at[0])
        return at, torch.autograd.grad(y, at, dy, create_graph=again)

    def twice() -> object:
        at, grads = gradients(True)
        return torch.autograd.grad(grads, at, weights)

    @torch.no_grad()
    def along() -> object:
        return torch.func.jvp(lambda v: layer(v)[0], (x,), (dx,))

    return {
        "forward + backward": lambda: gradients(False)[1],
        "jvp": along,
        "double backward": twice,
    }
