"""Every example compiles, and every script runs and does what it says."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch

import seqc
from tests.layer.support import assert_streams, build, hold_to, randn, random_state
from tests.references import mingru

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.seq")), ids=lambda f: f.name)
def test_specs_compile(file: Path) -> None:
    report = seqc.check(file)
    assert len(report) >= 1
    for name in report:
        for stratum in report[name].strata:
            assert "proved" in str(stratum.verdict).lower()


def test_the_first_example_is_the_layer_of_the_zoo(backend: str) -> None:
    layer = build(EXAMPLES / "mingru.seq", backend, input=3, hidden=5)
    x = randn(2, 9, 3)
    hold_to(layer, mingru, [x], random_state(layer, [x]), states=("h",))


def test_two_speeds(backend: str) -> None:
    layer = build(EXAMPLES / "two_speed.seq", backend, hidden=5)

    def by_hand(p, xs, s):  # type: ignore[no-untyped-def]
        fast, slow, ys = s["fast"], s["slow"], []
        decay = 0.99 * torch.sigmoid(p["rate"])
        for x in xs[0].unbind(1):
            v, w, r = (x @ p[f"{n}.weight"].T + p[f"{n}.bias"] for n in "vwr")
            w, r = torch.sigmoid(w), torch.sigmoid(r)
            fast = decay * fast + (1 - decay) * torch.tanh(v)
            slow = (1 - w) * slow + w * fast
            ys.append(r * slow + (1 - r) * x)
        return (torch.stack(ys, 1),), {"fast": fast, "slow": slow}

    x = randn(2, 9, 5)
    state = random_state(layer, [x])
    hold_to(layer, by_hand, [x], state, states=("fast", "slow"))
    assert_streams(layer, [x], (3, 6), state)
    # Left to itself, the slow state starts from its parameter.
    _, start = layer(x[:, :0])
    assert torch.equal(start.slow, layer.slow.init.expand(2, 5))


def script(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_streaming(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script("streaming.py", monkeypatch)
    assert "step by step: largest difference" in capsys.readouterr().out


@pytest.mark.slow
def test_training(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script("train_copy.py", monkeypatch, "--steps", "300")
    last = capsys.readouterr().out.splitlines()[-1].split()
    before, after = float(last[1]), float(last[3])
    assert after < before / 10
