"""The cells of torchrecurrent beside those of ``seqc.zoo.gallery``: which parameter is which.

The gallery's layers are held to torchrecurrent's (MIT licence; test dependency) by
``tests/zoo/test_gallery.py``, and timed against them by ``benchmarks.gallery``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import seqc
from seqc.zoo import gallery


@dataclass(frozen=True)
class Cell:
    """A layer of the gallery and what it has of torchrecurrent's layer of that name.

    ``maps`` says of which map or parameter each of theirs is: "hh" is weight_hh and bias_hh,
    "hh 0,2/4" their first and third quarter of rows, "weight_hh" or "bias_hh 1/2" that alone.
    ``states`` are the fields of our state in the order of theirs. ``options`` are theirs,
    ``numbers`` ours, where they differ from the defaults.
    """

    maps: Mapping[str, str]
    states: tuple[str, ...] = ("h",)
    theirs: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)
    square: bool = False


HC = ("h", "c")
PLAIN = {"g.x": "ih", "g.h": "hh"}
PEEPHOLES = {"ci": "weight_ph 0/3", "cf": "weight_ph 1/3", "co": "weight_ph 2/3"}

CELLS: Mapping[str, Cell] = {
    "AntisymmetricRNN": Cell({"v": "ih", "w": "weight_hh", "c": "bias_hh"}),
    "GatedAntisymmetricRNN": Cell({"v": "ih", "w": "weight_hh", "c": "bias_hh"}),
    "ATR": Cell({"p": "ih", "q": "hh"}),
    "BR": Cell({"u": "ih", "wa": "weight_hh 0/2", "wc": "weight_hh 1/2",
                "ba": "bias_hh 0/2", "bc": "bias_hh 1/2"}),
    "NBR": Cell({"u": "ih", "w": "hh"}),
    "CFN": Cell({"v": "ih", "u": "hh"}),
    "coRNN": Cell({"v": "ih", "w": "hh", "u": "ch"}, ("y", "z")),
    "UnICORNN": Cell({"v": "ih", "w": "weight_hh", "c": "weight_ch"}, ("y", "z")),
    "FastRNN": Cell({"w": "ih", "u": "hh", "alpha": "alpha", "beta": "beta"}),
    # The paper's gate is a sigmoid.
    "FastGRNN": Cell({"w": "weight_ih", "u": "weight_hh", "bz": "bias_ih 0/2", "bh": "bias_ih 1/2",
                      "cz": "bias_hh 0/2", "ch": "bias_hh 1/2", "zeta": "zeta", "nu": "nu"},
                     options={"nonlinearity": "sigmoid"}),
    "IndRNN": Cell({"w": "ih", "u": "vector_u", "c": "bias_hh"}),
    "UGRNN": Cell(PLAIN),
    "IntersectionRNN": Cell(PLAIN, square=True),
    "JANET": Cell({**PLAIN, "beta": "beta"}, HC),
    "LEM": Cell({"v": "ih", "w": "hh", "u": "ch"}, ("y", "z")),
    "LiGRU": Cell(PLAIN),
    "LightRU": Cell({"v": "ih", "f": "hh"}),
    "OriginalLSTM": Cell(PLAIN, HC),
    "PeepholeLSTM": Cell({**PLAIN, **PEEPHOLES}, HC),
    "MultiplicativeLSTM": Cell({"v": "ih", "u": "hh", "g": "mh"}, HC),
    "ResLSTM": Cell({**PLAIN, **PEEPHOLES, "y.p": "weight_proj", "y.x": "weight_res"}, HC),
    "WMCLSTM": Cell({**PLAIN, "m": "mh 0,1/3", "n": "mh 2/3"}, HC),
    "MCLSTM": Cell({"g.x": "ih", "g.v": "hh"}, ("v", "c")),
    "MGU": Cell({"w": "ih", "f": "hh 0/2", "v": "hh 1/2"}),
    "MinimalRNN": Cell({"z": "ih", "r.h": "hh", "r.z": "weight_mm"}),
    "MiRU1": Cell({"w": "ih", "r": "hh 0/2", "v": "hh 1/2"}),
    "MiRU2": Cell({"w": "ih", "v": "hh"}),
    "MUT1": Cell({"w": "ih", "r": "hh 0/2", "u": "hh 1/2"}),
    "MUT2": Cell({"w": "ih", "z": "hh 0/3", "r": "hh 1/3", "u": "hh 2/3"}),
    "MUT3": Cell({"w": "ih", "z": "hh 0/3", "r": "hh 1/3", "u": "hh 2/3"}),
    "NAS": Cell(PLAIN, HC),
    "RAN": Cell({"w": "weight_ih 0/3", "v.weight": "weight_ih 1,2/3", "v.bias": "bias_ih",
                 "u": "hh"}, HC),
    "SCRN": Cell({"a": "ih", "p": "ch", "r": "hh 0/2", "h": "hh 1/2", "alpha": "alpha"},
                 ("h", "s")),
    "SGRN": Cell({"w": "ih", "u": "hh"}),
    "SGU": Cell({"w": "ih", "g": "hh 0/2", "u": "hh 1/2"}),
    "DSGU": Cell({"w": "ih", "g": "hh 0/2", "u": "hh 1/2", "v": "weight_ho"}),
    "STAR": Cell({"w": "ih", "k": "hh"}),
    "TauGRU": Cell({"v": "ih", "w": "hh 0,2,3/4", "z": "hh 1/4"}, theirs="tauGRU",
                   options={"delay": 3}, numbers={"delay": 3}),
    "TRNN": Cell({"w": "ih"}),
    "TGRU": Cell({"w.x": "ih", "w.past": "hh"}, ("h", "x")),
    "TLSTM": Cell({"w.x": "ih", "w.past": "hh"}, ("c", "x")),
}  # fmt: skip


class ExactHardsigmoid(nn.Module):
    """torch.nn.Hardsigmoid with its slope in the precision of its argument."""

    def forward(self, x: Tensor) -> Tensor:
        """Like sigmoid, of three straight pieces."""
        return functional.relu6(x + 3) / 6


def built(
    name: str, width: int, hidden: int, dtype: torch.dtype, **options: Any
) -> tuple[Any, Any]:
    """Our layer and theirs, of one width in and out where the cell wants it; torch's draws."""
    import torchrecurrent

    cell = CELLS[name]
    width = hidden if cell.square else width
    sizes = {"hidden": hidden} if cell.square else {"input": width, "hidden": hidden}
    with warnings.catch_warnings():
        # That a layer runs step by step is what the table is to say.
        warnings.simplefilter("ignore", seqc.SeqcWarning)
        ours = getattr(gallery, name)(**sizes, **cell.numbers, dtype=dtype, **options)
    made = getattr(torchrecurrent, cell.theirs or name)
    theirs = made(width, hidden, batch_first=True, **cell.options).to(dtype)
    if isinstance(getattr(theirs.cells[0], "gate_act", None), nn.Hardsigmoid):
        # Torch's derivative is a sixth in float32, whatever precision it is asked for.
        theirs.cells[0].gate_act = ExactHardsigmoid()
    return ours, theirs


def correspondence(name: str, ours: Any) -> dict[str, tuple[str, tuple[int, ...], int]]:
    """Of each of our parameters: their parameter, which blocks of its rows, of how many."""
    found = {}
    mine = [n for n, _ in ours.named_parameters()]
    for of, text in CELLS[name].maps.items():
        what, _, part = text.partition(" ")
        blocks, _, count = part.partition("/")
        where = tuple(map(int, blocks.split(","))) if part else (0,)
        whole = what.startswith(("weight_", "bias_")) or of in mine
        for kind in ("weight", "bias"):
            called = of if of in mine else f"{of}.{kind}"
            if called in mine and (kind == "weight" or not whole):
                found[called] = (what if whole else f"{kind}_{what}", where, int(count or 1))
    return found


def their_rows(p: Tensor, blocks: tuple[int, ...], count: int) -> Tensor:
    """Some blocks of a parameter's rows, one below the other; a number as a row of one."""
    rows = p.reshape(1) if p.dim() == 0 else p
    return torch.cat([rows.chunk(count)[b] for b in blocks])


@torch.no_grad()
def give_weights(name: str, ours: Any, theirs: Any) -> None:
    """Our layer gets the numbers of theirs."""
    cell = dict(theirs.cells[0].named_parameters())
    for mine, (called, blocks, count) in correspondence(name, ours).items():
        ours.get_parameter(mine).copy_(their_rows(cell[called], blocks, count))


def their_state(name: str, state: Any) -> Any:
    """Our state as they take it: (1, B, H), or a pair of such, of the inputs seen a tuple."""
    parts = []
    for called in CELLS[name].states:
        value = getattr(state, called)
        if called == "x":
            parts.append((value[:, -1],))
        else:
            parts.append((value[:, -1] if value.dim() == 3 else value).unsqueeze(0))
    return parts[0] if len(parts) == 1 else tuple(parts)


def our_fields(name: str, state: Any) -> tuple[Tensor, ...]:
    """Their final state as the fields of ours that it has, each (B, width)."""
    parts = (state,) if isinstance(state, Tensor) else state
    return tuple(p[0] for p in parts)
