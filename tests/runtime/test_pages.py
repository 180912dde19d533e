"""Kept pages: a block serves again once nothing holds it, and never before."""

from __future__ import annotations

import copy
import gc
import os
import threading

import pytest
import torch

from seqc.runtime import pages
from seqc.runtime.environment import kept_bytes

MIB = 1 << 20


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    pages._free.clear()
    pages._returned.clear()
    monkeypatch.setenv("SEQC_KEEP_MIB", "64")


def make(mib: int = 8, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return pages.empty((mib, MIB // dtype.itemsize), dtype)


def test_a_result_is_an_ordinary_tensor():
    x = pages.empty((3, 1, 1 << 20), torch.float64)
    assert x.shape == (3, 1, 1 << 20)
    assert x.is_contiguous()
    assert x._base is None
    assert x.data_ptr() % 64 == 0
    x.fill_(2.0).requires_grad_()
    (x * x).sum().backward()
    assert x.grad is not None
    assert bool((x.grad == 4.0).all())
    with torch.no_grad():
        x.add_(1.0)
    assert bool((copy.deepcopy(x.detach()) == 3.0).all())


@pytest.mark.parametrize("shape", [(0,), (0, 4), (5, 0, 3), (7,), ()])
def test_a_small_or_empty_one_is_torchs_own(shape):
    x = pages.empty(shape, torch.float32)
    assert x.shape == shape
    assert not pages._free
    assert not pages._returned


def test_a_freed_block_serves_again_and_a_held_one_does_not():
    x = make().fill_(1.0)
    row, where = x[3], x.data_ptr()
    del x
    y = make().fill_(2.0)
    assert y.data_ptr() != where
    assert bool((row == 1.0).all())
    del row
    gc.collect()
    assert make().data_ptr() == where


def test_results_alive_at_once_do_not_overlap():
    held = [make().fill_(float(i)) for i in range(6)]
    del held[::2]
    held += [make().fill_(float(i)) for i in range(10, 14)]
    assert [float(h.min()) for h in held] == [float(h.max()) for h in held]
    assert sorted({float(h[0, 0]) for h in held}) == [1.0, 3.0, 5.0, 10.0, 11.0, 12.0, 13.0]


def test_a_block_serves_nearly_its_size_alone():
    where = make(16).data_ptr()
    assert make(15).data_ptr() == where
    assert make(5).data_ptr() != where


def test_no_more_is_kept_than_allowed(monkeypatch):
    held = [make(16) for _ in range(6)]
    del held
    make(4)
    assert sum(map(len, pages._free)) + sum(map(len, pages._returned)) <= 64 * MIB
    monkeypatch.setenv("SEQC_KEEP_MIB", "0")
    make(16)
    assert not pages._free
    assert not pages._returned


def test_the_switch_is_checked(monkeypatch):
    monkeypatch.setenv("SEQC_KEEP_MIB", "plenty")
    with pytest.raises(ValueError, match="SEQC_KEEP_MIB is 'plenty'"):
        kept_bytes()
    monkeypatch.delenv("SEQC_KEEP_MIB")
    assert kept_bytes() > 0


def test_torchs_filling_of_new_memory_still_shows_what_nobody_wrote():
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        assert bool(make().isnan().all())
    finally:
        torch.use_deterministic_algorithms(before)


def test_threads_never_share_a_block():
    wrong: list[float] = []

    def work(number: int) -> None:
        for _ in range(40):
            x = make(4).fill_(float(number))
            if not bool((x == number).all()):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_process_does_not_write_into_its_parents_results():
    x = make().fill_(1.0)
    pid = os.fork()
    if pid == 0:
        x.view(torch.uint8).untyped_storage()[0] = 7  # no thread pool after a fork
        os._exit(0)
    os.waitpid(pid, 0)
    assert bool((x == 1.0).all())
