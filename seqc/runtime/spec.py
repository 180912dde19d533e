"""What a fused kernel is to the runtime: its tables, positions standing for names."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class KernelSpec:
    """The tables of a fused kernel, positions standing for names.

    axes       the axes that the kernel runs over, in order
    others     further axes that lie packed in its operands; extents are (B, T, *axes, *others)
    operands   for each tensor that streams are cut from: (packed, axes of each part)
    streams    (operand, part) of each stream
    constants  axes of each value constant in time
    masks      axes of each dropout mask
    carries    axes of each state that it carries
    scans      for each stratum: how many parts its algebra has (0: none, it marches), and carries
    outputs    axes of each value stored for every step
    saved      for each carry that the backward march reads back: (carry, output holding it or -1)
    moving     for each stream, whether it has a gradient;  steady: for each constant
    forward    the kernel's signature: (role, index, axes) of each tensor, in the order in which
               they are handed over (seqc/ir/signature.py says what roles are)
    backward   its adjoint's
    inner      the axes that it sums over, of which a cell has all
    mixes      whether it does more across those than sum
    stepped    whether its steps have products with matrices (which are constants)
    held       axes of each value that is stored for the backward march besides states
    outers     gradients of matrices: (constant, side over its rows, over its columns, how many axes
               both share, whether it has its columns first); a side that is the i-th output of the
               backward march is -1 - i
    """

    name: str
    axes: tuple[str, ...]
    others: tuple[str, ...]
    operands: tuple[tuple[bool, tuple[tuple[str, ...], ...]], ...]
    streams: tuple[tuple[int, int], ...]
    constants: tuple[tuple[str, ...], ...]
    masks: tuple[tuple[str, ...], ...]
    carries: tuple[tuple[str, ...], ...]
    scans: tuple[tuple[int, int], ...]
    outputs: tuple[tuple[str, ...], ...]
    saved: tuple[tuple[int, int], ...]
    moving: tuple[bool, ...]
    steady: tuple[bool, ...]
    forward: tuple[tuple[str, int, tuple[str, ...]], ...]
    backward: tuple[tuple[str, int, tuple[str, ...]], ...]
    inner: tuple[str, ...] = ()
    mixes: bool = False
    stepped: bool = False
    held: tuple[tuple[str, ...], ...] = ()
    outers: tuple[tuple[int, int, int, int, bool], ...] = ()

    @property
    def lane(self) -> str | None:
        """The axis along which neighbouring cells lie: the last that is not summed over."""
        rest = [a for a in self.axes if a not in self.inner]
        return rest[-1] if rest else None

    @property
    def parallel(self) -> bool:
        """Whether time can be cut into chunks: every scan has an algebra."""
        return all(parts for parts, _ in self.scans)

    @property
    def extra(self) -> tuple[int, ...]:
        """Carries whose every step must be stored besides the outputs, for the backward march."""
        return tuple(carry for carry, output in self.saved if output < 0)

    @property
    def stored(self) -> int:
        """How many results of a march there are besides outputs and last carries."""
        return len(self.extra) + len(self.held)


def storage_dtype(like: torch.Tensor) -> torch.dtype:
    """What a whole sequence's values are stored in between a layer's kernels and products.

    On the CPU halves are widened at a layer's edges, so that its result is rounded once; a GPU's
    products of halves are what they are used for.
    """
    return like.dtype if like.is_cuda else state_dtype(like.dtype)


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """What a recurrence accumulates in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
