"""Kernels against the oracle: outputs, final states and gradients, in each dtype."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from seqc.commands.verify_judging import (
    CEILING,
    FLOAT64,
    FLOOR,
    GRADIENT_FLOOR,
    NAMES,
    fallen,
    judge,
)
from seqc.commands.verify_report import Check
from seqc.commands.verify_subject import Feed, Run, Subject, discrepancy, execute, widen

# What is the same for every backend: (case, dtype) -> feed, truth, plain PyTorch in that dtype.
Oracles = dict[tuple[int, torch.dtype], tuple[Feed, Run, "Run | None"]]


def accuracy(
    cases: Sequence[tuple[Subject, int, int]],
    backend: str,
    dtype: torch.dtype,
    oracles: Oracles,
) -> Iterator[Check]:
    """Three rows for a backend in a dtype: the worst of each over the cases.

    A case is a subject, a batch and a number of steps.
    """
    parts = ("outputs", "states", "gradients")
    worst = {part: (0.0, _floor(dtype, part), "") for part in parts}
    hopeless = set()
    try:
        for number, (subject, batch, time) in enumerate(cases):
            if (number, dtype) not in oracles:
                oracles[number, dtype] = _oracle(subject, batch, time, dtype)
            feed, truth, plain = oracles[number, dtype]
            got = execute(subject.layer(backend, dtype), feed)
            for part in parts:
                bound = _bound(dtype, part, truth, plain)
                if bound > CEILING[dtype]:
                    hopeless.add(part)
                    continue
                error, where = discrepancy(getattr(got, part), getattr(truth, part))
                # The worst is what comes nearest to its own bound, or goes furthest beyond it.
                if not error / bound <= worst[part][0] / worst[part][1]:
                    worst[part] = error, bound, f"{where} (batch {batch}, {time} steps)"
    except Exception as caught:
        yield fallen("against the reference", backend, NAMES[dtype], caught)
        return
    for part in parts:
        name = "final states" if part == "states" else part
        check = judge(name, backend, dtype, *worst[part])
        if part in hopeless and check.status == "ok":
            text = "plain PyTorch itself loses everything in this dtype"
            check = Check(name, backend, NAMES[dtype], "n/a", detail=text)
        yield check


def _oracle(
    subject: Subject, batch: int, time: int, dtype: torch.dtype
) -> tuple[Feed, Run, Run | None]:
    """The feed, the truth, and plain PyTorch in the same dtype (None in float64: the truth)."""
    feed = subject.feed(batch, time, dtype)
    truth = execute(subject.layer("reference", FLOAT64, values=dtype), widen(feed))
    if dtype == FLOAT64:
        return feed, truth, None
    return feed, truth, execute(subject.layer("reference", dtype), feed)


def _floor(dtype: torch.dtype, part: str) -> float:
    return (GRADIENT_FLOOR if part == "gradients" else FLOOR)[dtype]


def _bound(dtype: torch.dtype, part: str, truth: Run, plain: Run | None) -> float:
    floor = _floor(dtype, part)
    if plain is None:
        return floor
    return max(floor, 3 * discrepancy(getattr(plain, part), getattr(truth, part))[0])
