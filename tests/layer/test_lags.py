"""Lags that are sums of sizes and numbers: what is read, before the start and after it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from seqc import cli
from tests.layer.support import BACKENDS, assert_streams, build, hold_to, randn
from tests.references import Params, Result, State

SPEC = """
layer L
size   hidden, delay = 2, far = 3
input  x[t]: hidden
state  h[t]: hidden = 0.5
a[t]: hidden = tanh(linear(h[t-1-delay]) + x[t-far-delay])
h[t] = 0.3 * h[t-1] + a[t] + x[t-1-1]
y[t] = a[t-delay-2-far]
output h[t], y[t]
"""


@pytest.mark.filterwarnings("ignore::seqc.SeqcWarning")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("delay, far", [(1, 1), (2, 3), (4, 1)])
def test_a_lag_is_the_sum_of_its_terms(delay: int, far: int, backend: str) -> None:
    layer = build(SPEC, backend, hidden=3, delay=delay, far=far)

    def loop(p: Params, xs: list[torch.Tensor], state: State | None) -> Result:
        (x,) = xs
        start = x.new_full((x.shape[0], 3), 0.5)
        h, a, zero = [], [], torch.zeros_like(start)
        ys = []
        for t in range(x.shape[1]):
            late = h[t - 1 - delay] if t >= 1 + delay else start
            past = x[:, t - far - delay] if t >= far + delay else zero
            a.append(torch.tanh(F.linear(late, p["a.weight"], p["a.bias"]) + past))
            before = h[t - 1] if t else start
            h.append(0.3 * before + a[t] + (x[:, t - 2] if t >= 2 else zero))
            ys.append(a[t - delay - 2 - far] if t >= delay + 2 + far else zero)
        return (torch.stack(h, 1), torch.stack(ys, 1)), {}

    hold_to(layer, loop, [randn(2, 12, 3, seed=5)], states=())
    assert_streams(layer, [randn(2, 12, 3, seed=6)], (5, 1, 6))


@pytest.mark.filterwarnings("ignore::seqc.SeqcWarning")
def test_the_state_keeps_as_many_steps_and_the_order_of_terms_is_none() -> None:
    layer = build(SPEC.replace("far-delay", "delay-far"), "reference", hidden=3, delay=4, far=5)
    state = layer(randn(1, 0, 3, seed=1))[1]
    assert {n: v.shape[1] for n, v in state._asdict().items()} == {"h": 5, "x": 9, "a": 11}
    assert set(layer.SUMS.values()) == {(1, "delay"), (0, "delay", "far"), (2, "delay", "far")}


def test_reports_show_a_lag_as_it_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "late.seq"
    spec.write_text(SPEC)
    assert cli.main(["explain", str(spec)]) == 0
    shown = capsys.readouterr()
    assert "a[t] = tanh(linear<a>(h[t-1-delay]) + x[t-delay-far])" in shown.out
    assert "h is nonlinear in h[t-1-delay]" in shown.err
