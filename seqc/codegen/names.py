"""Names in generated code: those of the spec where they are free, else the nearest free one."""

from __future__ import annotations

import keyword
import re


class Namer:
    """Hands out each name once; a taken or reserved one gets an underscore or a number."""

    def __init__(self, reserved: frozenset[str] = frozenset()) -> None:
        self._taken = set(reserved)

    def fresh(self, wish: str) -> str:
        """The wished-for name, or the nearest that is free."""
        base = re.sub(r"\W", "_", wish) or "value"
        if base[0].isdigit():
            base = "_" + base
        name = base + "_" if keyword.iskeyword(base) else base
        count = 1
        while name in self._taken:
            count += 1
            name = f"{base}_{count}" if count > 2 else f"{base}_"
        self._taken.add(name)
        return name
