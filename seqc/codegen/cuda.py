"""Kernels as CUDA: the same steps as C++, of one channel that a thread holds in registers."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from seqc.codegen.steps import Dialect, Pointer, render
from seqc.ir.kernel import Adjoint, Kernel


class _Registers(Dialect):
    """A thread has one channel: what the C++ reads through a pointer is a value here."""

    def load(self, name: str, wide: bool) -> str:
        return f"load({name})"

    def element(self, name: str, wide: bool = True) -> str:
        return name

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
    return render("cuda/kernel.cu.jinja", kernel, adjoint, _Registers())


@cache
def cuda_prelude() -> str:
    """The functions that every kernel's source starts with."""
    folder = files("seqc.templates").joinpath("cuda")
    parts = (folder.joinpath(n).read_text(encoding="utf-8") for n in ("math.cuh", "lookback.cuh"))
    return "\n".join(parts)
