"""Which backend a call runs on, and the warning given once where it is not the one hoped for."""

from __future__ import annotations

import warnings
from typing import Any

from seqc.runtime.build import find_compiler
from seqc.runtime.environment import read_environment

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


def choose_backend(wish: str, device: str, layer: str, parallel: bool) -> str:
    """``cpp`` or ``reference`` for a call on a device.

    ``wish`` is the layer's backend; ``auto`` (or SEQC_BACKEND in its stead) falls
    back to ``reference``, with one warning where something could be done about it.

    Raises:
        RuntimeError: ``cpp`` is asked for, and the layer has no parallel form or there is no
            compiler.
        ValueError: ``cpp`` is asked for on another device than the CPU.
    """
    if wish == "auto":
        wish = read_environment().backend
    if wish == "reference":
        return wish
    if not parallel:
        if wish == "cpp":
            raise RuntimeError(
                f"{layer} has no parallel form, so it runs step by step on the reference backend "
                "alone (see seqc explain)"
            )
        return "reference"
    if device != "cpu":
        if wish == "cpp":
            raise ValueError(f"backend 'cpp' runs on the CPU, but the input is on {device}")
        warn_once(
            f"there are no fused kernels for {device} yet: {layer} runs step by step on the "
            "reference backend there"
        )
        return "reference"
    if find_compiler() is None:
        message = (
            "no C++ compiler was found (looked at $SEQC_CXX, $CXX, c++, g++, clang++); "
            "install one, e.g. apt install g++ or xcode-select --install"
        )
        if wish == "cpp":
            raise RuntimeError(message)
        warn_once(message + f"; {layer} runs on the reference backend")
        return "reference"
    return "cpp"
