"""A small model of characters: an embedding, blocks around one recurrent layer each, a head."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqc.commands.common import CommandError

# The extent of each axis of a state that is a matrix: width × width numbers a sequence is too many.
_MATRIX_AXIS = 16


def sizes_for(layer_class: type[Any], width: int) -> dict[str, int]:
    """The sizes that have no default, filled for a model of that width."""
    matrix = any(len(axes) > 1 for axes in layer_class.STATES.values())
    extent = _MATRIX_AXIS if matrix else width
    return {name: extent for name, default in layer_class.SIZES.items() if default is None}


class Mixer(nn.Module):
    """One layer of a spec from width to width, with projections where its axes are others."""

    def __init__(self, layer_class: type[Any], width: int) -> None:
        super().__init__()
        sizes = sizes_for(layer_class, width)
        known: dict[str, int | None] = {**layer_class.SIZES, **sizes}
        aliases: dict[str, str] = getattr(layer_class, "ALIASES", {})
        known |= {name: known.get(target) for name, target in aliases.items()}
        self.shapes = [_extents(axes, known) for axes in layer_class.INPUTS.values()]
        self.layer: Any = layer_class(**sizes)
        plain = self.shapes == [(width,)]
        self.inputs = nn.ModuleList(
            nn.Identity() if plain else nn.Linear(width, math.prod(s)) for s in self.shapes
        )
        out = sum(math.prod(_extents(axes, known)) for axes in layer_class.OUTPUTS.values())
        self.output: nn.Module = nn.Identity() if out == width else nn.Linear(out, width)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """(B, T, width) and a state to the same."""
        y, state = self.layer(*self._project(x), state=state)
        return self._join(y, x), state

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """(B, width) and a state to the same: one character."""
        y, state = self.layer.step(*self._project(x), state)
        return self._join(y, x), state

    def _project(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            project(x).unflatten(-1, shape)
            for project, shape in zip(self.inputs, self.shapes, strict=True)
        )

    def _join(self, y: Tensor | tuple[Tensor, ...], x: Tensor) -> Tensor:
        parts = y if isinstance(y, tuple) else (y,)
        joined: Tensor = self.output(torch.cat([p.flatten(x.dim() - 1) for p in parts], dim=-1))
        return joined


class LSTMMixer(nn.Module):
    """torch.nn.LSTM with the interface of a mixer, to compare with."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.LSTM(width, width, batch_first=True)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """(B, T, width) and a state to the same."""
        y, state = self.layer(x, state)
        return y, state


def _extents(axes: Sequence[str], known: Mapping[str, int | None]) -> tuple[int, ...]:
    extents = []
    for axis in axes:
        extent = int(axis) if axis.isdigit() else known.get(axis)
        if extent is None:
            raise CommandError(
                f"the demo cannot tell the extent of the axis {axis!r} of this layer",
                hint="try another layer: seqc zoo lists them",
            )
        extents.append(extent)
    return tuple(extents) or (1,)


class Block(nn.Module):
    """x + mix(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, mixer: nn.Module) -> None:
        super().__init__()
        self.mix_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixer: Any = mixer
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """(B, T, width) and the mixer's state to the same."""
        y, state = self.mixer(self.mix_norm(x), state)
        return self._rest(x + y), state

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """(B, width) and the mixer's state to the same."""
        y, state = self.mixer.step(self.mix_norm(x), state)
        return self._rest(x + y), state

    def _rest(self, x: Tensor) -> Tensor:
        added: Tensor = self.down(F.gelu(self.up(self.mlp_norm(x))))
        return x + added


class CharacterModel(nn.Module):
    """Logits of the next character, (B, T, alphabet), from characters (B, T)."""

    def __init__(
        self, alphabet: int, width: int, depth: int, make_mixer: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(alphabet, width)
        self.blocks = nn.ModuleList(Block(width, make_mixer()) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, alphabet)
        nn.init.normal_(self.embedding.weight, std=0.5)
        nn.init.zeros_(self.head.bias)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, x: Tensor, states: Sequence[Any] | None = None) -> tuple[Tensor, list[Any]]:
        """Characters (B, T) and a state for each block to logits (B, T, alphabet) and states."""
        return self._through(x, states, "forward")

    def step(self, x: Tensor, states: Sequence[Any] | None = None) -> tuple[Tensor, list[Any]]:
        """One character (B,) and a state for each block to logits (B, alphabet) and states."""
        return self._through(x, states, "step")

    def _through(
        self, x: Tensor, states: Sequence[Any] | None, way: str
    ) -> tuple[Tensor, list[Any]]:
        v, after = self.embedding(x), []
        for i, block in enumerate(self.blocks):
            v, state = getattr(block, way)(v, None if states is None else states[i])
            after.append(state)
        return self.head(self.norm(v)), after

    def parameter_count(self) -> int:
        """How many numbers are learned."""
        return sum(p.numel() for p in self.parameters())
