"""A kernel's two operators: schema, shapes, implementations, derivative; and the ways past them.

A ``kernel`` is a :class:`seqc.runtime.kernels.FusedKernel`.  Its forward operator's arguments, one
after another, are: operands, constants, masks, starts, fresh states (or None), resets (or None),
scalars, extents, dtype, and whether states are saved.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqc.runtime.derivatives import gradients
from seqc.runtime.environment import FUSED
from seqc.runtime.floor import require_torch
from seqc.runtime.spec import state_dtype
from seqc.runtime.tables import results, split
from seqc.runtime.tracing import plain, transforming

require_torch(torch.__version__)

NAMESPACE = __name__.partition(".")[0]  # a standalone module has another
LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")
REGISTERING = threading.Lock()


def register(kernel: Any) -> None:
    """Define the kernel's two operators: schema, shapes, implementations, derivative."""
    spec, name = kernel.spec, kernel.op_name
    returns = len(spec.outputs) + len(spec.carries) + spec.stored
    n_back = kernel.tensors - len(spec.masks) + len(spec.carries)
    # Lists: an operator has at most 64 arguments, and a kernel as many tensors as its spec.
    inputs = "Tensor[] tensors, Tensor[] fresh"
    tail = "Tensor? resets, float[] scalars, SymInt[] extents, ScalarType dtype"
    forward = f"{inputs}, {tail}, bool save"
    backward = f"Tensor?[] grads, {inputs}, Tensor[] kept, {tail}"
    tags = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides)
    LIBRARY.define(f"{name}_forward({forward}) -> ({_tensors(returns)})", tags=tags)
    LIBRARY.define(f"{name}_backward({backward}) -> ({_tensors(n_back)})", tags=tags)

    def run_forward(*args: Any) -> Any:
        return _unpack(launch(kernel, _from_operator(kernel, args)))

    def run_backward(grads: Sequence[Tensor | None], *args: Any) -> Any:
        found = launch_back(kernel, grads, _from_backward(kernel, args))
        nothing = args[0][0].new_empty(
            0, dtype=state_dtype(args[-1])
        )  # an operator returns tensors
        return _unpack([nothing.clone() if f is None else f for f in found])

    def shape_forward(*args: Any) -> Any:
        return _unpack(shapes_forward(kernel, _from_operator(kernel, args)))

    def shape_backward(grads: Sequence[Tensor | None], *args: Any) -> Any:
        return _unpack(shapes_backward(kernel, _from_backward(kernel, args)))

    for device in FUSED:
        LIBRARY.impl(f"{name}_forward", run_forward, device.upper())
        LIBRARY.impl(f"{name}_backward", run_backward, device.upper())
    qualified = f"{NAMESPACE}::{name}"
    torch.library.register_fake(f"{qualified}_forward", shape_forward, lib=LIBRARY)
    torch.library.register_fake(f"{qualified}_backward", shape_backward, lib=LIBRARY)

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        outputs = output if isinstance(output, tuple) else (output,)
        _keep_for_backward(ctx, kernel, _from_operator(kernel, inputs), outputs)

    def derive(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        needs = _from_operator(kernel, ctx.needs_input_grad)
        found = _derive(ctx, kernel, needs, grads)
        like = [None] * len(spec.carries) if ctx.needs_input_grad[1] else []
        scalars: Any = [] if ctx.needs_input_grad[3] == [] else None  # as torch takes lists apart
        count = kernel.tensors
        return (
            list(found[:count]), list(found[count : count + len(like)]), None, scalars,
            None, None, None,
        )  # fmt: skip

    torch.library.register_autograd(
        f"{qualified}_forward", derive, setup_context=setup, lib=LIBRARY
    )


def to_operator(kernel: Any, full: Sequence[Any]) -> tuple[Any, ...]:
    """The forward operator's arguments as it takes them: tensors in lists."""
    count, m = kernel.tensors, len(kernel.spec.carries)
    fresh = [f for f in full[count : count + m] if f is not None]
    resets, scalars, extents, *rest = full[count + m :]
    return (list(full[:count]), fresh, resets, list(scalars), list(extents), *rest)


def _from_operator(kernel: Any, args: Sequence[Any]) -> tuple[Any, ...]:
    """The other way round: without resets there are no fresh states."""
    return (*args[0], *(args[1] or [None] * len(kernel.spec.carries)), *args[2:])


def _from_backward(kernel: Any, args: Sequence[Any]) -> tuple[Any, ...]:
    """The backward operator's arguments after the cotangents, one after another."""
    tensors, fresh, kept, *tail = args
    return (*tensors, *(fresh or [None] * len(kernel.spec.carries)), *kept, *tail)


class Direct(torch.autograd.Function):
    """The forward operator without the dispatcher, which costs more than small kernels do."""

    @staticmethod
    def forward(ctx: Any, kernel: Any, *inputs: Any) -> tuple[Tensor, ...]:
        outputs = tuple(launch(kernel, inputs))
        ctx.kernel = kernel
        _keep_for_backward(ctx, kernel, inputs, outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        return (None, *_derive(ctx, ctx.kernel, ctx.needs_input_grad[1:], grads))


def _keep_for_backward(
    ctx: Any, kernel: Any, inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]
) -> None:
    """Save the forward operator's tensors, and the states that the backward march reads back."""
    ctx.set_materialize_grads(False)
    spec = kernel.spec
    n, m = len(spec.outputs), len(spec.carries)
    extra = iter(outputs[n + m :])
    kept = [outputs[o] if o >= 0 else next(extra) for _, o in spec.saved]
    kept += extra
    count = kernel.tensors + m
    ctx.save_for_backward(*inputs[:count], inputs[count], *kept)
    ctx.rest = inputs[count + 1 : count + 4]
    if outputs[n + m :]:
        ctx.mark_non_differentiable(*outputs[n + m :])


def _derive(
    ctx: Any, kernel: Any, needs: Sequence[bool], grads: Sequence[Tensor | None]
) -> tuple[Any, ...]:
    """Gradients of the forward operator's arguments."""
    saved = ctx.saved_tensors
    given = grads[: len(kernel.spec.outputs) + len(kernel.spec.carries)]
    if torch.is_grad_enabled() or transforming():
        found = gradients(kernel, saved, ctx.rest, given)
    else:
        found = march_back(kernel, given, saved, ctx.rest, needs)
    return (*found, None, None, None, None, None)


def march_back(
    kernel: Any,
    grads: Sequence[Tensor | None],
    saved: Sequence[Any],
    rest: Sequence[Any],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of the forward operator's tensors by the backward march."""
    spec = kernel.spec
    count = kernel.tensors + len(spec.carries)
    resets, kept = saved[count], saved[count + 1 :]
    if plain([t for t in (*grads, *saved) if t is not None]):
        full = launch_back(kernel, grads, (*saved[:count], *kept, resets, *rest))
    else:
        tensors = list(saved[: kernel.tensors])
        fresh = [f for f in saved[kernel.tensors : count] if f is not None]
        result = kernel.backward_op(list(grads), tensors, fresh, list(kept), resets, *rest)
        full = list(result) if isinstance(result, (tuple, list)) else [result]
    if spec.masks:  # They have no gradient, and stand between the constants and the carries.
        place = len(spec.operands) + len(spec.constants)
        full[place:place] = [None] * len(spec.masks)
    for i in range(count):
        if saved[i] is None or not needs[i]:
            full[i] = None
    return full


def _tensors(count: int) -> str:
    return ", ".join(["Tensor"] * count)


def _unpack(tensors: list[Tensor]) -> Any:
    """What an operator of one result returns is that tensor, of several a tuple."""
    return tensors[0] if len(tensors) == 1 else tuple(tensors)


def launch(kernel: Any, full: Sequence[Any]) -> list[Tensor]:
    """The kernel's march: outputs, final carries and saved states."""
    count, m = kernel.tensors, len(kernel.spec.carries)
    tensors = full[:count]
    target = kernel.targets[tensors[0].device.type]
    found: list[Tensor] = target.forward(
        kernel.spec, tensors, full[count : count + m], *full[count + m :]
    )
    return found


def launch_back(kernel: Any, grads: Sequence[Tensor | None], args: Sequence[Any]) -> list[Any]:
    """Its march back: gradients of operands, constants, starts and fresh states (None without
    resets); ``args``: tensors, fresh states, kept ones, resets, scalars, extents, dtype.
    """
    spec, count = kernel.spec, kernel.tensors
    tensors, rest = args[:count], args[count:]
    fresh, rest = rest[: len(spec.carries)], rest[len(spec.carries) :]
    stored = len(spec.saved) + len(spec.held)
    kept, rest = rest[:stored], rest[stored:]
    target = kernel.targets[tensors[0].device.type]
    found: list[Any] = target.backward(spec, grads, tensors, fresh, kept, *rest)
    return found


def shapes_forward(kernel: Any, full: Sequence[Any]) -> list[Tensor]:
    """What the march would make, holding nothing."""
    spec, count = kernel.spec, kernel.tensors
    like = full[0]
    _, _, extents, dtype, save = full[count + len(spec.carries) :]
    every = 0
    if spec.inner:
        target = kernel.targets.get(like.device.type, kernel.targets["cpu"])
        every = target.every(spec, extents, dtype)
    return [like.new_empty(s, dtype=d) for s, d in results(spec, extents, dtype, save, every)]


def shapes_backward(kernel: Any, args: Sequence[Any]) -> list[Tensor]:
    """What the march back would make, holding nothing."""
    spec = kernel.spec
    resets, _, extents, dtype = args[-4:]
    like = args[0]
    operands, constants, _, _ = split(spec, args[: kernel.tensors])
    wide, by_axis = state_dtype(dtype), dict(zip(spec.axes, extents[2:], strict=False))
    shapes = [(extents[0], *(by_axis[a] for a in axes)) for axes in spec.carries]
    left = [(0,) if resets is None else shape for shape in shapes]
    return [
        *(
            torch.empty_like(t, memory_format=torch.contiguous_format)
            for t in (*operands, *constants)
        ),
        *(like.new_empty(shape, dtype=wide) for shape in (*shapes, *left)),
    ]
