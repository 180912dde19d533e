"""Kernels against the oracle: outputs, final states and gradients, in each dtype."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from seqc.commands.verify_judging import (
    CEILING,
    DRAWS,
    FLOAT64,
    FLOOR,
    GRADIENT_FLOOR,
    NAMES,
    ROUNDINGS,
    fallen,
    judge,
)
from seqc.commands.verify_report import Check
from seqc.commands.verify_subject import Feed, Run, Subject, discrepancy, execute, nudge, widen

PARTS = ("outputs", "states", "gradients")

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
    worst = {part: (0.0, _floor(dtype, part), "") for part in PARTS}
    hopeless: dict[str, str] = {}
    undefined = dict.fromkeys(PARTS, "")
    try:
        for number, (subject, batch, time) in enumerate(cases):
            if (number, dtype) not in oracles:
                oracles[number, dtype] = _oracle(subject, batch, time, dtype)
            feed, truth, plain = oracles[number, dtype]
            got = execute(subject.layer(backend, dtype), feed)
            moved: dict[str, float] = {}
            for part in PARTS:
                undefined[part] = undefined[part] or _nan(truth, part)
                error, where = discrepancy(getattr(got, part), getattr(truth, part))
                bound = _bound(dtype, part, truth, plain)
                # Few go beyond: it takes some runs of the reference.
                if bound <= CEILING[dtype] and not error <= bound:
                    moved = moved or _moved(subject, feed, truth, dtype)
                    bound = max(bound, ROUNDINGS * moved[part])
                if not bound <= CEILING[dtype]:
                    lost = "itself comes to NaN" if _nan(plain, part) else "itself loses everything"
                    hopeless.setdefault(part, f"plain PyTorch {lost} in this dtype")
                    continue
                # The worst is what comes nearest to its own bound, or goes furthest beyond it; NaN
                # goes beyond all.
                if not math.isnan(worst[part][0]) and (
                    not error / bound <= worst[part][0] / worst[part][1]
                ):
                    worst[part] = error, bound, f"{where} (batch {batch}, {time} steps)"
    except Exception as caught:
        yield fallen("against the reference", backend, NAMES[dtype], caught)
        return
    for part in PARTS:
        name = "final states" if part == "states" else part
        check = judge(name, backend, dtype, *worst[part])
        if check.status == "ok" and part in hopeless:
            check = Check(name, backend, NAMES[dtype], "n/a", detail=hopeless[part])
        elif check.status == "ok" and undefined[part]:
            text = f"NaN in the reference's {undefined[part]}: left out"
            check = replace(check, detail=text)
        yield check


def _nan(run: Run | None, part: str) -> str:
    """The first tensor of a part that has a NaN, else empty."""
    named = {} if run is None else getattr(run, part)
    return next((n for n, v in named.items() if bool(torch.isnan(v).any())), "")


def _moved(subject: Subject, feed: Feed, truth: Run, dtype: torch.dtype) -> dict[str, float]:
    """How far each part of the truth moves, at most, when all that it comes from moves by a bit.

    The last bit is that of what a layer of this dtype computes in: halves compute in float32.
    """
    if dtype == FLOAT64:
        return dict.fromkeys(PARTS, 0.0)
    found = dict.fromkeys(PARTS, 0.0)
    for draw in range(DRAWS):
        layer = subject.layer("reference", FLOAT64, values=dtype)
        near = nudge(layer, widen(feed), torch.finfo(torch.float32).eps, draw)
        run = execute(layer, near)
        for part in PARTS:
            error, _ = discrepancy(getattr(run, part), getattr(truth, part))
            found[part] = max(found[part], error) if error == error else math.inf
    # A last state is one of the values on the way there, which may by chance have come together.
    values = max(found["outputs"], found["states"])
    return found | {"outputs": values, "states": values}


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
    lost, _ = discrepancy(getattr(plain, part), getattr(truth, part))
    return max(floor, 3 * lost) if lost == lost else math.inf
