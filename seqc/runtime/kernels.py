"""A fused kernel as torch sees it: two operators, their shapes, and their derivatives.

A generated module describes each kernel by a :class:`KernelSpec`; this module
registers its forward and backward march as operators of the ``seqc``
namespace, named by content, and ties them together for autograd.  Derivatives
that the marches do not have (second order, forward mode, vmap) run through the
kernel's mirror, the same equations in plain torch, so they are right, if slow.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from seqc.runtime.cpp import CppKernel
from seqc.runtime.cuda import CudaKernel
from seqc.runtime.floor import require_torch
from seqc.runtime.spec import KernelSpec, state_dtype
from seqc.runtime.tables import empty

require_torch(torch.__version__)

NAMESPACE = __name__.partition(".")[0]  # a standalone module has another
_LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")
_REGISTERING = threading.Lock()

Mirror = Callable[..., tuple[Tensor, ...]]


def transforming() -> bool:
    """Whether a functorch transform or forward-mode differentiation is under way."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return True
    return torch.autograd.forward_ad._current_level >= 0


class FusedKernel:
    """A kernel's operators; call it with tensors in the order of its spec.

    ``sources`` holds the kernel's source text a target; ``mirror`` computes the
    same outputs and final carries in plain torch.
    """

    def __init__(self, spec: KernelSpec, sources: dict[str, str], mirror: Mirror) -> None:
        self.spec = spec
        self.mirror = mirror
        self.listeners: list[Callable[[Any, tuple[Any, ...]], None]] = []
        self.targets: dict[str, CppKernel | CudaKernel] = {
            "cpu": CppKernel(spec.name, sources["cpp"]),
            "cuda": CudaKernel(spec.name, sources["cuda"]),
        }
        content = repr(spec) + "".join(f"{k}\0{v}\0" for k, v in sorted(sources.items()))
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        self.op_name = f"{spec.name}_{digest}"
        # torch drops a library's operators when the library goes.  The operators hold this kernel,
        # so they stay: another copy of this module may have taken them for its own.
        self.library = _LIBRARY
        operators = getattr(torch.ops, NAMESPACE)
        with _REGISTERING:
            if not hasattr(operators, f"{self.op_name}_backward"):
                _register(self)
        self.forward_op = getattr(operators, f"{self.op_name}_forward").default
        self.backward_op = getattr(operators, f"{self.op_name}_backward").default

    @property
    def tensors(self) -> int:
        """How many tensors the forward operator takes (besides resets and fresh states)."""
        s = self.spec
        return len(s.operands) + len(s.constants) + len(s.masks) + len(s.carries)

    def arguments(
        self,
        operands: Sequence[Tensor],
        constants: Sequence[Tensor],
        masks: Sequence[Tensor],
        starts: Sequence[Tensor],
        fresh: Sequence[Tensor | None],
        resets: Tensor | None,
        scalars: Sequence[float],
        extents: Sequence[int],
        like: Tensor | None = None,
    ) -> tuple[Any, ...]:
        """The forward operator's arguments: dtypes settled, what the C++ side needs contiguous.

        ``like`` tells the dtype where no operand, constant or start does.
        """
        dtype = next(t.dtype for t in (*operands, *constants, *starts, like) if t is not None)
        for o in operands[1:]:
            dtype = torch.promote_types(dtype, o.dtype)
        wide = state_dtype(dtype)
        # Where nothing is cast nothing is asked of torch: a call of `to` costs more than a look.
        tensors = [o if o.dtype is dtype else o.to(dtype) for o in operands]
        tensors += [c if c.dtype is wide else c.to(wide) for c in constants]
        tensors += masks
        tensors += [s if s.dtype is wide else s.to(wide) for s in starts]
        anew = [None if f is None else f.to(wide) for f in fresh]
        if resets is None:
            anew = [None] * len(self.spec.carries)
        elif any(f is None for f in fresh):
            raise ValueError(f"{self.spec.name}: with resets every carry needs a fresh state")
        save = torch.is_grad_enabled() and any(
            t is not None and t.requires_grad for t in (*tensors, *anew)
        )
        half = dtype if dtype in (torch.bfloat16, torch.float16) else wide
        return (*tensors, *anew, resets, list(scalars), list(extents), half, save)

    def __call__(self, *args: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Outputs (B, T, *axes) and final carries (B, *axes)."""
        full = self.arguments(*args)
        n, m = len(self.spec.outputs), len(self.spec.carries)
        if torch.compiler.is_compiling():
            if torch.autograd.forward_ad._current_level >= 0:
                raise RuntimeError(
                    "forward-mode differentiation of a fused kernel inside torch.compile is not "
                    "supported; call torch.func.jvp outside the compiled function"
                )
        elif transforming():
            seen = self.mirror(*full[:-1])
            return tuple(seen[:n]), tuple(seen[n:])
        for listen in self.listeners:
            listen(self.forward_op, _to_operator(self, full))
        result = self.run(*full)
        return tuple(result[:n]), tuple(result[n : n + m])

    def run(self, *full: Any) -> Sequence[Tensor]:
        """Launch with the forward operator's arguments: outputs, final carries, saved states.

        The dispatcher is left out where nobody needs it.
        """
        if not plain(full[: self.tensors]):
            result = self.forward_op(*_to_operator(self, full))
            return (result,) if isinstance(result, Tensor) else tuple(result)
        if full[-1] and torch.is_grad_enabled():
            results: tuple[Tensor, ...] = _Direct.apply(self, *full)  # type: ignore[no-untyped-call]
            return results
        return _forward(self, full, real=True)


def _register(kernel: FusedKernel) -> None:
    """Define the kernel's two operators: schema, shapes, implementations, derivative."""
    spec, name = kernel.spec, kernel.op_name
    returns = len(spec.outputs) + len(spec.carries) + len(spec.extra)
    n_back = kernel.tensors - len(spec.masks) + len(spec.carries)
    # Lists: an operator has at most 64 arguments, and a kernel as many tensors as its spec.
    inputs = "Tensor[] tensors, Tensor[] fresh"
    tail = "Tensor? resets, float[] scalars, SymInt[] extents, ScalarType dtype"
    forward = f"{inputs}, {tail}, bool save"
    backward = f"Tensor?[] grads, {inputs}, Tensor[] kept, {tail}"
    tags = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides)
    _LIBRARY.define(f"{name}_forward({forward}) -> ({_tensors(returns)})", tags=tags)
    _LIBRARY.define(f"{name}_backward({backward}) -> ({_tensors(n_back)})", tags=tags)

    def run_forward(*args: Any) -> Any:
        return _unpack(_forward(kernel, _from_operator(kernel, args), real=True))

    def run_backward(grads: Sequence[Tensor | None], *args: Any) -> Any:
        return _unpack(_backward(kernel, (*grads, *_from_backward(kernel, args)), real=True))

    def shape_forward(*args: Any) -> Any:
        return _unpack(_forward(kernel, _from_operator(kernel, args), real=False))

    def shape_backward(grads: Sequence[Tensor | None], *args: Any) -> Any:
        return _unpack(_backward(kernel, (*grads, *_from_backward(kernel, args)), real=False))

    for device in ("CPU", "CUDA"):
        _LIBRARY.impl(f"{name}_forward", run_forward, device)
        _LIBRARY.impl(f"{name}_backward", run_backward, device)
    qualified = f"{NAMESPACE}::{name}"
    torch.library.register_fake(f"{qualified}_forward", shape_forward, lib=_LIBRARY)
    torch.library.register_fake(f"{qualified}_backward", shape_backward, lib=_LIBRARY)

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
        f"{qualified}_forward", derive, setup_context=setup, lib=_LIBRARY
    )


def _to_operator(kernel: FusedKernel, full: Sequence[Any]) -> tuple[Any, ...]:
    """The forward operator's arguments as it takes them: tensors in lists."""
    count, m = kernel.tensors, len(kernel.spec.carries)
    fresh = [f for f in full[count : count + m] if f is not None]
    return (list(full[:count]), fresh, *full[count + m :])


def _from_operator(kernel: FusedKernel, args: Sequence[Any]) -> tuple[Any, ...]:
    """The other way round: without resets there are no fresh states."""
    return (*args[0], *(args[1] or [None] * len(kernel.spec.carries)), *args[2:])


def _from_backward(kernel: FusedKernel, args: Sequence[Any]) -> tuple[Any, ...]:
    """The backward operator's arguments after the cotangents, one after another."""
    tensors, fresh, kept, *tail = args
    return (*tensors, *(fresh or [None] * len(kernel.spec.carries)), *kept, *tail)


class _Direct(torch.autograd.Function):
    """The forward operator without the dispatcher, which costs more than small kernels do."""

    @staticmethod
    def forward(ctx: Any, kernel: FusedKernel, *inputs: Any) -> tuple[Tensor, ...]:
        outputs = tuple(_forward(kernel, inputs, real=True))
        ctx.kernel = kernel
        _keep_for_backward(ctx, kernel, inputs, outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        return (None, *_derive(ctx, ctx.kernel, ctx.needs_input_grad[1:], grads))


def plain(tensors: Sequence[Tensor]) -> bool:
    """Whether the tensors are just memory: nobody is tracing, and none is of a kind of its own."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return False
    return all(type(t) is Tensor or type(t) is torch.nn.Parameter for t in tensors)


def _keep_for_backward(
    ctx: Any, kernel: FusedKernel, inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]
) -> None:
    """Save the forward operator's tensors, and the states that the backward march reads back."""
    ctx.set_materialize_grads(False)
    spec = kernel.spec
    n, m = len(spec.outputs), len(spec.carries)
    extra = iter(outputs[n + m :])
    kept = [outputs[o] if o >= 0 else next(extra) for _, o in spec.saved]
    count = kernel.tensors + m
    ctx.save_for_backward(*inputs[:count], inputs[count], *kept)
    ctx.rest = inputs[count + 1 : count + 4]
    if outputs[n + m :]:
        ctx.mark_non_differentiable(*outputs[n + m :])


def _derive(
    ctx: Any, kernel: FusedKernel, needs: Sequence[bool], grads: Sequence[Tensor | None]
) -> tuple[Any, ...]:
    """Gradients of the forward operator's arguments."""
    count = kernel.tensors + len(kernel.spec.carries)
    saved = ctx.saved_tensors
    given = grads[: len(kernel.spec.outputs) + len(kernel.spec.carries)]
    if torch.is_grad_enabled():
        found = _mirror_gradients(kernel, saved[: count + 1], ctx.rest, given)
    else:
        found = _march_back(kernel, given, saved, ctx.rest, needs)
    return (*found, None, None, None, None, None)


def _march_back(
    kernel: FusedKernel,
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
        out = _backward(kernel, (*grads, *saved[:count], *kept, resets, *rest), real=True)
    else:
        tensors, fresh = list(saved[: kernel.tensors]), saved[kernel.tensors : count]
        result = kernel.backward_op(
            list(grads), tensors, [f for f in fresh if f is not None], list(kept), resets, *rest
        )
        out = list(result) if isinstance(result, (tuple, list)) else [result]
    # Masks have no gradient; they stand between the constants and the carries.
    place = len(spec.operands) + len(spec.constants)
    full: list[Tensor | None] = [*out[:place], *([None] * len(spec.masks)), *out[place:]]
    for i in range(count):
        if saved[i] is None or not needs[i]:
            full[i] = None
    return full


def _mirror_gradients(
    kernel: FusedKernel, saved: Sequence[Any], rest: Sequence[Any], grads: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Gradients that can themselves be differentiated: through the kernel's mirror."""
    # Through aliases: one saved tensor may be computed from another, and the gradient with
    # respect to each is meant with the others held.
    wanted = [i for i, t in enumerate(saved) if t is not None and t.requires_grad]
    saved = [t.view_as(t) if i in wanted else t for i, t in enumerate(saved)]
    outputs = kernel.mirror(*saved, *rest)
    pairs = [
        (o, g) for o, g in zip(outputs, grads, strict=True) if g is not None and o.requires_grad
    ]
    found: list[Tensor | None] = [None] * (len(saved) - 1)
    if pairs:
        results = torch.autograd.grad(
            [o for o, _ in pairs], [saved[i] for i in wanted], [g for _, g in pairs],
            create_graph=True, allow_unused=True,
        )  # fmt: skip
        for i, r in zip(wanted, results, strict=True):
            found[i] = r
    return found


def _tensors(count: int) -> str:
    return ", ".join(["Tensor"] * count)


def _unpack(tensors: list[Tensor]) -> Any:
    """What an operator of one result returns is that tensor, of several a tuple."""
    return tensors[0] if len(tensors) == 1 else tuple(tensors)


def _forward(kernel: FusedKernel, args: tuple[Any, ...], *, real: bool) -> list[Tensor]:
    """Outputs, final carries and saved states: allocated, and computed when ``real``."""
    spec = kernel.spec
    count, m = kernel.tensors, len(spec.carries)
    tensors, fresh = args[:count], args[count : count + m]
    resets, scalars, extents, dtype, save = args[count + m :]
    like = tensors[0]
    batch, steps = extents[:2]
    wide = state_dtype(dtype)
    by_axis = dict(zip(spec.axes, extents[2:], strict=False))

    def shape(axes: Sequence[str]) -> list[int]:
        return [by_axis[a] for a in axes]

    def make(*shape: int) -> Tensor:
        return empty(shape, dtype, like.device) if real else like.new_empty(shape, dtype=dtype)

    outputs = [make(batch, steps, *shape(axes)) for axes in spec.outputs]
    if real:  # `new_empty` takes twice as long
        device = like.device
        finals = [
            torch.empty((batch, *shape(axes)), dtype=wide, device=device) for axes in spec.carries
        ]
    else:
        finals = [like.new_empty((batch, *shape(axes)), dtype=wide) for axes in spec.carries]
    if not save:
        extra = [like.new_empty((0,), dtype=wide if spec.inner else dtype) for _ in spec.extra]
    elif spec.inner:
        # What the backward march starts each of its chunks from.
        target = kernel.targets.get(like.device.type, kernel.targets["cpu"])
        chunk = target.chunk(spec, math.prod(shape(spec.inner)), wide.itemsize)
        chunks = (steps + chunk - 1) // chunk
        extra = [
            like.new_empty((chunks, batch, *shape(spec.carries[i])), dtype=wide) for i in spec.extra
        ]
    else:
        extra = [make(batch, steps, *shape(spec.carries[i])) for i in spec.extra]
    if real:
        kernel.targets[like.device.type].forward(
            spec, _split(spec, tensors), fresh, resets, scalars, extents, dtype,
            [*outputs, *finals, *(extra if save else [None] * len(extra))],
        )  # fmt: skip
    return [*outputs, *finals, *extra]


def _backward(kernel: FusedKernel, args: tuple[Any, ...], *, real: bool) -> list[Tensor]:
    """Gradients of operands, constants, starts and fresh states."""
    spec = kernel.spec
    n, m, count = len(spec.outputs), len(spec.carries), kernel.tensors
    grads, args = args[: n + m], args[n + m :]
    tensors, args = args[:count], args[count:]
    fresh, args = args[:m], args[m:]
    kept, args = args[: len(spec.saved)], args[len(spec.saved) :]
    resets, scalars, extents, dtype = args
    wide = state_dtype(dtype)
    operands, constants, _, _ = _split(spec, tensors)
    batch = extents[0]
    by_axis = dict(zip(spec.axes, extents[2:], strict=False))
    like = tensors[0]
    shapes = [(batch, *(by_axis[a] for a in axes)) for axes in spec.carries]
    d_starts = [like.new_empty(shape, dtype=wide) for shape in shapes]
    # Zeros: of no steps at all the march writes nothing.
    d_fresh = [
        like.new_zeros(shape if resets is not None else (0,), dtype=wide) for shape in shapes
    ]
    if not real:
        d_operands = [torch.empty_like(o, memory_format=torch.contiguous_format) for o in operands]
        d_constants = [
            torch.empty_like(c, memory_format=torch.contiguous_format) for c in constants
        ]
        return [*d_operands, *d_constants, *d_starts, *d_fresh]
    d_operands, d_constants = kernel.targets[like.device.type].backward(
        spec, grads, _split(spec, tensors), fresh, kept, resets, scalars, extents, dtype,
        [*d_starts, *d_fresh],
    )  # fmt: skip
    return [*d_operands, *d_constants, *d_starts, *d_fresh]


def _split(
    spec: KernelSpec, tensors: Sequence[Tensor]
) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    """The forward operator's tensors by kind: operands, constants, masks, starts."""
    i = len(spec.operands)
    j = i + len(spec.constants)
    k = j + len(spec.masks)
    return tensors[:i], tensors[i:j], tensors[j:k], tensors[k:]
