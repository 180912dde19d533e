"""A generated module that imports nothing of seqc: it carries the runtime's modules as they are.

Their texts stand in the file before the layer's own code, and are found there as submodules of a
package that is named after a digest of them (templates/torch/carried.py.jinja). Files that carry
the same texts share it; any others, and seqc itself, have nothing to do with it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib import resources

from seqc.codegen.statements import wrap
from seqc.codegen.templates import environment

_RUNTIME = "seqc.runtime"
_NOTE = """\

It stands alone: the parts of seqc's runtime that it needs are in it (Apache-2.0, as seqc is),
and seqc need not be installed.\
"""


def make_standalone(module_text: str) -> str:
    """The module with the runtime's texts in it, so that it runs where seqc is not installed.

    The same text gives the same result on every machine. Its kernels are registered in an operator
    namespace of the package's name, so it runs in one process with seqc itself, of whatever
    version, and with other standalone modules.

    Raises:
        ValueError: the module or the runtime imports what cannot be carried.
    """
    imports = list(_imports("the module", module_text))
    if any(node.col_offset for node, _ in imports):
        raise ValueError("the module may import the runtime at its top only")
    texts = {room: _read_room(room) for room in _closure([room for _, room in imports])}
    digest = hashlib.sha256(repr(sorted(texts.items())).encode()).hexdigest()
    package = f"_seqc_{digest[:12]}"
    lines = module_text.split("\n")
    # A generated module imports the runtime last.
    top, rest = lines[: imports[0][0].lineno - 1], lines[imports[-1][0].end_lineno or 0 :]
    end = (ast.parse(module_text).body[0].end_lineno or 1) - 1  # of the docstring
    carried = environment().get_template("torch/carried.py.jinja").render(
        package=package,
        texts={room: _moved(text, package) for room, text in texts.items()},
        imports="\n".join(line for node, room in imports for line in _line(node, package, room)),
    )  # fmt: skip
    return "\n".join([*top[:end], _NOTE, *top[end:], "", carried.rstrip("\n"), *rest])


@cache
def _read_room(room: str) -> str:
    return resources.files(_RUNTIME).joinpath(f"{room}.py").read_text(encoding="utf-8")


def _closure(rooms: list[str]) -> list[str]:
    """The rooms of the runtime, and those that they need."""
    found: set[str] = set()
    while rooms:
        room = rooms.pop()
        if room not in found:
            found.add(room)
            rooms += [other for _, other in _imports(room, _read_room(room))]
    return sorted(found)


def _imports(name: str, text: str) -> Iterator[tuple[ast.ImportFrom, str]]:
    """The imports of the runtime's rooms, each with the room; any other of seqc is refused."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "seqc":
                    raise ValueError(f"{name}: write `from {alias.name} import …`")
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            room = source.removeprefix(f"{_RUNTIME}.")
            if node.level or (source.split(".")[0] == "seqc" and (room == source or "." in room)):
                raise ValueError(f"{name}: only rooms of {_RUNTIME} are carried, not {source!r}")
            if room != source:
                yield node, room


def _moved(text: str, package: str) -> str:
    """A room's text, importing from the package; nothing else of it is touched."""
    if "'''" in text:
        raise ValueError(f"a room of {_RUNTIME} holds ''', which ends the text that carries it")
    lines = text.split("\n")
    for node, _ in _imports("a room", text):
        at = node.lineno - 1
        lines[at] = lines[at].replace(f"from {_RUNTIME}.", f"from {package}.", 1)
    return "\n".join(lines)


def _line(node: ast.ImportFrom, package: str, room: str) -> list[str]:
    names = ", ".join(f"{a.name} as {a.asname}" if a.asname else a.name for a in node.names)
    return wrap(f"from {package}.{room} import {names}", 96)
