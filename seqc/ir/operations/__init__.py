"""The pointwise operations: a record each (record.py), which every stage reads."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from seqc.ir.operations.arithmetic import ARITHMETIC, CHOICES, CONDITIONS, STATED
from seqc.ir.operations.functions import FUNCTIONS
from seqc.ir.operations.record import Operation

__all__ = ["OPERATIONS", "Operation"]

#: By name.
OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {o.name: o for o in (*ARITHMETIC, *FUNCTIONS, *CHOICES, *CONDITIONS, *STATED)}
)
