"""Values with a stated derivative: what `gradient f(u) = …` runs as."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqc.runtime.forward import nested


class _Graft(torch.autograd.Function):
    """The value; its derivative 1 by the value, ``slope`` by x, none by ``slope``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, x: Tensor, slope: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])
        ctx.save_for_forward(inputs[2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grad, grad * slope, None

    @staticmethod
    def jvp(ctx: Any, value: Tensor, x: Tensor, slope: Tensor) -> Tensor:
        with nested(ctx.saved_tensors) as (at,):
            tangent: Tensor = value + x * at
        return tangent


class _GraftReverse(torch.autograd.Function):
    """The same without a tangent of its own, which torch.compile does not take."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grad, grad * slope, None


def graft(value: Tensor | float, x: Tensor | float, slope: Tensor | float) -> Tensor:
    """``value`` exactly, also where it or x is infinite, with the derivative ``slope`` by x.

    The derivative by ``slope`` is none: it is a derivative already, and its own is that of the
    second order.
    """
    like = next(v for v in (value, x, slope) if isinstance(v, Tensor))
    parts = [v if isinstance(v, Tensor) else like.new_full((), v) for v in (value, x, slope)]
    same = torch.broadcast_tensors(*parts)
    if torch.compiler.is_compiling():
        found: Tensor = _GraftReverse.apply(*same)  # type: ignore[no-untyped-call]
        return found
    result: Tensor = _Graft.apply(*same)  # type: ignore[no-untyped-call]
    return result
