"""How states are solved, and gradients come back, as a call of ``seqc.compile`` asks."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

import seqc
from tests.layer.support import assert_all_close, build, leaf, randn
from tests.solving.support import CELLS, HEAD, TWO, compiled


def compile_quietly(spec: str, **asked: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", seqc.SeqcWarning)
        return seqc.compile(spec, **asked)  # type: ignore[arg-type]


def test_a_call_asks_instead_of_the_spec() -> None:
    spec = f"{HEAD}{CELLS['gru']}gradient truncated(1)\nsolve h newton\n"
    asked = build(compile_quietly(spec, gradient="stationary(0, 0.5)", solve="sequential"), "auto",
                  input=2, hidden=3)  # fmt: skip
    written = build(compiled(f"{HEAD}{CELLS['gru']}gradient stationary(0, 0.5)\n"), "auto",
                    input=2, hidden=3)  # fmt: skip
    assert (asked.FEEDBACK, asked.NEWTON) == ("stationary(0, 0.5)", False)
    found = []
    for layer in (asked, written):
        x = leaf(randn(2, 6, 2))
        y, _ = layer(x)
        leaves = {"x": x, **dict(layer.named_parameters())}
        grads = torch.autograd.grad(y.square().sum(), list(leaves.values()))
        found.append(dict(zip(leaves, grads, strict=True)))
    assert_all_close(*found, 1e-12)


def test_a_call_asks_of_one_state() -> None:
    kind = compile_quietly(f"{TWO}gradient stationary\n", gradient="s exact", solve="s newton")
    assert (kind.FEEDBACK, kind.NEWTON) == ("stationary(0, 1)", True)
    layer = build(kind, "auto", hidden=3)
    layer(randn(2, 5, 3))
    assert set(layer.solution) == {"s"}
    assert compile_quietly(f"{TWO}gradient stationary\n", gradient="exact").FEEDBACK == ""


def test_of_two_states_that_are_solved_together_either_says_how() -> None:
    """Not only the first of them."""
    for statement in ("solve c newton", "gradient c stationary(0, 1)"):
        (stratum,) = seqc.check(f"{HEAD}{CELLS['lstm']}{statement}\n")["Cell"].strata
        assert stratum.states == ("h", "c")
        assert stratum.gradient == "exact" or "gradient" in statement
        assert (stratum.newton is not None) == ("newton" in statement)


@pytest.mark.parametrize(
    "asked",
    [
        {"gradient": "sideways"},
        {"gradient": "f(u) = u"},
        {"solve": "newton\nlayer Other"},
        {"solve": "q scan"},
        {"solve": "newton("},
    ],
)
def test_what_cannot_be_asked(asked: dict[str, str]) -> None:
    with pytest.raises(seqc.SeqcError):
        seqc.compile(TWO, **asked)  # type: ignore[arg-type]


def test_blocks_are_over_the_same_axes() -> None:
    spec = """
layer Uneven
size hidden, slots
input x[t]: hidden
state h[t]: hidden
state m[t]: slots
h[t] = tanh(linear(h[t-1], m[t-1]) + x[t])
m[t] = tanh(linear(h[t-1]))
output h[t]
solve newton(jacobian = block)
"""
    with pytest.raises(seqc.SeqcError, match="no blocks"):
        seqc.check(spec)
    (stratum,) = seqc.check(spec.replace("block", "diagonal"))["Uneven"].strata
    assert stratum.newton is not None
