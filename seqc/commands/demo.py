"""``seqc demo``: a spec, what is proved of it, and a model trained with it in a minute."""

from __future__ import annotations

import argparse
import textwrap
import time
from typing import TYPE_CHECKING

from seqc.commands.common import CommandError, Spec, find_spec

if TYPE_CHECKING:
    from seqc.commands.demo_text import Corpus
    from seqc.commands.demo_train import Recipe, Trainer

SUMMARY = "compile a layer and train a character model with it for a minute"
EPILOG = """\
The text is CPython's own help topics, so nothing is downloaded. With --steps the same numbers come
out each time on a machine; with --seconds how many steps there are depends on its speed.

examples:
  seqc demo
  seqc demo --seconds 20
  seqc demo --layer mylayer.seq --steps 500
"""
_PROMPT = "The "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--layer", metavar="SPEC", default="MinGRU",
        help="a built-in layer or a .seq file of one layer (default: MinGRU)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=_positive, default=60.0, help="how long to train (default: 60)"
    )
    parser.add_argument("--steps", type=_count, help="train so many steps instead")
    parser.add_argument("--width", type=_count, default=128, help="of the model (default: 128)")
    parser.add_argument("--depth", type=_count, default=3, help="blocks (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--quick", action="store_true", help="a tiny model, a few seconds")


def run(options: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    import torch

    import seqc
    from seqc.commands.demo_text import load_corpus
    from seqc.commands.demo_train import Recipe

    spec = find_spec(options.layer)
    _show_spec(spec)

    began = time.perf_counter()
    layer_class = seqc.compile(spec.where, layer=spec.layer)
    _title(f"{layer_class.__name__}: compiled in {time.perf_counter() - began:.2f} s")

    recipe = Recipe(options.seconds, options.steps, seed=options.seed)
    width, depth = options.width, options.depth
    corpus = load_corpus(40_000 if options.quick else None)
    if options.quick:
        recipe = Recipe(options.seconds, options.steps or 20, batch=4, time=32, seed=options.seed)
        width, depth = min(width, 32), min(depth, 1)
    torch.manual_seed(options.seed)
    _train(layer_class, corpus, recipe, width, depth, quick=options.quick)
    return 0


def _show_spec(spec: Spec) -> None:
    import seqc
    from seqc.commands.explain import explain, narrow

    _title(spec.name)
    print(spec.text.strip())
    layers = narrow(seqc.check(spec.where), spec.layer).layers
    if len(layers) != 1:
        names = ", ".join(x.name for x in layers)
        raise CommandError(
            f"{spec.name} holds several layers", hint=f"the demo wants one; it has {names}"
        )
    _title("what the compiler proved and derived")
    print(explain(layers[0]))


def _train(
    layer_class: type, corpus: Corpus, recipe: Recipe, width: int, depth: int, *, quick: bool
) -> None:
    import torch

    from seqc.commands.demo_model import CharacterModel, LSTMMixer, Mixer
    from seqc.commands.demo_progress import Progress
    from seqc.commands.demo_train import Trainer, bits_per_character, sample, settle_threads

    text = torch.tensor(corpus.encode(corpus.train))
    held_out = torch.tensor(corpus.encode(corpus.held_out))
    model = CharacterModel(len(corpus.alphabet), width, depth, lambda: Mixer(layer_class, width))
    print(
        f"{depth} blocks of width {width}, {model.parameter_count():,} parameters; "
        f"{len(corpus.train):,} characters to train on, {len(corpus.held_out):,} held out"
    )
    if (
        recipe.steps is None
    ):  # else the numbers are to be the same each time: no choice by the clock
        threads = settle_threads(model, text, recipe)
        print(f"{threads} thread{'' if threads == 1 else 's'}: the fastest here and now")
    before = bits_per_character(model, held_out)
    trainer = Trainer(model, text, recipe)

    _title("training")
    bar = Progress()
    seconds = trainer.run(bar.update)
    bar.close()
    after = bits_per_character(model, held_out)
    print(f"{trainer.done} steps of {recipe.batch} × {recipe.time} characters in {seconds:.0f} s")

    _title("bits per character, on text it has not seen")
    print(f"  before training          {before:5.2f}")
    print(f"  frequencies alone        {corpus.unigram_bits:5.2f}  (unigram entropy of the text)")
    print(f"  after training           {after:5.2f}")

    _title("a sample, drawn one character at a time with layer.step")
    prompt = torch.tensor(corpus.encode(_PROMPT))
    drawn, each = sample(model, prompt, 60 if quick else 400, seed=recipe.seed)
    text_drawn = _PROMPT + "".join(corpus.alphabet[i] for i in drawn)
    for line in text_drawn.splitlines():
        print(textwrap.fill(line, 78))
    print(f"\n({each * 1e3:.2f} ms a character)")

    lstm = CharacterModel(len(corpus.alphabet), width, depth, lambda: LSTMMixer(width))
    _compare(layer_class.__name__, trainer, Trainer(lstm, text, recipe), repeats=3 if quick else 7)


def _compare(name: str, ours: Trainer, lstm: Trainer, *, repeats: int) -> None:
    from seqc.commands.demo_train import paired_times

    _title("a training step, forward and backward and optimiser")
    mine, theirs = paired_times(ours, lstm, repeats)
    print(f"  with {name:<20}  {mine * 1e3:8.1f} ms")
    print(f"  with {'torch.nn.LSTM':<20}  {theirs * 1e3:8.1f} ms  ({theirs / mine:.2f} × as long)")
    print(f"  (medians of {repeats}, turn by turn, same width, depth and batch)")


def _title(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return value
