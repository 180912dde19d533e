"""C++ source text to a loaded shared library, and a store of text, both kept on disk.

What can go wrong with a cache must never be seen: two processes at once, a compile that is killed,
a file that is truncated, a folder that is full, read-only or missing. Two rules see to it:

- an entry is written beside its place and renamed into it, so it is whole or not there;
- an entry carries the SHA-256 of its bytes, checked at each load, so a damaged one is rebuilt.

Where the cache folder cannot be used, a private folder of this process stands in for it. The
checksums guard against damage, not against people: a cache folder must belong to its user.

Standard library only: this file is part of what ``--standalone`` modules carry.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import hashlib
import json
import multiprocessing.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from seqc.runtime.environment import cache_folder, cpu_identity, read_environment

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

_STORE_NAME = "store-v1"  # the layout on disk; a new layout gets a new name
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

_loaded_libraries: dict[str, ctypes.CDLL] = {}
_library_locks: dict[tuple[int, str], threading.Lock] = {}


def build_library(
    source: str,
    *,
    name: str,
    defines: tuple[str, ...] = (),
    flags: tuple[str, ...] = DEFAULT_FLAGS,
) -> ctypes.CDLL:
    """Compile C++ source text to a shared library and load it; the second time it is only loaded.

    Args:
        source: the text of one C++ file.
        name: stands in the name of the file, for profilers and debuggers; not part of the key.
        defines: macros, ``"TILE=64"``, given as ``-D``.
        flags: the compiler's flags. A compiler that refuses ``-march=native`` or ``-fopenmp`` gets
            the source without them, with one warning. SEQC_CXXFLAGS is added.

    Returns:
        The library; the same object for the same source, compiler and flags in one process. Safe
        to call from several threads and several processes at once.

    Raises:
        NoCompilerError: there is no C++ compiler.
        BuildError: the compiler refused the source, or there is no folder at all to build in.
    """
    compiler = find_compiler()
    if compiler is None:
        raise NoCompilerError(_no_compiler_message())
    flags = (*flags, *(f"-D{define}" for define in defines), *read_environment().cxxflags)
    parts = [source, compiler.command, compiler.version, flags, cpu_identity()]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    # The lock's key has the process in it: a lock that another thread held at a fork would stay
    # locked in the child for ever.
    with _library_locks.setdefault((os.getpid(), key), threading.Lock()):
        library = _loaded_libraries.get(key)
        if library is None:
            library = _load_kept_library(key) or _build_anywhere(source, name, key, compiler, flags)
            _loaded_libraries[key] = library
        return library


def _load_kept_library(key: str) -> ctypes.CDLL | None:
    for folder in _kept_in(create_private=False):
        kept = folder / "lib" / key
        try:
            entries = sorted(path for path in kept.iterdir() if path.suffix == ".so")
        except OSError:
            continue
        for path in entries:
            try:
                if _sha256(path.read_bytes()) == path.stem.rpartition(".")[2]:
                    return ctypes.CDLL(os.fspath(path))
                path.unlink()
            except OSError:
                continue  # unreadable, or whole but not loadable here: built anew
    return None


def _build_anywhere(
    source: str, name: str, key: str, compiler: Compiler, flags: tuple[str, ...]
) -> ctypes.CDLL:
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:64] or "kernel"
    problems = []
    for folder in _kept_in():
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(
                prefix="build-", dir=folder, ignore_cleanup_errors=True
            ) as work:
                built = _compile_in(source, compiler, flags, Path(work))
                # The digest is in the name: one rename publishes the file and its checksum.
                place = folder / "lib" / key / f"{stem}.{_sha256(built.read_bytes())}.so"
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(built, place)
            return ctypes.CDLL(os.fspath(place))
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


# --- text ---------------------------------------------------------------------------------------


def text_cache_read(key: str) -> str | None:
    """The text kept under a key, or None: never written, damaged, or not readable."""
    for folder in _kept_in(create_private=False):
        try:
            head, _, body = _text_place(folder, key).read_bytes().partition(b"\n")
            if head.decode() == _sha256(key.encode() + b"\n" + body):
                return body.decode()
        except (OSError, ValueError):
            continue
    return None


def text_cache_write(key: str, text: str) -> None:
    """Keep a text under a key; where that cannot be done, nothing happens and nothing is said.

    The key is any text that stands for all that the result depends on, seqc's version included.
    """
    folder = cache_folder()
    if folder is None:
        return
    beside = None
    try:
        body = text.encode()
        # The key is under the checksum too: a file that lands in another's place is not believed.
        head = _sha256(key.encode() + b"\n" + body).encode()
        place = _text_place(folder / _STORE_NAME, key)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(prefix="write-", dir=place.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(head + b"\n" + body)
        os.replace(beside, place)
    except (OSError, ValueError):  # ValueError: text that UTF-8 does not hold
        if beside is not None:
            try:
                os.unlink(beside)
            except OSError:
                pass


def _text_place(folder: Path, key: str) -> Path:
    return folder / "text" / _sha256(key.encode())


# --- folders ------------------------------------------------------------------------------------

_private_folders: dict[int, Path] = {}  # by process: a forked child must not share its parent's


def clear_cache() -> None:
    """Remove every kept library and text, and what killed compiles have left behind.

    Nothing is ever removed by itself. Libraries that are loaded go on working; another process
    that is building at this moment builds again.
    """
    folder = cache_folder()
    if folder is not None:
        shutil.rmtree(folder / _STORE_NAME, ignore_errors=True)


def _kept_in(create_private: bool = True) -> Iterator[Path]:
    """The cache folder, then the private one: made on demand, removed when the process ends."""
    folder = cache_folder()
    if folder is not None:
        yield folder / _STORE_NAME
    process = os.getpid()
    with _library_locks.setdefault((process, "private folder"), threading.Lock()):
        private = _private_folders.get(process)
        if private is None and create_private:
            try:
                private = _private_folders[process] = Path(tempfile.mkdtemp(prefix="seqc-"))
            except OSError:
                return
            # Not atexit: the workers of multiprocessing end without it. A forked child, in turn,
            # must leave its parent's folder alone, and Finalize looks at the process.
            multiprocessing.util.Finalize(
                None, shutil.rmtree, (private,), {"ignore_errors": True}, exitpriority=0
            )
    if private is not None:
        yield private


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
