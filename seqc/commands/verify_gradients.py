"""Derivatives against finite differences: torch's gradcheck, and the error it does not tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError
from torch.func import functional_call

from seqc.commands.verify_report import Status
from seqc.commands.verify_subject import (
    Feed,
    as_tuple,
    differentiable,
    projection,
    state_type,
)

# Numbers of input above which every column of the Jacobian takes too long.
_FEW = 300


_Pure = Callable[..., tuple[Tensor, ...]]


def as_function(layer: Any, feed: Feed) -> tuple[_Pure, tuple[Tensor, ...]]:
    """The layer as a function of tensors alone (inputs, states, parameters), and the tensors."""
    names = [n for n, _ in layer.named_parameters()]
    fields = feed.state or ()
    moving = [i for i, f in enumerate(fields) if differentiable(f)]
    count = len(feed.inputs)
    pack = state_type(layer, feed.inputs)

    def function(*values: Tensor) -> tuple[Tensor, ...]:
        x, rest = values[:count], values[count:]
        current = list(fields)
        for i, v in zip(moving, rest, strict=False):
            current[i] = v
        parameters = dict(zip(names, rest[len(moving) :], strict=True))
        state = pack(*current) if feed.state is not None else None
        y, last = functional_call(layer, parameters, x, {"state": state})
        return tuple(v for v in (*as_tuple(y), *last) if differentiable(v))

    leaves = (
        *feed.inputs,
        *(fields[i] for i in moving),
        *(p for _, p in layer.named_parameters()),
    )
    return function, tuple(v.detach().clone().requires_grad_() for v in leaves)


def first_order(layer: Any, feed: Feed, *, fast: bool) -> tuple[float, str]:
    """The relative error of directional derivatives, and gradcheck's complaint ('' where none)."""
    function, leaves = as_function(layer, feed)
    fast = fast or sum(v.numel() for v in leaves) > _FEW
    complaint = ""
    try:
        torch.autograd.gradcheck(function, leaves, fast_mode=fast, atol=1e-6)
    except GradcheckError as error:
        complaint = "gradcheck: " + str(error).strip().splitlines()[0][:100]
    return max(_directional(function, leaves, seed) for seed in range(3)), complaint


def _directional(function: _Pure, leaves: tuple[Tensor, ...], seed: int) -> float:
    """A derivative along a random direction: what autograd says against central differences."""
    generator = torch.Generator().manual_seed(seed)

    def direction(v: Tensor) -> Tensor:
        return torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v)

    along = [direction(v) for v in leaves]

    def value(step: float) -> float:
        with torch.no_grad():
            moved = (v + step * d for v, d in zip(leaves, along, strict=True))
            return float(projection(function(*moved), seed))

    # Two widths, combined so that the error goes with the fourth power of the step (Richardson).
    h = 1e-4
    narrow, broad = (value(h) - value(-h)) / (2 * h), (value(2 * h) - value(-2 * h)) / (4 * h)
    measured = (4 * narrow - broad) / 3
    loss = projection(function(*leaves), seed)
    if not loss.requires_grad:
        return abs(measured)
    found: tuple[Tensor | None, ...] = torch.autograd.grad(loss, leaves, allow_unused=True)
    said = 0.0
    for g, d in zip(found, along, strict=True):
        if g is not None:
            said += float((g.conj() * d).sum().real if g.is_complex() else (g * d).sum())
    return abs(said - measured) / max(abs(measured), abs(said), 1.0)


def second_order(layer: Any, feed: Feed) -> tuple[Status, str]:
    """Second derivatives are right, or refused: never silently wrong."""
    function, leaves = as_function(layer, feed)
    try:
        torch.autograd.gradgradcheck(function, leaves, fast_mode=True, atol=1e-6)
    except GradcheckError as error:
        return "FAIL", "gradgradcheck: " + str(error).strip().splitlines()[0][:100]
    except (RuntimeError, NotImplementedError) as error:
        # torch's own refusals (once_differentiable) are RuntimeErrors with no type of their own.
        text = str(error)
        known = ("differentiate", "double backward", "second", "twice", "create_graph")
        if isinstance(error, NotImplementedError) or any(k in text for k in known):
            return "n/a", f"refused: {text.strip().splitlines()[0][:100]}"
        raise
    return "ok", ""
