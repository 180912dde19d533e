"""Memory for large results on the CPU: pages that an earlier result has given back.

The C library returns a large block to the system as soon as it is freed, and the
next one is faulted in page by page and zeroed: a 32 MiB result costs 11 ms that
way where the kernel that fills it takes 2.  Blocks are kept here instead, as torch
keeps a GPU's.  A block lies in its own mapping; the tensor holds a view of it, and
when the last tensor on that storage goes, so does the view, and the block is free.
At most SEQC_KEEP_MIB of free blocks are kept, the ones freed last.

Marking kept blocks MADV_FREE, so that the system may take them, was tried: writing
to one again then costs half as much as a new one (forward 3.3 ms for 2.2).
"""

from __future__ import annotations

import contextlib
import math
import mmap
import threading
import weakref
from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from seqc.runtime.environment import kept_bytes

#: Smaller blocks the C library keeps by itself, more or less.
LEAST_BYTES = 4 << 20
#: Blocks are whole huge pages, so that one serves results of nearly its size.
_GRAIN = 2 << 20

_free: list[mmap.mmap] = []  # the latest last
_returned: deque[mmap.mmap] = deque()  # given back, not yet in _free
_lock = threading.Lock()


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """As ``torch.empty`` on the CPU: contiguous, its entries left as they are."""
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < LEAST_BYTES or not hasattr(mmap, "MAP_PRIVATE") or _wants_filling():
        return torch.empty(tuple(shape), dtype=dtype)
    try:
        block = _take(nbytes)
    except OSError:  # no mapping to be had: let torch say how much memory is missing
        return torch.empty(tuple(shape), dtype=dtype)
    view = memoryview(block)
    weakref.finalize(view, _give_back, block).atexit = False
    flat = torch.frombuffer(view, dtype=torch.uint8, count=nbytes)
    # Set, not viewed: autograd treats a view that leaves a function as something special.
    return torch.empty(0, dtype=dtype).set_(
        flat.untyped_storage(), 0, tuple(shape), _plain_strides(shape)
    )


def _plain_strides(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(max(e, 1) for e in shape[i + 1 :]) for i in range(len(shape)))


def _wants_filling() -> bool:
    """Whether torch fills new memory with NaN, to show what nobody has written."""
    filling = getattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    return torch.are_deterministic_algorithms_enabled() and bool(filling)


def _take(nbytes: int) -> mmap.mmap:
    """A block of at least so many bytes, and not of many more."""
    size = -(-nbytes // _GRAIN) * _GRAIN
    with _lock:
        _settle()
        fitting = [b for b in _free if size <= len(b) <= size + size // 4]
        if fitting:
            best = min(fitting, key=len)
            _free.remove(best)
            return best
    # Private: after a fork a child's results must not be its parent's.
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # Huge pages are dear the first time and cheap ever after, which is the case of a kept block.
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            block.madvise(mmap.MADV_HUGEPAGE)
    return block


def _give_back(block: mmap.mmap) -> None:
    """Keep a block whose last tensor is gone. May run anywhere, in the middle of ``_take`` too."""
    _returned.append(block)
    if _lock.acquire(blocking=False):
        try:
            _settle()
        finally:
            _lock.release()


def _settle() -> None:
    """Take in what was given back, and let go of the oldest beyond what may be kept."""
    while _returned:
        _free.append(_returned.popleft())
    spare = sum(map(len, _free)) - kept_bytes()
    while spare > 0:
        spare -= len(_free.pop(0))
