"""The built-in layers, each a spec that cites its paper: ``seqc.zoo.MinGRU(input=64, hidden=128)``.

A layer is compiled when it is first asked for, so importing this costs nothing.
"""

from __future__ import annotations

import difflib
import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["names", "path", "source"]

_FOLDER = Path(__file__).resolve().parent
_LAYER = re.compile(r"^layer[ \t]+([A-Za-z_]\w*)", re.MULTILINE)


@functools.lru_cache(maxsize=1)
def _index() -> dict[str, Path]:
    """Layer -> its file, by a scan of the text: nothing is parsed."""
    return {
        name: file
        for file in sorted(_FOLDER.glob("*.seq"))
        for name in _LAYER.findall(file.read_text(encoding="utf-8"))
    }


def names() -> tuple[str, ...]:
    """The layers of the zoo, file by file, in the order in which they stand."""
    return tuple(_index())


def path(name: str) -> Path:
    """The ``.seq`` file that holds the layer; it may hold others too.

    Raises:
        KeyError: the zoo has no such layer; the text says which it may have been.
    """
    found = _index().get(name)
    if found is None:
        raise KeyError(_unknown(name))
    return found


def source(name: str) -> str:
    """The text of ``path(name)``, its citation and its notes included."""
    return path(name).read_text(encoding="utf-8")


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
    if not close:  # "mingru" is far from "MinGRU" to difflib
        close = [n for n in names() if n.lower() == name.lower()]
    if close:
        return f"the zoo has no layer {name!r}: did you mean {close[0]!r}?"
    return f"the zoo has no layer {name!r}; it has {', '.join(names())}"


def __getattr__(name: str) -> type[Module]:
    # Private names are asked for by tools (copy, inspect, doctest), never by people.
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _index():
        raise AttributeError(_unknown(name))
    import seqc

    layer: type[Module] = seqc.compile(path(name), layer=name)
    # Two threads may have compiled it: one class wins, so that isinstance holds.
    kept: type[Module] = globals().setdefault(name, layer)
    return kept


def __dir__() -> list[str]:
    return sorted({*__all__, *names()})
