"""States that are solved for apart from gradients, and the gradients that they are given.

The states of a stratum are found without autograd, in whatever way. Then its *local step* is taken
once with autograd, for all steps at once, from the states before them, which are constants there.
Where it is differentiated, what the loss has by the states themselves, e[t], is turned into g[t] by
a recurrence backwards in time, and g goes to the local step: to parameters and inputs. See
docs/decisions/0011-solving-a-stratum.md.

Source: Caillon, Fagnou, Allauzen, "Fast Training of Recurrent Neural Networks with Stationary State
Feedbacks" (arXiv 2503.23104), for the stationary recurrence.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqc.runtime.recurrences import decay_back
from seqc.runtime.sequence import lagged, spread
from seqc.runtime.tracing import transforming

States = tuple[Tensor, ...]


@dataclass(frozen=True)
class SolvedBySteps:
    """The steps of a stratum, each way: one after another, and all at once.

    ``march()`` gives the states (B, T, *axes).  ``step(*lagged)`` gives them from what they read of
    the past, ``reads`` being (which state, how many steps ago).  ``pasts`` (B, K, *axes) are the
    states before the first step, ``fresh`` (B, *axes, or None for zero) what stands in for them
    where ``resets`` (B, T) starts a sequence anew; ``length`` is T.
    """

    march: Callable[[], States]
    step: Callable[..., States]
    reads: tuple[tuple[int, int], ...]
    pasts: States
    fresh: tuple[Tensor | None, ...]
    resets: Tensor | None
    length: int

    def solve(self) -> States:
        """The states, in whatever way they are found."""
        return self.march()

    def lags(
        self, values: Sequence[Tensor], pasts: Sequence[Tensor], fresh: Sequence[Tensor | None]
    ) -> States:
        """What each step reads of the past, given the states."""
        return tuple(
            lagged(values[i], pasts[i], lag, self.resets, fresh[i]) for i, lag in self.reads
        )


def fed_truncated(steps: SolvedBySteps, count: int) -> States:
    """The states; gradients go back through at most ``count`` - 1 of their steps.

    Each e[t] goes back through that many Jacobians and no further: g = e, then as often g[t] =
    e[t] + J[t+1]' g[t+1], for all t at once.
    """
    return fed_back(steps, lambda values: _Truncated(steps, values, count))


def fed_stationary(steps: SolvedBySteps, low: float, high: float) -> States:
    """The states; gradients come back by a fixed diagonal in place of the Jacobian.

    g[t] = e[t] + A g[t+1], A being evenly spaced from ``low`` to ``high`` over the channels of all
    states, in order, one state after another.
    """
    return fed_back(steps, lambda values: _Stationary(steps, values, low, high))


class Way:
    """How gradients come back: ``local`` states to differentiate, and the recurrence backwards."""

    local: States

    def back(self, grads: States) -> tuple[Sequence[Tensor | None], ...]:
        """From e: g, and the gradients of pasts and fresh states."""
        raise NotImplementedError


def fed_back(steps: SolvedBySteps, make: Callable[[States], Way]) -> States:
    """The states of the march, with gradients that come back in some way."""
    if torch.compiler.is_compiling():
        if torch.is_grad_enabled():
            raise RuntimeError(
                "torch.compile does not take a layer whose spec asks for gradients other than "
                "exact ones, but under torch.no_grad(); leave this layer out of what is compiled"
            )
        return steps.march()
    if transforming():
        raise RuntimeError(
            "torch.func and forward-mode differentiation are not supported where a spec asks for "
            "gradients other than exact ones; use torch.autograd, or `gradient exact`"
        )
    if not torch.is_grad_enabled():
        return steps.solve()
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is None:
        return _attached(steps, make)
    # Where torch.compile has fallen back to running this as it is, it would still compile what is
    # called here, each by itself, and lose the gradients of values that no source is part of.
    found: States = dynamo.disable(_attached)(steps, make)
    return found


def _attached(steps: SolvedBySteps, make: Callable[[States], Way]) -> States:
    """The values, as autograd is to see them."""
    with torch.no_grad():
        values = steps.solve()
    way = make(values)
    sources = (*way.local, *steps.pasts, *steps.fresh)
    if not any(s is not None and s.requires_grad for s in sources):
        return values
    found: States = _FedBack.apply(way, values, *sources)  # type: ignore[no-untyped-call]
    return found


class _FedBack(torch.autograd.Function):
    """Values that were solved for; the gradients of local states, pasts and fresh states."""

    @staticmethod
    def forward(ctx: Any, way: Way, values: States, *sources: Tensor | None) -> States:
        ctx.way = way
        ctx.save_for_backward(*(s for s in sources if s is not None))
        ctx.sources = [s is not None for s in sources]
        return values

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            found = [x for part in ctx.way.back(tuple(grads)) for x in part]
        there = [g if s else None for g, s in zip(found, ctx.sources, strict=True)]
        if torch.is_grad_enabled():
            # They depend on all that the states do, and of that the graph knows nothing.
            tied = [v for v in (*ctx.saved_tensors, *grads) if v.requires_grad]
            places = [i for i, g in enumerate(there) if g is not None]
            once = _Once.apply(len(places), *(there[i] for i in places), *tied)  # type: ignore[no-untyped-call]
            for i, g in zip(places, once, strict=True):
                there[i] = g
        return (None, None, *there)


class _Once(torch.autograd.Function):
    """Gradients that cannot be differentiated again: who tries is told."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(v.clone() for v in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError(
            "second derivatives are not supported where states are solved for apart from their "
            "gradients: take `solve newton` and `gradient` out of the spec"
        )


class _Stationary(Way):
    def __init__(self, steps: SolvedBySteps, values: States, low: float, high: float) -> None:
        self.steps, self.low, self.high = steps, low, high
        with torch.no_grad():
            lags = steps.lags(values, steps.pasts, steps.fresh)
        self.local = steps.step(*lags)

    def back(self, grads: States) -> tuple[Sequence[Tensor | None], ...]:
        shapes = [g.shape[2:] for g in grads]
        flat = torch.cat([g.flatten(2) if g.dim() > 2 else g.unsqueeze(2) for g in grads], 2)
        share = torch.linspace(
            self.low, self.high, flat.shape[2], dtype=torch.float64, device=flat.device
        ).to(flat.dtype)
        found = decay_back(flat, share, self.steps.resets)
        widths = [s.numel() for s in shapes]
        parts = [v.unflatten(2, s) if s else v[..., 0] for v, s in
                 zip(found.split(widths, 2), shapes, strict=True)]  # fmt: skip
        earlier = [v.unflatten(2, s) if s else v[..., 0] for v, s in
                   zip((found * share).split(widths, 2), shapes, strict=True)]  # fmt: skip
        pasts, fresh = zip(*map(self._started, earlier, self.steps.pasts), strict=True)
        return parts, pasts, fresh

    def _started(self, grad: Tensor, past: Tensor) -> tuple[Tensor, Tensor | None]:
        """The gradients of a past and of a fresh state, by what comes back from each step."""
        d_past = torch.zeros_like(past)
        resets = self.steps.resets
        if resets is None:
            d_past[:, -1] = grad[:, 0]
            return d_past, None
        anew = torch.where(spread(resets, grad), grad, grad.new_zeros(()))
        d_past[:, -1] = grad[:, 0] - anew[:, 0]
        return d_past, anew.sum(1)


class _Truncated(Way):
    def __init__(self, steps: SolvedBySteps, values: States, count: int) -> None:
        # No gradient goes further back than the first step.
        self.count = min(count - 1, values[0].shape[1])
        self.groups = (values, steps.pasts, steps.fresh)
        if self.count:
            self.groups = tuple(
                tuple(None if x is None else x.detach().requires_grad_() for x in group)
                for group in self.groups
            )  # type: ignore[assignment]
            self.local = steps.step(*steps.lags(*self.groups))
        else:
            with torch.no_grad():
                lags = steps.lags(*self.groups)
            self.local = steps.step(*lags)

    def back(self, grads: States) -> tuple[Sequence[Tensor | None], ...]:
        leaves = [x for group in self.groups for x in group]
        places = [i for i, x in enumerate(leaves) if x is not None]
        there, n = [x for x in leaves if x is not None], len(grads)
        found: Sequence[Tensor] = grads
        back: list[Tensor | None] = [None] * len(leaves)
        for _ in range(self.count):
            taken = torch.autograd.grad(
                self.local, there, found, retain_graph=True, allow_unused=True
            )
            for i, d in zip(places, taken, strict=True):
                back[i] = d
            found = [e if d is None else e + d for e, d in zip(grads, back[:n], strict=True)]
        return found, back[n : 2 * n], back[2 * n :]
