"""Learned maps as convolutions: derivatives of every order are those of the plain product."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

from seqc.runtime.maps import project
from tests.layer.support import relative_error


def test_three_orders_of_a_product(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    x, w, b = torch.randn(3, 2000, 7), torch.randn(5, 7), torch.randn(5)

    def orders(product: Callable[..., Tensor], *at: Tensor) -> list[Tensor]:
        at = tuple(a.detach().requires_grad_() for a in at)
        total, found = product(*at).sin().mean(), []
        for _ in range(3):
            grads = torch.autograd.grad(total, at, create_graph=True)
            total = sum((g * g).sum() for g in grads)
            found += grads
        return found

    want = orders(linear, x.double(), w.double(), b.double())
    monkeypatch.setattr(Tensor, "__matmul__", None)  # convolutions throughout
    for got, exact in zip(orders(project, x, w, b), want, strict=True):
        assert relative_error(got, exact) < 3e-6
