"""seqc: a compiler for recurrences.

Write a recurrent layer's equations in a ``.seq`` file; get a PyTorch layer with
fused kernels, proved to be a scan and exact in its gradients::

    import seqc
    MinGRU = seqc.compile("mingru.seq")
    layer = MinGRU(input=64, hidden=128)
    y, state = layer(x)                      # x: (B, T, 64)

Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqc import zoo
    from seqc.diagnostics import SeqcError
    from seqc.ir.report import Report
    from seqc.runtime.backends import SeqcWarning
    from seqc.runtime.layer import Layer

__all__ = ["SeqcError", "SeqcWarning", "build", "check", "compile", "emit", "zoo"]

Spec = str | os.PathLike[str]


def compile(
    spec: Spec,
    *,
    layer: str | None = None,
    backend: str = "auto",
    solve: str | None = None,
    gradient: str | None = None,
) -> type[Layer]:
    """Compile a spec to a ``torch.nn.Module`` class.

    ``spec`` is a path to a ``.seq`` file or the text itself; ``layer`` names one
    of several layers; ``backend`` is what built layers use unless told
    otherwise: ``auto``, ``reference`` or ``cpp``.  ``solve`` and ``gradient`` are what
    would stand after these words in a spec, and take the place of what stands there:
    ``solve="newton(tolerance = 1e-6)"``, ``gradient="stationary(0, 1)"``.  The result is
    cached on disk.

    Raises ``SeqcError`` for a spec that is refused, with every error in it.
    """
    from seqc.passes import compile_spec

    return compile_spec(spec, layer=layer, backend=backend, solve=solve, gradient=gradient)


def check(spec: Spec) -> Report:
    """Structure, proofs, derived forms and diagnostics of a spec; compiles no kernel.

    ``report["MinGRU"].strata[0]`` has ``states, algebra, verdict, method,
    jacobian, domain, coefficient_range`` and the derived forms.
    """
    from seqc.passes import check as run

    return run(spec)


def emit(spec: Spec, *, target: str, layer: str | None = None) -> str:
    """A stage of the compilation as text: torch, reference, cpp, kernel or recurrence."""
    from seqc.passes import emit as run

    return run(spec, target=target, layer=layer)


def build(
    spec: Spec,
    *,
    layer: str | None = None,
    standalone: bool = False,
    kernels: Spec | None = None,
    tangents: bool = False,
) -> str:
    """The text of one Python module with the spec's layers (``standalone``: without seqc).

    ``kernels`` names a folder that C++ kernels are compiled into, for this machine's kind of CPU,
    in float32, float64, bfloat16 and float16.  The module looks for it beside its own file, under
    its own name: ``gru.py`` for ``gru_kernels``.  On another kind of CPU it warns once, and runs
    as it would without them.  With ``tangents`` those go along which forward mode and second
    derivatives run on: without them, and without a compiler, these run as plain PyTorch.
    """
    from seqc.passes import build as run

    return run(spec, layer=layer, standalone=standalone, kernels=kernels, tangents=tangents)


def __getattr__(name: str) -> Any:
    if name == "SeqcError":
        from seqc.diagnostics import SeqcError

        return SeqcError
    if name == "SeqcWarning":
        from seqc.runtime.backends import SeqcWarning

        return SeqcWarning
    if name == "zoo":
        import importlib

        return importlib.import_module("seqc.zoo")
    if name == "__version__":
        from seqc.version import VERSION

        return VERSION
    raise AttributeError(f"module 'seqc' has no attribute {name!r}")
