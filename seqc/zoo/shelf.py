"""A folder of specs as a module: the layers in it by name, each compiled when first asked for."""

from __future__ import annotations

import difflib
import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.nn import Module

_LAYER = re.compile(r"^layer[ \t]+([A-Za-z_]\w*)", re.MULTILINE)


class Shelf:
    """The specs of a folder; ``title`` is what an error calls it."""

    def __init__(self, folder: Path, title: str) -> None:
        self.folder = folder
        self.title = title

    @functools.cached_property
    def index(self) -> dict[str, Path]:
        """Layer -> its file, by a scan of the text: nothing is parsed."""
        return {
            name: file
            for file in sorted(self.folder.glob("*.seq"))
            for name in _LAYER.findall(file.read_text(encoding="utf-8"))
        }

    def names(self) -> tuple[str, ...]:
        """The layers, file by file, in the order in which they stand."""
        return tuple(self.index)

    def path(self, name: str) -> Path:
        """The ``.seq`` file that holds the layer; it may hold others too.

        Raises:
            KeyError: there is no such layer; the text says which it may have been.
        """
        found = self.index.get(name)
        if found is None:
            raise KeyError(self._unknown(name))
        return found

    def source(self, name: str) -> str:
        """The text of ``path(name)``, its citation and its notes included."""
        return self.path(name).read_text(encoding="utf-8")

    def attribute(self, name: str, module: dict[str, Any], called: str) -> type[Module]:
        """What a module's ``__getattr__`` gives: the layer's class, kept in the module.

        Raises:
            AttributeError: there is no such layer; the text says which it may have been.
        """
        # Private names are asked for by tools (copy, inspect, doctest), never by people.
        if name.startswith("_"):
            raise AttributeError(f"module {called!r} has no attribute {name!r}")
        if name not in self.index:
            raise AttributeError(self._unknown(name))
        import seqc

        layer: type[Module] = seqc.compile(self.path(name), layer=name)
        # Two threads may have compiled it: one class wins, so that isinstance holds.
        kept: type[Module] = module.setdefault(name, layer)
        return kept

    def _unknown(self, name: str) -> str:
        close = difflib.get_close_matches(name, self.names(), n=1, cutoff=0.5)
        if not close:  # "mingru" is far from "MinGRU" to difflib
            close = [n for n in self.names() if n.lower() == name.lower()]
        if close:
            return f"the {self.title} has no layer {name!r}: did you mean {close[0]!r}?"
        return f"the {self.title} has no layer {name!r}; it has {', '.join(self.names())}"
