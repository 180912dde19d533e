"""Errors against the float64 loop, on the same (already rounded) pre-activations."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmarks import baselines
from benchmarks.contract import Implementation

# Added to the pre-activation of the update gate: z near 0.02, 0.5 and 0.9. The first remembers
# some 50 steps, the last 1.
BIASES = (-4.0, 0.0, 2.0)


@dataclass(frozen=True)
class Errors:
    """Relative errors of h (largest over the elements; h > 0), and of the gradients (largest error
    against the largest element), of the implementation and of the log-space baseline."""

    bias: float
    h: float
    gradient: float
    h_log_space: float


def measure(
    implementation: Implementation,
    batch: int,
    steps: int,
    width: int,
    dtype: torch.dtype,
    bias: float,
    seed: int = 0,
) -> Errors:
    """The errors at one shape and one bias of the update gate."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, steps, width)
    k = (torch.randn(shape, generator=generator) + bias).to(dtype)
    v = torch.randn(shape, generator=generator).to(dtype)
    dy = torch.randn(shape, generator=generator).to(dtype)
    h, dk, dv = baselines.loop_gradients(k, v, dy)
    layer = implementation.make_layer("MinGRU", input=width, hidden=width, dtype=dtype)
    packed = implementation.pack(layer, {"z": k, "v": v}).requires_grad_()
    found = implementation.kernel_apply(layer, packed)
    (slope,) = torch.autograd.grad(found, packed, dy)
    slopes = implementation.unpack(layer, slope)
    return Errors(
        bias=bias,
        h=baselines.relative_error(found.detach(), h),
        gradient=max(baselines.norm_error(slopes["z"], dk), baselines.norm_error(slopes["v"], dv)),
        h_log_space=baselines.relative_error(baselines.log_space(k, v), h),
    )
