"""How parameters start: a distribution, whose numbers may be in terms of sizes and hypers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Formula:
    """A number in terms of sizes and hypers, known when a layer is built.

    ``op``: ``+ - * / ^`` of two, ``neg sqrt log exp`` of one.
    """

    op: str
    args: tuple[Quantity, ...]


#: A number, the name of a size or hyper, or a formula.
Quantity: TypeAlias = "float | str | Formula"


@dataclass(frozen=True)
class Init:
    """How a parameter starts: ``kind`` and its numbers.

    kinds: ``default`` (torch.nn.Linear's own for weights and biases, zeros for a
    state), ``number`` (value,), ``normal`` (mean, std), ``uniform`` (low, high),
    ``orthogonal`` (gain,), ``xavier_uniform`` and ``xavier_normal`` (gain,) (Glorot and Bengio,
    2010), ``kaiming_uniform`` and ``kaiming_normal`` (slope,) (He et al., 2015), which are
    those of torch.nn.init; ``parts``: the columns of a weight that meet each argument of its
    map, one of ``parts`` each.
    """

    kind: str = "default"
    values: tuple[Quantity, ...] = ()
    parts: tuple[Init, ...] = ()

    @property
    def of_matrices(self) -> bool:
        """Whether it asks for rows and columns."""
        return self.kind in MATRIX_INITS


#: The starts that go by the numbers of rows and columns.
MATRIX_INITS = frozenset(
    {"orthogonal", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal"}
)
