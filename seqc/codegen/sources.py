"""A kernel's source: the headers that every kernel has, its structs, and the entry points."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from importlib.resources import files

from seqc.codegen.kernel import print_kernel
from seqc.codegen.stepping import print_stepped
from seqc.ir.plan import KernelStage

_HEADERS = {
    "CPP": (
        "cpp/math.h", "kernel/signature.h", "cpp/tensors.h", "cpp/lanes.h", "cpp/march.h",
        "cpp/schedule.h",
    ),
    "CUDA": (
        "cuda/math.cuh", "kernel/signature.h", "cuda/tensors.cuh", "cuda/cell.cuh",
        "cuda/step.cuh", "cuda/tiles.cuh", "cuda/march.cuh", "cuda/inner.cuh",
        "cuda/stretches.cuh", "cuda/scan.cuh",
    ),
}  # fmt: skip
_ENTRIES = {"CPP": ("cpp/entries.h",), "CUDA": ("cuda/entries.cuh",)}
#: What its kernels are called where a module says what its texts are.
TITLES = {"CPP": "C++", "CUDA": "CUDA"}
TARGETS = tuple(_HEADERS)


@cache
def headers(target: str) -> str:
    """What the source of every kernel starts with: functions and schedules."""
    return _joined(_HEADERS[target])


@cache
def entries(target: str) -> str:
    """What it ends with: the entry points."""
    return _joined(_ENTRIES[target])


#: The texts that a module with kernels holds once.
PRELUDES: dict[str, Callable[[], str]] = {
    f"{target}_{name}": partial(text, target)
    for target in TARGETS
    for name, text in (("HEADERS", headers), ("ENTRIES", entries))
}
#: Those that a module with kernels that step holds besides.
STEPPING: dict[str, Callable[[], str]] = {
    "CPP_STEPPING": lambda: _joined(("cpp/stepping.h",)),
    "CPP_STEPPING_ENTRIES": lambda: _joined(("cpp/stepping_entries.h",)),
}


def source_texts(stage: KernelStage, source: str) -> dict[str, str]:
    """The source of a kernel for each target that has it, as a sum of texts in Python."""
    if stage.kernel.stepped:
        return {"cpp": f"CPP_HEADERS + CPP_STEPPING + {source} + CPP_STEPPING_ENTRIES"}
    return {t.lower(): f"{t}_HEADERS + {source} + {t}_ENTRIES" for t in TARGETS}


def print_kernels(stage: KernelStage) -> str:
    """The structs of a kernel and of its adjoint, the same text for all targets."""
    forward, backward = structs(stage)
    # Nameless: a process holds many kernels, whose tables must not be taken for one another's.
    head, tail = "namespace seqc {\nnamespace {\n\n", "\n}  // namespace\n}  // namespace seqc\n"
    return f"{head}{forward}\n{backward}{tail}"


def structs(stage: KernelStage) -> tuple[str, str]:
    """The struct of a kernel, and that of its adjoint."""
    printed = print_stepped if stage.kernel.stepped else print_kernel
    return printed(stage.forward, "Forward"), printed(stage.backward, "Backward", stage.forward)


def _joined(names: tuple[str, ...]) -> str:
    folder = files("seqc.templates")
    return "\n".join(folder.joinpath(n).read_text(encoding="utf-8") for n in names)
