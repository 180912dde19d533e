"""A fused kernel: one pass over time, in either direction, of pointwise equations and scans.

A kernel runs over (batch, *axes) and marches over time.  ``body`` is one step:
leaves load streams, constants, scalars and the carries before the step; the
rest is pointwise, or a sum over an axis of which a cell has all.  Forward,
adjoint and tangent are kernels alike: they differ in their direction and in
what they read, and passes make one from another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from seqc.ir.algebra import Algebra
from seqc.ir.graph import Graph, verify_graph


@dataclass(frozen=True)
class Stream:
    """What the kernel reads at step t, (B, T, *axes)."""

    name: str
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Constant:
    """A tensor (*axes,) constant in time and over the batch.

    One with ``columns`` is a matrix, (*axes, *columns): its rows are over ``axes``, of which the
    first ``shared`` are those of its columns too (a block of the matrix each); laid out with rows
    and columns swapped where it is ``turned``.
    """

    name: str
    axes: tuple[str, ...]
    columns: tuple[str, ...] | None = None
    shared: int = 0
    turned: bool = False

    @property
    def is_matrix(self) -> bool:
        """Whether it is one; of a single row or column, too."""
        return self.columns is not None

    @property
    def whole(self) -> tuple[str, ...]:
        """The axes of the tensor, a matrix's as it is laid out."""
        shared, rows = self.axes[: self.shared], self.axes[self.shared :]
        columns = self.columns or ()
        return (*shared, *columns, *rows) if self.turned else (*shared, *rows, *columns)

    @property
    def across(self) -> tuple[str, ...]:
        """What a matrix's columns are over."""
        return (*self.axes[: self.shared], *(self.columns or ()))


@dataclass(frozen=True)
class Mask:
    """A truth for every step, (B, T, *axes): what dropout keeps."""

    name: str
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Before:
    """A carry of another kernel before each step, which this one reads: what that kernel kept.

    ``carry`` is the position among that kernel's carries.
    """

    name: str
    carry: int
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Held:
    """A node of another kernel's body at each step, which that kernel writes down for this one."""

    name: str
    node: int
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Outer:
    """A part of a matrix's gradient: rows times columns, summed over time and the batch.

    ``constant`` is the matrix's position; ``left`` the node over its rows, ``right`` that over its
    columns.
    """

    name: str
    constant: int
    left: int
    right: int


@dataclass(frozen=True)
class Carry:
    """What goes from step to step: a state, or for a delay (``lag`` > 1) what it was earlier.

    ``after`` is the node of its value after the step; ``axes`` are all or some of the kernel's.
    An adjoint's carries are those of what ``state`` and ``lag`` name.
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
    """A value written for every t, (B, T, *axes): a node's, summed over axes that are not here."""

    name: str
    node: int
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Total:
    """A value summed over time, the batch and the axes that are not here: (*axes,)."""

    name: str
    node: int
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Kernel:
    """One pass over time.

    leaves of ``body``: load(i) streams[i]; constant(i) constants[i]; scalar(i) scalars[i];
    keep(i) masks[i]; prev(i) carries[i] before the step; before(i) befores[i];
    matrix(i) constants[i]; held(i) held[i].

    ``inner`` are the axes along which the body looks across cells (its ``reduce`` and ``rename``
    nodes: sums, maxima, an axis called otherwise), so that a cell has all of them.  ``backward``:
    time runs from the last step to the first, and at a reset what has arrived at the carries
    leaves, where forwards they start anew.

    ``stepped``: its step has products with matrices, each of which needs all of its argument.  Then
    every value is over axes of its own, all of which a step has (``inner`` are all of them).
    """

    name: str
    axes: tuple[str, ...]
    streams: tuple[Stream, ...]
    constants: tuple[Constant, ...]
    scalars: tuple[str, ...]
    masks: tuple[Mask, ...]
    carries: tuple[Carry, ...]
    scans: tuple[Scan, ...]
    outputs: tuple[Output, ...]
    body: Graph
    inner: tuple[str, ...] = ()
    befores: tuple[Before, ...] = ()
    totals: tuple[Total, ...] = ()
    backward: bool = False
    stepped: bool = False
    held: tuple[Held, ...] = ()
    outers: tuple[Outer, ...] = ()

    @property
    def lane(self) -> str | None:
        """The axis along which neighbouring cells lie: the last that is not summed over."""
        rest = [a for a in self.axes if a not in self.inner]
        return rest[-1] if rest else None

    @property
    def outer(self) -> tuple[str, ...]:
        """The axes before the lane."""
        return tuple(a for a in self.axes if a not in (*self.inner, self.lane))

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """How many parts and carries each scan has."""
        return tuple((len(s.parts), len(s.carries)) for s in self.scans)

    @property
    def mixes(self) -> bool:
        """Whether it does more across its inner axes than sum over them."""
        return any(
            n.op == "rename" or (n.op == "reduce" and n.attrs[0] != "sum") for n in self.body
        )

    @property
    def parallel(self) -> bool:
        """Whether every scan has a law, so that time can be cut into chunks."""
        return all(s.law is not None for s in self.scans)

    def __str__(self) -> str:
        inner = f", summing over {' '.join(self.inner)}" if self.inner else ""
        inner += ", stepping" if self.stepped else ""
        back = ", backwards" if self.backward else ""
        lines = [f"kernel {self.name} over {' '.join(self.axes) or 1}{inner}{back}"]
        for kind, entries in self._tables().items():
            lines += [
                f"  {kind} {i} {e.name}: {' '.join(e.axes) or 1}" for i, e in enumerate(entries)
            ]
        lines += [f"  scalar {i} {s}" for i, s in enumerate(self.scalars)]
        lines += [f"  %{i} = {n}" for i, n in enumerate(self.body)]
        for s in self.scans:
            law = s.law.name if s.law else "march"
            parts = ", ".join(f"%{p}" for p in s.parts)
            names = ", ".join(self.carries[i].name for i in s.carries)
            lines.append(f"  scan {names}: {law}({parts})")
        lines += [f"  carry {c.name} -> %{c.after}" for c in self.carries]
        lines += [f"  output {o.name} = %{o.node}: {' '.join(o.axes) or 1}" for o in self.outputs]
        lines += [f"  total {o.name} += %{o.node}: {' '.join(o.axes) or 1}" for o in self.totals]
        lines += [f"  outer {o.name} += %{o.left} x %{o.right}" for o in self.outers]
        return "\n".join(lines)

    def _tables(self) -> dict[str, Sequence[Stream | Constant | Mask | Before | Held]]:
        """What the body reads, by the name of its leaves."""
        return {
            "load": self.streams, "constant": self.constants, "keep": self.masks,
            "before": self.befores, "held": self.held,
        }  # fmt: skip

    @property
    def results(self) -> tuple[Output | Total, ...]:
        """What it hands out besides its carries."""
        return (*self.outputs, *self.totals)

    def written(self, side: tuple[int, tuple[str, ...]]) -> int:
        """The output that is a node over some axes; -1: none."""
        return next((i for i, o in enumerate(self.outputs) if (o.node, o.axes) == side), -1)

    @property
    def sides(self) -> tuple[tuple[int, tuple[str, ...]], ...]:
        """What its outer products are of and no output is, each once: a node, and the axes it is
        written over."""
        pairs = (
            pair
            for o in self.outers
            for pair in (
                (o.left, self.constants[o.constant].axes),
                (o.right, self.constants[o.constant].across),
            )
        )
        return tuple(dict.fromkeys(pair for pair in pairs if self.written(pair) < 0))

    def problems(self) -> Iterator[str]:
        """What a verifier finds wrong; nothing when the kernel is sound."""
        yield from verify_graph(self.body, self.axes)
        found = list(self._leaf_problems())
        yield from found
        if not found:  # of a damaged table no more can be said than that
            yield from self._matrix_problems()
        roots = [(c.name, c.after, c.axes) for c in self.carries]
        roots += [(o.name, o.node, self.axes) for o in self.results]
        for name, node, axes in roots:
            if not 0 <= node < len(self.body):
                yield f"{name}: no node %{node}"
            elif set(self.body[node].axes) - set(axes):
                yield f"{name}: %{node} is over more axes"
        claimed = [i for s in self.scans for i in s.carries]
        if sorted(claimed) != list(range(len(self.carries))):
            yield f"scans advance the carries {claimed} of {len(self.carries)}"
        for s in self.scans:
            if s.law is not None and len(s.parts) != len(s.law.parts):
                yield f"{s.law.name} has {len(s.law.parts)} parts, not {len(s.parts)}"
            if s.law is not None and len(s.carries) != len(s.law.arguments):
                yield f"{s.law.name} is of {len(s.law.arguments)} states, not {len(s.carries)}"

    def _leaf_problems(self) -> Iterator[str]:
        """What is wrong with leaves: entries that tables have not, or over other axes."""
        tables: dict[str, list[tuple[str, ...]]] = {
            op: [e.axes for e in entries] for op, entries in self._tables().items()
        }
        tables["prev"] = [c.axes for c in self.carries]
        tables["scalar"] = [() for _ in self.scalars]
        tables["matrix"] = [() for _ in self.constants]
        for n in self.body:
            table = tables.get(n.op)
            if table is None:
                continue
            if not 0 <= int(n.attrs[0]) < len(table):
                yield f"{n}: no such entry"
            elif set(n.axes) != set(table[int(n.attrs[0])]):
                yield f"{n}: its entry is over {table[int(n.attrs[0])]}"

    def _matrix_problems(self) -> Iterator[str]:
        """What is wrong with products, and with gradients of matrices."""
        for n in self.body:
            if n.op == "matrix" and not self.constants[int(n.attrs[0])].is_matrix:
                yield f"{n}: its entry is no matrix"
            if n.op == "outer":
                yield f"{n}: is nobody's gradient"
            if n.op != "product":
                continue
            values, of = (self.body[a] for a in n.args)
            if of.op != "matrix":
                yield f"{n}: no product with a matrix"
                continue
            matrix = self.constants[int(of.attrs[0])]
            rows, columns = matrix.axes, matrix.across
            made, taken = (columns, rows) if n.attrs[0] else (rows, columns)
            lost = set(values.axes) - set(taken) or set(n.attrs[1:]) != set(taken)
            if set(n.axes) != set(made) or lost:
                yield f"{n}: the matrix is over {rows} and {columns}"
        for o in self.outers:
            matrix = self.constants[o.constant]
            for node, axes in ((o.left, matrix.axes), (o.right, matrix.across)):
                if not 0 <= node < len(self.body) or set(self.body[node].axes) - set(axes):
                    yield f"{o.name}: %{node} is not over {axes}"
        if (self.outers or any(n.op == "product" for n in self.body)) and not self.stepped:
            yield "products in a kernel that does not step"


def moving(kernel: Kernel, adjoint: Kernel) -> tuple[bool, ...]:
    """For each stream of a kernel whether its adjoint has a gradient of it."""
    given = {o.name for o in adjoint.outputs}
    return tuple(f"d_{s.name}" in given for s in kernel.streams)


def steady(kernel: Kernel, adjoint: Kernel) -> tuple[bool, ...]:
    """For each constant of a kernel whether its adjoint has a gradient of it."""
    given = {t.name for t in adjoint.totals} | {o.name for o in adjoint.outers}
    return tuple(f"d_{c.name}" in given for c in kernel.constants)


def symmetric(kernel: Kernel) -> bool:
    """Whether second derivatives are the same in either order.

    They are those of a function, unless a spec states a derivative that need be nobody's.
    """
    return not any(node.op in ("stop", "graft") for node in kernel.body)
