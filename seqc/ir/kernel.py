"""A fused kernel: one pass over time of pointwise equations and scans.

A kernel runs over (batch, *axes) and marches over time.  ``body`` is one step:
leaves load streams, constants, scalars and the carries before the step; the
rest is pointwise, or a sum over the axis that a cell has all of.  Its
:class:`Adjoint` is another such step, marching backwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from seqc.ir.algebra import Algebra
from seqc.ir.graph import Graph, verify_graph


@dataclass(frozen=True)
class Operand:
    """A tensor that streams are cut from.

    ``packed``: a GEMM's result (B, T, width) holding ``parts``, each with its
    axes flattened, one after another.  Otherwise a value (B, T, *axes) with the
    axes of its one part.
    """

    name: str
    parts: tuple[tuple[str, ...], ...]
    packed: bool = False


@dataclass(frozen=True)
class Stream:
    """What the kernel reads at step t: slice ``position`` of operand ``operand``."""

    name: str
    operand: int
    position: int
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Constant:
    """A tensor (*axes,) constant in time and over the batch."""

    name: str
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Carry:
    """What goes from step to step: a state, or for a delay (``lag`` > 1) what it was earlier.

    ``after`` is the node of its value after the step; ``axes`` are all or some of the kernel's.
    """

    name: str
    state: str
    lag: int
    axes: tuple[str, ...]
    after: int


@dataclass(frozen=True)
class Scan:
    """Carries that are advanced together: a stratum.

    With a ``law``, after = law.apply(parts, prev), ``parts`` being nodes free of
    these carries; without one the kernel marches over time, however few its cells.
    """

    carries: tuple[int, ...]
    law: Algebra | None = None
    parts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Output:
    """A value written for every t, (B, T, *axes); ``axes`` are all or some of the kernel's."""

    name: str
    node: int
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Kernel:
    """The forward kernel of a stage.

    leaves of ``body``: load(i) streams[i]; constant(i) constants[i]; scalar(i)
    scalars[i]; keep(i) masks[i]; prev(i) carries[i] before the step.

    ``inner`` is the axis that the body sums over (its ``reduce`` nodes), so that a cell has
    all of it; None where nothing is summed.
    """

    name: str
    axes: tuple[str, ...]
    operands: tuple[Operand, ...]
    streams: tuple[Stream, ...]
    constants: tuple[Constant, ...]
    scalars: tuple[str, ...]
    masks: tuple[str, ...]
    carries: tuple[Carry, ...]
    scans: tuple[Scan, ...]
    outputs: tuple[Output, ...]
    body: Graph
    inner: str | None = None

    @property
    def other_axes(self) -> tuple[str, ...]:
        """Axes that the kernel does not run over, but that lie packed in its operands."""
        every = (a for o in self.operands for part in o.parts for a in part)
        return tuple(dict.fromkeys(a for a in every if a not in self.axes))

    @property
    def lane(self) -> str | None:
        """The axis along which neighbouring cells lie: the last that is not summed over."""
        rest = [a for a in self.axes if a != self.inner]
        return rest[-1] if rest else None

    @property
    def outer(self) -> tuple[str, ...]:
        """The axes before the lane."""
        return tuple(a for a in self.axes if a not in (self.inner, self.lane))

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """How many parts and carries each scan has."""
        return tuple((len(s.parts), len(s.carries)) for s in self.scans)

    @property
    def parallel(self) -> bool:
        """Whether every scan has a law, so that time can be cut into chunks."""
        return all(s.law is not None for s in self.scans)

    def __str__(self) -> str:
        inner = f", summing over {self.inner}" if self.inner else ""
        lines = [f"kernel {self.name} over {' '.join(self.axes) or 1}{inner}"]
        lines += [
            f"  operand {o.name}: {' | '.join(' '.join(p) or '1' for p in o.parts)}"
            for o in self.operands
        ]
        lines += [
            f"  stream {i} {s.name} = {self.operands[s.operand].name}[{s.position}]"
            for i, s in enumerate(self.streams)
        ]
        lines += [
            f"  constant {i} {c.name}: {' '.join(c.axes) or 1}"
            for i, c in enumerate(self.constants)
        ]
        lines += [f"  scalar {i} {s}" for i, s in enumerate(self.scalars)]
        lines += [f"  mask {i} {m}" for i, m in enumerate(self.masks)]
        lines += [f"  %{i} = {n}" for i, n in enumerate(self.body)]
        for s in self.scans:
            law = s.law.name if s.law else "march"
            parts = ", ".join(f"%{p}" for p in s.parts)
            names = ", ".join(self.carries[i].name for i in s.carries)
            lines.append(f"  scan {names}: {law}({parts})")
        lines += [f"  carry {c.name} -> %{c.after}" for c in self.carries]
        lines += [f"  output {o.name} = %{o.node}" for o in self.outputs]
        return "\n".join(lines)

    def problems(self) -> Iterator[str]:
        """What a verifier finds wrong; nothing when the kernel is sound."""
        yield from verify_graph(self.body, self.axes)
        tables = {
            "load": len(self.streams), "constant": len(self.constants),
            "scalar": len(self.scalars), "keep": len(self.masks), "prev": len(self.carries),
        }  # fmt: skip
        for n in self.body:
            if n.op in tables and not 0 <= int(n.attrs[0]) < tables[n.op]:
                yield f"{n}: no such entry"


@dataclass(frozen=True)
class Adjoint:
    """The reverse march of a :class:`Kernel`: its vector-Jacobian product, one step.

    leaves of ``body``: those of the forward body, prev(i) read back from the
    saved states; ``grad(i)`` the cotangent of outputs[i] at t; ``adjoint(i)``
    what arrives at carries[i] from t+1.
    ``carried`` gives, a carry, the node passed on to t-1 (None: nothing is).
    ``slopes`` gives, a scan, its Jacobian: slopes[s][i][j] is the node of how carry i after the
    step moves with carry j before it (None: not at all), both of scan s.
    ``streams`` gives, a stream, the node of its cotangent (None: it has none);
    ``constants`` likewise, to be summed over time and batch.
    ``saved`` are the carries whose values before each step the body reads.
    """

    kernel: Kernel
    carried: tuple[int | None, ...]
    slopes: tuple[tuple[tuple[int | None, ...], ...], ...]
    streams: tuple[int | None, ...]
    constants: tuple[int | None, ...]
    saved: tuple[int, ...]
    body: Graph

    def __str__(self) -> str:
        lines = [f"adjoint of {self.kernel.name}"]
        lines += [f"  %{i} = {n}" for i, n in enumerate(self.body)]
        lines += [
            f"  carry {c.name}: passes %{p}"
            for c, p in zip(self.kernel.carries, self.carried, strict=True)
        ]
        for scan, matrix in zip(self.kernel.scans, self.slopes, strict=True):
            names = ", ".join(self.kernel.carries[i].name for i in scan.carries)
            lines.append(f"  slopes of {names}: {[list(row) for row in matrix]}")
        lines += [
            f"  d {s.name} = %{n}" for s, n in zip(self.kernel.streams, self.streams, strict=True)
        ]
        lines += [
            f"  d {c.name} += %{n}"
            for c, n in zip(self.kernel.constants, self.constants, strict=True)
        ]
        lines += [f"  reads back {[self.kernel.carries[i].name for i in self.saved]}"]
        return "\n".join(lines)
