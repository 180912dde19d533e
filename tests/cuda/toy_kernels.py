"""The toy kernels in double by torch, and each one's launches: what is computed, and from what."""

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


def gradients(results: Sequence[Tensor], cotangents: Sequence[Tensor], of: dict[str, Tensor]) -> dict[str, Tensor]:
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
    toy: Toy, dtype: torch.dtype, batch: int, steps: int, lanes: int, resets: float, null_starts: bool = False, **sizes: int
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
        found = 0
        for _, letters, kind in self.backward:
            if kind == "every":
                found += -(-math.prod(sizes[a] for a in letters if a in self.inner) // parts)
        return found

    def empty(self, batch: int, lanes: int, **sizes: int) -> list[Tensor]:
        return [torch.zeros(batch, 1, lanes)]


class Strata(Toy):
    name, kernels = "strata", ("StrataForward", "StrataBackward")
    forward_scans = backward_scans = ((2, 1, False), (2, 1, False))
    forward = (
        ("z", "bth", "storage"), ("g", "bt", "storage"), ("x", "bth", "storage"),
        ("w", "h", "state"), ("m", "bth", "truth"),
        ("h_start", "bh", "state"), ("n_start", "bh", "state"),
        ("h_fresh", "bh", "state"), ("n_fresh", "bh", "state"), ("resets", "bt", "truth"),
        ("h!", "bth", "storage"), ("h_last!", "bh", "state"), ("n_last!", "bh", "state"),
        ("n_kept!", "bth", "storage"),
    )  # fmt: skip
    backward = (
        ("z", "bth", "storage"), ("g", "bt", "storage"), ("x", "bth", "storage"),
        ("c_h", "bth", "storage"), ("w", "h", "state"), ("m", "bth", "truth"),
        ("h_kept", "bth", "storage"), ("h_start", "bh", "state"), ("h_fresh", "bh", "state"),
        ("n_kept", "bth", "storage"), ("n_start", "bh", "state"), ("n_fresh", "bh", "state"),
        ("c_n_last", "bh", "state"), ("c_h_last", "bh", "state"),
        ("d_n_fresh!", "kbh", "left"), ("d_h_fresh!", "kbh", "left"), ("resets", "bt", "truth"),
        ("d_z!", "bth", "storage"), ("d_g!", "bt#", "fold"), ("d_x!", "bth", "storage"),
        ("d_w!", "kbh", "sum"), ("d_n_start!", "bh", "state"), ("d_h_start!", "bh", "state"),
    )  # fmt: skip

    def define(self, draw: Draw, batch: int, steps: int, lanes: int, **sizes: int) -> Any:
        lead = (batch, steps)
        i = {
            "z": draw(*lead, lanes), "g": draw(*lead), "x": draw(*lead, lanes), "w": draw(lanes),
            "m": draw.truths(0.7, *lead, lanes),
            **{f"{n}_{k}": draw(batch, lanes) for n in "hn" for k in ("start", "fresh")},
        }  # fmt: skip

        def step(t: int, h: Tensor, n: Tensor) -> Any:
            g = i["g"][:, t, None]
            h = torch.sigmoid(i["z"][:, t] + g + i["w"]) * h + i["m"][:, t] * i["x"][:, t]
            n = torch.sigmoid(h) * n + i["x"][:, t] * g
            return [h], [h, n]

        return i, step, ["h"]


class Coupled(Toy):
    name, kernels, scalars = "coupled", ("CoupledForward", "CoupledBackward"), (0.9,)
    forward_scans, backward_scans = ((6, 2, False), (2, 1, False)), ((2, 1, False), (6, 2, False))
    forward = (
        ("z", "bth", "storage"), ("x", "bth", "storage"), ("p", "h", "state"), ("q", "", "state"),
        *((f"{n}_start", "bh", "state") for n in "uvw"),
        *((f"{n}_fresh", "bh", "state") for n in "uvw"), ("resets", "bt", "truth"),
        ("y!", "bth", "storage"), *((f"{n}_last!", "bh", "state") for n in "uvw"),
        *((f"{n}_kept!", "bth", "storage") for n in "uvw"),
    )  # fmt: skip
    backward = (
        ("z", "bth", "storage"), ("c_y", "bth", "storage"), ("p", "h", "state"), ("q", "", "state"),
        *((f"{n}_{k}", "bth" if k == "kept" else "bh", "storage" if k == "kept" else "state")
          for n in "uvw" for k in ("kept", "start", "fresh")),
        *((f"c_{n}_last", "bh", "state") for n in "wuv"),
        *((f"d_{n}_fresh!", "kbh", "left") for n in "wuv"), ("resets", "bt", "truth"),
        ("d_z!", "bth", "storage"), ("d_x!", "bth", "storage"),
        ("d_p!", "kbh", "sum"), ("d_q!", "kbh", "sum"),
        *((f"d_{n}_start!", "bh", "state") for n in "wuv"),
    )  # fmt: skip

    def define(self, draw: Draw, batch: int, steps: int, lanes: int, **sizes: int) -> Any:
        lead = (batch, steps)
        i = {
            "z": draw(*lead, lanes), "x": draw(*lead, lanes), "p": 0.3 * draw(lanes),
            "q": 0.3 * draw(1)[0],
            **{f"{n}_{k}": draw(batch, lanes) for n in "uvw" for k in ("start", "fresh")},
        }  # fmt: skip
        i["p"], i["q"] = i["p"].to(draw.dtype).double(), i["q"].to(draw.dtype).double()

        def step(t: int, u: Tensor, v: Tensor, w: Tensor) -> Any:
            f = 0.9 * torch.sigmoid(i["z"][:, t])
            new = f * u + i["p"] * v + i["x"][:, t]
            v = i["q"] * u + f * v
            w = f * w + new
            return [w + v], [new, v, w]

        return i, step, ["y"]


class MaxPlus(Toy):
    name, kernels, axes = "maxplus", ("MaxPlus", ""), "oh"
    forward_scans = ((2, 1, False),)
    forward = (
        ("a", "btoh", "storage"), ("b", "btoh", "storage"), ("h_start", "boh", "state"),
        ("h_fresh", "boh", "state"), ("resets", "bt", "truth"), ("h!", "btoh", "storage"),
        ("h_last!", "boh", "state"),
    )  # fmt: skip

    def define(self, draw: Draw, batch: int, steps: int, lanes: int, **sizes: int) -> Any:
        shape = (batch, steps, sizes["o"], lanes)
        i = {
            "a": draw(*shape), "b": draw(*shape),
            **{f"h_{k}": draw(batch, sizes["o"], lanes) for k in ("start", "fresh")},
        }  # fmt: skip

        def step(t: int, h: Tensor) -> Any:
            h = torch.maximum(h + i["a"][:, t], i["b"][:, t])
            return [h], [h]

        return i, step, ["h"]

    def empty(self, batch: int, lanes: int, **sizes: int) -> list[Tensor]:
        return [torch.zeros(batch, 1, sizes["o"], lanes)]


class Ssm(Toy):
    name, kernels, axes, inner = "ssm", ("SsmForward", "SsmBackward"), "hs", "s"
    forward_scans = backward_scans = ((2, 1, True),)
    forward = (
        ("d", "bth", "storage"), ("B", "bts", "storage"), ("x", "bth", "storage"),
        ("C", "bts", "storage"), ("A", "hs", "state"), ("e", "h", "state"), ("D", "h", "state"),
        ("h_start", "bhs", "state"), ("h_fresh", "bhs", "state"), ("resets", "bt", "truth"),
        ("y!", "bth", "storage"), ("h_last!", "bhs", "state"), ("h_kept!", "Tbhs", "every"),
    )  # fmt: skip
    backward = (
        ("d", "bth", "storage"), ("B", "bts", "storage"), ("x", "bth", "storage"),
        ("C", "bts", "storage"), ("c_y", "bth", "storage"), ("A", "hs", "state"),
        ("e", "h", "state"), ("D", "h", "state"), ("h_kept", "Tbhs", "every"),
        ("h_start", "bhs", "state"), ("h_fresh", "bhs", "state"), ("c_h_last", "bhs", "state"),
        ("d_h_fresh!", "kbhs", "left"), ("resets", "bt", "truth"), ("d_d!", "bth", "storage"),
        ("d_B!", "bts#", "fold"), ("d_x!", "bth", "storage"), ("d_C!", "bts#", "fold"),
        ("d_A!", "kbhs", "sum"), ("d_e!", "kbh", "sum"), ("d_D!", "kbh", "sum"),
        ("d_h_start!", "bhs", "state"),
    )  # fmt: skip

    def define(self, draw: Draw, batch: int, steps: int, lanes: int, **sizes: int) -> Any:
        lead, slots = (batch, steps), sizes["s"]
        i = {
            "d": draw(*lead, lanes), "B": draw(*lead, slots), "x": draw(*lead, lanes),
            "C": draw(*lead, slots), "A": draw(lanes, slots).abs(), "e": draw(lanes),
            "D": draw(lanes),
            **{f"h_{k}": draw(batch, lanes, slots) for k in ("start", "fresh")},
        }  # fmt: skip

        def step(t: int, h: Tensor) -> Any:
            rate = torch.nn.functional.softplus(i["d"][:, t] + i["e"])
            entering = (rate * i["x"][:, t])[..., None] * i["B"][:, t, None, :]
            h = torch.exp(-i["A"] * rate[..., None]) * h + entering
            return [(h * i["C"][:, t, None, :]).sum(-1) + i["D"] * i["x"][:, t]], [h]

        return i, step, ["y"]


class Plane(Toy):
    name, kernels, axes, inner = "plane", ("PlaneForward", "PlaneBackward"), "oijh", "ij"
    forward = (
        ("a", "btoi", "storage"), ("k", "btj", "storage"), ("x", "bth", "storage"),
        ("S_start", "boijh", "state"), ("m_start", "boih", "state"),
        ("S_fresh", "boijh", "state"), ("m_fresh", "boih", "state"), ("resets", "bt", "truth"),
        ("y!", "btoh", "storage"), ("m!", "btoih", "storage"), ("S_last!", "boijh", "state"),
        ("m_last!", "boih", "state"), ("S_kept!", "Tboijh", "every"), ("m_kept!", "Tboih", "every"),
    )  # fmt: skip
    backward = (
        ("a", "btoi", "storage"), ("k", "btj", "storage"), ("x", "bth", "storage"),
        ("c_y", "btoh", "storage"), ("c_m", "btoih", "storage"),
        ("S_kept", "Tboijh", "every"), ("S_start", "boijh", "state"), ("S_fresh", "boijh", "state"),
        ("m_kept", "Tboih", "every"), ("m_start", "boih", "state"), ("m_fresh", "boih", "state"),
        ("c_S_last", "boijh", "state"), ("c_m_last", "boih", "state"),
        ("d_S_fresh!", "kboijh", "left"), ("d_m_fresh!", "kboih", "left"), ("resets", "bt", "truth"),
        ("d_a!", "btoi#", "fold"), ("d_k!", "btoj#", "fold"), ("d_x!", "btoh", "storage"),
        ("d_S_start!", "boijh", "state"), ("d_m_start!", "boih", "state"),
    )  # fmt: skip

    def define(self, draw: Draw, batch: int, steps: int, lanes: int, **sizes: int) -> Any:
        lead, (o, n, m) = (batch, steps), (sizes[a] for a in "oij")
        i = {
            "a": draw(*lead, o, n), "k": draw(*lead, m), "x": draw(*lead, lanes),
            **{f"S_{k}": draw(batch, o, n, m, lanes) for k in ("start", "fresh")},
            **{f"m_{k}": draw(batch, o, n, lanes) for k in ("start", "fresh")},
        }  # fmt: skip

        def step(t: int, S: Tensor, m: Tensor) -> Any:
            k = i["k"][:, t, None, None, :, None]
            S = torch.sigmoid(i["a"][:, t])[..., None, None] * S + k * i["x"][:, t, None, None, None]
            m = 0.5 * m + torch.tanh(S.sum(3))
            return [(m[:, :, :, None] * S * k).sum((2, 3)), m], [S, m]

        return i, step, ["y", "m"]

    def empty(self, batch: int, lanes: int, **sizes: int) -> list[Tensor]:
        o, i = sizes["o"], sizes["i"]
        return [torch.zeros(batch, 1, o, lanes), torch.zeros(batch, 1, o, i, lanes)]


TOYS = {t.name: t for t in (Strata(), Coupled(), MaxPlus(), Ssm(), Plane())}


def run(toy: Toy, case: Case, direction: str, schedule: str, every: int = 4, **how: Any) -> dict[str, Tensor]:
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
        letters = letters.replace("#", "").replace("k", "" if kinds[name] in ("sum", "left") else "k")
        own = next((a for n, a, _ in toy.forward if n == name.removeprefix("d_")), letters)
        if name.startswith("d_"):
            x = x.sum([i for i, a in enumerate(letters) if a not in own]) if letters != own else x
        assert x.shape == want.shape, (name, x.shape, want.shape)
        scale = want.abs().max().clamp(min=1) if want.numel() else torch.ones(())
        found[name] = float(((x - want).abs().max() / scale)) if want.numel() else 0.0
    return found
