"""What a pointwise operation is: everything that a stage wants to know of one, in one record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from seqc.ir.verdict import Interval

#: What an operation costs: a rounding or so, a dozen of them, or none (it compares or chooses).
ARITHMETIC, TRANSCENDENTAL, SELECTION = "arithmetic", "transcendental", "selection"


@dataclass(frozen=True)
class Operation:
    """A pointwise operation; its place on a target is ``seqc::NAME``, in that target's ``math``.

    ``value`` is its value in Python floats, which never raises (floats.py).

    ``definition(m, *args)`` is what it means, ``m`` being mpmath or sympy as seqc.symbolic hands
    them out: ``m.exp``, ``m.log``, … by the names that both have.  An operation that sympy has no
    function for is ``named``: a proof sees it as a function of its own, written out where needed.

    ``range`` maps the intervals of the arguments to that of the value; None: by its branches.

    ``derivative`` has a text for each argument, in the notation of the rules (symbolic/rules.py):
    ``x`` and ``y`` are the arguments, ``r`` is the operation's own value.  At an edge it is the one
    that a person expects.  ``flat``: it is zero wherever it exists.  Neither: it stands in
    symbolic/differentiate.py.  ``steep``: it can be infinite where the value is not used.
    """

    name: str
    arity: int
    value: Callable[..., Any]
    definition: Callable[..., Any]
    range: Callable[..., Interval] | None
    derivative: tuple[str, ...] = ()
    named: bool = False
    flat: bool = False
    steep: bool = False
    commutative: bool = False
    #: Whether its value is a truth value.
    truth: bool = False
    cost: str = ARITHMETIC
    #: Whether a spec may call it by its name.
    called: bool = True
    #: Between its arguments, in a spec, in Python and in C, and how tightly it binds there.
    sign: str = ""
    binds: int = 0
    #: PyTorch's function; a name without a dot is one of seqc.runtime.pointwise.
    torch: str = ""

    def __post_init__(self) -> None:
        if not self.torch:
            object.__setattr__(self, "torch", f"torch.{self.name}")
