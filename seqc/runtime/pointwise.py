"""Pointwise functions as seqc defines them, in plain torch: exact at the ends, numbers welcome."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqc.runtime.forward import nested
from seqc.runtime.tracing import transforming


class _Sigmoid(torch.autograd.Function):
    """A sigmoid whose derivative, s(x) s(-x), keeps its digits where s(x) is nearly 1."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * sigmoid(x) * sigmoid(-x)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        with nested(ctx.saved_tensors) as (x,):
            return tangent * sigmoid(x) * sigmoid(-x)


class _SigmoidReverse(torch.autograd.Function):
    """The same without what transforms need, which takes three times as long to call."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * sigmoid(x) * sigmoid(-x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)); torch's own derivative, s (1 - s), has no digits left at large x."""
    if torch.compiler.is_compiling():  # which does not take a Function with a tangent of its own
        return torch.sigmoid(x)
    if not transforming():
        if not (x.requires_grad and torch.is_grad_enabled()):
            return torch.sigmoid(x)
        quick: Tensor = _SigmoidReverse.apply(x)  # type: ignore[no-untyped-call]
        return quick
    result: Tensor = _Sigmoid.apply(x)  # type: ignore[no-untyped-call]
    return result


def guard(condition: Tensor | bool, value: Tensor, side: bool) -> Tensor:
    """The value; its gradient only where the condition is ``side``.

    What a branch of a ``where`` reads goes through this, so that an infinite
    derivative of the branch not taken meets a zero and makes no NaN.
    """
    if not isinstance(condition, Tensor):
        return value if bool(condition) == side else value.detach()
    stopped = value.detach()
    return (
        torch.where(condition, value, stopped) if side else torch.where(condition, stopped, value)
    )


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), without torch's early linear branch, which is 2e-9 off in float64."""
    return torch.nn.functional.softplus(x, threshold=40.0)


def _both(a: Tensor | float, b: Tensor | float) -> tuple[Tensor, Tensor]:
    """Two tensors, a number taking the dtype of the other."""
    like = a if isinstance(a, Tensor) else b
    assert isinstance(like, Tensor)
    pair = [x if isinstance(x, Tensor) else like.new_full((), x) for x in (a, b)]
    return pair[0], pair[1]


def logaddexp(a: Tensor | float, b: Tensor | float) -> Tensor:
    """log(exp(a) + exp(b)); its gradient at (-inf, -inf) is 0, where torch's is NaN."""
    a, b = _both(a, b)
    nothing = (a == -math.inf) & (b == -math.inf)
    safe_a, safe_b = torch.where(nothing, 0.0, a), torch.where(nothing, 0.0, b)
    return torch.where(nothing, -math.inf, torch.logaddexp(safe_a, safe_b))


def minimum(a: Tensor | float, b: Tensor | float) -> Tensor:
    """The smaller; NaN wins; at a tie each side gets half the gradient."""
    return torch.minimum(*_both(a, b))


def maximum(a: Tensor | float, b: Tensor | float) -> Tensor:
    """The larger; NaN wins; at a tie each side gets half the gradient."""
    return torch.maximum(*_both(a, b))


def pick(condition: Tensor, yes: float, no: float, dtype: torch.dtype) -> Tensor:
    """One of two numbers, in the given dtype."""
    options = torch.tensor([no, yes], dtype=dtype, device=condition.device)
    return torch.where(condition, options[1], options[0])


def choose(condition: bool, yes: Tensor | float, no: Tensor | float) -> Tensor:
    """One of two values by a number's truth, broadcast as a choice a channel would be."""
    like = yes if isinstance(yes, Tensor) else no
    assert isinstance(like, Tensor)
    taken = torch.full((), bool(condition), dtype=torch.bool, device=like.device)
    return torch.where(taken, yes, no)


def shift(x: Tensor, dim: int, by: int) -> Tensor:
    """Entries moved ``by`` places along a dimension (negative: towards the front); zeros enter."""
    extent = x.shape[dim]
    by = max(-extent, min(extent, by))
    pad_shape = list(x.shape)
    pad_shape[dim] = abs(by)
    pad = x.new_zeros(pad_shape)
    if by >= 0:
        return torch.cat((pad, x.narrow(dim, 0, extent - by)), dim)
    return torch.cat((x.narrow(dim, -by, extent + by), pad), dim)


def numeric(function: Callable[..., Tensor], *args: float) -> float:
    """A pointwise function of plain numbers (hypers and sizes)."""
    return float(function(*torch.tensor(args, dtype=torch.float64).unbind()))
