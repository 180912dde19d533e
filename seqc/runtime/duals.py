"""A kernel's call as data: how its tensors stand in a row, and those of its tangent's call.

The tangent kernel has every input, carry and output twice: of each kind first the kernel's own,
then their tangents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: Kinds of inputs, by their place among them, that have no tangents: masks and resets.
HELD = (2, 5)


@dataclass(frozen=True, eq=False)
class Call:
    """What a call of a kernel has besides tensors; how its tensors stand in a row.

    ``inputs``: operands, constants, masks, starts, fresh states (or None), resets (or None).
    """

    kernel: Any
    scalars: Sequence[float]
    extents: Sequence[int]
    dtype: torch.dtype
    save: bool = True

    @property
    def tail(self) -> tuple[Any, ...]:
        """The last arguments of a mirror, and of a march back."""
        return list(self.scalars), list(self.extents), self.dtype

    @property
    def counts(self) -> tuple[int, ...]:
        """How many operands, constants, masks, starts and fresh states there are."""
        s = self.kernel.spec
        return len(s.operands), len(s.constants), len(s.masks), len(s.carries), len(s.carries)

    @property
    def inputs(self) -> int:
        """How many inputs there are."""
        return sum(self.counts) + 1

    @property
    def results(self) -> int:
        """How many outputs and last carries there are."""
        return len(self.kernel.spec.outputs) + len(self.kernel.spec.carries)

    def groups(self, inputs: Sequence[Any]) -> list[Sequence[Any]]:
        """The inputs by kind, the last group being the resets."""
        found, at = [], 0
        for count in (*self.counts, 1):
            found.append(inputs[at : at + count])
            at += count
        return found

    def places(self, inputs: Sequence[Any]) -> list[int]:
        """Where the inputs stand that gradients are of: not masks, nor what is not there."""
        operands, constants, masks, *_ = self.counts
        first = operands + constants
        return [
            i for i in range(self.inputs - 1)
            if not first <= i < first + masks and inputs[i] is not None
        ]  # fmt: skip

    def kept(self, results: Sequence[Tensor]) -> list[Tensor]:
        """The states that the march back reads, of all that the march hands out."""
        extra = iter(results[self.results :])
        found = [results[o] if o >= 0 else next(extra) for _, o in self.kernel.spec.saved]
        return [*found, *extra]


def second(how: Call, results: Sequence[Any]) -> list[Any]:
    """The tangents of outputs and last carries, of what a tangent kernel hands out."""
    n, m = len(how.kernel.spec.outputs), len(how.kernel.spec.carries)
    return [*results[n : 2 * n], *results[2 * n + m : 2 * n + 2 * m]]


def interleaved(how: Call, own: Sequence[Any], moved: Sequence[Any]) -> list[Any]:
    """What belongs to outputs and last carries, and to their tangents, as the tangent has it."""
    n = len(how.kernel.spec.outputs)
    return [*own[:n], *moved[:n], *own[n:], *moved[n:]]


def first(how: Call, both: Sequence[Any]) -> list[Any]:
    """What belongs to the inputs themselves, of what belongs to a tangent kernel's."""
    found: list[Any] = []
    at = 0
    for kind, count in enumerate((*how.counts, 1)):
        found += both[at : at + count]
        at += count if kind in HELD else 2 * count
    return found


def mirror_of_tangent(kernel: Any) -> Callable[..., tuple[Tensor, ...]]:
    """The mirror of a kernel's tangent, from the kernel's own."""

    def mirror(*args: Any) -> tuple[Tensor, ...]:
        *both, scalars, extents, dtype = args
        how = Call(kernel, scalars, extents, dtype)
        inputs = first(how, both)
        dots: list[Any] = []
        at = 0
        for kind, count in enumerate((*how.counts, 1)):
            own = kind in HELD
            dots += [None] * count if own else both[at + count : at + 2 * count]
            at += count if own else 2 * count
        f, values = of_inputs(how, inputs)
        moved = tuple(dots[i] for i in how.places(inputs))
        found = torch.func.jvp(f, values, moved)
        return tuple(interleaved(how, found[0], found[1]))

    return mirror


def of_inputs(
    how: Call, inputs: Sequence[Any]
) -> tuple[Callable[..., tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """Outputs and last carries as a function of inputs that have gradients, and those."""
    places = how.places(inputs)

    def f(*values: Tensor) -> tuple[Tensor, ...]:
        args = list(inputs)
        for i, v in zip(places, values, strict=True):
            args[i] = v
        return tuple(how.kernel.mirror(*args, *how.tail))

    return f, tuple(inputs[i] for i in places)


def of_cotangents(
    how: Call, inputs: Sequence[Any], grads: Sequence[Tensor | None]
) -> tuple[Callable[..., tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """Gradients of the inputs as a function of them and of the cotangents that are there."""
    f, values = of_inputs(how, inputs)
    there = [i for i, g in enumerate(grads) if g is not None]

    def back(*args: Tensor) -> tuple[Tensor, ...]:
        results, pull, *_ = torch.func.vjp(f, *args[: len(values)])
        given = [torch.zeros_like(r) for r in results]
        for i, g in zip(there, args[len(values) :], strict=True):
            given[i] = g
        return tuple(pull(tuple(given)))

    return back, (*values, *(g for g in grads if g is not None))


def or_zeros(value: Tensor | None, like: Tensor) -> Tensor:
    """The value; where it is nothing, one row of zeros, seen from everywhere."""
    if value is not None:
        return value
    return like.new_zeros(like.shape[-1:]).expand(like.shape)
