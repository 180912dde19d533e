"""What the public functions do: read a spec, run the passes, and hand out what was asked for."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from seqc.diagnostics import Diagnostic, SeqcError, Severity, Source
from seqc.runtime.store import text_cache_read, text_cache_write
from seqc.version import VERSION

if TYPE_CHECKING:
    from seqc.ir.report import Report
    from seqc.passes.pipeline import Compilation

TARGETS = ("torch", "reference", "cpp", "cuda", "kernel", "recurrence")
#: A spec is data, and a small one: a larger file is refused unread.
SIZE_LIMIT = 1 << 20


def read_spec(spec: str | os.PathLike[str]) -> Source:
    """The spec's text, from a path or given as it is (a string of several lines)."""
    if isinstance(spec, str) and ("\n" in spec or "\r" in spec):
        return Source(spec)
    path = Path(spec)
    name = str(spec)
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SeqcError(
            [
                Diagnostic(
                    "E001",
                    f"cannot read the spec {name!r}: {reason}",
                    hint="give a path to a .seq file, or the spec's text itself (several lines)",
                )
            ]
        ) from None
    if len(data) > SIZE_LIMIT:
        raise SeqcError(
            [
                Diagnostic(
                    "E002",
                    f"the spec {name!r} is larger than {SIZE_LIMIT >> 20} MiB",
                    hint="a spec holds a layer's equations, about ten lines; is it the right file?",
                )
            ]
        )
    try:
        return Source(data.decode("utf-8-sig"), name)
    except UnicodeDecodeError as error:
        raise SeqcError(
            [
                Diagnostic(
                    "E003",
                    f"the spec {name!r} is not UTF-8 text "
                    f"(byte {error.start} is 0x{data[error.start]:02x})",
                    hint="a .seq file is plain text; save it as UTF-8",
                )
            ]
        ) from None


def check(spec: str | os.PathLike[str]) -> Report:
    """Structure, proofs, derived forms and diagnostics of a spec; compiles no kernel."""
    from seqc.passes.pipeline import run
    from seqc.report.layers import report

    compilation = run(read_spec(spec))
    return report(compilation.plans, compilation.diagnostics)


def chosen(compilation: Compilation, layer: str | None, *, single: bool) -> tuple[int, ...]:
    """The positions of the layers that are asked for."""
    names = compilation.layers
    if layer is not None:
        if layer not in names:
            raise KeyError(f"the spec has no layer {layer!r}; it has {', '.join(names)}")
        return (names.index(layer),)
    if single and len(names) > 1:
        raise ValueError(
            f"the spec holds {len(names)} layers ({', '.join(names)}): say which, e.g. "
            f"layer={names[0]!r}"
        )
    return tuple(range(len(names)))


def emit(spec: str | os.PathLike[str], *, target: str, layer: str | None = None) -> str:
    """A stage of the compilation as text.

    targets: ``recurrence`` and ``kernel`` (the intermediate forms), ``cpp`` and
    ``cuda`` (the kernels' source), ``reference`` (one step in PyTorch), ``torch``
    (the module).
    """
    if target not in TARGETS:
        raise ValueError(f"target {target!r}: it can be {', '.join(TARGETS)}")
    from seqc.codegen.layer import step_lines
    from seqc.codegen.sources import STEPPING, headers, print_kernels, sources_of
    from seqc.codegen.sources import TARGETS as SOURCES
    from seqc.ir.plan import KernelStage, LoopStage, Plan
    from seqc.passes.pipeline import run

    compilation = run(read_spec(spec))
    plans = [compilation.plans[i] for i in chosen(compilation, layer, single=False)]
    if target == "torch":
        return module_text(compilation, tuple(p.recurrence.name for p in plans), "auto")
    parts: list[str] = []

    def kernels_of(plan: Plan) -> list[KernelStage]:
        found = (s for s in plan.stages if isinstance(s, KernelStage))
        return [s for s in found if target in sources_of(s)]

    every = [s for p in plans for s in kernels_of(p)]
    if target.upper() in SOURCES and every:
        parts.append(headers(target.upper()))
        if any(s.kernel.stepped for s in every):
            parts.append(STEPPING["CPP_STEPPING"]())
    for plan in plans:
        kernels = kernels_of(plan)
        if target == "recurrence":
            parts.append(str(plan.recurrence))
        elif target == "kernel":
            parts.append(str(plan))
        elif target == "reference":
            body = "\n".join(f"    {line}" for line in step_lines(plan))
            parts.append(
                f"# {plan.recurrence.name}\ndef _single(self, inputs, state, keep):\n{body}"
            )
        elif not kernels:
            steps = any(
                isinstance(s, LoopStage) or (isinstance(s, KernelStage) and s.kernel.stepped)
                for s in plan.stages
            )
            why = ": it runs step by step, in plain PyTorch" if steps or not plan.stages else ""
            parts.append(f"// {plan.recurrence.name} has no kernels{why}")
        else:
            parts += [print_kernels(s) for s in kernels]
    return "\n\n".join(p.rstrip() for p in parts) + "\n"


def module_text(
    compilation: Compilation,
    names: tuple[str, ...],
    backend: str,
    *,
    compiled: bool = False,
    tangents: bool = False,
) -> str:
    """The generated module for some layers."""
    from seqc.codegen.module import print_module

    plans = tuple(p for p in compilation.plans if p.recurrence.name in names)
    mine = {d for p in plans for d in p.analysis.diagnostics}
    others = {d for p in compilation.plans for d in p.analysis.diagnostics} - mine
    said = [
        d for d in compilation.diagnostics if d.severity is Severity.WARNING and d not in others
    ]
    return print_module(
        plans,
        version=VERSION,
        origin=os.path.basename(compilation.source.name),
        spec=compilation.source.text,
        warnings=tuple(plain(d) for d in said),
        backend=backend,
        compiled=compiled,
        tangents=tangents,
    )


def plain(d: Diagnostic) -> str:
    """A diagnostic in one line, for a Python warning."""
    place = f"{os.path.basename(d.span.source.name)}:{d.span.line}: " if d.span else ""
    hint = f" ({d.hint})" if d.hint else ""
    return f"{place}{d.message} [{d.code}]{hint}"


def build(
    spec: str | os.PathLike[str],
    *,
    layer: str | None = None,
    standalone: bool = False,
    kernels: str | os.PathLike[str] | None = None,
    tangents: bool = False,
) -> str:
    """The text of one readable Python module with the spec's layers.

    It imports ``seqc.runtime``; with ``standalone`` nothing of seqc.  ``kernels``
    names a folder that compiled kernels are written to, ``tangents`` those of
    their derivatives too: see ``seqc.build``.
    """
    if tangents and kernels is None:
        raise ValueError("tangents are compiled with the kernels: name a folder, kernels=…")
    from seqc.passes.pipeline import run

    compilation = run(read_spec(spec))
    names = tuple(compilation.layers[i] for i in chosen(compilation, layer, single=False))
    if kernels is not None:
        compile_kernels(module_text(compilation, names, "auto"), Path(kernels), tangents)
    shipped = kernels is not None
    text = module_text(compilation, names, "auto", compiled=shipped, tangents=tangents)
    if standalone:
        from seqc.codegen.standalone import make_standalone

        text = make_standalone(text)
    return text


def compile_kernels(text: str, folder: Path, tangents: bool = False) -> None:
    """Compile the C++ kernels of a module's text, for every dtype, into a folder.

    ``tangents``: and the kernels that their tangents and second derivatives run on.
    """
    from seqc.runtime.cpp import CppKernel
    from seqc.runtime.kernels import FusedKernel
    from seqc.runtime.load import load_module

    found = [k for k in vars(load_module(text)).values() if isinstance(k, FusedKernel)]
    if not found:
        raise ValueError(
            "there is nothing to compile: no layer of the spec has a kernel, so they run "
            "as plain PyTorch (see seqc explain)"
        )
    if tangents:
        found += [k.tangent for k in found if k.tangent is not None]
    for kernel in found:
        target = kernel.targets["cpu"]
        assert isinstance(target, CppKernel)
        target.ship(folder)


def compile_spec(
    spec: str | os.PathLike[str],
    *,
    layer: str | None = None,
    backend: str = "auto",
    solve: str | None = None,
    gradient: str | None = None,
) -> type[Any]:
    """The torch.nn.Module class of a spec's layer; see ``seqc.compile``."""
    from seqc.runtime.environment import BACKENDS
    from seqc.runtime.load import announce, keep_text, load_module

    if backend not in BACKENDS:
        raise ValueError(f"backend {backend!r}: it can be {', '.join(BACKENDS)}")
    source = read_spec(spec)
    key = cache_key(source, layer, backend, solve, gradient)
    module, name = cached_module(key)
    if module is None:
        from seqc.passes.pipeline import run

        compilation = run(source, layer, solve, gradient)
        (position,) = chosen(compilation, layer, single=True)
        name = compilation.layers[position]
        text = module_text(compilation, (name,), backend)
        module = load_module(text)
        text_cache_write(key, f"{name} {keep_text(text)}")
    announce(module)
    kind: type[Any] = getattr(module, name)
    return kind


def cached_module(key: str) -> tuple[ModuleType | None, str]:
    """What an earlier process compiled, and the layer's name; no module where it has to be anew."""
    from seqc.runtime.load import kept_text, load_module

    name, _, digest = (text_cache_read(key) or "").partition(" ")
    text = kept_text(digest) if digest else None
    if text is None:
        return None, ""
    try:
        module = load_module(text)
    except Exception:  # whatever it is, compiling it again is right, or says what is wrong
        return None, ""
    return (module, name) if hasattr(module, name) else (None, "")


def cache_key(source: Source, layer: str | None, backend: str, *asked: str | None) -> str:
    """What a generated module depends on: the spec, what is asked for, and this compiler."""
    parts = (
        fingerprint(),
        os.path.basename(source.name),
        layer or "",
        backend,
        repr(asked),
        source.text,
    )
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


@cache
def fingerprint() -> str:
    """This compiler's own files, by path, size and time: a changed seqc compiles anew."""
    data = (Path(str(files(f"seqc.{room}"))) for room in ("grammar", "templates"))
    entries = []
    for root in (Path(__file__).parent.parent, *data):
        for path in sorted(root.rglob("*")):
            if path.suffix in (".py", ".lark", ".seq", ".jinja", ".h", ".cuh"):
                stat = path.stat()
                entries.append(f"{path.relative_to(root)}:{stat.st_size}:{stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(entries).encode()).hexdigest()
