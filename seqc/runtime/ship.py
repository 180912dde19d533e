"""Compiled kernels that lie beside a module's file, where ``seqc build --compiled`` put them."""

from __future__ import annotations

from pathlib import Path

from seqc.runtime.cpp import CppKernel
from seqc.runtime.kernels import FusedKernel


def folder_beside(file: str) -> Path:
    """Where the compiled kernels of a module's file lie: ``gru.py`` has ``gru_kernels``."""
    path = Path(file).absolute()
    return path.with_name(f"{path.stem}_kernels")


def ship(file: str, *kernels: FusedKernel, tangents: bool = False) -> None:
    """Take the C++ side of kernels from the folder beside a module's file, where they fit.

    They fit a CPU with the features of the one that they were compiled on. Elsewhere one warning
    says so, and a call does what it does with nothing shipped. ``tangents``: theirs lie there too.
    """
    for kernel in kernels:
        target = kernel.targets["cpu"]
        if isinstance(target, CppKernel):
            target.shipped = folder_beside(file)
            kernel.ships_tangent = tangents
