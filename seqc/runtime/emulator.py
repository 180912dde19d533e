"""CUDA kernels on a machine without a GPU: the emitted source, unchanged, on the CPU.

For checking, not for use: every CUDA thread is a fiber, scheduled in an order drawn from a seed
(``templates/cuda/emulator.h`` says what is watched).  Its arithmetic is the CPU's: no FMA
contraction, another exp.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Any

import torch

from seqc.runtime.build import build_library
from seqc.runtime.cuda import CudaKernel

#: What the emulated device holds at once: few, so that small shapes use both schedules.
RESIDENT_THREADS = 256
_FLAGS = ("-std=c++17", "-O1", "-shared", "-fPIC", "-ffp-contract=off", "-w")


class EmulatorError(RuntimeError):
    """A kernel did what it must not: a race, a deadlock, a stray index."""


@cache
def emulator_header() -> str:
    """The CUDA that kernels use, as C++."""
    folder = files("seqc.templates").joinpath("cuda")
    parts = ("emulator.h", "emulator_memory.h")
    return "\n".join(folder.joinpath(p).read_text(encoding="utf-8") for p in parts)


def emulated_library(source: str, name: str, macros: tuple[str, ...]) -> ctypes.CDLL:
    """CUDA source as a shared library that emulates its launches; built once."""
    text = f"{emulator_header()}\n#line 1\n{source}"
    return build_library(text, name=name, defines=macros, flags=_FLAGS)


def emulate_launch(
    library: ctypes.CDLL, function: str, blocks: int, threads: int, words: bytes, seed: int
) -> None:
    """Run a grid of blocks to its end.

    Raises:
        EmulatorError: what a thread did, or that none can go on.
    """
    entry = getattr(library, f"seqc_launch_{function}")
    entry.restype = ctypes.c_char_p
    packed = (ctypes.c_uint64 * (len(words) // 8)).from_buffer_copy(words)
    said = entry(blocks, 1, threads, packed, len(packed), ctypes.c_uint64(seed))
    if said:
        raise EmulatorError(f"{function}: {said.decode()}")


class EmulatedKernel(CudaKernel):
    """A CUDA kernel whose launches run on the CPU, on tensors of the CPU."""

    def __init__(self, name: str, source: str, seed: int = 0) -> None:
        super().__init__(name, source)
        self.seed = seed
        self.launched: list[str] = []

    def resident_threads(self, device: torch.device) -> int:
        return RESIDENT_THREADS

    def launch(
        self, function: str, macros: tuple[str, ...], device: torch.device, blocks: int,
        threads: int, words: bytes,
    ) -> None:  # fmt: skip
        library = emulated_library(self.source, self.name, macros)
        self.seed += 1
        struct = next(m.partition("=")[2] for m in macros if m.startswith("SEQC_KERNEL="))
        self.launched.append(f"{function.removeprefix('seqc_')}_{struct.lower()}")
        emulate_launch(library, function, blocks, threads, words, self.seed)

    def scratch(self, entries: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Memory in which nothing that was not written looks right."""
        made = torch.empty(entries, dtype=dtype, device=device)
        return made.fill_(torch.nan if dtype.is_floating_point else 255)


@contextmanager
def emulating(layer: Any, seed: int = 0) -> Iterator[list[EmulatedKernel]]:
    """Send the CPU calls of a layer, and of all layers of its class, through its CUDA kernels.

    Yields those; their tangents (``kernel.tangent``) are emulated too.
    """
    module = sys.modules[(layer if isinstance(layer, type) else type(layer)).__module__]
    kernels = [k for k in vars(module).values() if type(k).__name__ == "FusedKernel"]
    own = sum("cuda" in k.targets for k in kernels)
    kernels += [k.tangent for k in kernels if k.tangent is not None]
    kernels = [k for k in kernels if "cuda" in k.targets]
    before = [k.targets["cpu"] for k in kernels]
    emulated = [EmulatedKernel(k.spec.name, k.targets["cuda"].source, seed) for k in kernels]
    for k, e in zip(kernels, emulated, strict=True):
        k.targets["cpu"] = e
    try:
        yield emulated[:own]
    finally:
        for k, b in zip(kernels, before, strict=True):
            k.targets["cpu"] = b
