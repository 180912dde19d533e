"""Both backends on one spec: outputs, states and gradients, in one call, in several, by steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tests.layer.support import (
    build,
    compiled,
    gradients,
    leaf,
    outputs_of,
    randn,
    relative_error,
)

HEAD = "layer Case"
BATCH, STEPS = 2, 7
#: Calls of these lengths, one of them empty.
LENGTHS = (3, 0, 1, 3)

Found = tuple[dict[str, Tensor], dict[str, Tensor]]


def sized(spec: str, **sizes: float) -> Any:
    """A float64 layer; sizes that are not given and have no default are 3, 4, … in order."""
    cls = compiled(spec)
    need: dict[str, int | None] = cls.SIZES  # type: ignore[attr-defined]
    given: dict[str, Any] = {
        s: 3.0 + i for i, (s, default) in enumerate(need.items()) if default is None
    }
    return build(cls, **(given | sizes))


def values_and_gradients(
    layer: Any,
    backend: str,
    inputs: Sequence[Tensor],
    state: Any = None,
    resets: Tensor | None = None,
    lengths: Sequence[int] = (STEPS,),
    steps: bool = False,
) -> Found:
    """Outputs and the final state of calls of these lengths (or of single steps), and gradients."""
    layer.backend = backend
    xs = [leaf(x) for x in inputs]
    given = now = None if state is None else layer.State(*(leaf(f) for f in state))
    parts: list[tuple[Tensor, ...]] = []
    first = 0
    for n in [1] * STEPS if steps else lengths:
        cut = slice(first, first + n)
        mask = None if resets is None else resets[:, cut]
        if steps:
            one = None if mask is None else mask[:, 0]
            y, now = layer.step(*(x[:, first] for x in xs), now, resets=one)
            parts.append(tuple(v.unsqueeze(1) for v in outputs_of(y)))
        else:
            y, now = layer(*(x[:, cut] for x in xs), state=now, resets=mask)
            parts.append(outputs_of(y))
        first += n
    assert now is not None
    values = {f"output {i}": torch.cat(p, 1) for i, p in enumerate(zip(*parts, strict=True))}
    values |= {f"final {n}": v for n, v in now._asdict().items()}
    leaves = {f"input {i}": x for i, x in enumerate(xs)} | dict(layer.named_parameters())
    leaves |= {} if given is None else {f"state {n}": v for n, v in given._asdict().items()}
    return values, gradients(list(values.values()), leaves)


def random_arguments(layer: Any) -> tuple[list[Tensor], Any, Tensor]:
    """Inputs, a state and resets."""
    shapes = [layer._shape(axes) or (1,) for axes in layer.INPUTS.values()]
    inputs = [randn(BATCH, STEPS, *s, seed=3 + i) for i, s in enumerate(shapes)]
    fields = [(*layer._field_shape(f, BATCH), *(() if f.axes else (1,))) for f in layer.FIELDS]
    state = layer.State(*(randn(*s, seed=50 + i) for i, s in enumerate(fields)))
    draw = torch.Generator().manual_seed(0)
    return inputs, state, torch.rand(BATCH, STEPS, generator=draw) < 0.25


def assert_near(got: Mapping[str, Tensor], want: Mapping[str, Tensor], tolerance: float) -> None:
    """Close by each tensor's scale, or by 1 where it is small: what cancels leaves rounding."""
    assert set(got) == set(want)
    wrong = {}
    for name, w in want.items():
        small = w.abs().max() < 1 if w.numel() else False
        one = [w.new_ones(1)] if small else []
        error = relative_error(
            torch.cat([got[name].flatten(), *one]), torch.cat([w.flatten(), *one])
        )
        if got[name].shape != w.shape or not error <= tolerance:
            wrong[name] = f"{tuple(got[name].shape)} {error:.3g}"
    assert not wrong, f"relative errors {wrong}, allowed {tolerance:.3g}"


def hold_backends_together(spec: str, tolerance: float = 1e-11, **sizes: float) -> Any:
    """Every way to run the layer gives the same numbers and gradients; returns the layer."""
    layer = sized(spec, **sizes)
    inputs, state, resets = random_arguments(layer)

    def hold(got: Found, want: Found) -> None:
        for a, b in zip(got, want, strict=True):
            assert_near(a, b, tolerance)

    for given, mask in ((None, None), (state, None), (state, resets)):
        want = values_and_gradients(layer, "reference", inputs, given, mask)
        if layer.PARALLEL:
            hold(values_and_gradients(layer, "cpp", inputs, given, mask), want)
            if given is not None:
                got = values_and_gradients(layer, "cpp", inputs, given, mask, LENGTHS)
                hold(got, want)
        if given is not None:
            hold(values_and_gradients(layer, "reference", inputs, given, mask, LENGTHS), want)
            hold(values_and_gradients(layer, "reference", inputs, given, mask, steps=True), want)
    return layer
