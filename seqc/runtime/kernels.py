"""A fused kernel as torch sees it: two operators, their shapes, and their derivatives.

A generated module describes each kernel by a :class:`KernelSpec`; this module
registers its forward and backward march as operators of the ``seqc``
namespace, named by content, and ties them together for autograd.  Derivatives
that the marches do not have (second order, forward mode) are those of the kernel's
tangent, a kernel of its own: see :mod:`seqc.runtime.derivatives`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from seqc.runtime.cpp import CppKernel
from seqc.runtime.cuda import CudaKernel
from seqc.runtime.derivatives import call
from seqc.runtime.duals import mirror_of_tangent
from seqc.runtime.environment import FUSED
from seqc.runtime.operators import (
    LIBRARY,
    NAMESPACE,
    REGISTERING,
    launch,
    march_back,
    register,
    run_directly,
    started,
    to_operator,
)
from seqc.runtime.spec import KernelSpec, state_dtype
from seqc.runtime.tracing import outlived, plain, transforming

_FUNCTIONALIZE = torch._C._functorch.TransformType.Functionalize

#: A backend's side of a kernel.
LAUNCHERS: dict[str, type[CppKernel] | type[CudaKernel]] = {"cpp": CppKernel, "cuda": CudaKernel}

_HALVES = (torch.bfloat16, torch.float16)
Mirror = Callable[..., tuple[Tensor, ...]]
#: The spec and sources of a kernel's tangent, and whether second derivatives are symmetric.
Tangent = Callable[[], tuple[KernelSpec, dict[str, str], bool]]


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
        #: Which of its results are the states that the march back reads.
        extra = iter(range(self.counts[1], self.counts[1] + spec.stored))
        self.kept = [o if o >= 0 else next(extra) for _, o in spec.saved]
        self.kept += extra  # what else it holds
        self._tangent = tangent
        self._doubled: FusedKernel | None = None
        #: Whether the tangent's libraries came with the module, where the kernel's own did.
        self.ships_tangent = False
        #: Whether second derivatives are the same in either order; known with the tangent.
        self.symmetric = False
        self.listeners: list[Callable[[Any, tuple[Any, ...]], None]] = []
        #: A device's; one that steps has none for CUDA, where torch takes its steps.
        self.targets: dict[str, CppKernel | CudaKernel] = {
            device: LAUNCHERS[backend](spec.name, sources[backend])
            for device, backend in FUSED.items()
            if backend in sources
        }
        #: The devices that have fused kernels, but not of this one.
        self.lacking = FUSED.keys() - self.targets.keys()
        content = repr(spec) + "".join(f"{k}\0{v}\0" for k, v in sorted(sources.items()))
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        self.op_name = f"{spec.name}_{digest}"
        # torch drops a library's operators when the library goes.  The operators hold this kernel,
        # so they stay: another copy of this module may have taken them for its own.
        self.library = LIBRARY
        operators = getattr(torch.ops, NAMESPACE)
        with REGISTERING:
            if not hasattr(operators, f"{self.op_name}_backward"):
                register(self)
        self.forward_op = getattr(operators, f"{self.op_name}_forward").default
        self.backward_op = getattr(operators, f"{self.op_name}_backward").default

    @property
    def tangent(self) -> FusedKernel | None:
        """The kernel on dual numbers, made when it is first asked for."""
        if self._doubled is None and self._tangent is not None:
            spec, sources, self.symmetric = self._tangent()
            made = FusedKernel(spec, sources, mirror_of_tangent(self))
            mine, other = self.targets["cpu"], made.targets["cpu"]
            if self.ships_tangent and isinstance(mine, CppKernel) and isinstance(other, CppKernel):
                other.shipped = mine.shipped
            self._doubled = made
        return self._doubled

    def __call__(
        self,
        operands: Sequence[Tensor],
        constants: Sequence[Tensor],
        masks: Sequence[Tensor],
        starts: Sequence[Tensor | None],
        fresh: Sequence[Tensor | None],
        resets: Tensor | None,
        scalars: Sequence[float],
        extents: Sequence[int],
        like: Tensor | None = None,
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Outputs (B, T, *axes) and final carries (B, *axes).

        ``starts`` that are None are zeros, which marches need not see.
        ``like`` tells the dtype where no operand, constant or start does.
        """
        given = operands or constants or starts or (like,)
        assert given[0] is not None
        dtype = given[0].dtype
        for o in operands:
            if o.dtype is not dtype:
                dtype = torch.promote_types(dtype, o.dtype)
        wide = state_dtype(dtype)
        tensors: list[Tensor | None]
        tensors = [*_all(operands, dtype), *_all(constants, wide), *masks]
        tensors += starts if starts and starts[0] is None else _all(starts, wide)
        anew: list[Tensor | None] = [None] * len(starts)
        if resets is not None:
            if any(f is None for f in fresh):
                raise ValueError(f"{self.spec.name}: with resets every carry needs a fresh state")
            anew = [f if f is None or f.dtype is wide else f.to(wide) for f in fresh]
        save = torch.is_grad_enabled() and _differentiable((*tensors, *anew))
        half = dtype if dtype in _HALVES else wide
        rest = (resets, scalars, extents, half, save)
        if self.lacking and given[0].device.type in self.lacking:
            found = self.mirror(*started(self, tensors, rest), *anew, *rest[:-1])
            return found[: self.counts[0]], found[self.counts[0] : self.counts[1]]
        if self.listeners or not plain(tensors) or transforming():
            result = self._watched((*started(self, tensors, rest), *anew, *rest))
        else:
            try:
                if save:
                    result = run_directly(self, *tensors, *anew, *rest)
                else:
                    target = self.targets["cpu" if given[0].is_cpu else given[0].device.type]
                    result = target.forward(self.spec, tensors, anew, *rest)
            except RuntimeError:
                # Rare enough to be looked for when it went wrong: operators see through wrappers.
                if not any(outlived(t) for t in (*tensors, *anew)):
                    raise
                result = self._watched((*started(self, tensors, rest), *anew, *rest))
        n, last = self.counts
        return result[:n], result[n:last]

    def run(self, *full: Any) -> Sequence[Tensor]:
        """Launch with the forward operator's arguments, one after another, past the dispatcher:
        outputs, final carries, saved states.
        """
        if full[-1] and torch.is_grad_enabled():
            results: tuple[Tensor, ...] = run_directly(self, *full)
            return results
        return launch(self, full)

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
            listen(self.forward_op, to_operator(self, full))
        result = self.forward_op(*to_operator(self, full))
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
            return launch(self, full)
        result = self.forward_op(*to_operator(self, full))
        return (result,) if isinstance(result, Tensor) else tuple(result)

    def march_back(
        self, grads: Sequence[Tensor | None], saved: Sequence[Any], rest: Sequence[Any]
    ) -> list[Tensor | None]:
        """Gradients of the forward operator's tensors, without derivatives of their own."""
        return march_back(self, grads, saved, rest, (True,) * len(saved))


def _all(tensors: Sequence[Any], dtype: torch.dtype) -> Sequence[Tensor]:
    """The tensors in a dtype: a call of ``to`` costs more than a look where nothing is cast."""
    for t in tensors:
        if t.dtype is not dtype:
            return [t.to(dtype) for t in tensors]
    return tensors


def _differentiable(tensors: Sequence[Tensor | None]) -> bool:
    """Whether any of them asks for a gradient."""
    for t in tensors:  # noqa: SIM110 (a generator takes longer than most calls have tensors)
        if t is not None and t.requires_grad:
            return True
    return False
