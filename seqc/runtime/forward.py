"""What the tangent of an ``autograd.Function`` needs to be right inside another tangent.

torch calls ``jvp`` with forward mode switched off, on all levels: what it computes there with plain
operators has no tangent, and the derivative of the derivative would be silently wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.autograd import forward_ad


@contextmanager
def nested(saved: Sequence[Any]) -> Iterator[list[Any]]:
    """What a ``jvp`` saved, without tangents on its own level; those of outer ones count again."""
    with forward_ad._set_fwd_grad_enabled(True):
        yield [forward_ad.unpack_dual(x).primal if isinstance(x, Tensor) else x for x in saved]
