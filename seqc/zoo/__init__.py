"""The built-in layers, each a spec that cites its paper: ``seqc.zoo.MinGRU(input=64, hidden=128)``.

A layer is compiled when it is first asked for, so importing this costs nothing. ``zoo.gallery``
holds further published cells.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from seqc.zoo.shelf import Shelf

__all__ = ["gallery", "names", "path", "source"]

_SHELF = Shelf(Path(__file__).resolve().parent, "zoo")
names = _SHELF.names
path = _SHELF.path
source = _SHELF.source


def __getattr__(name: str) -> Any:
    if name == "gallery":
        return importlib.import_module("seqc.zoo.gallery")
    return _SHELF.attribute(name, globals(), __name__)


def __dir__() -> list[str]:
    return sorted({*__all__, *names()})
