"""Published cells, each a spec that cites its paper: ``zoo.gallery.NAS(input=64, hidden=128)``.

Those of torchrecurrent, with its defaults and the layouts of its weights, and some more; a layer
here may be a variant of one in the zoo. docs/gallery.md has the table. On a command line one is
`gallery.NAS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from seqc.zoo.shelf import Shelf

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["names", "path", "source"]

_SHELF = Shelf(Path(__file__).resolve().parent, "gallery")
names = _SHELF.names
path = _SHELF.path
source = _SHELF.source


def __getattr__(name: str) -> type[Module]:
    return _SHELF.attribute(name, globals(), __name__)


def __dir__() -> list[str]:
    return sorted({*__all__, *names()})
