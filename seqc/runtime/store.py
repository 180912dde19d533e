"""Folders on disk in which results are kept, and a store of text.

What can go wrong with a cache must never be seen: two processes at once, a compile that is killed,
a file that is truncated, a folder that is full, read-only or missing. Two rules see to it:

- an entry is written beside its place and renamed into it, so it is whole or not there;
- an entry carries the SHA-256 of its bytes, checked at each load, so a damaged one is rebuilt.

Where the cache folder cannot be used, a private folder of this process stands in for it. The
checksums guard against damage, not against people: a cache folder must belong to its user.

Standard library only: this file is part of what ``--standalone`` modules carry.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing.util
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from seqc.runtime.environment import cache_folder

STORE_NAME = "store-v2"  # the layout on disk; a new layout gets a new name
_OWNER = "owner"  # a file that is locked for as long as somebody works beside it
#: Nobody needs as long to lock a folder that they have made, nor to work in it.
_LEAVE_SECONDS, _OLD_SECONDS = 60, 24 * 3600


# --- text ---------------------------------------------------------------------------------------


def text_cache_read(key: str) -> str | None:
    """The text kept under a key, or None: never written, damaged, or not readable."""
    for folder in kept_in(create_private=False):
        try:
            head, _, body = _text_place(folder, key).read_bytes().partition(b"\n")
            if head.decode() == digest_of(key.encode() + b"\n" + body):
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
        head = digest_of(key.encode() + b"\n" + body).encode()
        place = _text_place(folder / STORE_NAME, key)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(prefix="write-", dir=place.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(head + b"\n" + body)
        os.replace(beside, place)
    except (OSError, ValueError):  # ValueError: text that UTF-8 does not hold
        if beside is not None:
            with contextlib.suppress(OSError):
                os.unlink(beside)


def _text_place(folder: Path, key: str) -> Path:
    return folder / "text" / digest_of(key.encode())


def digest_of(data: bytes) -> str:
    """SHA-256, as text."""
    return hashlib.sha256(data).hexdigest()


# --- folders ------------------------------------------------------------------------------------

_private_folders: dict[int, Path] = {}  # by process: a forked child must not share its parent's
_private_locks: dict[int, threading.Lock] = {}  # likewise: one held at a fork stays locked there


def clear_cache() -> None:
    """Remove every kept library and text, and what killed compiles have left behind.

    Nothing else ever removes an entry. Libraries that are loaded go on working; another process
    that is building at this moment builds again.
    """
    folder = cache_folder()
    if folder is not None:
        for store in folder.glob("store-v*"):
            shutil.rmtree(store, ignore_errors=True)


def kept_in(create_private: bool = True) -> Iterator[Path]:
    """The cache folder, then the private one: made on demand, removed when the process ends."""
    folder = cache_folder()
    if folder is not None:
        yield folder / STORE_NAME
    process = os.getpid()
    with _private_locks.setdefault(process, threading.Lock()):
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


@contextlib.contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """A folder inside another to work in, gone at the end; what the dead left there goes first.

    Raises:
        OSError: nothing can be made in the folder.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    sweep(folder)
    with (
        tempfile.TemporaryDirectory(
            prefix="build-", dir=folder, ignore_cleanup_errors=True
        ) as work,
        contextlib.ExitStack() as held,
    ):
        with contextlib.suppress(OSError):
            file = held.enter_context(open(Path(work, _OWNER), "wb"))
            _lock(file)  # where locks are not to be had, age alone tells
        yield Path(work)


def sweep(folder: Path) -> None:
    """Remove the workplaces of processes that were killed, and texts that they left half written.

    The system lets go of a dead process's lock, on whatever machine or in whatever container it
    ran. Where it cannot tell, what is a day old goes.
    """
    for path in _older(folder, "build-", _OLD_SECONDS):
        shutil.rmtree(path, ignore_errors=True)
    for path in _older(folder, "build-", _LEAVE_SECONDS):
        with contextlib.suppress(OSError), open(path / _OWNER, "r+b") as file:
            if _lock(file):
                shutil.rmtree(path, ignore_errors=True)
    for path in _older(folder / "text", "write-", _OLD_SECONDS):
        with contextlib.suppress(OSError):
            path.unlink()


def _older(folder: Path, prefix: str, seconds: float) -> list[Path]:
    """What begins with a prefix and has not been touched for so long."""
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(prefix):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > seconds:
                        found.append(Path(entry.path))
    return found


def _lock(file: IO[bytes]) -> bool:
    """Lock a file until it is closed; false where another process has it, or there are no locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True
