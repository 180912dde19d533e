"""Kernels as C++."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from seqc.codegen.flat import render
from seqc.codegen.nested_view import render_nested
from seqc.codegen.steps import Dialect, Rows
from seqc.ir.kernel import Adjoint, Kernel


def print_cpp(kernel: Kernel, adjoint: Adjoint) -> str:
    """The kernel's C++ source, without what all kernels share."""
    if kernel.inner is not None:
        return render_nested("cpp/nested.cpp.jinja", kernel, adjoint, Rows())
    return render("cpp/kernel.cpp.jinja", kernel, adjoint, Dialect())


@cache
def cpp_prelude() -> str:
    """The header of vectorisable functions that every kernel's source starts with."""
    return files("seqc.templates").joinpath("cpp/math.h").read_text(encoding="utf-8")
