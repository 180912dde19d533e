"""A generated module that imports nothing of seqc: the runtime's own text stands in front of it.

This is a small linker. The parts are the rooms of ``seqc.runtime`` that the module imports, one
before the other, and the module itself, which keeps every name. A room's name that is taken
already is given another, in the room and wherever it is imported from there.
"""

from __future__ import annotations

import ast
import hashlib
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import NamedTuple

_RUNTIME = "seqc.runtime"
_WIDTH = 100
_NOTE = """\
It stands alone: the parts of seqc's runtime that it needs are in it (Apache-2.0, as seqc is),
and seqc need not be installed.
"""
_NAMESPACE = re.compile(r'^(NAMESPACE) = "seqc"$', re.MULTILINE)


class _Import(NamedTuple):
    """What an import binds: ``import module`` where ``name`` is empty, else ``from module``."""

    module: str
    name: str


@dataclass
class _Part:
    """A room of the runtime, or the generated module, taken apart."""

    room: str
    head: str = ""
    doc: str = ""
    body: str = ""
    defined: list[str] = field(default_factory=list)
    imports: dict[str, set[_Import]] = field(default_factory=dict)  # by the name that is bound
    links: dict[str, tuple[str, str]] = field(default_factory=dict)  # to (room, name there)
    needs: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)  # rooms that only annotations need


def make_standalone(module_text: str) -> str:
    """The module with the runtime's text in front, so that it runs where seqc is not installed.

    The same text gives the same result on every machine. Its kernels are registered in an operator
    namespace of the runtime's text, so it runs in one process with seqc itself, of whatever
    version, and with other standalone modules.

    Raises:
        ValueError: the runtime holds what this cannot link; the text says where.
    """
    module = _take_apart("", module_text)
    rooms = _rooms(module)
    final = _settle(module, rooms)
    bodies = [_renamed(part, final[part.room]) for part in (*rooms, module)]
    runtime = "\n".join(bodies[:-1])
    namespace = f"seqc_{hashlib.sha256(runtime.encode()).hexdigest()[:12]}"
    sections = [module.head, "from __future__ import annotations"]
    code = "\n".join(bodies)
    sections.append(_import_block((*rooms, module), final, _names_read(code)))
    for part, body in zip(rooms, bodies, strict=False):
        if part.room == "kernels":
            body, count = _NAMESPACE.subn(rf'\1 = "{namespace}"', body)
            if count != 1:
                raise ValueError('seqc.runtime.kernels must have one line NAMESPACE = "seqc"')
        sections.append(f"{_section_head(part)}\n\n{body}")
    sections.append(bodies[-1])
    # One blank line, not two, between imports and a comment: so have it isort and its kind.
    top = "\n\n".join(s for s in sections[:4] if s)
    text = "\n\n\n".join([top, *sections[4:]]) + "\n"
    _check(text)
    return text


# --- taking apart -------------------------------------------------------------------------------


def _rooms(module: _Part) -> list[_Part]:
    """The rooms that a module needs, each after those that it imports itself."""
    parts: dict[str, _Part] = {}
    ordered: list[_Part] = []

    def visit(room: str, path: tuple[str, ...]) -> None:
        if room in path:
            raise ValueError(f"rooms import one another: {' -> '.join((*path, room))}")
        if room in parts:
            return
        part = parts[room] = _read_room(room)
        for other in part.needs:
            visit(other, (*path, room))
        ordered.append(part)

    for room in module.needs:
        visit(room, ())
    for part in list(ordered):
        for room in part.types:
            visit(room, ())
    return ordered


@cache
def _read_room(room: str) -> _Part:
    file = resources.files(_RUNTIME).joinpath(f"{room}.py")
    return _take_apart(room, file.read_text(encoding="utf-8"))


def _take_apart(room: str, text: str) -> _Part:
    """Split a text into its docstring, what it imports, and the rest."""
    part = _Part(room)
    tree = ast.parse(text)
    lines = text.split("\n")
    cuts: list[tuple[int, int]] = []
    part.doc = ast.get_docstring(tree) or ""
    first = next((n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))), None)
    if not room:  # the head of a generated module holds its spec: it stays at the top
        end = first.lineno - 1 if first is not None else 0
        doc_end = (tree.body[0].end_lineno or 1) - 1 if part.doc else 0
        head = lines[:doc_end] + ["", *_NOTE.rstrip().split("\n")] + lines[doc_end:end]
        part.head = "\n".join(head if part.doc else lines[:end]).strip("\n")
        cuts.append((1, end))
    for node in tree.body:
        last = node.end_lineno or node.lineno
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            _take_import(part, node, typing_only=False)
            cuts.append((node.lineno, last))
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for inner in node.body:
                if node.orelse or not isinstance(inner, (ast.Import, ast.ImportFrom)):
                    raise ValueError(f"{room}: `if TYPE_CHECKING:` may hold imports only")
                _take_import(part, inner, typing_only=True)
            cuts.append((node.lineno, last))
        elif node is tree.body[0] and part.doc:
            cuts.append((node.lineno, last))
    part.body = _without(lines, cuts)
    part.defined = list(dict.fromkeys(_defined(tree.body)))
    return part


def _without(lines: list[str], cuts: list[tuple[int, int]]) -> str:
    """The lines that no cut covers (from 1, both ends included), two blank ones where many were."""
    gone = {number for start, end in cuts for number in range(start, end + 1)}
    kept = [line for number, line in enumerate(lines, 1) if number not in gone]
    return "\n".join(kept).strip("\n")


def _take_import(part: _Part, node: ast.Import | ast.ImportFrom, *, typing_only: bool) -> None:
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.split(".")[0] == "seqc":
                raise ValueError(f"{part.room}: write `from {alias.name} import …`")
            bound = alias.asname or alias.name.split(".")[0]
            part.imports.setdefault(bound, set()).add(_Import(alias.name, ""))
        return
    source = node.module or ""
    if source == "__future__":
        return
    room = source.removeprefix(f"{_RUNTIME}.")
    ours = source.split(".")[0] == "seqc" or node.level > 0
    if ours and (room == source or "." in room or node.level):
        raise ValueError(f"{part.room}: only rooms of {_RUNTIME} can be linked, not {source!r}")
    if ours:
        (part.types if typing_only else part.needs).append(room)
    for alias in node.names:
        bound = alias.asname or alias.name
        if ours:
            part.links[bound] = (room, alias.name)
        else:
            part.imports.setdefault(bound, set()).add(_Import(source, alias.name))


def _defined(body: Iterable[ast.stmt]) -> Iterator[str]:
    """The names that statements define, those of nested blocks included, imports not."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                yield inner.id
            elif isinstance(inner, (ast.FunctionDef, ast.ClassDef)):
                yield inner.name


# --- names --------------------------------------------------------------------------------------


def _settle(module: _Part, rooms: list[_Part]) -> dict[str, dict[str, str]]:
    """What each name of each part is called in the result, by room ('' is the module)."""
    taken: dict[str, object] = {name: ("", name) for name in module.defined}
    final: dict[str, dict[str, str]] = {part.room: {} for part in (*rooms, module)}

    def claim(room: str, name: str, thing: object) -> None:
        chosen = name
        while taken.setdefault(chosen, thing) != thing:
            bare = chosen.lstrip("_")
            words = room.upper() if bare.isupper() else room.title() if bare[0].isupper() else room
            joint = "" if bare[0].isupper() and not bare.isupper() else "_"
            chosen = f"{chosen[: len(chosen) - len(bare)]}{words}{joint}{bare}"
        final[room][name] = chosen

    def claim_imports(part: _Part) -> None:
        for name, things in sorted(part.imports.items()):
            roots = {
                t.module.split(".")[0] if not t.name else f"{t.module}:{t.name}" for t in things
            }
            if len(roots) > 1:
                raise ValueError(f"{part.room or 'the module'}: {name} is imported twice")
            alias = {t.module for t in things if not t.name and t.module.split(".")[0] != name}
            claim(part.room, name, ("import", *(sorted(alias) or sorted(roots))))

    for name in module.defined:
        final[""][name] = name
    claim_imports(module)
    for part in rooms:
        for name in part.defined:
            claim(part.room, name, (part.room, name))
    for part in rooms:
        claim_imports(part)
    for part in (*rooms, module):
        for name, (room, there) in part.links.items():
            if there not in final.get(room, {}):
                raise ValueError(f"{part.room or 'the module'}: {room} defines no {there!r}")
            if name in part.defined:
                raise ValueError(f"{part.room or 'the module'}: {name} is imported and defined")
            final[part.room][name] = final[room][there]
    return final


def _renamed(part: _Part, names: dict[str, str]) -> str:
    """The part's body with its names as they were settled."""
    changed = {old: new for old, new in names.items() if old != new}
    if not changed:
        return part.body
    for node in ast.walk(ast.parse(part.body)):
        other: str | None = None
        if isinstance(node, (ast.arg, ast.keyword)):
            other = node.arg
        elif isinstance(node, ast.ClassDef):
            other = next((n for n in _defined(node.body) if n in changed), None)
        if other in changed:
            raise ValueError(
                f"{part.room or 'the module'}: {other!r} is a global name that another part has "
                "too, and an argument or attribute as well; give one of them another name"
            )
    lines = part.body.split("\n")
    edits: list[tuple[int, int, int, str]] = []
    previous = ""
    for token in tokenize.generate_tokens(io.StringIO(part.body).readline):
        (row, start), (_, end) = token.start, token.end
        if token.type == tokenize.NAME and token.string in changed and previous != ".":
            edits.append((row, start, end, changed[token.string]))
        elif (
            token.type == tokenize.STRING and "f" in token.string.split(token.string[-1])[0].lower()
        ):
            # Before Python 3.12 an f-string is one token.
            fields = _renamed_fields(token.string, changed)
            if fields != token.string:
                if "\n" in fields:
                    raise ValueError(f"{part.room}:{row}: an f-string over lines cannot be linked")
                edits.append((row, start, end, fields))
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            previous = token.string
    for row, start, end, new in reversed(edits):
        line = lines[row - 1]
        lines[row - 1] = line[:start] + new + line[end:]
    return "\n".join(lines)


def _renamed_fields(text: str, changed: dict[str, str]) -> str:
    """An f-string with names replaced inside its braces."""
    pieces = re.split(r"(\{\{|\}\}|\{|\})", text)
    depth = 0
    for i, piece in enumerate(pieces):
        depth += (piece == "{") - (piece == "}")
        if depth > 0:
            for old, new in changed.items():
                pieces[i] = re.sub(rf"(?<![\w.]){re.escape(old)}(?!\w)", new, pieces[i])
    return "".join(pieces)


# --- putting together ---------------------------------------------------------------------------


def _names_read(code: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}


def _import_block(
    parts: tuple[_Part, ...], final: dict[str, dict[str, str]], read: set[str]
) -> str:
    """All imports of the parts that something reads, as isort would write them."""
    plain: set[tuple[str, str]] = set()
    named: dict[str, set[tuple[str, str]]] = {}
    for part in parts:
        for bound, things in part.imports.items():
            new = final[part.room][bound]
            if new not in read:
                continue
            for thing in things:
                if thing.name:
                    alias = f"{thing.name} as {new}" if new != thing.name else thing.name
                    named.setdefault(thing.module, set()).add((thing.name, alias))
                    continue
                alias = "" if new == thing.module.split(".")[0] else f" as {new}"
                plain.add((thing.module, f"import {thing.module}{alias}"))
    sections = []
    for standard in (True, False):
        lines = [line for m, line in sorted(plain) if _is_standard(m) == standard]
        for source in sorted(named):
            if _is_standard(source) == standard:
                lines += _from_lines(source, named[source])
        if lines:
            sections.append("\n".join(lines))
    return "\n\n".join(sections)


def _is_standard(module: str) -> bool:
    return module.split(".")[0] in sys.stdlib_module_names


def _from_lines(source: str, names: set[tuple[str, str]]) -> list[str]:
    def rank(entry: tuple[str, str]) -> tuple[int, str]:
        name = entry[0]
        constant = name.isupper() and len(name) > 1
        return (0 if constant else 1 if name[0].isupper() else 2, name)

    words = [alias for _, alias in sorted(names, key=rank)]
    line = f"from {source} import {', '.join(words)}"
    if len(line) <= _WIDTH:
        return [line]
    return [f"from {source} import (", *(f"    {word}," for word in words), ")"]


def _section_head(part: _Part) -> str:
    rule = f"# --- {_RUNTIME}.{part.room} "
    doc = [f"# {line}".rstrip() for line in part.doc.split("\n")]
    return "\n".join([rule.ljust(_WIDTH, "-"), "#", *doc])


def _check(text: str) -> None:
    """Raise unless each name has one definition, and nothing of seqc is imported."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = ["seqc" if node.level else node.module or ""]
        else:
            continue
        if any(m.split(".")[0] == "seqc" for m in modules):
            raise ValueError(
                f"line {node.lineno} of the standalone module imports seqc: {ast.unparse(node)} "
                "(a room may import another at its top only)"
            )
    seen: dict[str, int] = {}
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            line = seen.setdefault(statement.name, statement.lineno)
            if line != statement.lineno:
                raise ValueError(
                    f"{statement.name} is defined twice, at lines {line} and {statement.lineno}"
                )
