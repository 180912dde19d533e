"""Every ``SEQC_*`` environment switch, typed, and what is read of the machine.

The one place that reads ``os.environ`` for seqc's own switches. Everything is read at the call,
never at import, so a switch that is set later (or by a test) counts.

Standard library only: this file is part of what ``--standalone`` modules carry.
"""

from __future__ import annotations

import functools
import os
import platform
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

#: The backend of fused kernels, by the type of the device that they run on.
FUSED = {"cpu": "cpp", "cuda": "cuda"}
BACKENDS = ("auto", "reference", *FUSED.values())

# (name, default, meaning): what `seqc --help` and the documentation print.
SWITCHES: tuple[tuple[str, str, str], ...] = (
    ("SEQC_BACKEND", "auto", "the backend where none is named: " + ", ".join(BACKENDS)),
    ("SEQC_CACHE_DIR", "~/.cache/seqc", "where compiled kernels and generated modules are kept"),
    ("SEQC_CXX", "", 'the C++ compiler, with arguments if need be ("ccache g++"), and no other'),
    ("SEQC_CXXFLAGS", "", "flags added to those of every C++ kernel, quoted as in a shell"),
    ("SEQC_KEEP_MIB", "", "MiB of freed CPU results kept for reuse; default: 1/8 of memory"),
    ("SEQC_DUMP", "", "stages to print while compiling, separated by commas, or all"),
    ("SEQC_VERIFY", "0", "1: run the verifier of each stage between passes"),
)


@dataclass(frozen=True)
class Environment:
    """The switches as they stand, each with its type.

    ``cache_dir`` is None where SEQC_CACHE_DIR is not set: ``cache_folder()`` has the whole rule.
    """

    backend: str = "auto"
    cache_dir: Path | None = None
    cxx: str = ""
    cxxflags: tuple[str, ...] = ()
    dump: frozenset[str] = frozenset()
    verify: bool = False

    def dumps(self, stage: str) -> bool:
        """Whether SEQC_DUMP asks for this stage."""
        return "all" in self.dump or stage in self.dump


def read_environment() -> Environment:
    """The SEQC_* switches of this process, now.

    Raises:
        ValueError: a switch holds what it cannot mean; the text names the switch and its choices.
    """
    backend = wished_backend()
    verify = _read_switch("SEQC_VERIFY").lower()
    if verify not in ("", "0", "1", "false", "true"):
        raise ValueError(f"SEQC_VERIFY is {verify!r}; it can be 0 or 1")
    try:
        cxxflags = tuple(shlex.split(_read_switch("SEQC_CXXFLAGS")))
    except ValueError as error:
        raise ValueError(f"SEQC_CXXFLAGS cannot be split as a shell would: {error}") from None
    folder = _read_switch("SEQC_CACHE_DIR")
    try:
        cache_dir = Path(os.path.abspath(os.path.expanduser(folder))) if folder else None
    except OSError:  # a relative path, and the working folder is gone
        cache_dir = None
    return Environment(
        backend=backend,
        cache_dir=cache_dir,
        cxx=_read_switch("SEQC_CXX"),
        cxxflags=cxxflags,
        dump=frozenset(
            part.strip() for part in _read_switch("SEQC_DUMP").split(",") if part.strip()
        ),
        verify=verify in ("1", "true"),
    )


def wished_backend() -> str:
    """SEQC_BACKEND alone, which every call of a layer asks for.

    Raises:
        ValueError: it is none of the backends.
    """
    backend = read_wish().lower()
    if not backend:
        return "auto"
    if backend not in BACKENDS:
        raise ValueError(f"SEQC_BACKEND is {backend!r}; it can be {', '.join(BACKENDS)}")
    return backend


def read_wish() -> str:
    """SEQC_BACKEND as it stands, whatever it holds."""
    return _read_switch("SEQC_BACKEND")


def _read_switch(name: str) -> str:
    return os.environ.get(name, "").strip()


def kept_bytes() -> int:
    """How much memory of freed results is kept for the next ones.

    Raises:
        ValueError: SEQC_KEEP_MIB is no whole number.
    """
    chosen = _read_switch("SEQC_KEEP_MIB")
    if not chosen:
        return _memory_bytes() // 8
    if not chosen.isdecimal():
        raise ValueError(f"SEQC_KEEP_MIB is {chosen!r}; it can be a whole number of MiB, or 0")
    return int(chosen) << 20


@functools.lru_cache(maxsize=1)
def _memory_bytes() -> int:
    """The machine's memory, or the container's where that is less; 0 where unknown."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # cgroups, version 2 and 1
        try:
            text = Path("/sys/fs/cgroup", limit).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        if text.isdecimal():
            whole = min(whole, int(text))
    return whole


def cache_folder() -> Path | None:
    """Where results are kept: $SEQC_CACHE_DIR, else $XDG_CACHE_HOME/seqc, else ~/.cache/seqc.

    None where there is neither a variable nor a home. Nothing is created, and nothing is promised
    about whether the folder can be written.
    """
    chosen = read_environment().cache_dir
    if chosen is not None:
        return chosen
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(shared):  # the XDG specification: a relative path is to be ignored
        return Path(shared) / "seqc"
    # With HOME unset this asks the password database; with neither it returns "~" unchanged. An
    # empty HOME would give "/.cache", which nobody means.
    home = os.path.expanduser("~") if os.environ.get("HOME") != "" else ""
    return Path(home) / ".cache" / "seqc" if os.path.isabs(home) else None


@functools.lru_cache(maxsize=1)
def cpu_identity() -> str:
    """What ``-march=native`` depends on, as text: machine and CPU features.

    A kernel built for other features may stop the process with an illegal instruction, so this
    text is part of every kernel's key. Where the features cannot be read, the name of the node
    stands for them: then no two nodes share kernels.
    """
    features = _linux_cpu_features() or _mac_cpu_features() or platform.node()
    return f"{platform.system()} {platform.machine()} {features}"


# Keys of /proc/cpuinfo that decide the instruction set or the tuning: x86, ARM, POWER, RISC-V.
_CPU_KEYS = frozenset(
    ("flags", "features", "cpu family", "model", "cpu implementer", "cpu part", "cpu", "isa")
)


def _linux_cpu_features(path: str = "/proc/cpuinfo") -> str:
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # Every line of every core, without repeats: cores may differ (big and little). The order of
    # the flags is the kernel's choice, so they are sorted.
    found = set()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in _CPU_KEYS:
            found.add(f"{key.strip().lower()}={' '.join(sorted(value.split()))}")
    return "; ".join(sorted(found))


def _mac_cpu_features() -> str:
    if platform.system() != "Darwin":
        return ""
    command = ["sysctl", "machdep.cpu", "hw.optional"]
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return "; ".join(sorted(result.stdout.splitlines()))
