"""What seqc is compared with, and the float64 loop that all of it must agree with.

Pre-activations of a minGRU: ``k`` of the update gate and ``v`` of the candidate, each (B, T, D).
The layer is z = sigmoid(k), h[t] = (1 - z[t]) h[t-1] + z[t] g(v[t]), h[0] before the first step 0,
g(v) = v + 0.5 where v >= 0 and sigmoid(v) elsewhere (Feng et al., 2024, arXiv 2410.01201).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

FORWARD_STREAMS = 3  # k, v -> h
BACKWARD_STREAMS = 6  # k, v, h, dy -> dk, dv


def g(v: Tensor) -> Tensor:
    """The candidate's activation, positive everywhere (Appendix B.3.1)."""
    return torch.where(v >= 0, v + 0.5, torch.sigmoid(v))


def log_g(v: Tensor) -> Tensor:
    """log g(v), without the log of a vanishing sigmoid."""
    return torch.where(v >= 0, (functional.relu(v) + 0.5).log(), -functional.softplus(-v))


def log_space(k: Tensor, v: Tensor) -> Tensor:
    """The published parallel form: Heinsen's scan on logarithms, h0 = 0.

    a* = cumsum(log(1 - z)), h = exp(a* + logcumsumexp(log z + log g(v) - a*)).
    """
    log_coefficients = -functional.softplus(k)
    log_values = -functional.softplus(-k) + log_g(v)
    a_star = log_coefficients.cumsum(dim=1)
    log_h0_plus_b_star = (log_values - a_star).logcumsumexp(dim=1)
    return (a_star + log_h0_plus_b_star).exp()


def associative(k: Tensor, v: Tensor) -> Tensor:
    """Gates and torch's associative_scan: what ``torch.compile`` is given. Forward only."""
    from torch._higher_order_ops.associative_scan import associative_scan

    z = torch.sigmoid(k)
    # Generic: the pointwise mode is for CUDA only (and its gradients are wrong in torch 2.13).
    _, h = associative_scan(_compose, (1 - z, z * g(v)), dim=1, combine_mode="generic")
    return torch.as_tensor(h)


def _compose(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return first[0] * second[0], second[0] * first[1] + second[1]


def loop(k: Tensor, v: Tensor) -> Tensor:
    """The recurrence as printed, step by step, in float64: the reference; differentiable."""
    z, value = torch.sigmoid(k.double()), g(v.double())
    # sigmoid(-k) and not 1 - z: the reference should not round where the formula need not.
    a, b = torch.sigmoid(-k.double()), z * value
    h = torch.zeros_like(b[:, 0])
    steps = []
    for t in range(b.shape[1]):
        h = a[:, t] * h + b[:, t]
        steps.append(h)
    return torch.stack(steps, dim=1)


def loop_gradients(k: Tensor, v: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(h, dk, dv) in float64 from the adjoint recurrence, written by hand: no graph of T nodes."""
    kd, vd = k.double(), v.double()
    z, a, value = torch.sigmoid(kd), torch.sigmoid(-kd), g(vd)
    h = loop(k, v)
    adjoint = torch.empty_like(h)
    carried = torch.zeros_like(h[:, 0])
    for t in range(h.shape[1] - 1, -1, -1):
        carried = carried + dy[:, t].double()
        adjoint[:, t] = carried
        carried = a[:, t] * carried
    before = torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], dim=1)
    slope = torch.where(vd >= 0, torch.ones_like(vd), value * (1 - value))
    return h, adjoint * (value - before) * z * a, adjoint * z * slope


def multiplies(elements: int, streams: int, dtype: torch.dtype) -> Callable[[], object]:
    """``torch.mul(a, b, out=c)`` moving as many bytes as ``streams`` tensors of ``elements``.

    Each multiply moves three equal streams, so 6 streams are two multiplies (on tensors of their
    own, so that the second finds nothing of the first in a cache); 5 streams are made of two
    multiplies on tensors that are shorter.
    """
    count = -(-streams // 3)
    size = elements * streams // (3 * count)
    # Ones, not noise: a slow denormal or a NaN would flatter us.
    sets = [(torch.ones(size, dtype=dtype), torch.ones(size, dtype=dtype)) for _ in range(count)]
    sets_out = [(a, b, torch.empty_like(a)) for a, b in sets]

    def run() -> None:
        for a, b, c in sets_out:
            torch.mul(a, b, out=c)

    return run


def multiplies_fresh(elements: int, streams: int, dtype: torch.dtype) -> Callable[[], object]:
    """The same, each product in a new tensor, all of them alive at the end as a kernel's are."""
    count = -(-streams // 3)
    size = elements * streams // (3 * count)
    sets = [(torch.ones(size, dtype=dtype), torch.ones(size, dtype=dtype)) for _ in range(count)]
    return lambda: [torch.mul(a, b) for a, b in sets]


def check() -> dict[str, float]:
    """How far each baseline is from the float64 loop, largest relative error; in float64.

    Raises:
        AssertionError: a baseline computes something else, so its time would mean nothing.
    """
    generator = torch.Generator().manual_seed(0)
    k = torch.randn(2, 37, 5, dtype=torch.float64, generator=generator).requires_grad_()
    v = torch.randn(2, 37, 5, dtype=torch.float64, generator=generator).requires_grad_()
    dy = torch.randn(2, 37, 5, dtype=torch.float64, generator=generator)
    expected = loop(k, v)
    expected_gradients = torch.autograd.grad(expected, (k, v), dy)
    errors: dict[str, float] = {}
    for name, function in (("log_space", log_space), ("associative", associative)):
        errors[name] = relative_error(function(k, v).detach(), expected.detach())
    for name, found, wanted in zip(
        ("log_space dk", "log_space dv"),
        torch.autograd.grad(log_space(k, v), (k, v), dy),
        expected_gradients,
        strict=True,
    ):
        errors[name] = norm_error(found, wanted)
    h, dk, dv = loop_gradients(k.detach(), v.detach(), dy)
    errors["adjoint h"] = relative_error(h, expected.detach())
    errors["adjoint dk"] = norm_error(dk, expected_gradients[0])
    errors["adjoint dv"] = norm_error(dv, expected_gradients[1])
    for name, error in errors.items():
        assert error <= 1e-9, f"the baseline {name} is {error:.1e} off the float64 loop"
    return errors


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest relative error of any element; for results that are never zero."""
    expected = expected.double()
    return float(((found.double() - expected).abs() / expected.abs()).max())


def norm_error(found: Tensor, expected: Tensor) -> float:
    """The largest error against the largest element: for results that pass through zero."""
    expected = expected.double()
    return float((found.double() - expected).abs().max() / expected.abs().max())
