"""Derivatives of a kernel of every order and mode, for autograd and the transforms of torch.func.

Two operators stand for a kernel: :class:`_Run`, its march, and :class:`_Back`, its adjoint's. What
either needs to be differentiated, forwards or backwards, is a third kernel, the *tangent*: the
kernel on dual numbers, with states, outputs and inputs twice. It is run, and marched back,
by the same two operators. With x the inputs, y(x) the outputs, J their Jacobian:

- the tangent of the march at (x, v) is J v, what the tangent kernel finds;
- the adjoint of the march back, J^T g, at a cotangent v is J v for g, and d<J v, g>/dx for x:
  what the march back through the tangent kernel finds;
- the tangent of the march back at (v, w) is J^T w + (d J^T g/dx) v: the same march, since
  second derivatives are the same in either order. (They need not be where a spec states a
  derivative of its own; there it is found as below.)

A tangent kernel is compiled when it is first asked for. What it has no kernel for itself, the third
order, and all of this where there is no compiler, runs through the kernel's mirror, the
same equations in plain torch: right, if slow.

Source: Griewank, Walther, "Evaluating Derivatives" (2nd ed., 2008), §5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from seqc.runtime.backends import warn_once
from seqc.runtime.cpp import CppKernel
from seqc.runtime.duals import (
    HELD,
    Call,
    first,
    interleaved,
    of_cotangents,
    of_inputs,
    or_zeros,
    second,
)
from seqc.runtime.forward import nested


def call(kernel: Any, full: Sequence[Any], always: bool) -> tuple[Tensor, ...]:
    """Outputs and last carries, differentiable in every way.

    ``full``: the forward operator's arguments; ``always``: states are kept for a way back whatever
    they say.
    """
    *inputs, scalars, extents, dtype, save = full
    how = Call(kernel, scalars, extents, dtype, save or always)
    found: tuple[Tensor, ...] = _Run.apply(how, *inputs)  # type: ignore[no-untyped-call]
    return found[: how.results]


def gradients(
    kernel: Any, saved: Sequence[Any], rest: Sequence[Any], grads: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Gradients of all but the resets that can themselves be differentiated.

    ``saved``: the inputs, then the states that were kept.
    """
    how = Call(kernel, *rest)
    found = _back(how, saved[: how.inputs], saved[how.inputs :], grads)
    return list(found[:-1])


class _Run(torch.autograd.Function):
    """The march: a call and its inputs to outputs, last carries and states kept."""

    @staticmethod
    def forward(how: Call, *inputs: Any) -> tuple[Tensor, ...]:
        return tuple(how.kernel.march((*inputs, *how.tail, how.save)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        how, *rest = inputs
        ctx.how = how
        ctx.set_materialize_grads(False)
        kept = how.kept(output) if how.save else []
        ctx.save_for_backward(*rest, *kept)
        ctx.save_for_forward(*rest, *kept)
        if output[how.results :]:
            ctx.mark_non_differentiable(*output[how.results :])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        how, saved = ctx.how, ctx.saved_tensors
        given = grads[: how.results]
        return (None, *_back(how, saved[: how.inputs], saved[how.inputs :], given))

    @staticmethod
    def jvp(ctx: Any, _: Any, *dots: Tensor | None) -> tuple[Tensor | None, ...]:
        how = ctx.how
        nothing = (None,) * how.kernel.spec.stored
        with nested(ctx.saved_tensors[: how.inputs]) as inputs:
            double = doubled(how, inputs)
            if double is None:
                f, values = of_inputs(how, inputs)
                moved = tuple(or_zeros(dots[i], inputs[i]) for i in how.places(inputs))
                return (*torch.func.jvp(f, values, moved)[1], *nothing)
            _, results = _tangent(how, double, inputs, dots)
        return (*second(how, results), *nothing)

    @staticmethod
    def vmap(info: Any, dims: tuple[Any, ...], how: Call, *inputs: Any) -> Any:
        operands, constants, *_ = how.counts
        shared = range(operands, operands + constants)
        if any(dims[1 + i] is not None for i in shared):
            return _each(_Run, info.batch_size, dims, how, inputs)
        folded = [
            x if i in shared else _folded(x, d, info.batch_size)
            for i, (x, d) in enumerate(zip(inputs, dims[1:], strict=True))
        ]
        results = _Run.apply(_larger(how, info.batch_size), *folded)  # type: ignore[no-untyped-call]
        places = [0] * how.results + [_batch(how)] * (len(results) - how.results)
        apart = (info.batch_size, int(how.extents[0]))
        found = [r.unflatten(p, apart) for r, p in zip(results, places, strict=True)]
        return tuple(found), tuple(places)


class _Back(torch.autograd.Function):
    """The march back: a call, inputs, kept states, cotangents to the gradients of inputs.

    A function of inputs and cotangents: what was kept follows from the inputs.
    """

    @staticmethod
    def forward(how: Call, *args: Any) -> tuple[Tensor, ...]:
        inputs, kept, grads = _apart(how, args)
        found = how.kernel.march_back(grads, (*inputs, *kept), how.tail)
        return tuple(or_zeros(found[i], inputs[i]) for i in how.places(inputs))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        how, *rest = inputs
        ctx.how = how
        ctx.set_materialize_grads(False)
        given, _, grads = _apart(how, rest)
        kept = rest[how.inputs : len(rest) - how.results]
        ctx.save_for_backward(*given, *kept, *grads)
        ctx.save_for_forward(*given, *kept, *grads)

    @staticmethod
    def backward(ctx: Any, *found: Tensor | None) -> tuple[Any, ...]:
        how = ctx.how
        inputs, _, grads = _apart(how, ctx.saved_tensors)
        places = how.places(inputs)
        out: list[Any] = [None] * len(ctx.needs_input_grad)
        if all(v is None for v in found):
            return tuple(out)
        double = doubled(how, inputs)
        last = len(out) - how.results
        there = [i for i, g in enumerate(grads) if g is not None]
        if double is None:
            f, values = of_cotangents(how, inputs, grads)
            shapes = [inputs[i] for i in places]
            given = tuple(or_zeros(v, x) for v, x in zip(found, shapes, strict=True))
            results = torch.func.vjp(f, *values)[1](given)
            for i, r in zip([*(1 + i for i in places), *(last + i for i in there)], results,
                            strict=True):  # fmt: skip
                out[i] = r
            return tuple(out)
        dots: list[Tensor | None] = [None] * how.inputs
        for i, v in zip(places, found, strict=True):
            dots[i] = v
        args, results = _tangent(how, double, inputs, dots)
        seconds = second(how, results)
        for i in there:
            out[last + i] = seconds[i]
        if any(ctx.needs_input_grad[1 + i] for i in places):
            nothing = [None] * how.results
            both = _back(double, args, double.kept(results), interleaved(how, nothing, grads))
            for i, r in enumerate(first(how, both)):
                out[1 + i] = r
        return tuple(out)

    @staticmethod
    def jvp(ctx: Any, _: Any, *moved: Tensor | None) -> tuple[Tensor | None, ...]:
        how = ctx.how
        dots, _, grad_dots = _apart(how, moved)
        with nested(ctx.saved_tensors) as saved:
            inputs, kept, grads = _apart(how, saved)
            places = how.places(inputs)
            if all(d is None for d in dots):  # linear in the cotangents
                found = _back(how, inputs, kept, grad_dots)
                return tuple(found[i] for i in places)
            double = doubled(how, inputs)
            if double is None or not how.kernel.symmetric:
                f, values = of_cotangents(how, inputs, grads)
                there = [i for i, g in enumerate(grads) if g is not None]
                by = [or_zeros(dots[i], inputs[i]) for i in places]
                by += [or_zeros(grad_dots[i], grads[i]) for i in there]
                return tuple(torch.func.jvp(f, values, tuple(by))[1])
            args, results = _tangent(how, double, inputs, dots)
            both = _back(double, args, double.kept(results), interleaved(how, grad_dots, grads))
        own = first(how, both)
        return tuple(own[i] for i in places)

    @staticmethod
    def vmap(info: Any, dims: tuple[Any, ...], how: Call, *args: Any) -> Any:
        # Gradients of what is constant are sums over the batch.
        if how.kernel.spec.constants:
            return _each(_Back, info.batch_size, dims, how, args)
        places = [0] * how.inputs
        places += [_batch(how) if o < 0 else 0 for _, o in how.kernel.spec.saved]
        places += [0] * len(how.kernel.spec.held)
        places += [0] * how.results
        folded = [
            _folded(x, d, info.batch_size, p)
            for x, d, p in zip(args, dims[1:], places, strict=True)
        ]
        found = _Back.apply(_larger(how, info.batch_size), *folded)  # type: ignore[no-untyped-call]
        apart = (info.batch_size, int(how.extents[0]))
        return tuple(f.unflatten(0, apart) for f in found), 0


def _apart(how: Call, args: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
    """The arguments of a march back: inputs, kept states, cotangents."""
    last = len(args) - how.results
    return args[: how.inputs], args[how.inputs : last], args[last:]


def _back(
    how: Call, inputs: Sequence[Any], kept: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """Gradients of all inputs; None where there are none."""
    found: list[Tensor | None] = [None] * how.inputs
    if all(g is None for g in grads):
        return tuple(found)
    results = _Back.apply(how, *inputs, *kept, *grads)  # type: ignore[no-untyped-call]
    for i, r in zip(how.places(inputs), results, strict=True):
        found[i] = r
    return tuple(found)


# --- the tangent kernel


def doubled(how: Call, inputs: Sequence[Any]) -> Call | None:
    """The call of the kernel's tangent; None where there is none, nor a way to make it."""
    kernel = how.kernel.tangent
    if kernel is None:
        return None
    device = next(t.device.type for t in inputs if t is not None)
    target = kernel.targets.get(device)
    if isinstance(target, CppKernel) and not target.have(how.dtype):
        warn_once(
            f"the tangent kernel of {how.kernel.spec.name} is not compiled, and there is no C++ "
            "compiler: forward mode and second derivatives run as plain PyTorch, which is slow "
            "(`seqc build --compiled --tangents` lets a module bring it along)"
        )
        return None
    return replace(how, kernel=kernel, save=True)


def _tangent(
    how: Call, double: Call, inputs: Sequence[Any], dots: Sequence[Tensor | None]
) -> tuple[list[Any], tuple[Tensor, ...]]:
    """The tangent kernel's inputs, and all that it hands out, at inputs and their tangents."""
    args: list[Any] = []
    rows = zip(how.groups(inputs), how.groups(dots), strict=True)
    for kind, (mine, moved) in enumerate(rows):
        args += mine
        if kind not in HELD:
            args += [
                None if x is None else or_zeros(d, x) for x, d in zip(mine, moved, strict=True)
            ]
    results: tuple[Tensor, ...] = _Run.apply(double, *args)  # type: ignore[no-untyped-call]
    return args, results


# --- vmap


def _folded(x: Any, dim: int | None, size: int, place: int = 0) -> Any:
    """A tensor with the mapped axis in its batch, which is its axis ``place``."""
    if x is None:
        return None
    wide = x.unsqueeze(place).expand(*x.shape[:place], size, *x.shape[place:]) if dim is None else (
        x.movedim(dim, place)
    )  # fmt: skip
    return wide.flatten(place, place + 1)


def _batch(how: Call) -> int:
    """Which axis of a state that was kept is the batch."""
    return 1 if how.kernel.spec.inner else 0


def _larger(how: Call, size: int) -> Call:
    batch, *rest = how.extents
    return replace(how, extents=[batch * size, *rest])


def _each(kind: Any, size: int, dims: tuple[Any, ...], how: Call, args: Sequence[Any]) -> Any:
    """One after another: what is not a call of a larger batch."""
    rows = [
        kind.apply(
            how,
            *(x if d is None else x.select(d, i) for x, d in zip(args, dims[1:], strict=True)),
        )
        for i in range(size)
    ]
    return tuple(torch.stack(r) for r in zip(*rows, strict=True)), 0
