"""A step's Jacobian for all steps at once, in the form in which its channels meet.

States of one stratum that are read with lags up to K are K *carries* each, (state, lag). With
``full``, all channels of all carries are one vector of a step; with ``block``, the carries at one
place of the axes are; with ``diagonal``, each channel is alone with the step before. A vector of
steps is (B, T, G, m) accordingly, and a Jacobian (B, T, G, m, m).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: How many entries the cotangents may have that are taken back at once.
AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Form:
    """How vectors and Jacobians are laid out.

    ``apart``: whether channels of the step itself meet those of their own place alone, so that a
    sum over places tells their slopes; otherwise the whole Jacobian is found, and what the form
    has of it is taken out.
    """

    kind: str
    apart: bool
    reads: tuple[tuple[int, int], ...]
    shapes: tuple[torch.Size, ...]

    @property
    def carries(self) -> list[tuple[int, int]]:
        """(state, lag), a state's own one after another."""
        lags = [
            max((k for i, k in self.reads if i == s), default=1) for s in range(len(self.shapes))
        ]
        if self.kind == "diagonal":
            lags = [1] * len(lags)
        return [(s, k) for s, most in enumerate(lags) for k in range(1, most + 1)]

    def pack(self, values: Sequence[Tensor]) -> Tensor:
        """States (B, T, *axes) as a vector, zero at what was carried along."""
        flat = [flat_of(v) for v in values]
        if self.kind == "diagonal":
            return torch.cat(flat, 2).unsqueeze(3)
        parts = [flat[s] if k == 1 else torch.zeros_like(flat[s]) for s, k in self.carries]
        return torch.cat(parts, 2).unsqueeze(2) if self.kind == "full" else torch.stack(parts, 3)

    def unpack(self, vector: Tensor) -> tuple[Tensor, ...]:
        """The states of a vector."""
        widths = [self.shapes[s].numel() for s, _ in self.carries]
        if self.kind == "block":
            parts = vector.unbind(3)
        else:
            parts = vector.flatten(2).split(widths, 2)
        found = [p for p, (_, k) in zip(parts, self.carries, strict=True) if k == 1]
        return tuple(
            p.unflatten(2, s) if s else p[..., 0] for p, s in zip(found, self.shapes, strict=True)
        )

    def jacobian(
        self, after: Sequence[Tensor], lags: Sequence[Tensor], resets: Tensor | None
    ) -> Tensor:
        """The Jacobian of all steps: of ``after`` by ``lags``, which a graph ties together.

        Zero at a step that starts anew: it depends on nothing before it.
        """
        places = {c: i for i, c in enumerate(self.carries)}
        rows: list[list[Tensor | None]] = [[None] * len(places) for _ in places]
        for s, value in enumerate(after):
            slopes = self._slopes(value, lags)
            for read, slope in zip(self.reads, slopes, strict=True):
                if read in places and (self.kind != "diagonal" or read == (s, 1)):
                    rows[places[s, 1]][places[read]] = slope
        for s, k in self.carries:
            if k > 1:
                rows[places[s, k]][places[s, k - 1]] = self._one(after[s])
        found = self._matrix(rows, after)
        if resets is None:
            return found
        return found.masked_fill(resets[:, :, None, None, None], 0.0)

    def _slopes(self, value: Tensor, lags: Sequence[Tensor]) -> Sequence[Tensor | None]:
        """Of one state by each read: (B, T, n, m), or (B, T, n) where channels are alone."""
        if not value.requires_grad:
            return [None] * len(lags)
        if self.apart:
            found = _gradients(value, lags, torch.ones_like(value), False)
            return [None if d is None else flat_of(d) for d in found]
        n = value.shape[2:].numel()
        basis = torch.eye(n, dtype=value.dtype, device=value.device)
        basis = basis.reshape(n, 1, 1, *value.shape[2:]).expand(n, *value.shape)
        slopes = [
            None if d is None else d.reshape(*d.shape[:3], d.shape[3:].numel()).movedim(0, 2)
            for d in _rows(value, lags, basis)
        ]
        if self.kind == "full":
            return slopes
        return [
            None if d is None or d.shape[2] != d.shape[3] else d.diagonal(dim1=2, dim2=3)
            for d in slopes
        ]

    def _one(self, like: Tensor) -> Tensor:
        """The Jacobian of what is carried along."""
        flat = flat_of(like.detach())
        if self.kind != "full":
            return torch.ones_like(flat)
        n = flat.shape[2]
        return torch.eye(n, dtype=flat.dtype, device=flat.device).expand(*flat.shape[:2], n, n)

    def _matrix(self, rows: list[list[Tensor | None]], after: Sequence[Tensor]) -> Tensor:
        """The whole of some parts, those that are None being zero."""
        lead = after[0].shape[:2]
        widths = [self.shapes[s].numel() for s, _ in self.carries]
        zero = after[0].detach().new_zeros(())
        if self.kind == "full":
            bands = [
                torch.cat([zero.expand(*lead, n, m) if x is None else x
                           for m, x in zip(widths, row, strict=True)], 3)
                for n, row in zip(widths, rows, strict=True)
            ]  # fmt: skip
            return torch.cat(bands, 2).unsqueeze(2)
        if self.kind == "diagonal":
            own = [zero.expand(*lead, n) if rows[i][i] is None else rows[i][i]
                   for i, n in enumerate(widths)]  # fmt: skip
            return torch.cat(own, 2)[..., None, None]  # type: ignore[arg-type]
        lines = [
            torch.stack([zero.expand(*lead, widths[0]) if x is None else x for x in row], 3)
            for row in rows
        ]
        return torch.stack(lines, 3)


def flat_of(value: Tensor) -> Tensor:
    """(B, T, *axes) as (B, T, n)."""
    return value.unsqueeze(2) if value.dim() == 2 else value.flatten(2)


def _rows(value: Tensor, lags: Sequence[Tensor], basis: Tensor) -> Sequence[Tensor | None]:
    """Gradients for each of some cotangents, many at once where torch has a rule for that.

    What lies on the way is held for each of them, so that there are not too many at once.
    """
    found = []
    for part in basis.split(max(1, AT_ONCE // max(1, value.numel()))):
        try:
            found.append(_gradients(value, lags, part, True))
        except RuntimeError:
            each = zip(*(_gradients(value, lags, b, False) for b in part), strict=True)
            found.append([None if c[0] is None else torch.stack(c) for c in each])
    columns = zip(*found, strict=True)
    return [None if c[0] is None else torch.cat(c) for c in columns]


def _gradients(
    value: Tensor, lags: Sequence[Tensor], cotangents: Tensor, batched: bool
) -> Sequence[Tensor | None]:
    """Of one value by what it reads, in a graph that stays; None where it does not."""
    return torch.autograd.grad(
        value, lags, cotangents, retain_graph=True, allow_unused=True, is_grads_batched=batched
    )
