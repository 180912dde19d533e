"""Operations as the C family writes them; both targets have the functions in namespace seqc."""

from __future__ import annotations

import re

from seqc.ir.graph import Node
from seqc.ir.ops import CONDITIONS, INFIX

#: Operations whose value is a truth.
TRUTHS = CONDITIONS | {"keep"}


def expression(node: Node, args: list[str]) -> str:
    """A pointwise operation on named values."""
    if node.op in INFIX:
        return f"{args[0]} {INFIX[node.op][0]} {args[1]}"
    if node.op == "neg":
        return f"-{args[0]}"
    if node.op == "isset":
        return f"{args[0]} != State(0)"
    if node.op == "where":
        return f"{args[0]} ? {args[1]} : {args[2]}"
    return f"seqc::{node.op}({', '.join(args)})"


def literal(value: float) -> str:
    """An expression of type State that is exactly this number (rounded to State)."""
    if value != value:
        return "seqc::nan<State>()"
    if value in (float("inf"), float("-inf")):
        return f"{'-' if value < 0 else ''}seqc::infinity<State>()"
    return f"State({value!r})"


class Names:
    """Names of a step's values: the spec's carry a sigil, so that they meet no other name.

    Nothing in ``templates/`` is called ``s_…``; NVRTC knows no ``$`` in names.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of_spec(self, wish: str) -> str:
        """A name for something that the spec names: ``s_z``."""
        return self.fresh("s_" + re.sub(r"\W", "_", wish))

    def fresh(self, wish: str) -> str:
        """The wished-for name, with a number where it is taken."""
        name, count = wish, 1
        while name in self._taken:
            count += 1
            name = f"{wish}_{count}"
        self._taken.add(name)
        return name
