"""Importing generated modules that live in memory, and pickling what they define.

A module compiled in memory is a submodule of this one, named after the digest of its text, so
that importing its name is enough to get it: from this process, or from the text that the cache
keeps. A class is pickled by that name. A layer and a state take the text along, so that they
revive anywhere, on a machine with an empty cache too.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import linecache
import sys
import types
import warnings
import zlib
from collections.abc import Sequence
from typing import Any

from seqc.runtime.backends import SeqcWarning
from seqc.runtime.layer import Layer
from seqc.runtime.store import text_cache_read, text_cache_write

# With a path, if an empty one, this module can have submodules.
__path__: list[str] = []

_DIGITS = 20
_texts: dict[str, str] = {}  # by digest


def text_digest(text: str) -> str:
    """What a text is known by: in the name of its module, and in the cache."""
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def keep_text(text: str) -> str:
    """Put a module's text into the cache, for other processes; its digest."""
    digest = text_digest(text)
    text_cache_write(f"module {digest}", text)
    return digest


def kept_text(digest: str) -> str | None:
    """The text of a digest, from this process or from the cache."""
    text = _texts.get(digest)
    if text is None:
        text = text_cache_read(f"module {digest}")
        if text is not None and text_digest(text) != digest:
            return None
    return text


def load_module(text: str) -> types.ModuleType:
    """The module of a generated text; the same text gives the same module in a process."""
    digest = text_digest(text)
    _texts[digest] = text
    return importlib.import_module(f"{__name__}.m{digest}")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the submodules of this module, which are texts."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        parent, _, last = fullname.rpartition(".")
        digest = last[1:]
        if parent != __name__ or not last.startswith("m") or len(digest) != _DIGITS:
            return None
        text = kept_text(digest)
        if text is None:
            raise ModuleNotFoundError(
                f"{fullname} was compiled in memory by another process, and its text is not in "
                "the cache (any more): compile the spec here, or ship a module that `seqc build` "
                "writes",
                name=fullname,
            )
        return importlib.machinery.ModuleSpec(fullname, _Loader(digest, text))


class _Loader(importlib.abc.InspectLoader):
    """Runs a text as a module."""

    def __init__(self, digest: str, text: str) -> None:
        self.digest = digest
        self.text = text

    def get_source(self, fullname: str) -> str:
        return self.text

    def is_package(self, fullname: str) -> bool:
        return False

    def exec_module(self, module: types.ModuleType) -> None:
        file = f"<seqc {self.digest}>"
        module.__file__ = file
        # So that tracebacks and inspect show the generated lines.
        lines = [f"{line}\n" for line in self.text.split("\n")]
        linecache.cache[file] = (len(self.text), None, lines, file)
        exec(compile(self.text, file, "exec"), module.__dict__)
        for kind in list(vars(module).values()):
            if isinstance(kind, type) and kind.__module__ == module.__name__:
                _teach_to_pickle(kind)


if not any(type(finder).__name__ == "_Finder" and type(finder).__module__ == __name__
           for finder in sys.meta_path):  # fmt: skip
    sys.meta_path.append(_Finder())


def announce(module: types.ModuleType) -> None:
    """Give the warnings that the compiler left in a module."""
    for message in getattr(module, "WARNINGS", ()):
        warnings.warn(message, SeqcWarning, stacklevel=4)


# --- pickling -----------------------------------------------------------------------------------


def _teach_to_pickle(kind: Any) -> None:
    """Make a class's instances take their module's text along."""
    if issubclass(kind, Layer):
        kind.__reduce_ex__ = _reduce_layer
    elif issubclass(kind, tuple):
        kind.__reduce__ = _reduce_state


def _reduce_layer(layer: Layer, protocol: Any) -> Any:
    kind = type(layer)
    reduced = object.__reduce_ex__(layer, protocol)
    if not kind.__module__.startswith(f"{__name__}."):  # a person's subclass is where they put it
        return reduced
    return (revive, (_packed(kind.__module__), kind.__name__), *reduced[2:])


def _reduce_state(state: tuple[Any, ...]) -> Any:
    kind = type(state)
    if not kind.__module__.startswith(f"{__name__}."):
        return kind, tuple(state)
    return revive_state, (_packed(kind.__module__), kind.__name__, *state)


@functools.lru_cache(maxsize=64)
def _packed(module: str) -> bytes:
    # The same object each time: a pickle holds it once, however many layers and states it has.
    return zlib.compress(_texts[module.rpartition(".m")[2]].encode())


@functools.lru_cache(maxsize=64)
def _unpacked(packed: bytes) -> str:
    text = zlib.decompress(packed).decode()
    if text_digest(text) not in _texts:  # for classes, which are pickled by name
        keep_text(text)
    return text


def revive(packed: bytes, name: str) -> Layer:
    """An empty layer of a class compiled in memory; pickle fills in its attributes."""
    kind: Any = getattr(load_module(_unpacked(packed)), name)
    layer: Layer = kind.__new__(kind)
    return layer


def revive_state(packed: bytes, name: str, *values: Any) -> Any:
    """A state of a class compiled in memory."""
    return getattr(load_module(_unpacked(packed)), name)(*values)
