"""C++ source text to a loaded shared library, kept on disk, or shipped with a module.

A library's folder is named after all that the result must fit: source, flags, CPU. Its own name
says which compiler made it, and the SHA-256 of its bytes. With a compiler at hand, that compiler's
libraries are used and no others; with none, any that fits serves.

Standard library only: this file is part of what ``--standalone`` modules carry.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import threading
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from seqc.runtime.environment import cpu_identity, read_environment
from seqc.runtime.store import digest_of, kept_in, workplace

DEFAULT_FLAGS = (
    "-O3",
    "-march=native",
    "-std=c++17",
    "-fPIC",
    "-shared",
    "-fopenmp",
    # errno and trapping stop vectorisation and nobody reads them. Not -ffast-math: it breaks NaN
    # and infinity, which resets and masked steps rely on.
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    # GCC takes some CPUs with full-width AVX-512 for ones without, and halves their vectors.
    *(("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()),
)

_COMPILE_SECONDS = 600


class BuildError(RuntimeError):
    """The C++ compiler refused a kernel; ``log`` holds all that it said, ``command`` its call."""

    def __init__(self, message: str, log: str = "", command: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.log = log
        self.command = command


class NoCompilerError(RuntimeError):
    """No C++ compiler was found; the message says what to install."""


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler that was seen to run.

    ``command`` is the call without flags, ``("/usr/bin/ccache", "g++")``; ``version`` is what it
    answers to ``--version``.
    """

    command: tuple[str, ...]
    version: str


# --- the compiler -------------------------------------------------------------------------------


def find_compiler() -> Compiler | None:
    """The C++ compiler: $SEQC_CXX, else the first of $CXX, c++, g++, clang++ that runs.

    SEQC_CXX is an explicit choice: where it does not run, no other is tried. Both variables may
    hold a path with spaces or a command with arguments. The answer is kept for the process, for as
    long as SEQC_CXX, CXX and PATH stay what they are. None: there is no compiler.
    """
    chosen, path = read_environment().cxx, os.environ.get("PATH", "")
    others = (os.environ.get("CXX", "").strip(), "c++", "g++", "clang++")
    return _first_compiler((chosen,) if chosen else others, path)


@functools.lru_cache(maxsize=32)
def _first_compiler(candidates: tuple[str, ...], path: str) -> Compiler | None:
    for candidate in candidates:
        command = _split_command(candidate, path)
        if command is None:
            continue
        try:
            result = subprocess.run(
                (*command, "--version"),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=60,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if result.returncode == 0 and result.stdout.strip():
            return Compiler(command, result.stdout.strip())
    return None


def _split_command(text: str, path: str) -> tuple[str, ...] | None:
    if not text:
        return None
    whole = shutil.which(text, path=path)  # first: "/opt/my tools/g++" is one path, not two words
    if whole is not None:
        return (os.path.abspath(whole),)
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    program = shutil.which(words[0], path=path) if words else None
    return None if program is None else (os.path.abspath(program), *words[1:])


def _no_compiler_message() -> str:
    chosen = read_environment().cxx
    if chosen:
        return f"SEQC_CXX is {chosen!r}, which does not run; unset it or name a C++17 compiler"
    return (
        "no C++ compiler was found ($CXX, c++, g++, clang++): install one "
        "(Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++; macOS: xcode-select "
        "--install; conda: conda install cxx-compiler) or name one in SEQC_CXX"
    )


# --- libraries ----------------------------------------------------------------------------------

_loaded_libraries: dict[tuple[str, str], tuple[ctypes.CDLL, Path]] = {}
_library_locks: dict[tuple[int, str], threading.Lock] = {}
_misfits: set[Path] = set()  # shipped folders of which it was said that they do not fit


def build_library(
    source: str,
    *,
    name: str,
    defines: tuple[str, ...] = (),
    flags: tuple[str, ...] = DEFAULT_FLAGS,
    shipped: Path | None = None,
) -> ctypes.CDLL:
    """Compile C++ source text to a shared library and load it; the second time it is only loaded.

    Args:
        source: the text of one C++ file.
        name: stands in the name of the file, for profilers and debuggers; not part of the key.
        defines: macros, ``"TILE=64"``, given as ``-D``.
        flags: the compiler's flags. A compiler that refuses ``-march=native`` or ``-fopenmp`` gets
            the source without them, with one warning. SEQC_CXXFLAGS is added.
        shipped: a folder that ``ship_library`` filled, looked into first. Where it has nothing
            that fits, one warning says why.

    Returns:
        The library; the same object for the same source, compiler and flags in one process. Safe
        to call from several threads and several processes at once.

    Raises:
        NoCompilerError: there is no C++ compiler, and no compiled library that fits.
        BuildError: the compiler refused the source, or there is no folder at all to build in.
    """
    return _library(source, name, defines, flags, shipped)[0]


def ship_library(
    source: str,
    folder: Path,
    *,
    name: str,
    defines: tuple[str, ...] = (),
    flags: tuple[str, ...] = DEFAULT_FLAGS,
) -> Path:
    """Compile, and put a copy into a folder that may go to machines with the same CPU features.

    Returns:
        The copy, for ``build_library(..., shipped=folder)``.

    Raises:
        NoCompilerError, BuildError: as ``build_library``.
    """
    _, made = _library(source, name, defines, flags, None)
    if not made.exists():  # loaded, and the cache was cleared since
        _loaded_libraries.clear()
        _, made = _library(source, name, defines, flags, None)
    place = folder / "lib" / made.parent.name / made.name
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(made, place)
    note = json.dumps({"cpu": cpu_identity()}, indent=1)
    (folder / _NOTE).write_text(note + "\n", encoding="utf-8")
    return place


def _library(
    source: str, name: str, defines: tuple[str, ...], flags: tuple[str, ...], shipped: Path | None
) -> tuple[ctypes.CDLL, Path]:
    """The library and its file."""
    compiler = find_compiler()
    flags = (*flags, *(f"-D{define}" for define in defines), *read_environment().cxxflags)
    key = digest_of(json.dumps([source, flags, cpu_identity()]).encode())
    maker = "" if compiler is None else _maker(compiler)
    # The lock's key has the process in it: a lock that another thread held at a fork would stay
    # locked in the child for ever.
    with _library_locks.setdefault((os.getpid(), key), threading.Lock()):
        found = _loaded_libraries.get((key, maker))
        if found is not None:
            return found
        if shipped is not None:
            found = _load_kept_library(key, "", [shipped])
            if found is None:
                _say_misfit(shipped, key, name)
        found = found or _load_kept_library(key, maker, kept_in(create_private=False))
        if found is None:
            if compiler is None:
                raise NoCompilerError(_no_compiler_message())
            found = _build_anywhere(source, name, key, compiler, flags)
        _loaded_libraries[key, maker] = found
        return found


def _maker(compiler: Compiler) -> str:
    """What a compiler is known by in the names of its libraries."""
    return digest_of(json.dumps([compiler.command, compiler.version]).encode())[:16]


def _load_kept_library(
    key: str, maker: str, folders: Iterable[Path]
) -> tuple[ctypes.CDLL, Path] | None:
    """A whole library of a key, by this maker, or by any where that is empty."""
    for folder in folders:
        try:
            entries = sorted(p for p in (folder / "lib" / key).iterdir() if p.suffix == ".so")
        except OSError:
            continue
        for path in entries:
            made_by, digest = ("", "", *path.stem.split("."))[-2:]
            if maker not in ("", made_by):
                continue
            try:
                if digest_of(path.read_bytes()) == digest:
                    return ctypes.CDLL(os.fspath(path)), path
                if not (folder / _NOTE).exists():  # what was shipped is not ours to remove
                    path.unlink()
            except OSError:
                continue  # unreadable, or whole but not loadable here: built anew
    return None


_NOTE = "kernels.json"  # in a shipped folder: for what it was made


def _say_misfit(folder: Path, key: str, name: str) -> None:
    """Warn, once a folder, that what was shipped is of no use here, and why."""
    if folder in _misfits:
        return
    _misfits.add(folder)
    try:
        made_for = str(json.loads((folder / _NOTE).read_text(encoding="utf-8"))["cpu"])
    except (OSError, ValueError, KeyError, TypeError):
        why = "the folder is not there, or is damaged"
    else:
        lacking = sorted({*made_for.split()} - {*cpu_identity().split()})
        if made_for != cpu_identity():
            few = f", e.g. {' '.join(lacking[:4])}" if lacking else ""
            why = f"they were compiled for a CPU with other features than this one{few}"
        elif (folder / "lib" / key).is_dir():
            why = "the file is damaged, or does not load here"
        else:
            why = "they are of another module or of another SEQC_CXXFLAGS"
    warnings.warn(
        f"the compiled kernels in {folder} are not used: {why} (kernel {name}); kernels are "
        "compiled here, or run as plain PyTorch where there is no compiler",
        RuntimeWarning,
        stacklevel=2,
    )


def _build_anywhere(
    source: str, name: str, key: str, compiler: Compiler, flags: tuple[str, ...]
) -> tuple[ctypes.CDLL, Path]:
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:64] or "kernel"
    problems = []
    for folder in kept_in():
        try:
            with workplace(folder) as work:
                built = _compile_in(source, compiler, flags, work)
                # The digest is in the name: one rename publishes the file and its checksum.
                digest = digest_of(built.read_bytes())
                place = folder / "lib" / key / f"{stem}.{_maker(compiler)}.{digest}.so"
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(built, place)
            return ctypes.CDLL(os.fspath(place)), place
        except OSError as error:  # this folder is of no use (full, read-only, noexec, ...)
            problems.append(f"{folder}: {error}")
    raise BuildError(
        "no kernel can be built in any folder (SEQC_CACHE_DIR and TMPDIR may name others):\n  "
        + "\n  ".join(problems or ["no temporary folder can be written"]),
        log="\n".join(problems),
    )


# Flags that make kernels faster but not more right, and what to try in their stead, in order.
_FLAG_SUBSTITUTES: dict[str, tuple[tuple[str, ...], ...]] = {
    "-march=native": (("-mcpu=native",), ()),
    "-fopenmp": ((),),
    "-mprefer-vector-width=512": ((),),
}
_refused_flags: dict[tuple[Compiler, str], tuple[str, ...]] = {}

# With OpenMP in it, so that a compiler whose OpenMP has no runtime library is caught as well.
_PROBE_SOURCE = """#ifdef _OPENMP
#include <omp.h>
#endif
extern "C" int seqc_probe(int n) {
    int sum = 0;
    #pragma omp parallel for reduction(+:sum)
    for (int i = 0; i < n; ++i) sum += i;
    return sum;
}
"""


def _compile_in(source: str, compiler: Compiler, flags: tuple[str, ...], work: Path) -> Path:
    """Compile into the folder ``work``. BuildError: the source's fault; OSError: the folder's."""
    failure = _call_compiler(source, compiler, _accepted_flags(compiler, flags), work)
    if failure is None:
        return work / "kernel.so"
    # Whose fault is it? A trivial source tells: first with the fewest flags, then flag by flag.
    bare = ("-fPIC", "-shared")
    broken = _call_compiler(_PROBE_SOURCE, compiler, bare, work)
    if broken is not None:
        raise OSError(f"not even an empty kernel compiles there: {broken.log.strip()[-2000:]}")
    new = False
    for flag in flags:
        if flag not in _FLAG_SUBSTITUTES or (compiler, flag) in _refused_flags:
            continue
        if _call_compiler(_PROBE_SOURCE, compiler, (*bare, flag), work) is None:
            continue
        for substitute in _FLAG_SUBSTITUTES[flag]:
            if _call_compiler(_PROBE_SOURCE, compiler, (*bare, *substitute), work) is None:
                _refused_flags[compiler, flag] = substitute
                break
        new = True
        warnings.warn(
            f"{shlex.join(compiler.command)} does not take {flag}: kernels are built without it "
            "and run slower",
            RuntimeWarning,
            stacklevel=2,
        )
    if new:
        failure = _call_compiler(source, compiler, _accepted_flags(compiler, flags), work)
        if failure is None:
            return work / "kernel.so"
    full = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), os.strerror(errno.EROFS))
    if any(text in failure.log for text in full):  # room for the trivial source, not for this one
        raise OSError(str(failure))
    raise failure


def _accepted_flags(compiler: Compiler, flags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part for flag in flags for part in _refused_flags.get((compiler, flag), (flag,)))


def _call_compiler(
    source: str, compiler: Compiler, flags: tuple[str, ...], work: Path
) -> BuildError | None:
    (work / "kernel.cpp").write_text(source, encoding="utf-8")
    (work / "kernel.so").unlink(missing_ok=True)
    # Relative names, in the folder itself: odd characters in its path never reach the compiler,
    # and its own temporary files go with the folder.
    command = (*compiler.command, "kernel.cpp", "-o", "kernel.so", *flags)
    try:
        result = subprocess.run(
            command,
            cwd=work,
            env={**os.environ, "LC_ALL": "C", "TMPDIR": os.fspath(work)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_COMPILE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return BuildError(f"{shlex.join(command)}: {error}", str(error), command)
    if result.returncode == 0 and (work / "kernel.so").exists():
        return None
    tail = "\n".join(result.stdout.strip().splitlines()[:40]) or "(it said nothing)"
    message = f"{shlex.join(command)} failed with status {result.returncode}:\n{tail}"
    return BuildError(message, result.stdout, command)
