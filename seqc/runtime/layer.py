"""The base of every generated layer: sizes, parameters, states, checks, and the choice of backend.

A generated class fills in the tables and the equations; what a call accepts
and what it says when something is wrong is the same for every layer, and lives
here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from seqc.runtime.build import find_compiler
from seqc.runtime.environment import read_environment
from seqc.runtime.kernels import FusedKernel, state_dtype

BACKENDS = ("auto", "reference", "cpp")
_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def _constant_to_dynamo(function: Any) -> Any:
    """What torch.compiler.assume_constant_result does, without the second of importing dynamo."""
    function._dynamo_marked_constant = True
    return function


class SeqcWarning(UserWarning):
    """What seqc warns of when it compiles or runs a layer."""


class Field(NamedTuple):
    """One field of a layer's state.

    A ``single`` field is the last value, (B, *axes); any other holds the last K
    steps, (B, K, *axes) with the oldest first, K the longest of ``lags`` and of
    ``windows`` less one (numbers, or names of sizes).
    """

    name: str
    axes: tuple[str, ...]
    single: bool
    lags: tuple[int | str, ...]
    windows: tuple[int | str, ...]


class ParameterRecord(NamedTuple):
    """How a parameter was declared, for ``reset_parameters``."""

    name: str
    kind: str
    values: tuple[float, ...]
    fan_in: int


class Layer(nn.Module):
    """A recurrent layer compiled from a spec.

    Sizes and hypers are keyword arguments by their names in the spec, with
    ``device`` and ``dtype`` as in torch, and ``backend``: ``auto`` (the fused
    kernel of the tensor's device, or ``reference`` where there is none),
    ``cpp``, or ``reference`` (plain PyTorch, step by step).

    Call: ``y, state = layer(x, state)``.  A sequence is (B, T, *axes), batch
    first; a value without axes is (B, T, 1).  One step: ``y_t, state =
    layer.step(x_t, state)``.

    ``resets``, bool (B, T), or (B,) for a step: where it is set, a sequence
    starts anew, so that every lagged read sees what it would before the first
    step; gradients go to the init of the spec and not to the state passed in.

    ``cu_seqlens``, integers (N + 1,) from 0 to T: N sequences laid end to end in
    one batch row.  A state passed in belongs to the first of them, every later
    one starts anew; the state returned is that of the last.  Add ``resets`` at
    step 0 for the first to start anew as well.
    """

    SPEC: ClassVar[str] = ""
    SIZES: ClassVar[dict[str, int | None]] = {}
    ALIASES: ClassVar[dict[str, str]] = {}
    HYPERS: ClassVar[dict[str, float]] = {}
    INPUTS: ClassVar[dict[str, tuple[str, ...]]] = {}
    STATES: ClassVar[dict[str, tuple[str, ...]]] = {}
    OUTPUTS: ClassVar[dict[str, tuple[str, ...]]] = {}
    FIELDS: ClassVar[tuple[Field, ...]] = ()
    KERNELS: ClassVar[tuple[FusedKernel, ...]] = ()
    PARALLEL: ClassVar[bool] = True
    STREAMS: ClassVar[bool] = True
    State: ClassVar[Any]

    backend: str

    def __init__(
        self,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str | None = None,
        **numbers: float,
    ) -> None:
        super().__init__()
        self._take_numbers(numbers)
        self.backend = backend if backend is not None else type(self).DEFAULT_BACKEND
        self._factory = {"device": device, "dtype": dtype}
        self._records: list[ParameterRecord] = []
        self._declare()
        del self._factory
        self.reset_parameters()

    DEFAULT_BACKEND: ClassVar[str] = "auto"

    # What a generated class provides -------------------------------------------------

    def _declare(self) -> None:
        """Create the parameters (``self._parameter``)."""

    def _start(self, batch: int, like: Tensor) -> Any:
        """The state before the first step."""
        raise NotImplementedError

    def _single(self, inputs: tuple[Tensor, ...], state: Any, keep: tuple[Tensor, ...]) -> Any:
        """One step of the equations: outputs and the next state."""
        raise NotImplementedError

    def _keep(self, shape: tuple[int, ...], like: Tensor) -> tuple[Tensor, ...]:
        """The dropout masks of a call, (*shape, *axes) each."""
        return ()

    # Construction --------------------------------------------------------------------

    def _take_numbers(self, numbers: dict[str, float]) -> None:
        """Check sizes and hypers by name, and set them as attributes."""
        kind = type(self).__name__
        known = [*self.SIZES, *self.HYPERS]
        for name in numbers:
            if name not in known:
                if name in self.ALIASES:
                    said = f"{name} is another name for {self.ALIASES[name]}: give that one"
                else:
                    said = f"it takes {', '.join(known) or 'no numbers'}"
                raise TypeError(f"{kind} has no size or hyper {name!r}; {said}")
        for name, default in self.SIZES.items():
            value = numbers.get(name, default)
            if value is None:
                want = ", ".join(f"{s}=…" for s, d in self.SIZES.items() if d is None)
                raise TypeError(f"{kind} needs the size {name!r}: {kind}({want})")
            whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            if isinstance(value, bool) or not whole or value < 1:
                raise ValueError(f"{kind}: size {name!r} must be a positive integer, not {value!r}")
            setattr(self, name, int(value))
        for alias, target in self.ALIASES.items():
            setattr(self, alias, getattr(self, target))
        for name, number in self.HYPERS.items():
            value = numbers.get(name, number)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
                raise ValueError(f"{kind}: hyper {name!r} must be a number, not {value!r}")
            setattr(self, name, float(value))

    def _parameter(
        self,
        name: str,
        shape: tuple[int, ...],
        kind: str = "default",
        values: tuple[float, ...] = (),
        fan_in: int = 0,
    ) -> None:
        """Declare ``name`` (dots make submodules, so that state_dict reads like the spec)."""
        holder: nn.Module = self
        *path, last = name.split(".")
        for part in path:
            if part not in holder._modules:
                holder.add_module(part, nn.Module())
            holder = getattr(holder, part)
        holder.register_parameter(last, nn.Parameter(torch.empty(shape, **self._factory)))
        self._records.append(ParameterRecord(name, kind, values, fan_in))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw every parameter anew from the distribution that the spec gives it.

        ``default`` is torch.nn.Linear's: uniform in ±1/sqrt(fan in) for weights
        and biases; other parameters without an init start at zero.
        """
        for name, kind, values, fan_in in self._records:
            p = self.get_parameter(name)
            match kind:
                case "default" if fan_in > 0:
                    bound = 1 / math.sqrt(fan_in)
                    p.uniform_(-bound, bound)
                case "default":
                    p.zero_()
                case "number":
                    p.fill_(values[0])
                case "normal":
                    p.normal_(values[0], values[1])
                case "uniform":
                    p.uniform_(values[0], values[1])
                case "orthogonal":
                    gain = values[0] if values else 1.0
                    if p.dim() >= 2:
                        nn.init.orthogonal_(p, gain)
                    else:
                        p.copy_(nn.init.orthogonal_(p.new_empty(1, p.numel()), gain)[0])
                case _:
                    raise ValueError(f"{name}: unknown init {kind!r}")

    def extra_repr(self) -> str:
        """Sizes and hypers, as given."""
        numbers = [f"{n}={getattr(self, n)}" for n in self.SIZES]
        numbers += [f"{n}={getattr(self, n):g}" for n in self.HYPERS]
        return ", ".join(numbers)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.HYPERS and not isinstance(value, (int, float)):
            if not (isinstance(value, Tensor) and value.numel() == 1):
                raise TypeError(f"hyper {name!r} must be a number, not {type(value).__name__}")
            value = float(value)
        if name == "backend" and value not in BACKENDS:
            raise ValueError(f"backend {value!r}: it can be {', '.join(BACKENDS)}")
        if name in self.HYPERS:
            value = float(value)
        super().__setattr__(name, value)

    # The call ------------------------------------------------------------------------

    def _call(
        self,
        inputs: tuple[Tensor, ...],
        state: Any,
        resets: Tensor | None,
        cu_seqlens: Tensor | None,
    ) -> tuple[Any, Any]:
        """``forward``: check, choose the backend, run, dress the outputs."""
        given = inputs[0]
        if cu_seqlens is not None:
            self._check_input(next(iter(self.INPUTS)), given, "B, T")
            self._check_resets(resets, given, "B, T")
            resets = self._packed_boundaries(cu_seqlens, given, resets)
        inputs, state = self._enter(inputs, state, resets)
        keep = self._keep(tuple(given.shape[:2]), given)
        if self._choose(given.device.type) == "reference":
            outputs, after = self._stepwise(
                (*inputs, *self._ahead(inputs, state, resets, keep)), state, resets, keep
            )
        else:
            fresh = None if resets is None else self._start(given.shape[0], given)
            outputs, after = self._parallel(inputs, state, fresh, resets, keep)
        return self._dress(outputs, self._result_dtype(given)), self._leave(after)

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

    def _extent(self, axis: str) -> int:
        """The number of entries along an axis."""
        return int(getattr(self, axis))

    def _shape(self, axes: Sequence[str]) -> tuple[int, ...]:
        return tuple(self._extent(a) for a in axes)

    def _describe(self, axes: Sequence[str], lead: str) -> str:
        """A shape in words, e.g. (B, T, hidden=128)."""
        inner = ", ".join(f"{a}={self._extent(a)}" for a in axes) or "1"
        return f"({lead}, {inner})"

    def _check_input(self, name: str, x: Any, lead: str) -> None:
        """Raise for an input that is not what the spec declares."""
        kind, axes = type(self).__name__, self.INPUTS[name]
        want = self._describe(axes, lead)
        if not isinstance(x, Tensor):
            raise TypeError(f"{kind}: {name} must be a tensor {want}, not {type(x).__name__}")
        if x.dtype not in _FLOATS:
            raise TypeError(
                f"{kind}: {name} must be float32, float64, bfloat16 or float16, not {x.dtype}; "
                f"convert it, e.g. {name}.float()"
            )
        inner = self._shape(axes) or (1,)
        leading = 2 if lead == "B, T" else 1
        if x.dim() != leading + len(inner) or tuple(x.shape[leading:]) != inner:
            hint = ""
            if x.dim() == leading - 1 + len(inner):
                hint = f"; {name}.unsqueeze(0) gives it a batch axis" if leading == 2 else ""
            raise ValueError(f"{kind}: {name} must be {want}, not {tuple(x.shape)}{hint}")

    def _enter(
        self, inputs: tuple[Tensor, ...], state: Any, resets: Tensor | None
    ) -> tuple[tuple[Tensor, ...], Any]:
        """Check a call's arguments; inputs without axes lose their last dimension."""
        names = list(self.INPUTS)
        for name, x in zip(names, inputs, strict=True):
            self._check_input(name, x, "B, T")
        first = inputs[0]
        for name, x in zip(names[1:], inputs[1:], strict=True):
            if x.shape[:2] != first.shape[:2]:
                raise ValueError(
                    f"{type(self).__name__}: {name} has batch and time {tuple(x.shape[:2])}, "
                    f"but {names[0]} has {tuple(first.shape[:2])}"
                )
        self._check_alike(inputs)
        self._check_resets(resets, first, "B, T")
        return self._strip(inputs), self._state(state, first.shape[0], first)

    def _check_resets(self, resets: Any, x: Tensor, lead: str) -> None:
        """Raise for resets that are not a mask over the leading dimensions of an input."""
        if resets is None:
            return
        kind, want = type(self).__name__, tuple(x.shape[: 2 if lead == "B, T" else 1])
        if not isinstance(resets, Tensor) or tuple(resets.shape) != want:
            got = tuple(resets.shape) if isinstance(resets, Tensor) else type(resets).__name__
            shape = f"({lead})" if "," in lead else f"({lead},)"
            raise ValueError(f"{kind}: resets must be a mask {shape} = {want}, not {got}")
        if resets.dtype != torch.bool:
            raise TypeError(f"{kind}: resets must be bool, not {resets.dtype}")
        if resets.device != x.device:
            raise ValueError(f"{kind}: resets are on {resets.device}, the input on {x.device}")

    def _check_alike(self, inputs: tuple[Tensor, ...]) -> None:
        """Inputs and parameters live on one device and have one dtype (autocast aside)."""
        kind, names = type(self).__name__, list(self.INPUTS)
        first = inputs[0]
        for name, x in zip(names[1:], inputs[1:], strict=True):
            if x.device != first.device:
                raise ValueError(
                    f"{kind}: {name} is on {x.device}, but {names[0]} is on {first.device}"
                )
            if x.dtype != first.dtype:
                raise TypeError(
                    f"{kind}: {name} is {x.dtype}, but {names[0]} is {first.dtype}; "
                    "convert one of them with .to(…)"
                )
        for label, p in self.named_parameters():
            if p.device != first.device:
                raise ValueError(
                    f"{kind}: {names[0]} is on {first.device}, but the parameter {label} is on "
                    f"{p.device}; move one of them with .to(…)"
                )
            if p.dtype != first.dtype and not torch.is_autocast_enabled(first.device.type):
                raise TypeError(
                    f"{kind}: {names[0]} is {first.dtype}, but the parameter {label} is "
                    f"{p.dtype}; convert one of them with .to(…)"
                )
            break

    def _strip(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Inputs as the equations see them: a value without axes has no axis."""
        return tuple(
            x if axes else x[..., 0] for x, axes in zip(inputs, self.INPUTS.values(), strict=True)
        )

    def _dress(self, outputs: tuple[Tensor, ...], dtype: torch.dtype) -> Any:
        """Outputs as a caller sees them: one tensor, or a tuple."""
        dressed = tuple(
            (y if axes else y.unsqueeze(-1)).to(dtype)
            for y, axes in zip(outputs, self.OUTPUTS.values(), strict=True)
        )
        return dressed[0] if len(dressed) == 1 else dressed

    def _kept_steps(self, field: Field) -> int:
        """How many past steps a field holds."""
        lags = [k if isinstance(k, int) else self._extent(k) for k in field.lags]
        spans = [(w if isinstance(w, int) else self._extent(w)) - 1 for w in field.windows]
        return max([*lags, *spans], default=0)

    def _field_shape(self, field: Field, batch: int) -> tuple[int, ...]:
        inner = self._shape(field.axes)
        return (batch, *inner) if field.single else (batch, self._kept_steps(field), *inner)

    def _state(self, state: Any, batch: int, like: Tensor) -> Any:
        """The state a call starts from, checked; None is the spec's own start."""
        if state is None:
            return self._start(batch, like)
        kind = type(self).__name__
        if isinstance(state, Tensor) or not isinstance(state, (tuple, list)):
            raise TypeError(
                f"{kind}: state must be the {kind}State that a call returned "
                f"(fields: {', '.join(f.name for f in self.FIELDS)}), not {type(state).__name__}"
            )
        if len(state) != len(self.FIELDS):
            raise ValueError(
                f"{kind}: state must have {len(self.FIELDS)} fields "
                f"({', '.join(f.name for f in self.FIELDS)}), not {len(state)}"
            )
        wide = state_dtype(like.dtype)
        taken = []
        for field, value in zip(self.FIELDS, state, strict=True):
            want = self._field_shape(field, batch)
            shown = want if field.axes else (*want, 1)
            if not isinstance(value, Tensor) or tuple(value.shape) != shown:
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"{kind}: state.{field.name} must be {shown}, not {got}")
            if value.device != like.device:
                raise ValueError(
                    f"{kind}: state.{field.name} is on {value.device}, the input on {like.device}"
                )
            if not value.dtype.is_floating_point:
                raise TypeError(f"{kind}: state.{field.name} must be floating point, not {value.dtype}")
            taken.append(value.to(wide).reshape(want))
        return self.State(*taken)

    def _leave(self, state: Any) -> Any:
        """The state as a caller sees it: a field without axes ends in a 1."""
        return self.State(
            *(v if f.axes else v.unsqueeze(-1) for f, v in zip(self.FIELDS, state, strict=True))
        )

    def _result_dtype(self, x: Tensor) -> torch.dtype:
        """The dtype of the outputs: the input's, or autocast's where that rules."""
        if torch.is_autocast_enabled(x.device.type):
            return torch.get_autocast_dtype(x.device.type)
        return x.dtype

    def _packed_boundaries(self, cu_seqlens: Tensor, x: Tensor, resets: Tensor | None) -> Tensor:
        """The resets (1, T) at which the packed sequences of ``cu_seqlens`` begin."""
        kind = type(self).__name__
        if x.shape[0] != 1:
            raise ValueError(f"{kind}: cu_seqlens packs sequences into one batch row, not {x.shape[0]}")
        if cu_seqlens.dim() != 1 or cu_seqlens.dtype.is_floating_point or len(cu_seqlens) < 2:
            raise ValueError(f"{kind}: cu_seqlens must be integers (N + 1,), starting with 0")
        starts = cu_seqlens.to(torch.int64)
        if int(starts[0]) != 0 or int(starts[-1]) != x.shape[1] or bool((starts.diff() < 0).any()):
            raise ValueError(f"{kind}: cu_seqlens must rise from 0 to T = {x.shape[1]}")
        mask = torch.zeros(1, x.shape[1] + 1, dtype=torch.bool, device=x.device)
        mask[0, starts[1:-1]] = True  # the first goes on from the state, or starts by itself
        mask = mask[:, :-1]
        return mask if resets is None else mask | resets

    @_constant_to_dynamo
    def _choose(self, device: str) -> str:
        """The backend for a device, falling back to ``reference`` with one warning."""
        wish = self.backend
        if wish == "auto":
            wish = read_environment().backend
        if wish == "reference":
            return wish
        if not self.PARALLEL:
            if wish == "cpp":
                raise RuntimeError(
                    f"{type(self).__name__} has no parallel form, so it runs step by step on the "
                    "reference backend alone (see seqc explain)"
                )
            return "reference"
        if device != "cpu":
            if wish == "cpp":
                raise ValueError(f"backend 'cpp' runs on the CPU, but the input is on {device}")
            _warn_once(
                f"there are no fused kernels for {device} yet: {type(self).__name__} runs step by "
                "step on the reference backend there"
            )
            return "reference"
        if find_compiler() is None:
            message = (
                "no C++ compiler was found (looked at $SEQC_CXX, $CXX, c++, g++, clang++); "
                "install one, e.g. apt install g++ or xcode-select --install"
            )
            if wish == "cpp":
                raise RuntimeError(message)
            _warn_once(message + f"; {type(self).__name__} runs on the reference backend")
            return "reference"
        return "cpp"

    def _stepwise(
        self, inputs: tuple[Tensor, ...], state: Any, resets: Tensor | None, keep: tuple[Tensor, ...]
    ) -> tuple[tuple[Tensor, ...], Any]:
        """The reference backend: the equations, one step after another."""
        x = inputs[0]
        steps = x.shape[1]
        fresh = self._start(x.shape[0], x) if resets is not None else None
        collected: list[tuple[Tensor, ...]] = []
        padded, masks = inputs, keep
        if steps == 0:
            # One step on zeros, cut away again: the empty result belongs to the graph.
            padded = tuple(torch.cat((v, v.new_zeros(v.shape[0], 1, *v.shape[2:])), 1) for v in inputs)
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
        taken = self._state(state, x.shape[0], x)
        if resets is not None:
            taken = self._renew(resets, self._start(x.shape[0], x), taken)
        keep = tuple(m[:, 0] for m in self._keep((x.shape[0], 1), x))
        outputs, after = self._single(self._strip(inputs), taken, keep)
        return self._dress(outputs, self._result_dtype(x)), self._leave(after)

    def _renew(self, resets: Tensor, fresh: Any, state: Any) -> Any:
        """The state of before the first step where a (B,) mask is set, else the given one."""
        return self.State(*(_select(resets, f, s) for f, s in zip(fresh, state, strict=True)))

    def kernel_calls(self, *inputs: Tensor, state: Any = None) -> list[tuple[Any, tuple[Any, ...]]]:
        """The kernel operators that a call launches, with their arguments (for opcheck and benchmarks)."""
        calls: list[tuple[Any, tuple[Any, ...]]] = []
        for kernel in self.KERNELS:
            kernel.listeners.append(lambda op, args: calls.append((op, args)))
        try:
            self(*inputs, state=state)
        finally:
            for kernel in self.KERNELS:
                kernel.listeners.pop()
        return calls


def _select(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """``yes`` where a (B,) mask is set, else ``no``."""
    return torch.where(mask.reshape(mask.shape + (1,) * (no.dim() - 1)), yes, no)


_WARNED: set[str] = set()


def _warn_once(message: str) -> None:
    """Warn the first time in this process that something is said."""
    if message not in _WARNED:
        _WARNED.add(message)
        warnings.warn(message, SeqcWarning, stacklevel=4)


def linear(
    sources: Sequence[Tensor], weight: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """A learned map of concatenated sources, in the weight's own dtype, widened to ``dtype``."""
    parts = [s.to(weight.dtype) for s in sources]
    joined = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
    return torch.nn.functional.linear(joined, weight, bias).to(dtype)


def keep_mask(
    p: float | Tensor, shape: tuple[int, ...], training: bool, like: Tensor
) -> Tensor:
    """Where dropout keeps: true with probability 1 - p while training, true everywhere in eval."""
    if not training or (not isinstance(p, Tensor) and p <= 0):
        # One row of ones, seen from everywhere.
        return torch.ones(shape[-1:], dtype=torch.bool, device=like.device).expand(shape)
    return torch.rand(shape, device=like.device) >= p


def begin(
    layer: Layer, index: int, value: float | Tensor, batch: int, like: Tensor
) -> Tensor:
    """A field of the state before the first step, from its init."""
    field = layer.FIELDS[index]
    shape = layer._field_shape(field, batch)
    wide = state_dtype(like.dtype)
    if isinstance(value, Tensor):
        return value.to(wide).expand(shape)
    return torch.full(shape, value, dtype=wide, device=like.device)


def spread_to(value: float | Tensor, like: Tensor) -> Tensor:
    """A step's value with the shape and dtype of a state's field."""
    if not isinstance(value, Tensor):
        return torch.full_like(like, value)
    return value.to(like.dtype).expand(like.shape)


def spread_axes(value: float | Tensor, like: Tensor, axes: tuple[int, ...]) -> Tensor:
    """A step's value over a batch and its axes."""
    shape = (like.shape[0], *axes)
    if not isinstance(value, Tensor):
        return torch.full(shape, value, dtype=state_dtype(like.dtype), device=like.device)
    return value.expand(shape)
