"""Kernels as CUDA: the same steps as C++, of one channel that a thread holds in registers."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from seqc.codegen.flat import render
from seqc.codegen.steps import Pointer, Values
from seqc.ir.kernel import Adjoint, Kernel


class _Registers(Values):
    """A thread has one channel: what the C++ reads through a pointer is a value here."""

    def write(self, pointer: Pointer, value: str) -> str:
        if pointer.type == "Storage":
            return f"{pointer.name} = narrow<Storage>({value});"
        return f"{pointer.name} = {value};"

    def literal(self, value: float) -> str:
        if value != value:
            return "seqc::nan<State>()"
        if value in (float("inf"), float("-inf")):
            return f"{'-' if value < 0 else ''}seqc::infinity<State>()"
        return f"State({value!r})"


def print_cuda(kernel: Kernel, adjoint: Adjoint) -> str:
    """The kernel's CUDA source, without what all kernels share."""
    if kernel.inner is not None:
        return "#error not yet\n"
    return render("cuda/kernel.cu.jinja", kernel, adjoint, _Registers())


@cache
def cuda_prelude() -> str:
    """The functions that every kernel's source starts with."""
    folder = files("seqc.templates").joinpath("cuda")
    parts = (folder.joinpath(n).read_text(encoding="utf-8") for n in ("math.cuh", "lookback.cuh"))
    return "\n".join(parts)
