"""A fused kernel as torch sees it: two operators, their shapes, and their derivatives.

A generated module describes each kernel by a :class:`KernelSpec`; this module
registers its forward and backward march as operators of the ``seqc``
namespace, named by content, and ties them together for autograd.  Derivatives
that the marches do not have (second order, forward mode) are those of the kernel's
tangent, a kernel of its own: see :mod:`seqc.runtime.derivatives`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from seqc.runtime.cpp import CppKernel
from seqc.runtime.cuda import CudaKernel
from seqc.runtime.derivatives import call, gradients
from seqc.runtime.duals import mirror_of_tangent
from seqc.runtime.floor import require_torch
from seqc.runtime.spec import KernelSpec, state_dtype
from seqc.runtime.tables import results, split

require_torch(torch.__version__)

NAMESPACE = __name__.partition(".")[0]  # a standalone module has another
_LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")
_REGISTERING = threading.Lock()
_FUNCTIONALIZE = torch._C._functorch.TransformType.Functionalize

_HALVES = (torch.bfloat16, torch.float16)
Mirror = Callable[..., tuple[Tensor, ...]]
#: The spec and sources of a kernel's tangent, and whether second derivatives are symmetric.
Tangent = Callable[[], tuple[KernelSpec, dict[str, str], bool]]


def transforming() -> bool:
    """Whether a functorch transform or forward-mode differentiation is under way."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return True
    return torch.autograd.forward_ad._current_level >= 0


class FusedKernel:
    """A kernel's operators; call it with tensors in the order of its spec.

    ``sources`` holds the kernel's source text a target; ``mirror`` computes the
    same outputs and final carries in plain torch; ``tangent`` tells of the kernel on dual numbers.
    """

    def __init__(
        self,
        spec: KernelSpec,
        sources: dict[str, str],
        mirror: Mirror,
        tangent: Tangent | None = None,
    ) -> None:
        self.spec = spec
        self.mirror = mirror
        #: Where among its results those end that are outputs, and final carries.
        self.counts = len(spec.outputs), len(spec.outputs) + len(spec.carries)
        #: How many tensors the forward operator takes, besides resets and fresh states.
        self.tensors = sum(map(len, (spec.operands, spec.constants, spec.masks, spec.carries)))
        self._tangent = tangent
        self._doubled: FusedKernel | None = None
        #: Whether second derivatives are the same in either order; known with the tangent.
        self.symmetric = False
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
    def tangent(self) -> FusedKernel | None:
        """The kernel on dual numbers, made when it is first asked for."""
        if self._doubled is None and self._tangent is not None:
            spec, sources, self.symmetric = self._tangent()
            self._doubled = FusedKernel(spec, sources, mirror_of_tangent(self))
        return self._doubled

    def __call__(
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
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Outputs (B, T, *axes) and final carries (B, *axes).

        ``like`` tells the dtype where no operand, constant or start does.
        """
        given = operands or constants or starts or (like,)
        assert given[0] is not None
        dtype = given[0].dtype
        for o in operands[1:]:
            if o.dtype is not dtype:
                dtype = torch.promote_types(dtype, o.dtype)
        wide = state_dtype(dtype)
        # Where nothing is cast nothing is asked of torch: a call of `to` costs more than a look.
        tensors = [o if o.dtype is dtype else o.to(dtype) for o in operands]
        if constants:
            tensors += [c if c.dtype is wide else c.to(wide) for c in constants]
        tensors += masks
        tensors += [s if s.dtype is wide else s.to(wide) for s in starts]
        anew: list[Tensor | None] = [None] * len(starts)
        if resets is not None:
            if any(f is None for f in fresh):
                raise ValueError(f"{self.spec.name}: with resets every carry needs a fresh state")
            anew = [f if f is None or f.dtype is wide else f.to(wide) for f in fresh]
        save = torch.is_grad_enabled() and _differentiable(tensors, anew)
        half = dtype if dtype in _HALVES else wide
        n, last = self.counts
        if self.listeners or not plain(tensors) or transforming():
            result = self._watched((*tensors, *anew, resets, scalars, extents, half, save))
        elif save:
            result = self.run(*tensors, *anew, resets, scalars, extents, half, save)
        else:
            result = self.targets[tensors[0].device.type].forward(
                self.spec, tensors, anew, resets, scalars, extents, half, save
            )
        return result[:n], result[n:last]

    def run(self, *full: Any) -> Sequence[Tensor]:
        """Launch with the forward operator's arguments, one after another, past the dispatcher:
        outputs, final carries, saved states.
        """
        if full[-1] and torch.is_grad_enabled():
            results: tuple[Tensor, ...] = _Direct.apply(self, *full)  # type: ignore[no-untyped-call]
            return results
        return _forward(self, full, real=True)

    def _watched(self, full: tuple[Any, ...]) -> Sequence[Tensor]:
        """A call while somebody traces, transforms or listens, through the forward operator."""
        if torch.compiler.is_compiling():
            if torch.autograd.forward_ad._current_level >= 0:
                raise RuntimeError(
                    "forward-mode differentiation of a fused kernel inside torch.compile is not "
                    "supported; call torch.func.jvp outside the compiled function"
                )
        elif transforming():
            return self._transformed(full)
        for listen in self.listeners:
            listen(self.forward_op, _to_operator(self, full))
        result = self.forward_op(*_to_operator(self, full))
        return (result,) if isinstance(result, Tensor) else tuple(result)

    def _transformed(self, full: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """Outputs and final carries under transforms."""
        stack = torch._C._functorch.get_interpreter_stack() or []
        functional = any(i.key() == _FUNCTIONALIZE for i in stack)  # takes no autograd.Function
        if functional or self._tangent is None:
            return self.mirror(*full[:-1])
        return call(self, full, always=bool(stack))

    def march(self, full: tuple[Any, ...]) -> Sequence[Tensor]:
        """What the forward operator gives, without derivatives: those are the caller's."""
        if plain(full[: self.tensors]):
            return _forward(self, full, real=True)
        result = self.forward_op(*_to_operator(self, full))
        return (result,) if isinstance(result, Tensor) else tuple(result)

    def march_back(
        self, grads: Sequence[Tensor | None], saved: Sequence[Any], rest: Sequence[Any]
    ) -> list[Tensor | None]:
        """Gradients of the forward operator's tensors, without derivatives of their own."""
        return _march_back(self, grads, saved, rest, (True,) * len(saved))


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
    resets, scalars, extents, *rest = full[count + m :]
    return (list(full[:count]), fresh, resets, list(scalars), list(extents), *rest)


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
    for t in tensors:  # noqa: SIM110 (a generator takes longer than most calls have tensors)
        if type(t) is not Tensor and type(t) is not torch.nn.Parameter:
            return False
    return True


def _differentiable(tensors: Sequence[Tensor], fresh: Sequence[Tensor | None]) -> bool:
    """Whether any of them asks for a gradient."""
    for t in tensors:
        if t.requires_grad:
            return True
    return any(f is not None and f.requires_grad for f in fresh)


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
    saved = ctx.saved_tensors
    given = grads[: len(kernel.spec.outputs) + len(kernel.spec.carries)]
    if torch.is_grad_enabled() or transforming():
        found = gradients(kernel, saved, ctx.rest, given)
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
    tensors, fresh = saved[: kernel.tensors], saved[kernel.tensors : count]
    resets, kept = saved[count], saved[count + 1 :]
    if plain([t for t in (*grads, *saved) if t is not None]):
        target = kernel.targets[tensors[0].device.type]
        full = target.backward(spec, grads, tensors, fresh, kept, resets, *rest)
    else:
        given = [f for f in fresh if f is not None]
        result = kernel.backward_op(list(grads), list(tensors), given, list(kept), resets, *rest)
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


def _forward(kernel: FusedKernel, args: tuple[Any, ...], *, real: bool) -> list[Tensor]:
    """Outputs, final carries and saved states: computed when ``real``, else their shapes."""
    spec = kernel.spec
    count, m = kernel.tensors, len(spec.carries)
    tensors, fresh = args[:count], args[count : count + m]
    resets, scalars, extents, dtype, save = args[count + m :]
    like = tensors[0]
    if real:
        return kernel.targets[like.device.type].forward(
            spec, tensors, fresh, resets, scalars, extents, dtype, save
        )
    every = 0
    if spec.inner:
        target = kernel.targets.get(like.device.type, kernel.targets["cpu"])
        every = target.every(spec, extents, dtype)
    return [like.new_empty(s, dtype=d) for s, d in results(spec, extents, dtype, save, every)]


def _backward(kernel: FusedKernel, args: tuple[Any, ...], *, real: bool) -> list[Tensor]:
    """Gradients of operands, constants, starts and fresh states."""
    spec = kernel.spec
    n, m, count = len(spec.outputs), len(spec.carries), kernel.tensors
    grads, args = args[: n + m], args[n + m :]
    tensors, args = args[:count], args[count:]
    fresh, args = args[:m], args[m:]
    kept, args = args[: len(spec.saved)], args[len(spec.saved) :]
    resets, scalars, extents, dtype = args
    like = tensors[0]
    if real:
        found = kernel.targets[like.device.type].backward(
            spec, grads, tensors, fresh, kept, resets, scalars, extents, dtype
        )
        return [like.new_empty(0, dtype=state_dtype(dtype)) if f is None else f for f in found]
    operands, constants, _, _ = split(spec, tensors)
    wide, by_axis = state_dtype(dtype), dict(zip(spec.axes, extents[2:], strict=False))
    plain = torch.contiguous_format
    shapes = [(extents[0], *(by_axis[a] for a in axes)) for axes in spec.carries]
    left = [(0,) if resets is None else shape for shape in shapes]
    return [
        *(torch.empty_like(t, memory_format=plain) for t in (*operands, *constants)),
        *(like.new_empty(shape, dtype=wide) for shape in (*shapes, *left)),
    ]
