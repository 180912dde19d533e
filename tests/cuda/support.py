"""Generated CUDA kernels on a CPU: the emitted source, unchanged, under the emulator."""

from __future__ import annotations

import ctypes
import hashlib
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from seqc.runtime.cuda import THREADS, CudaKernel
from seqc.runtime.tables import STORAGE

EMULATOR = Path(__file__).with_name("emulator.h")
#: What the emulated device holds at once: few, so that small tests split time into chunks too.
RESIDENT_THREADS = 1024


@cache
def library(source: str, storage: str, state: str, folder: str) -> Any:
    """The source as a shared library that emulates its launches."""
    header = EMULATOR.read_text(encoding="utf-8")
    key = hashlib.sha256("\0".join((source, header, storage, state)).encode()).hexdigest()[:24]
    built = Path(folder) / f"{key}.so"
    if not built.exists():
        text = Path(folder) / f"{key}-{os.getpid()}.cu"
        text.write_text(source, encoding="utf-8")
        part = text.with_suffix(".so")
        command = [
            "g++", "-std=c++17", "-O1", "-shared", "-fPIC", "-ffp-contract=off", "-w",
            "-include", str(EMULATOR), "-x", "c++", str(text), "-o", str(part),
            f"-DSEQC_STORAGE={storage}", f"-DSEQC_STATE={state}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:4000]
        part.replace(built)
    return ctypes.CDLL(str(built))


class EmulatedKernel(CudaKernel):
    """A CUDA kernel whose launches run on the CPU, on tensors of the CPU."""

    def __init__(self, name: str, source: str, folder: Path, seed: int = 0) -> None:
        super().__init__(name, source)
        self.folder = folder
        self.seed = seed
        self.launched: list[tuple[str, tuple[int, int]]] = []
        self.owner: Any = None
        self.before: Any = None

    def resident_threads(self, device: torch.device) -> int:
        return RESIDENT_THREADS

    def launch(
        self, function: str, dtype: torch.dtype, device: torch.device, grid: tuple[int, int],
        arguments: Sequence[int | float],
    ) -> None:  # fmt: skip
        so = library(self.source, *STORAGE[dtype], str(self.folder))
        words = [
            struct.unpack("<Q", struct.pack("<d" if isinstance(a, float) else "<q", a))[0]
            for a in arguments
        ]
        packed = (ctypes.c_uint64 * len(words))(*words)
        self.seed += 1
        self.launched.append((function, grid))
        wanted = getattr(so, f"seqc_launch_{function}")(
            *grid, THREADS, packed, len(words), ctypes.c_uint64(self.seed)
        )
        assert wanted == 0, f"{function} has {wanted} parameters, and was given {len(words)}"


def emulate(layer: Any, folder: Path) -> list[EmulatedKernel]:
    """Send a layer's CPU calls through the emulated CUDA kernels; gives them back."""
    module = sys.modules[type(layer).__module__]
    kernels = [k for k in vars(module).values() if type(k).__name__ == "FusedKernel"]
    emulated = []
    for kernel in kernels:
        found = EmulatedKernel(kernel.spec.name, kernel.targets["cuda"].source, folder)
        found.owner, found.before = kernel, kernel.targets["cpu"]
        kernel.targets["cpu"] = found
        emulated.append(found)
    return emulated


def restore(kernels: Sequence[EmulatedKernel]) -> None:
    """Undo ``emulate``: kernels are shared by all layers of a class."""
    for k in kernels:
        k.owner.targets["cpu"] = k.before
