"""What a call of a layer accepts, and what it says when something is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seqc.runtime.environment import read_wish
from seqc.runtime.shell import Shell
from seqc.runtime.spec import state_dtype

_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class Arguments(Shell):
    """Checks of inputs, states, resets and packed boundaries; results as a caller sees them."""

    #: What a call was given that passed all checks, with nothing to convert, and its backend.
    _passed: tuple[Any, str] = (None, "")

    def _start(self, batch: int, like: Tensor) -> Any:
        """The state before the first step."""
        raise NotImplementedError

    def _mark(self, inputs: tuple[Any, ...], state: Any, resets: Any, lead: str) -> Any:
        """All that the checks and the choice of a backend look at; None for a call that is to be
        looked at anew.

        Those take longer than a small layer does, and most calls are like the one before.
        """
        if not self._as_it_is or torch.compiler.is_compiling():
            return None
        given = inputs if resets is None else (*inputs, resets)
        if state is not None:
            if type(state) is not self.State:
                return None
            given = (*given, *state)
        backend = self.backend
        # The switch counts where the layer leaves the choice open, and is slow to read.
        wish = read_wish() if backend == "auto" else ""
        mark: list[Any] = [lead, state is None, resets is None, backend, wish]
        for t in given:
            if not isinstance(t, Tensor):
                return None
            mark += (t.shape, t.dtype, t.device)
        _, p = self._some_parameter()
        if p is not None:
            mark += (p.dtype, p.device)
        device = "cpu" if inputs[0].is_cpu else inputs[0].device.type
        known = device in ("cpu", "cuda")  # of others torch may not know what autocast is
        return mark if known and not torch.is_autocast_enabled(device) else None

    def _passed_on(self, mark: Any) -> str:
        """The backend of the call before, if it had the same mark and passed; else nothing."""
        if mark is None:
            return ""
        passed, backend = self._passed
        return backend if mark == passed else ""

    def _remember(self, mark: Any, state: Any, like: Tensor, backend: str) -> None:
        """A call's mark, its checks passed: unless its state has to be converted each time, or
        something better than the reference may be found the next time.
        """
        wide = state_dtype(like.dtype)
        if (
            mark is not None
            and backend != "reference"
            and (state is None or all(v.dtype is wide for v in state))
        ):
            self.__dict__["_passed"] = mark, backend

    def __getstate__(self) -> dict[str, Any]:
        """A copy looks at its first call anew: it may be loaded where there is no compiler."""
        kept = {n: v for n, v in self.__dict__.items() if n not in ("_passed", "_previous")}
        return kept | {"solution": {}}

    def _describe(self, axes: Sequence[str], lead: str) -> str:
        """A shape in words, e.g. (B, T, hidden=128)."""
        inner = ", ".join(f"{a}={self._extent(a)}" for a in axes) or "1"
        return f"({lead}, {inner})"

    def _check_input(self, name: str, x: Any, lead: str) -> None:
        """Raise for an input that is not what the spec declares."""
        axes = self.INPUTS[name]
        inner = self._shape(axes) or (1,)
        leading = 2 if lead == "B, T" else 1
        if isinstance(x, Tensor) and x.dtype in _FLOATS:
            shape = x.shape
            if len(shape) == leading + len(inner) and shape[leading:] == inner:
                return
        kind, want = type(self).__name__, self._describe(axes, lead)
        if not isinstance(x, Tensor):
            raise TypeError(f"{kind}: {name} must be a tensor {want}, not {type(x).__name__}")
        if x.dtype not in _FLOATS:
            raise TypeError(
                f"{kind}: {name} must be float32, float64, bfloat16 or float16, not {x.dtype}; "
                f"convert it, e.g. {name}.float()"
            )
        hint = ""
        if x.dim() == leading - 1 + len(inner):
            hint = f"; {name}.unsqueeze(0) gives it a batch axis" if leading == 2 else ""
        raise ValueError(f"{kind}: {name} must be {want}, not {tuple(x.shape)}{hint}")

    def _enter(self, inputs: tuple[Tensor, ...], resets: Tensor | None) -> tuple[Tensor, ...]:
        """Check a call's sequences; inputs without axes lose their last dimension."""
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
        return self._strip(inputs)

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
        label, p = self._some_parameter()
        if p is None:
            return
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

    def _some_parameter(self) -> tuple[str, Tensor | None]:
        """The first declared parameter, by its name; ``named_parameters`` takes long to begin."""
        if not self._path:
            return "", None
        holder: nn.Module = self
        *path, last = self._path
        for part in path:
            holder = holder._modules[part]  # type: ignore[assignment]
        found = holder._parameters.get(last)
        if found is None:  # a parametrised one has another name
            return next(iter(self.named_parameters()), ("", None))
        return self._records[0].name, found

    def _strip(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Inputs as the equations see them: axes in the layer's order, no axis without axes."""
        return tuple(
            self._inwards(x, axes) if axes else x[..., 0]
            for x, axes in zip(inputs, self.INPUTS.values(), strict=True)
        )

    def _dress(self, outputs: Sequence[Tensor], dtype: torch.dtype) -> Any:
        """Outputs as a caller sees them: one tensor, or a tuple."""
        if self._as_it_is and len(outputs) == 1:
            return outputs[0] if outputs[0].dtype is dtype else outputs[0].to(dtype)
        dressed = []
        for y, axes in zip(outputs, self.OUTPUTS.values(), strict=True):
            shown = self._outwards(y, axes) if axes else y.unsqueeze(-1)
            dressed.append(shown if shown.dtype is dtype else shown.to(dtype))
        return dressed[0] if len(dressed) == 1 else tuple(dressed)

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
                raise TypeError(
                    f"{kind}: state.{field.name} must be floating point, not {value.dtype}"
                )
            taken.append(self._inwards(value.to(wide).reshape(want), field.axes))
        return self.State(*taken)

    def _leave(self, state: Any) -> Any:
        """The state as a caller sees it: axes as declared; a field without axes ends in a 1."""
        if self._as_it_is:
            return state
        return self.State(
            *(
                self._outwards(v, f.axes) if f.axes else v.unsqueeze(-1)
                for f, v in zip(self.FIELDS, state, strict=True)
            )
        )

    def _result_dtype(self, x: Tensor) -> torch.dtype:
        """The dtype of the outputs: the input's, or autocast's where that rules."""
        kind = x.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
