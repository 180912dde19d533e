"""The demo: its corpus, its model around any layer, and the whole of it, quickly."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import torch

from seqc import cli
from seqc.commands import demo_text
from seqc.commands.demo_model import CharacterModel, Mixer
from seqc.commands.demo_progress import Progress
from seqc.commands.demo_train import (
    Recipe,
    Trainer,
    bits_per_character,
    sample,
    settle_threads,
)
from tests.cli import fakes

pytestmark = pytest.mark.usefixtures("one_thread")


def model(layer_class: type[torch.nn.Module], seed: int = 0) -> CharacterModel:
    """A tiny model around the layer."""
    torch.manual_seed(seed)
    return CharacterModel(7, 12, 2, lambda: Mixer(layer_class, 12))


def test_no_paragraph_of_the_corpus_comes_twice() -> None:
    corpus = demo_text.load_corpus()
    lines = (corpus.train + corpus.held_out).splitlines()
    assert len(lines) == len(set(lines))
    assert "  " not in corpus.train
    assert len(corpus.train) > 200_000
    assert 0.09 < len(corpus.held_out) / len(corpus.train + corpus.held_out) < 0.11
    assert 4 < corpus.unigram_bits < 5


def test_entropy() -> None:
    assert demo_text.entropy("abcd") == 2.0
    assert demo_text.entropy("aaaa") == 0.0


@pytest.mark.parametrize("layer_class", [fakes.FakeLayer, fakes.FakeMemory])
def test_any_layer_fits_and_steps_as_it_runs(layer_class: type[torch.nn.Module]) -> None:
    net = model(layer_class)
    x = torch.randint(7, (2, 5))
    whole, _ = net(x)
    states, steps = None, []
    for t in range(5):
        y, states = net.step(x[:, t], states)
        steps.append(y)
    torch.testing.assert_close(torch.stack(steps, 1), whole)


def test_training_is_the_same_each_time_and_learns() -> None:
    text = torch.arange(700) % 7
    bits = []
    for _ in range(2):
        net = model(fakes.FakeLayer)
        Trainer(net, text, Recipe(steps=25, batch=4, time=8)).run(lambda far, said: None)
        bits.append(bits_per_character(net, text[:50]))
    assert bits[0] == bits[1]
    assert bits[0] < 2.3  # log2(7) = 2.8 before


def test_a_text_read_in_chunks_costs_what_it_costs_whole() -> None:
    net, text = model(fakes.FakeLayer), torch.arange(100) % 7
    assert bits_per_character(net, text, 9) == pytest.approx(bits_per_character(net, text, 99))


def test_choosing_threads_trains_nothing() -> None:
    net = model(fakes.FakeLayer)
    before = [p.clone() for p in net.parameters()]
    count = settle_threads(net, torch.arange(100) % 7, Recipe(batch=2, time=4))
    assert count == torch.get_num_threads() >= 1
    assert all(torch.equal(p, q) for p, q in zip(before, net.parameters(), strict=True))


def test_samples_follow_the_seed() -> None:
    net, prompt = model(fakes.FakeLayer), torch.tensor([1, 2])
    first, again = (sample(net, prompt, 20, seed=4)[0] for _ in range(2))
    assert first == again
    assert len(first) == 20


def test_progress_prints_plain_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    bar = Progress(stream)
    for i in range(101):
        bar.update(i / 100, f"step {i}")
    bar.close()
    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["25%", "50%", "75%", "100%"]
    assert "\r" not in stream.getvalue()


def test_the_demo_runs(compiler: fakes.Compiler, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--layer", "FakeGRU", "--quick"]) == 0
    text = capsys.readouterr().out
    assert fakes.SPEC.strip() in text
    assert "affine, proved" in text
    before = re.search(r"before training +([\d.]+)", text)
    after = re.search(r"after training +([\d.]+)", text)
    assert before is not None
    assert after is not None
    assert float(after[1]) < float(before[1])
    assert "unigram entropy" in text
    assert "torch.nn.LSTM" in text
    assert "20 steps of" in text


@pytest.mark.parametrize("call", [["--seconds", "-1"], ["--steps", "0"], ["--seconds", "nan"]])
def test_the_demo_refuses_senseless_numbers(
    call: list[str], compiler: fakes.Compiler, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["demo", *call]) == 2
    assert "positive" in capsys.readouterr().err
