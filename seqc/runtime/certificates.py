"""What Newton's iterations came to, a sequence: ``layer.solution``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Solution(NamedTuple):
    """How the states of some sequences were found; each tensor is (B,).

    ``residual`` is the largest entry of ``step(states before) - states`` after the last iteration.
    Sequences that did not converge were taken step by step thereupon, so their states are right,
    whatever their iterations had come to.
    """

    converged: Tensor
    iterations: Tensor
    residual: Tensor


def gathered(
    whole: dict[str, Solution], piece: Mapping[str, Solution], rows: Tensor | None, count: int
) -> dict[str, Solution]:
    """What is known of ``count`` packed sequences, a piece of some rows having been solved, too."""
    for name, new in piece.items():
        if name not in whole:
            nothing = new.residual.new_zeros(count)
            started = nothing.to(torch.int64)
            whole[name] = Solution(started == 0, started, nothing)
        old = whole[name]
        at = slice(None) if rows is None else rows
        converged, iterations, residual = (v.clone() for v in old)
        converged[at] = old.converged[at] & new.converged
        iterations[at] = torch.maximum(old.iterations[at], new.iterations)
        residual[at] = torch.maximum(old.residual[at], new.residual)
        whole[name] = Solution(converged, iterations, residual)
    return whole
