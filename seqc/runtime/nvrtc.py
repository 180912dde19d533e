"""CUDA source text to a cubin, by NVRTC through CuPy, kept on disk and loaded once a device.

Not ``cupy.RawModule``: it adds ``-ftz=true`` after the caller's own flags, which flushes
subnormal numbers, and compiles for nothing but the GPU at hand.  A cubin, not PTX: newer PTX does
not load on an older driver.  CuPy is imported when the first kernel is asked for; compiling works
on a machine without a GPU, loading does not.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seqc.runtime.store import text_cache_read, text_cache_write

#: Full accuracy: no fast math, no flushing of subnormal numbers (both NVRTC's defaults, spelled
#: out).  Everything that is not marked is a device function; the log says registers and spills.
FLAGS = (
    "-std=c++17",
    "-default-device",
    "--fmad=true",
    "--ftz=false",
    "--prec-div=true",
    "--prec-sqrt=true",
    "--ptxas-options=-v",
)
_INSTALL = 'pip install "seqc[cuda13]" (or "seqc[cuda12]", after your driver)'

_loading = threading.Lock()
_functions: dict[tuple[str, int, str], Any] = {}
_modules: dict[tuple[str, int], Any] = {}


class CudaBuildError(RuntimeError):
    """NVRTC refused a kernel, or the device cannot run it; ``log`` holds all that was said."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


@dataclass(frozen=True)
class Cubin:
    """A compiled kernel's image, and what ptxas said of it."""

    image: bytes
    log: str


@dataclass(frozen=True)
class Usage:
    """What a kernel takes of a thread: registers, and bytes of local memory."""

    registers: int
    spill_stores: int
    spill_loads: int
    stack: int


@functools.lru_cache(maxsize=1)
def find_cupy() -> str:
    """Nothing where CUDA kernels can be compiled; else the reason, with the line to run."""
    try:
        from cupy.cuda import nvrtc
    except ImportError as error:
        if error.name and error.name.split(".")[0] == "cupy":
            return f"CUDA kernels need CuPy, which is not installed: {_INSTALL}"
        return f"CuPy cannot be imported ({error}): {_INSTALL}"
    try:
        nvrtc.getVersion()
    except Exception as error:
        return f"CuPy finds no NVRTC, which compiles CUDA kernels ({error}): {_INSTALL}"
    return ""


_PROBE = """
extern "C" __global__ void probe(long long* out) { *out = 1; }
"""


@functools.lru_cache(maxsize=64)
def find_cuda(index: int) -> str:
    """Nothing where kernels can be built for a device and loaded there; else the reason.

    What cannot be known without trying: a driver older than CuPy's CUDA, a GPU that NVRTC no
    longer knows, or does not know yet.
    """
    missing = find_cupy()
    if missing:
        return missing
    try:
        import torch

        with torch.cuda.device(index):
            torch.cuda.current_stream().synchronize()  # there is a context now
            load_function(_PROBE, name="probe", function="probe", device=index)
    except CudaBuildError as error:
        text = str(error)
        return text if "pip install" in text else f"{text} ({_INSTALL})"
    except Exception as error:
        return (
            f"CUDA kernels cannot be loaded on device {index} ({error}): the driver may be older "
            f"than the CUDA that CuPy was built for; update it, or {_INSTALL}"
        )
    return ""


def compile_cubin(source: str, *, name: str, arch: int, defines: Sequence[str] = ()) -> Cubin:
    """Compile for compute capability ``arch`` (90 is 9.0), or take the result from the cache.

    Raises:
        CudaBuildError: there is no NVRTC, it does not know ``arch``, or it refuses the source.
    """
    missing = find_cupy()
    if missing:
        raise CudaBuildError(missing)
    from cupy.cuda import nvrtc

    flags = (f"-arch=sm_{arch}", *FLAGS, *(f"-D{d}" for d in defines))
    text = "\0".join(("cubin", source, *flags, str(nvrtc.getVersion())))
    key = hashlib.sha256(text.encode()).hexdigest()
    kept = text_cache_read(key)
    if kept is not None:
        record = json.loads(kept)
        return Cubin(base64.b64decode(record["image"]), record["log"])
    made = _compile(source, name, arch, flags)
    record = {"image": base64.b64encode(made.image).decode(), "log": made.log}
    text_cache_write(key, json.dumps(record))
    return made


def _compile(source: str, name: str, arch: int, flags: Sequence[str]) -> Cubin:
    from cupy.cuda import nvrtc

    program = nvrtc.createProgram(source, f"{name}.cu", (), ())
    try:
        try:
            nvrtc.compileProgram(program, tuple(flags))
        except nvrtc.NVRTCError as error:
            log = nvrtc.getProgramLog(program)
            if "invalid value for --gpu-architecture" in log or "gpu-architecture" in str(error):
                version = ".".join(map(str, nvrtc.getVersion()))
                raise CudaBuildError(
                    f"NVRTC {version} does not know sm_{arch}: install another ({_INSTALL})", log
                ) from None
            raise CudaBuildError(
                f"NVRTC refuses kernel {name} for sm_{arch} ({error}):\n{log.strip()[:4000]}", log
            ) from None
        return Cubin(nvrtc.getCUBIN(program), nvrtc.getProgramLog(program))
    finally:
        nvrtc.destroyProgram(program)


_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")


def usage(log: str) -> dict[str, Usage]:
    """What each kernel takes, by name, from the log of a compilation."""
    found: dict[str, Usage] = {}
    name, stack = "", (0, 0, 0)
    for line in log.splitlines():
        if entry := _ENTRY.search(line):
            name = entry[1]
        elif frame := _STACK.search(line):
            stack = (int(frame[1]), int(frame[2]), int(frame[3]))
        elif (registers := _REGISTERS.search(line)) and name:
            found[name] = Usage(int(registers[1]), stack[1], stack[2], stack[0])
    return found


def load_function(
    source: str, *, name: str, function: str, device: int, defines: Sequence[str] = ()
) -> Any:
    """A function of the kernel, loaded on a device, which must be the current one.

    Raises:
        CudaBuildError: it cannot be compiled for the device, or the driver does not load it.
    """
    digest = hashlib.sha256("\0".join((source, *defines)).encode()).hexdigest()
    found = _functions.get((digest, device, function))
    if found is not None:
        return found
    from cupy.cuda import Device, driver
    from cupy.cuda import function as cupy_function

    with _loading:
        module = _modules.get((digest, device))
        if module is None:
            arch = int(Device(device).compute_capability)
            cubin = compile_cubin(source, name=name, arch=arch, defines=defines)
            module = cupy_function.Module()
            try:
                module.load(cubin.image)
            except driver.CUDADriverError as error:
                raise CudaBuildError(
                    f"the driver does not load kernel {name} for sm_{arch} ({error}); it may be "
                    "older than the CUDA that CuPy was built for: update it, or install "
                    '"seqc[cuda12]"'
                ) from error
            _modules[digest, device] = module
        found = _functions[digest, device, function] = module.get_function(function)
    return found
