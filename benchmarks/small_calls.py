"""What a call costs where there is next to nothing to compute: one step of one sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.contract import Implementation
from benchmarks.report import Row, timed_row
from benchmarks.timing import paired

SHAPE = (1, 1, 16)
AT_MOST = 1.0  # of nn.GRU's time


def measure(implementation: Implementation, repeats: int, seconds: float) -> Iterator[Row]:
    """Forward, ``step``, and forward with backward of MinGRU against ``nn.GRU``."""
    width = SHAPE[2]
    layer: Any = implementation.make_layer("MinGRU", input=width, hidden=width)
    gru = torch.nn.GRU(width, width, batch_first=True)
    x = torch.randn(SHAPE)
    with torch.no_grad():
        _, state = layer(x)
        _, hidden = gru(x)

    def whole(module: Callable[..., tuple[Tensor, Any]]) -> Callable[[], object]:
        @torch.no_grad()
        def run() -> object:
            return module(x)

        return run

    def onward(module: Callable[..., Any], at: Tensor, before: Any) -> Callable[[], object]:
        @torch.no_grad()
        def run() -> object:
            return module(at, before)

        return run

    def learning(module: Callable[..., tuple[Tensor, Any]]) -> Callable[[], object]:
        def run() -> object:
            y, _ = module(x)
            y.sum().backward()
            return y

        return run

    pairs = {
        "forward": (whole(layer), whole(gru)),
        "step": (onward(layer.step, x[:, 0], state), onward(gru, x, hidden)),
        "forward + backward": (learning(layer), learning(gru)),
    }
    for name, (ours, theirs) in pairs.items():
        times = paired(ours, theirs, repeats=repeats, seconds=seconds)
        yield timed_row(f"small call, {name} vs nn.GRU", str(SHAPE), times, at_most=AT_MOST)
