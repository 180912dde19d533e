"""How parameters start: the distributions that a spec can name, drawn in place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

#: torch.nn.init's, by their names in a spec; each takes one number.
_BY_FAN: dict[str, Callable[[Tensor, float], Tensor]] = {
    "xavier_uniform": lambda p, gain: nn.init.xavier_uniform_(p, gain),
    "xavier_normal": lambda p, gain: nn.init.xavier_normal_(p, gain),
    "kaiming_uniform": lambda p, slope: nn.init.kaiming_uniform_(p, slope),
    "kaiming_normal": lambda p, slope: nn.init.kaiming_normal_(p, slope),
}


def numbers(of: str, kind: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The numbers of a start, those worked out that are functions of sizes and hypers.

    ``of`` says whose they are. ValueError where sizes and hypers leave one without a value, or
    where they are none that the start can have.
    """
    if kind == "parts":
        return tuple((part, numbers(of, part, inner), width) for part, inner, width in values)
    found = []
    for value in values:
        try:
            number = float(value() if callable(value) else value)
        except (ArithmeticError, ValueError) as error:
            raise ValueError(f"{of}: its start has no value for these sizes: {error}") from None
        if not math.isfinite(number):
            raise ValueError(f"{of}: its start is {number} for these sizes")
        found.append(number)
    if kind == "uniform" and found[0] > found[1]:
        raise ValueError(f"{of}: uniform({found[0]:g}, {found[1]:g}) has its limits out of order")
    if kind == "normal" and found[1] < 0:
        raise ValueError(f"{of}: normal({found[0]:g}, {found[1]:g}): a deviation is not negative")
    return tuple(found)


def draw(p: Tensor, kind: str, values: tuple[Any, ...], fan_in: int) -> None:
    """Fill ``p`` from a start; ``fan_in``: the products that an entry of a map's result sums.

    ``default`` is torch.nn.Linear's where there is a fan-in, else zero; ``parts`` gives blocks of
    columns a start each: (kind, numbers, columns).
    """
    match kind:
        case "default" if fan_in > 0:
            bound = 1 / math.sqrt(fan_in)
            p.uniform_(-bound, bound)
        case "default":
            p.zero_()
        case "number":
            p.fill_(values[0])
        case "normal":
            p.normal_(values[0], values[1])
        case "uniform":
            p.uniform_(values[0], values[1])
        case "orthogonal":
            gain = values[0] if values else 1.0
            if p.dim() >= 2:
                nn.init.orthogonal_(p, gain)
            else:
                p.copy_(nn.init.orthogonal_(p.new_empty(1, p.numel()), gain)[0])
        case "parts":
            blocks = p.split([width for _, _, width in values], 1)
            for block, (part, inner, _) in zip(blocks, values, strict=True):
                draw(block, part, inner, fan_in)
        case _ if kind in _BY_FAN:
            _BY_FAN[kind](p, values[0])
        case _:
            raise ValueError(f"unknown init {kind!r}")
