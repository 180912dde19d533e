"""Cases of toy kernels: inputs drawn, results by torch in double, launches, differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.cuda.schedules import MARCH_LANES, WARP, Entry, Launch

Step = Callable[..., tuple[Sequence[Tensor], Sequence[Tensor]]]


@dataclass
class Case:
    """One shape of a toy: ``inputs`` by name, and what torch makes of them."""

    dtype: torch.dtype
    batch: int
    steps: int
    lanes: int
    resets: Tensor | None
    inputs: dict[str, Tensor]
    results: dict[str, Tensor]
    null_starts: bool = False


class Draw:
    """Random tensors, rounded to a dtype, in double."""

    def __init__(self, dtype: torch.dtype, seed: int = 0) -> None:
        self.dtype, self.generator = dtype, torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int) -> Tensor:
        made = torch.randn(*shape, generator=self.generator, dtype=torch.float64)
        return made.to(self.dtype).double()

    def truths(self, share: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator) < share


def loop(
    step: Step, starts: Sequence[Tensor], fresh: Sequence[Tensor], resets: Tensor | None, steps: int
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Outputs, the states after every step, and the last: in the order of the arguments."""
    state, outs, states = list(starts), [], []
    for t in range(steps):
        if resets is not None:
            at = [resets[:, t].view(-1, *[1] * (s.dim() - 1)) for s in state]
            state = [torch.where(a, f, s) for a, f, s in zip(at, fresh, state, strict=True)]
        out, state = step(t, *state)
        outs.append(out)
        states.append(state)
    stacked = [torch.stack(x, 1) for x in zip(*outs, strict=True)] if steps else []
    kept = [torch.stack(x, 1) for x in zip(*states, strict=True)] if steps else []
    return stacked, kept, list(state)


def gradients(
    results: Sequence[Tensor], cotangents: Sequence[Tensor], of: dict[str, Tensor]
) -> dict[str, Tensor]:
    """d_ of each name; zeros where nothing depends on it."""
    total = sum(((r * c).sum() for r, c in zip(results, cotangents, strict=True)), torch.zeros(()))
    if not total.requires_grad:
        return {f"d_{n}": torch.zeros_like(x) for n, x in of.items()}
    found = torch.autograd.grad(total, list(of.values()), allow_unused=True)
    return {
        f"d_{n}": torch.zeros_like(x) if g is None else g
        for (n, x), g in zip(of.items(), found, strict=True)
    }


def make(
    toy: Toy,
    dtype: torch.dtype,
    batch: int,
    steps: int,
    lanes: int,
    resets: float,
    null_starts: bool = False,
    **sizes: int,
) -> Case:
    """Draw a case, and compute it in double."""
    draw = Draw(dtype)
    mask = draw.truths(resets, batch, steps) if resets else None
    if mask is not None and steps > 2:
        mask[:, steps // 2] = True
    inputs, step, names = toy.define(draw, batch, steps, lanes, **sizes)
    for name, x in inputs.items():
        if x.is_floating_point():
            if null_starts and name.endswith("_start"):
                x.zero_()
            x.requires_grad_()
    carried = [n.removesuffix("_start") for n in inputs if n.endswith("_start")]
    starts = [inputs[f"{n}_start"] for n in carried]
    fresh = [inputs[f"{n}_fresh"] for n in carried]
    outs, kept, last = loop(step, starts, fresh, mask, steps)
    if not steps:
        outs = [x[:, :0] for x in toy.empty(batch, lanes, **sizes)]
        kept = [x.unsqueeze(1)[:, :0] for x in starts]
    results = dict(zip(names, outs, strict=True))
    results |= {f"{n}_last": x for n, x in zip(carried, last, strict=True)}
    cotangents = {f"c_{n}": draw(*x.shape) for n, x in results.items()}
    if null_starts:
        for n in carried:
            cotangents[f"c_{n}_last"].zero_()
    of = {n: x for n, x in inputs.items() if x.is_floating_point()}
    found = gradients(list(results.values()), list(cotangents.values()), of)
    results |= {f"{n}_kept": x for n, x in zip(carried, kept, strict=True)}
    everything = {n: x.detach() for n, x in {**results, **found}.items()}
    given = {n: x.detach() for n, x in {**inputs, **cotangents}.items()}
    return Case(dtype, batch, steps, lanes, mask, given, everything, null_starts)


class Toy:
    """A toy: its equations, and the signatures of its two kernels.

    ``forward`` and ``backward`` name each entry of the signature with its axes; a name that ends
    with ``!`` is written.
    """

    name = ""
    axes = "h"
    inner = ""
    forward: tuple[tuple[str, str, str], ...] = ()
    backward: tuple[tuple[str, str, str], ...] = ()
    kernels = ("", "")
    forward_scans: tuple[tuple[int, int, bool], ...] = ()
    backward_scans: tuple[tuple[int, int, bool], ...] = ()
    scalars: tuple[float, ...] = ()

    def define(self, draw: Draw, batch: int, steps: int, lanes: int, **sizes: int) -> Any:
        """Its inputs, a step of time, and the names of what a step hands out."""
        raise NotImplementedError

    def record(self, sizes: dict[str, int], parts: int) -> int:
        """Numbers a thread of a state that is computed again."""
        shared = max(self.inner, key=lambda a: sizes[a], default="")
        own = {a: -(-sizes[a] // parts) if a == shared else sizes[a] for a in self.inner}
        return sum(
            math.prod(own[a] for a in letters if a in own)
            for _, letters, kind in self.backward if kind == "every"
        )  # fmt: skip

    def empty(self, batch: int, lanes: int, **sizes: int) -> list[Tensor]:
        return [torch.zeros(batch, 1, lanes)]


def run(
    toy: Toy, case: Case, direction: str, schedule: str, every: int = 4, **how: Any
) -> dict[str, Tensor]:
    """Launch a toy's kernel; what it wrote, sums over blocks and chunks being made here."""
    forward = direction == "forward"
    signature = toy.forward if forward else toy.backward
    sizes = how.pop("sizes", {})
    axes = {a: sizes.get(a, case.lanes) for a in toy.axes}
    launch = Launch(
        toy.name, toy.kernels[not forward], case.dtype, case.batch, case.steps, axes, "h", (),
        inner=toy.inner, scans=toy.forward_scans if forward else toy.backward_scans,
        scalars=toy.scalars, folds=any(k == "fold" for _, _, k in signature),
        again=0 if forward else toy.record(sizes, how.get("parts", 1)),
        every=every if toy.inner else 0, **how,
    )  # fmt: skip
    extents = {**axes, "b": case.batch, "t": case.steps}
    extents["k"] = launch.chunks() if schedule == "scan" else 1
    extents["T"] = -(-case.steps // every)
    block = MARCH_LANES if toy.inner and schedule == "march" else WARP // launch.parts
    extents["#"] = -(-case.lanes // block)
    types = {
        "storage": case.dtype, "state": launch.wide, "left": launch.wide, "every": launch.wide,
        "fold": launch.wide, "sum": torch.float64, "truth": torch.bool,
    }  # fmt: skip
    entries, written = [], {}
    for name, letters, kind in signature:
        plain = name.removesuffix("!")
        dtype = types[kind]
        found: Tensor | None
        if name.endswith("!"):
            shape = [extents[a] for a in letters]
            # What was not written is not right.
            found = torch.full(shape, torch.nan, dtype=dtype)
            written[plain] = (found, letters)
            if kind == "left" and case.resets is None:
                found = None
        elif plain == "resets":
            found = case.resets
        elif plain.endswith("_kept"):
            found = case.results[plain]
            if kind == "every":
                found = now_and_then(case, plain, every).contiguous()
            found = found.to(dtype)
        else:
            found = case.inputs[plain].to(dtype)
            if case.null_starts and (plain.endswith("_last") or plain.endswith("_start")):
                found = None
        # Of what chunks have each for themselves a kernel is told the strides of the rest.
        entries.append(Entry(found, letters.replace("k", "?").replace("T", "t")))
    launch.entries = entries
    launch.run(schedule)
    results = {}
    for name, (found, letters) in written.items():
        if name.endswith("_fresh") and case.resets is None:
            continue
        for a in "k#":
            if a in letters:
                found = found.double().sum(letters.index(a))
                letters = letters.replace(a, "")
        results[name] = found
    return results


def now_and_then(case: Case, name: str, every: int) -> Tensor:
    """The states before every so many steps, time first."""
    start = case.inputs[name.replace("_kept", "_start")]
    before = torch.cat([start[:, None], case.results[name]], 1)[:, : case.steps]
    return before[:, ::every].transpose(0, 1)


def errors(toy: Toy, case: Case, got: dict[str, Tensor], every: int = 4) -> dict[str, float]:
    """How far each result is from torch's, beside the largest number there."""
    kinds = {n.removesuffix("!"): k for n, _, k in (*toy.forward, *toy.backward)}
    found = {}
    for name, x in got.items():
        want = now_and_then(case, name, every) if kinds[name] == "every" else case.results[name]
        x = x.double()
        # What a kernel finds along more axes than a gradient has is summed by whoever launches it.
        letters = next(a for n, a, _ in (*toy.forward, *toy.backward) if n == f"{name}!")
        letters = letters.replace("#", "").replace(
            "k", "" if kinds[name] in ("sum", "left") else "k"
        )
        own = next((a for n, a, _ in toy.forward if n == name.removeprefix("d_")), letters)
        if name.startswith("d_"):
            x = x.sum([i for i, a in enumerate(letters) if a not in own]) if letters != own else x
        assert x.shape == want.shape, (name, x.shape, want.shape)
        scale = want.abs().max().clamp(min=1) if want.numel() else torch.ones(())
        found[name] = float((x - want).abs().max() / scale) if want.numel() else 0.0
    return found
