"""The base of every generated layer: the call, the step, and the choice of backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from seqc.runtime.arguments import Arguments
from seqc.runtime.backends import choose_backend, constant_to_dynamo, warn_once
from seqc.runtime.certificates import Solution, gathered
from seqc.runtime.cpp import CppKernel
from seqc.runtime.nested import too_long
from seqc.runtime.packed import order_of, read_edges, rectangles, take
from seqc.runtime.spec import state_dtype
from seqc.runtime.steps import select
from seqc.runtime.tracing import transforming


class Layer(Arguments):
    """A recurrent layer compiled from a spec.

    Sizes and hypers are keyword arguments by their names in the spec, with
    ``device`` and ``dtype`` as in torch, and ``backend``: ``auto`` (the fused
    kernel of the tensor's device, or ``reference`` where there is none),
    ``cpp``, or ``reference`` (plain PyTorch, step by step).  A stratum that no
    kernel runs is a loop over time in PyTorch, between the kernels of the others.

    Call: ``y, state = layer(x, state)``.  A sequence is (B, T, *axes), batch
    first; a value without axes is (B, T, 1).  One step: ``y_t, state =
    layer.step(x_t, state)``.

    ``resets``, bool (B, T), or (B,) for a step: where it is set, a sequence
    starts anew, so that every lagged read sees what it would before the first
    step; gradients go to the init of the spec and not to the state passed in.

    ``cu_seqlens``, int32 or int64 (N + 1,) from 0 to T: N sequences laid end to
    end in one batch row, (1, T, *axes); some may be empty.  A state has a row for
    each, (N, *axes), passed in and returned.  They run as at most min(N, log2 of
    the longest + 1) batches, without padding (``seqc.runtime.packed``).  Their
    lengths are read by Python: on a GPU that waits for the device, unless
    ``cu_seqlens`` lies on the CPU.
    """

    #: Whether there are dropout masks to make.
    _drops: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._drops = cls._keep is not Layer._keep

    def _single(self, inputs: tuple[Tensor, ...], state: Any, keep: tuple[Tensor, ...]) -> Any:
        """One step of the equations: outputs and the next state."""
        raise NotImplementedError

    def _keep(self, shape: tuple[int, ...], like: Tensor) -> tuple[Tensor, ...]:
        """The dropout masks of a call, (*shape, *axes) each."""
        return ()

    def _ahead(
        self, inputs: tuple[Tensor, ...], state: Any, resets: Tensor | None,
        keep: tuple[Tensor, ...],
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Sequences that a step-by-step run cannot compute as it goes."""
        return ()

    def _parallel(
        self, inputs: tuple[Tensor, ...], state: Any, fresh: Any, resets: Tensor | None,
        keep: tuple[Tensor, ...],
    ) -> tuple[tuple[Tensor, ...], Any]:  # fmt: skip
        """The whole sequence at once, through the fused kernels."""
        raise NotImplementedError

    def _call(
        self,
        inputs: tuple[Tensor, ...],
        state: Any,
        resets: Tensor | None,
        cu_seqlens: Tensor | None,
    ) -> tuple[Any, Any]:
        """``forward``: check, run, dress the outputs."""
        given = inputs[0]
        if self.NEWTON:
            self.solution = {}
        if cu_seqlens is not None:
            inputs = self._enter(inputs, resets)
            outputs, after = self._run_packed(inputs, state, resets, cu_seqlens)
            return self._dress(outputs, self._result_dtype(given)), self._leave(after)
        mark = self._mark(inputs, state, resets, "B, T")
        backend = self._passed_on(mark)
        if backend:
            before = self._begin(given, backend) if state is None else state
            outputs, after = self._run(inputs, before, resets, backend)
            return self._dress(outputs, given.dtype), after
        inputs = self._enter(inputs, resets)
        before = None if state is None else self._state(state, given.shape[0], given)
        backend = self._backend(given)
        self._remember(mark, state, given, backend)
        if before is None:
            before = self._begin(given, backend)
        outputs, after = self._run(inputs, before, resets, backend)
        return self._dress(outputs, self._result_dtype(given)), self._leave(after)

    def _begin(self, like: Tensor, backend: str) -> Any:
        """What sequences given no state start from; Nones where kernels start from zeros."""
        if self._nothing is None or backend == "reference":
            return self._start(like.shape[0], like)
        return self._nothing

    def _run(
        self, inputs: tuple[Tensor, ...], state: Any, resets: Tensor | None, backend: str
    ) -> tuple[tuple[Tensor, ...], Any]:
        """Run sequences that were checked."""
        x = inputs[0]
        keep = self._keep(tuple(x.shape[:2]), x) if self._drops else ()
        if backend == "reference" or (self.LOOPS and x.shape[1] == 0):
            found = self._stepwise(
                (*inputs, *self._ahead(inputs, state, resets, keep)), state, resets, keep
            )
            if self.FEEDBACK and x.shape[1]:
                self._refuse_gradients(*found[0], *found[1])
            return found
        fresh = None if resets is None else self._start(x.shape[0], x)
        return self._parallel(inputs, state, fresh, resets, keep)

    def _refuse_gradients(self, *found: Tensor) -> None:
        """The reference's gradients are exact, which the spec does not ask for."""
        if transforming() or any(y.requires_grad for y in found):
            raise RuntimeError(
                f"{type(self).__name__}: its spec asks for gradients that are {self.FEEDBACK}, and "
                "those of the reference backend are exact: call it under torch.no_grad() there, or "
                "with backend='auto' (which needs a C++ compiler, or CuPy, for its kernels)"
            )

    def _run_packed(
        self,
        inputs: tuple[Tensor, ...],
        state: Any,
        resets: Tensor | None,
        cu_seqlens: Tensor,
    ) -> tuple[tuple[Tensor, ...], Any]:
        """Run sequences that lie end to end, (1, T, *axes), each from its own state."""
        x = inputs[0]
        edges = read_edges(type(self).__name__, cu_seqlens, x.shape[0], x.shape[1])
        count = len(edges) - 1
        fields = self._state(state, count, x)
        found = rectangles(edges, self.STREAMS)
        if not found:  # no steps at all
            empty = tuple(v.expand(count, *v.shape[1:]) for v in inputs)
            outputs, after = self._run(empty, fields, None, self._backend(x))
            return tuple(y[:1] for y in outputs), after
        order = inverse = None
        if len(found) > 1 or len(found[0].rows) < count:
            on_host = order_of(found)
            order, inverse = on_host.to(x.device), on_host.argsort().to(x.device)
        backend = self._backend(x)
        flat = [take(v[0], order) for v in inputs]
        marks = None if resets is None else take(resets[0], order)
        collected: list[tuple[Tensor, ...]] = []
        solution: dict[str, Solution] = {}
        begin = 0
        for r in found:
            shape, end = (len(r.rows), r.length), begin + len(r.rows) * r.length
            rows = None if len(r.rows) == count else torch.tensor(r.rows, device=x.device)
            outputs, after = self._run(
                tuple(v[begin:end].unflatten(0, shape) for v in flat),
                self.State(*(take(f, rows) for f in fields)),
                None if marks is None else marks[begin:end].unflatten(0, shape),
                backend,
            )
            if rows is not None:
                after = (f.index_copy(0, rows, a) for f, a in zip(fields, after, strict=True))
            fields = self.State(*after)
            if self.NEWTON:
                solution = gathered(solution, self.solution, rows, count)
                self.solution = {}
            collected.append(tuple(y.flatten(0, 1) for y in outputs))
            begin = end
        if self.NEWTON:
            self.solution = solution
        joined = (torch.cat(ys) for ys in zip(*collected, strict=True))
        return tuple(take(y, inverse).unsqueeze(0) for y in joined), fields

    def _backend(self, x: Tensor) -> str:
        """The backend of a call with such an input."""
        chosen: str = self._choose(x.device.type, x.device.index, x.dtype)
        return chosen

    @constant_to_dynamo
    def _choose(self, device: str, index: int | None, dtype: torch.dtype) -> str:
        """The backend for a device, falling back to ``reference`` with one warning."""
        stored = [state_dtype(dtype)]
        if device == "cpu" and torch.is_autocast_enabled("cpu"):  # products: in another dtype
            stored.append(torch.get_autocast_dtype("cpu"))
        needed = [k for k in self.KERNELS if device not in k.lacking]
        chosen = choose_backend(
            self.backend, device, index, type(self).__name__, self.PARALLEL, bool(needed),
            self._compiled(CppKernel.loaded, stored),
            lambda: self._compiled(CppKernel.have, stored),
        )  # fmt: skip
        if chosen != "cuda" or self.backend == "cuda":
            return chosen
        for kernel in self.KERNELS:
            inner = self._shape(kernel.spec.inner)
            if inner and (said := too_long(kernel.spec, inner, dtype)):
                warn_once(f"{said}; {type(self).__name__} runs on the reference backend")
                return "reference"
        return chosen

    def _compiled(
        self, test: Callable[[CppKernel, torch.dtype], bool], stored: Sequence[torch.dtype]
    ) -> bool:
        """Whether a test holds for all C++ kernels that a call may launch."""
        for kernel in self.KERNELS:
            target = kernel.targets["cpu"]
            if not isinstance(target, CppKernel):
                return False
            for dtype in stored:
                if not test(target, dtype):
                    return False
        return True

    def _stepwise(
        self,
        inputs: tuple[Tensor, ...],
        state: Any,
        resets: Tensor | None,
        keep: tuple[Tensor, ...],
    ) -> tuple[tuple[Tensor, ...], Any]:
        """The reference backend: the equations, one step after another."""
        x = inputs[0]
        steps = x.shape[1]
        fresh = self._start(x.shape[0], x) if resets is not None else None
        collected: list[tuple[Tensor, ...]] = []
        padded, masks = inputs, keep
        if steps == 0:
            # One step on zeros, cut away again: the empty result belongs to the graph.
            padded = tuple(
                torch.cat((v, v.new_zeros(v.shape[0], 1, *v.shape[2:])), 1) for v in inputs
            )
            masks = tuple(m.new_ones(m.shape[0], 1, *m.shape[2:]) for m in keep)
        for t in range(max(steps, 1)):
            if resets is not None and steps:
                state = self._renew(resets[:, t], fresh, state)
            outputs, after = self._single(
                tuple(v[:, t] for v in padded), state, tuple(m[:, t] for m in masks)
            )
            state = after if steps else state
            collected.append(outputs)
        return tuple(torch.stack(ys, 1)[:, :steps] for ys in zip(*collected, strict=True)), state

    def _take_step(
        self, inputs: tuple[Tensor, ...], state: Any, resets: Tensor | None
    ) -> tuple[Any, Any]:
        """``step``: check, run one step, dress the outputs."""
        if not self.STREAMS:
            raise RuntimeError(
                f"{type(self).__name__} sees later steps (a convolution that is not causal), "
                "so it cannot run one step at a time"
            )
        if self.NEWTON:
            self.solution = {}
        mark = self._mark(inputs, state, resets, "B")
        backend = self._passed_on(mark)
        x = inputs[0]
        if backend:
            taken = self._begin(x, backend) if state is None else state
            outputs, after = self._run_step(inputs, taken, resets, backend)
            return self._dress(outputs, x.dtype), after
        entered, taken = self._enter_step(inputs, state, resets)
        # A step of a loop without kernels around it is a step of the reference.
        stages = self.KERNELS or self.FEEDBACK or not self.LOOPS
        backend = self._backend(x) if stages else "reference"
        self._remember(mark, state, x, backend)
        if taken is None:
            taken = self._begin(x, backend)
        if backend != "reference":
            outputs, after = self._run_step(entered, taken, resets, backend)
            return self._dress(outputs, self._result_dtype(x)), self._leave(after)
        if resets is not None:
            taken = self._renew(resets, self._start(x.shape[0], x), taken)
        keep = tuple(m[:, 0] for m in self._keep((x.shape[0], 1), x))
        outputs, after = self._single(entered, taken, keep)
        if self.FEEDBACK:
            self._refuse_gradients(*outputs, *after)
        return self._dress(outputs, self._result_dtype(x)), self._leave(after)

    def _run_step(
        self, inputs: tuple[Tensor, ...], state: Any, resets: Tensor | None, backend: str
    ) -> tuple[list[Tensor], Any]:
        """A step that was checked, as a sequence of one."""
        mask = None if resets is None else resets.unsqueeze(1)
        outputs, after = self._run(tuple([x.unsqueeze(1) for x in inputs]), state, mask, backend)
        return [y.squeeze(1) for y in outputs], after

    def _enter_step(
        self, inputs: tuple[Tensor, ...], state: Any, resets: Tensor | None
    ) -> tuple[tuple[Tensor, ...], Any]:
        """Check a step's inputs and state, and have them as the equations see them."""
        for name, x in zip(self.INPUTS, inputs, strict=True):
            self._check_input(name, x, "B")
            if x.shape[0] != inputs[0].shape[0]:
                raise ValueError(
                    f"{type(self).__name__}: {name} has batch {x.shape[0]}, but "
                    f"{next(iter(self.INPUTS))} has {inputs[0].shape[0]}"
                )
        self._check_alike(inputs)
        x = inputs[0]
        self._check_resets(resets, x, "B")
        taken = None if state is None else self._state(state, x.shape[0], x)
        return self._strip(inputs), taken

    def _renew(self, resets: Tensor, fresh: Any, state: Any) -> Any:
        """The state of before the first step where a (B,) mask is set, else the given one."""
        return self.State(*(select(resets, f, s) for f, s in zip(fresh, state, strict=True)))

    def kernel_calls(self, *inputs: Tensor, state: Any = None) -> list[tuple[Any, tuple[Any, ...]]]:
        """The kernel operators that a call launches, with their arguments (for opcheck)."""
        calls: list[tuple[Any, tuple[Any, ...]]] = []
        for kernel in self.KERNELS:
            kernel.listeners.append(lambda op, args: calls.append((op, args)))
        try:
            self(*inputs, state=state)
        finally:
            for kernel in self.KERNELS:
                kernel.listeners.pop()
        return calls
