"""Scan or march: what composing steps costs, against taking them one by one.

A march applies a step's function to its carries.  A scan of time in P stretches composes the steps
of each stretch, and then applies them: it takes (compose + apply) / P operations a step instead of
apply.  Of k coupled states that is k^3 against k^2, so that the share grows with k, and so do the
k^2 + k numbers that each stretch keeps in registers.  Beyond :data:`WORTH` times a march's
operations, with as many threads as channels leave idle on most machines, a fused kernel marches.
"""

from __future__ import annotations

from collections.abc import Sequence

from seqc.ir.algebra import Algebra
from seqc.ir.graph import reachable
from seqc.ir.operations import OPERATIONS
from seqc.ir.operations.record import TRANSCENDENTAL
from seqc.ir.ops import CONDITIONS

#: A scan may take so many times the operations of a march; a block of four states takes 5.5.
WORTH = 6.0

#: Operations that cost a dozen products each.
_DEAR = frozenset(o.name for o in OPERATIONS.values() if o.cost == TRANSCENDENTAL)
_FREE = frozenset({"symbol", "const"}) | CONDITIONS


def operations(law: Algebra, roots: Sequence[int]) -> int:
    """The operations of some of a law's expressions, in products."""
    ops = [law.nodes[n].op for n in reachable(law.nodes, roots)]
    return sum(0 if op in _FREE else 12 if op in _DEAR else 1 for op in ops)


def times(law: Algebra) -> float:
    """How many times the operations of a march a scan by this law takes."""
    apply = operations(law, law.applied)
    return (operations(law, law.compose) + apply) / max(apply, 1)


def why_march(law: Algebra | None, states: int) -> str:
    """Why steps of this law are taken one by one; empty where they are scanned.

    A law is None where it is written out for no such number of ``states``: there a scan takes
    about states + 1.5 times the operations, k^3 products and sums of matrices among them.
    """
    share = states + 1.5 if law is None else times(law)
    if share <= WORTH:
        return ""
    return (
        f"composing two steps and applying them takes about {share:.3g} times the operations of "
        f"a step of {states} carries, so steps are taken one by one in one fused kernel"
    )
