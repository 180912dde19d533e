"""How a kernel runs: its steps, and what stretches of time are as functions of what enters them.

A schedule is data from a closed list.  Which is taken for a call is the launcher's choice, by
shape: a *march* over all steps, or time cut into *chunks* (C++) or tiles that *look back* (CUDA)
where every scan has a law.  What a march keeps for the way back is settled here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from seqc.ir.graph import Graph, verify_graph
from seqc.ir.kernel import Held, Kernel, Output, Total


@dataclass(frozen=True)
class StepCarry:
    """What a step hands to the next; ``after`` its node.

    ``source`` is the kernel's carry that it is; None: a part of a function of a scan's carries.
    """

    name: str
    axes: tuple[str, ...]
    after: int
    source: int | None


@dataclass(frozen=True)
class Step:
    """A step as a schedule runs it.

    leaves of ``body`` are the kernel's, but prev(i) is ``carries[i]`` before the step.
    """

    name: str
    purpose: str
    carries: tuple[StepCarry, ...]
    outputs: tuple[Output, ...]
    totals: tuple[Total, ...]
    body: Graph
    backward: bool = False

    @property
    def parts(self) -> int:
        """How many of the last carries are parts of a function."""
        return sum(c.source is None for c in self.carries)

    def __str__(self) -> str:
        lines = [f"step {self.name}: {self.purpose}"]
        lines += [f"  %{i} = {n}" for i, n in enumerate(self.body)]
        lines += [f"  carry {c.name} -> %{c.after}" for c in self.carries]
        lines += [f"  output {o.name} = %{o.node}" for o in self.outputs]
        lines += [f"  total {o.name} += %{o.node}" for o in self.totals]
        return "\n".join(lines)


@dataclass(frozen=True)
class Function:
    """Values of arguments: leaves element(i), for each root a value."""

    arguments: tuple[str, ...]
    roots: tuple[int, ...]
    body: Graph

    def __str__(self) -> str:
        nodes = "; ".join(f"%{i} = {n}" for i, n in enumerate(self.body))
        return f"({', '.join(self.arguments)}) -> {list(self.roots)}: {nodes}"


@dataclass(frozen=True)
class Segment:
    """A stretch of time as one function of what enters it, for one scan.

    ``lift`` takes one more step into the function: its carries are those of earlier scans that
    the scan's parts read, which run along, then the function's own parts, from the ``identity``.
    ``compose`` is of the parts of a later function, then of an earlier one; ``enter`` of parts,
    then what the carries are before the stretch, and gives what they are after it.
    """

    scan: int
    law: str
    lift: Step
    identity: tuple[float, ...]
    compose: Function
    enter: Function

    def __str__(self) -> str:
        return "\n".join(
            [
                f"segment of scan {self.scan}, {self.law} from {list(self.identity)}",
                f"  compose {self.compose}",
                f"  enter {self.enter}",
                *("  " + line for line in str(self.lift).split("\n")),
            ]
        )


@dataclass(frozen=True)
class Scheduled:
    """A kernel ready to be printed.

    ``kept`` are the carries whose values are kept for the way back, for every step or, with
    ``every``, once in some dozens, those between being computed ``again``.  ``held`` are nodes
    of its body that it writes down for the way back.
    """

    kernel: Kernel
    main: Step
    segments: tuple[Segment, ...]
    kept: tuple[int, ...] = ()
    every: bool = False
    again: Step | None = None
    held: tuple[Held, ...] = ()

    def __str__(self) -> str:
        keeps = ", ".join(self.kernel.carries[i].name for i in self.kept)
        how = "now and then" if self.every else "every step"
        lines = [str(self.kernel)]
        if self.kept:
            lines.append(f"  keeps {keeps} {how}")
        lines += [f"  holds {h.name} = %{h.node}: {' '.join(h.axes) or 1}" for h in self.held]
        for part in (*([self.again] if self.again else ()), *self.segments):
            lines += ["  " + line for line in str(part).split("\n")]
        return "\n".join(lines)

    def problems(self) -> Iterator[str]:
        """What a verifier finds wrong."""
        yield from self.kernel.problems()
        for step in (*([self.again] if self.again else ()), *(s.lift for s in self.segments)):
            yield from (f"{step.name}: {p}" for p in verify_graph(step.body, self.kernel.axes))
            for n in step.body:
                if n.op == "prev" and not 0 <= int(n.attrs[0]) < len(step.carries):
                    yield f"{step.name}: {n}: no such carry"
        if self.kernel.parallel and len(self.segments) != len(self.kernel.scans):
            yield "a scan with a law has no segment"
        for s in self.segments:
            if len(s.identity) != s.lift.parts or len(s.compose.roots) != s.lift.parts:
                yield f"segment of scan {s.scan}: the function has {s.lift.parts} parts"
