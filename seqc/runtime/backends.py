"""Which backend a call runs on, and the warning given once where it is not the one hoped for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from seqc.runtime.build import find_compiler
from seqc.runtime.environment import FUSED, wished_backend
from seqc.runtime.nvrtc import find_cuda

_WARNED: set[str] = set()


class SeqcWarning(UserWarning):
    """What seqc warns of when it compiles or runs a layer."""


def warn_once(message: str) -> None:
    """Warn the first time in this process that something is said."""
    if message not in _WARNED:
        _WARNED.add(message)
        warnings.warn(message, SeqcWarning, stacklevel=5)


def constant_to_dynamo(function: Any) -> Any:
    """What torch.compiler.assume_constant_result does, without the second of importing dynamo."""
    function._dynamo_marked_constant = True
    return function


def choose_backend(
    wish: str, device: str, index: int | None, layer: str, parallel: bool, kernels: bool = True,
    loaded: bool = False, have: Callable[[], bool] = lambda: False,
) -> str:  # fmt: skip
    """``cpp``, ``cuda`` or ``reference`` for a call on a device of a type, and its index.

    ``kernels``: whether the layer has any; one that runs in torch alone does so on any device,
    by the name ``torch`` where that has no kernels.

    ``wish`` is the layer's backend; ``auto`` (or SEQC_BACKEND in its stead) falls
    back to ``reference``, with one warning where something could be done about it.
    ``loaded``: the layer's C++ kernels are, so nothing need be looked for; ``have``:
    whether they are compiled already, asked where there is no compiler.

    Raises:
        RuntimeError: ``cpp`` or ``cuda`` is asked for, and the layer has no parallel form, or what
            compiles the kernel is not installed, or does not do so for the device.
        ValueError: ``cpp`` or ``cuda`` is asked for, and the input is on another device.
    """
    if wish == "auto":
        wish = wished_backend()
    if wish == "reference":
        return wish
    if not parallel:
        if wish != "auto":
            raise RuntimeError(
                f"{layer} has no parallel form, so it runs step by step on the reference backend "
                "alone (see seqc explain)"
            )
        return "reference"
    fused = FUSED.get(device)
    if wish != "auto" and wish != fused:
        runs_on = next(d for d, backend in FUSED.items() if backend == wish)
        place = "the CPU" if runs_on == "cpu" else f"a {runs_on.upper()} device"
        raise ValueError(f"backend {wish!r} runs on {place}, but the input is on {device}")
    if not kernels:  # a plan of maps and loops in torch: nothing to compile, and any device will do
        return fused or "torch"
    if fused is None:
        warn_once(
            f"there are no fused kernels for {device}: {layer} runs step by step on the "
            "reference backend there"
        )
        return "reference"
    if fused == "cpp" and loaded:
        return fused
    missing = _missing_compiler(have) if fused == "cpp" else find_cuda(index or 0)
    if not missing:
        return fused
    if wish != "auto":
        raise RuntimeError(missing)
    warn_once(f"{missing}; {layer} runs on the reference backend")
    return "reference"


def _missing_compiler(have: Callable[[], bool]) -> str:
    """Why there can be no C++ kernels here, or nothing."""
    if find_compiler() is not None or have():
        return ""
    return (
        "no C++ compiler was found (looked at $SEQC_CXX, $CXX, c++, g++, clang++), "
        "nor are this layer's kernels in the cache; "
        "install one, e.g. apt install g++ or xcode-select --install"
    )
