"""Kernels as CUDA: the same steps as C++, of one cell that threads hold in registers."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from seqc.codegen.flat import render
from seqc.codegen.nested_view import render_nested
from seqc.codegen.steps import Pointer, Rows, Values
from seqc.ir.kernel import Adjoint, Kernel


class _Registers(Values):
    """A thread has one channel: what the C++ reads through a pointer is a value here."""

    def write(self, pointer: Pointer, value: str) -> str:
        if pointer.type == "Storage":
            return f"{pointer.name} = narrow<Storage>({value});"
        return f"{pointer.name} = {value};"

    def literal(self, value: float) -> str:
        return _literal(value)


class _Cells(Rows):
    """Of a nested kernel: a thread has its elements of the inner axis as small arrays."""

    def leaf(self, op: str, name: str, lane: bool, inner: bool) -> str:
        if op == "scalar":
            return name
        along = "[i]" if inner else ""
        if op in ("load", "grad"):
            return f"load({name}_now{along})"
        if op in ("keep", "constant"):
            return f"{name}_{'now' if op == 'keep' else 'own'}{along}"
        return f"{name}{along}"

    def element(self, name: str, wide: bool = True) -> str:
        return name

    def literal(self, value: float) -> str:
        return _literal(value)


def _literal(value: float) -> str:
    if value != value:
        return "seqc::nan<State>()"
    if value in (float("inf"), float("-inf")):
        return f"{'-' if value < 0 else ''}seqc::infinity<State>()"
    return f"State({value!r})"


def print_cuda(kernel: Kernel, adjoint: Adjoint) -> str:
    """The kernel's CUDA source, without what all kernels share."""
    if kernel.inner is not None:
        return render_nested("cuda/nested.cu.jinja", kernel, adjoint, _Cells())
    return render("cuda/kernel.cu.jinja", kernel, adjoint, _Registers())


@cache
def cuda_prelude() -> str:
    """The functions that every kernel's source starts with."""
    folder = files("seqc.templates").joinpath("cuda")
    parts = (folder.joinpath(n).read_text(encoding="utf-8") for n in ("math.cuh", "lookback.cuh"))
    return "\n".join(parts)
