"""Importing generated modules that live in memory, and reviving their layers from a pickle."""

from __future__ import annotations

import hashlib
import linecache
import sys
import types
import warnings
from typing import Any

from seqc.runtime.layer import Layer, SeqcWarning

_PREFIX = "seqc_compiled_"


def load_module(text: str) -> types.ModuleType:
    """The module of a generated text; the same text gives the same module in a process."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:20]
    name = _PREFIX + digest
    module = sys.modules.get(name)
    if module is not None:
        return module
    file = f"<seqc {digest}>"
    module = types.ModuleType(name)
    module.__file__ = file
    module.__dict__["__seqc_text__"] = text
    # So that tracebacks and inspect show the generated lines.
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    sys.modules[name] = module
    try:
        exec(compile(text, file, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def announce(module: types.ModuleType) -> None:
    """Give the warnings that the compiler left in a module."""
    for message in getattr(module, "WARNINGS", ()):
        warnings.warn(message, SeqcWarning, stacklevel=4)


def revive(text: str, name: str) -> Layer:
    """An empty layer of a class compiled in memory; pickle fills in its state."""
    kind: Any = getattr(load_module(text), name)
    layer: Layer = kind.__new__(kind)
    return layer
