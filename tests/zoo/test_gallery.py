"""The gallery held to torchrecurrent: outputs, final states, gradients, and how layers start.

On the reference backend, and on the loops in PyTorch where a layer has no kernels: nothing is
compiled here. The loader's table is ``benchmarks.gallery_cells``.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.gallery_cells import (
    CELLS,
    built,
    correspondence,
    give_weights,
    our_fields,
    their_rows,
    their_state,
)
from seqc.zoo import gallery
from tests.layer.support import HAVE_CXX, randn

TOLERANCE = 1e-9
SIZES = (3, 5)


def layers(name: str, backend: str = "reference", spread: float = 0.6) -> tuple[Any, Any]:
    """Both layers in float64, with the same parameters, none of them zero."""
    ours, theirs = built(name, *SIZES, torch.float64, backend=backend)
    with torch.no_grad():
        for k, p in enumerate(theirs.cells[0].parameters()):
            p.copy_(spread * randn(*p.shape, seed=100 + k))
    give_weights(name, ours, theirs)
    return ours, theirs


def a_state(name: str, ours: Any, batch: int) -> Any:
    """A random state that both layers can start from: they know no further past than one step."""
    start = ours(torch.zeros(batch, 0, width_of(ours), dtype=torch.float64))[1]
    drawn = [randn(*v.shape, seed=40 + k) for k, v in enumerate(start)]
    if name == "TauGRU":
        drawn[0][:, :-1] = 0
    return type(start)(*(v.requires_grad_() for v in drawn))


def width_of(ours: Any) -> int:
    return int(ours.input) if hasattr(ours, "input") else int(ours.hidden)


def close(got: Tensor, want: Tensor, what: str) -> None:
    scale = max(1.0, want.abs().max().item()) if want.numel() else 1.0
    assert got.shape == want.shape, what
    assert (got - want).abs().max().item() <= TOLERANCE * scale, what


def compare(name: str, ours: Any, theirs: Any, batch: int, steps: int) -> None:
    """Outputs, final states, and the gradients of everything by a loss of all of them."""
    x = randn(batch, steps, width_of(ours), seed=7).requires_grad_()
    state = a_state(name, ours, batch)
    y, last = ours(x, state)
    want, final = theirs(x, their_state(name, state))
    close(y, want, "output")
    finals = our_fields(name, final)
    fields = our_fields(name, their_state(name, last))
    for called, got, value in zip(CELLS[name].states, fields, finals, strict=True):
        close(got, value, called)
    cell = theirs.cells[0]
    parameters = dict(ours.named_parameters())
    cotangents = [randn(*v.shape, seed=60 + k) for k, v in enumerate((want, *finals))]

    def gradients(values: tuple[Tensor, ...], held: list[Tensor]) -> tuple[Tensor, ...]:
        loss = sum((v * c).sum() for v, c in zip(values, cotangents, strict=True))
        return torch.autograd.grad(loss, held, materialize_grads=True)

    names = [n for n, _ in cell.named_parameters()]
    count = 1 + len(state)
    mine = gradients((y, *fields), [x, *state, *parameters.values()])
    other = gradients((want, *finals), [x, *state, *cell.parameters()])
    # Of older steps than the last theirs knows nothing: τ-GRU's begin as zeros.
    for called, got, value in zip(("x", *state._fields), mine[:count], other, strict=False):
        late = name == "TauGRU" and called == "h"
        close(*((g[:, -1] if late else g) for g in (got, value)), f"gradient of {called}")
    by_name = dict(zip(names, other[count:], strict=True))
    table = correspondence(name, ours)
    for called, got in zip(parameters, mine[count:], strict=True):
        theirs_name, blocks, of = table[called]
        close(got, their_rows(by_name[theirs_name], blocks, of), f"gradient of {called}")


def test_the_gallery_has_every_cell_of_torchrecurrent() -> None:
    import torchrecurrent

    known = {n for n in torchrecurrent.__all__ if not n.endswith("Cell")}
    assert {cell.theirs or name for name, cell in CELLS.items()} == known
    assert set(CELLS) <= set(gallery.names())
    assert len(CELLS) == 41


@pytest.mark.parametrize("name", CELLS)
def test_a_layer_is_theirs(name: str) -> None:
    ours, theirs = layers(name)
    table = correspondence(name, ours)
    assert sorted(table) == sorted(n for n, _ in ours.named_parameters())
    # Theirs are all there, once each.
    ours_have = sum(p.numel() for p in ours.parameters())
    assert ours_have == sum(p.numel() for p in theirs.parameters())
    for batch, steps in ((2, 5), (3, 1)):
        compare(name, ours, theirs, batch, steps)
    x = torch.zeros(2, 0, width_of(ours), dtype=torch.float64)
    state = a_state(name, ours, 2)
    y, last = ours(x, state)
    assert y.shape == (2, 0, ours.hidden)
    assert all(torch.equal(a, b) for a, b in zip(last, state, strict=True))


@pytest.mark.cpp
@pytest.mark.skipif(not HAVE_CXX, reason="no C++ compiler")
@pytest.mark.parametrize("name", CELLS)
def test_its_kernels_are_theirs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly all cells step in a kernel; the others' loops in torch are held as well."""
    monkeypatch.setenv("SEQC_CXXFLAGS", "-O0")  # of a moment's use
    compare(name, *layers(name, "auto"), batch=9, steps=6)


@pytest.mark.parametrize("name", CELLS)
def test_it_starts_as_theirs(name: str) -> None:
    torch.manual_seed(0)
    ours, theirs = built(name, 70, 90, torch.float64, backend="reference")
    cell = dict(theirs.cells[0].named_parameters())
    for called, (of, blocks, count) in correspondence(name, ours).items():
        got = ours.get_parameter(called).detach().flatten()
        want = their_rows(cell[of].detach(), blocks, count).flatten()
        if want.numel() == 1 or want.std() == 0:
            assert torch.equal(got, want), called
            continue
        # Kolmogorov and Smirnov: at 2.2 / sqrt(n / 2), one in ten thousand of the same would fail.
        both = torch.cat([got, want]).sort().values
        apart = (torch.searchsorted(got.sort().values, both, right=True)
                 - torch.searchsorted(want.sort().values, both, right=True)).abs()  # fmt: skip
        n = got.numel()
        assert apart.max().item() / n < 2.2 / (n / 2) ** 0.5, called
        if n > 1000:
            assert abs(got.std() / want.std() - 1).item() < 0.05, called


@pytest.mark.parametrize("name", gallery.names())
def test_a_spec_is_short_and_cites_its_paper(name: str) -> None:
    text = gallery.source(name)
    block = next(b for b in re.split(r"(?m)^(?=layer )", text) if b.startswith(f"layer {name}\n"))
    head = text[: text.index("\nlayer ")]
    lines = [x for x in block.splitlines() if x.strip() and not x.startswith("#")]
    assert len(lines) <= 15
    assert len(lines) + len(re.findall(r"(?m)^def ", head)) <= 15 or name not in CELLS
    assert re.search(r"arXiv \d{4}\.\d{4,5}|doi 10\.|\(\w+ et al\., \d{4}\)|, \d{4}\)", head)
    assert re.search(r"_t = | = σ", head)
