"""What ``seqc verify`` saw: a row a check, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from seqc.commands.common import table

Status = Literal["ok", "FAIL", "n/a"]


@dataclass(frozen=True)
class Check:
    """One check: what was measured, what it may come to, and what it came to.

    ``n/a`` is a check that cannot be made here (no compiler, a refusal that the
    contract allows); ``detail`` says why, or what was worst.
    """

    name: str
    backend: str
    dtype: str
    status: Status
    measured: float | None = None
    bound: float | None = None
    detail: str = ""

    def cells(self) -> tuple[str, ...]:
        """The row, as text."""
        return (
            self.name,
            self.backend,
            self.dtype,
            _number(self.measured),
            _number(self.bound),
            self.status,
            self.detail,
        )


@dataclass(frozen=True)
class VerifyReport:
    """Every check of one layer; ``ok`` is whether none failed."""

    name: str
    seed: int
    sizes: Mapping[str, int]
    checks: tuple[Check, ...]
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether no check failed, and one at least was made."""
        made = [c for c in self.checks if c.status != "n/a"]
        return bool(made) and all(c.status == "ok" for c in made)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(c for c in self.checks if c.status == "FAIL")

    def __str__(self) -> str:
        sizes = ", ".join(f"{k}={v}" for k, v in self.sizes.items())
        header = ("check", "backend", "dtype", "measured", "bound", "", "")
        made = sum(c.status != "n/a" for c in self.checks)
        return "\n".join(
            (
                f"{self.name}({sizes}), seed {self.seed}",
                *((self.note,) if self.note else ()),
                "",
                table(header, (c.cells() for c in self.checks)),
                "",
                f"{made} checks, {len(self.failed)} failed",
            )
        )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return "0" if value == 0 else f"{value:.1e}"
