"""The toy kernels: their equations in torch, and the signatures of their two kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.cuda.toy_cases import Draw, Toy


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
        ("d_S_fresh!", "kboijh", "left"), ("d_m_fresh!", "kboih", "left"),
        ("resets", "bt", "truth"),
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
            S = (
                torch.sigmoid(i["a"][:, t])[..., None, None] * S
                + k * i["x"][:, t, None, None, None]
            )
            m = 0.5 * m + torch.tanh(S.sum(3))
            return [(m[:, :, :, None] * S * k).sum((2, 3)), m], [S, m]

        return i, step, ["y", "m"]

    def empty(self, batch: int, lanes: int, **sizes: int) -> list[Tensor]:
        o, i = sizes["o"], sizes["i"]
        return [torch.zeros(batch, 1, o, lanes), torch.zeros(batch, 1, o, i, lanes)]


TOYS = {t.name: t for t in (Strata(), Coupled(), MaxPlus(), Ssm(), Plane())}
