"""Learned maps of whole sequences: one matrix product, fast and accurate on the CPU.

A product of (B T, in) with (in, out) is a 1x1 convolution of a channels-last
image.  In float32 torch hands that to oneDNN, which on some CPUs runs at twice
the speed of its BLAS, and whose weight gradient is summed in blocks: over
327,680 rows the BLAS is off by 1e-5, the convolution by 6e-7.  The bias's
gradient is the other way round, so it is a plain sum here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqc.runtime.tracing import transforming

#: Products of fewer multiplications over fewer rows than these go to the BLAS as they are.
SMALL_WORK, FEW_ROWS = 1 << 18, 4096


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``x.to(dtype)``, without the call where there is nothing to convert: that takes a while."""
    return x if x.dtype is dtype else x.to(dtype)


def weight_of(linear: nn.Module) -> Tensor:
    """A map's weight, as ``linear.weight``, which takes three times as long."""
    return _parameter_of(linear, "weight")


def bias_of(linear: nn.Module) -> Tensor:
    """A map's bias."""
    return _parameter_of(linear, "bias")


def _parameter_of(linear: nn.Module, name: str) -> Tensor:
    found = linear._parameters.get(name)
    if found is None or torch.compiler.is_compiling():
        # What stands for a parameter (a parametrised, normed or pruned one) lies elsewhere.
        value: Tensor = getattr(linear, name)
        return value
    return found


def project(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x @ weight.T + bias`` for x (…, in), weight (out, in), bias (out,), in weight's dtype."""
    if x.dtype is not weight.dtype and not torch.is_autocast_enabled(x.device.type):
        x = x.to(weight.dtype)
    if not torch.compiler.is_compiling() and _convolves(x, weight):
        result: Tensor = _Project.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return result
    return functional.linear(x, weight, bias)


def blockwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, blocks: int, dtype: torch.dtype | None
) -> Tensor:
    """A matrix product a block: x (…, blocks * in), weight (blocks * out, in), bias (rows,).

    The result, (…, blocks * out), has the weight's dtype, or ``dtype``.
    """
    if x.dtype is not weight.dtype and not torch.is_autocast_enabled(x.device.type):
        x = x.to(weight.dtype)
    parts, matrices = x.unflatten(-1, (blocks, -1)), weight.unflatten(0, (blocks, -1))
    out = torch.einsum("...bi,boi->...bo", parts, matrices).flatten(-2)
    out = out if bias is None else out + cast(bias, out.dtype)
    return out if dtype is None else out.to(dtype)


def turn_rows(weight: Tensor, extents: tuple[int, ...], places: tuple[int, ...]) -> Tensor:
    """A weight's or bias's rows, which lie in the order of some axes, in another order of them.

    ``extents`` are those of the axes as they lie flat; ``places`` says which of them comes first,
    second, …
    """
    count = len(extents)
    apart: Tensor = weight.unflatten(0, extents)
    turned: Tensor = apart.permute(*places, *range(count, apart.dim()))
    return turned.flatten(0, count - 1)


def _convolves(x: Tensor, weight: Tensor) -> bool:
    """Whether the product runs as a convolution."""
    entries, width = x.numel(), x.shape[-1]
    if entries < FEW_ROWS * width and entries * weight.shape[0] < SMALL_WORK:
        return False
    if x.dtype != torch.float32 or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    return entries > 0 and torch.backends.mkldnn.is_available() and not transforming()


def _image(x: Tensor) -> Tensor:
    """(…, C) as one channels-last image (1, C, 1, rows); a view where x is contiguous."""
    return x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)


class _Project(torch.autograd.Function):
    """The product as a convolution; derivatives of higher order are such products again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        y = functional.conv2d(_image(x), weight[:, :, None, None], bias)
        return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        d_bias = grad.flatten(0, -2).sum(0) if need_bias else None
        d_x = d_weight = None
        if transforming():  # gradients of a batch of cotangents
            d_x = grad @ weight if need_x else None
            d_weight = grad.flatten(0, -2).t() @ x.flatten(0, -2) if need_weight else None
            return d_x, d_weight, d_bias
        if torch.is_grad_enabled():
            d_x = _product(grad, weight.t()) if need_x else None
            d_weight = _outer(grad, x) if need_weight else None
            return d_x, d_weight, d_bias
        if need_x or need_weight:
            image, kernel, _ = torch.ops.aten.convolution_backward(
                _image(grad), _image(x), weight[:, :, None, None], None,
                [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [need_x, need_weight, False],
            )  # fmt: skip
            if need_x:
                d_x = image.permute(0, 2, 3, 1).reshape(x.shape)
            if need_weight:
                d_weight = kernel[:, :, 0, 0]
        return d_x, d_weight, d_bias


class _Outer(torch.autograd.Function):
    """The gradient of a product's weight as a function of its own: the sum over rows of y^T x."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(y, x)
        weight = y.new_empty(1).expand(y.shape[-1], x.shape[-1], 1, 1)  # tells the shape alone
        _, kernel, _ = torch.ops.aten.convolution_backward(
            _image(y), _image(x), weight, None,
            [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, True, False],
        )  # fmt: skip
        found: Tensor = kernel[:, :, 0, 0]
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        y, x = ctx.saved_tensors
        need_y, need_x = ctx.needs_input_grad
        if transforming():
            return (x @ grad.t() if need_y else None), (y @ grad if need_x else None)
        return (_product(x, grad) if need_y else None), (_product(y, grad.t()) if need_x else None)


def outer(y: Tensor, x: Tensor) -> Tensor:
    """The sum over rows of their outer products, (rows, out) and (rows, in): (out, in)."""
    if _convolves(x, y.t()):
        found: Tensor = _Outer.apply(y, x)  # type: ignore[no-untyped-call]
        return found
    return y.t() @ x


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """``x @ weight.T`` as a convolution."""
    result: Tensor = _Project.apply(x, weight, None)  # type: ignore[no-untyped-call]
    return result


def _outer(y: Tensor, x: Tensor) -> Tensor:
    """The sum over rows of y^T x, (…, out) and (…, in), as a convolution's weight gradient."""
    result: Tensor = _Outer.apply(y, x)  # type: ignore[no-untyped-call]
    return result
