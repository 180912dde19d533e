"""Training, judging and listening to the demo's model."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from seqc.commands.demo_model import CharacterModel

_WARM_UP = 0.05
_CLIP = 1.0


@dataclass(frozen=True)
class Recipe:
    """How long and how to train: until ``steps``, or for ``seconds`` where there are none."""

    seconds: float = 60.0
    steps: int | None = None
    batch: int = 8
    time: int = 128
    rate: float = 5e-3
    seed: int = 0


class Trainer:
    """A model with its optimiser, trained on random windows of a text."""

    def __init__(self, model: CharacterModel, text: Tensor, recipe: Recipe) -> None:
        self.model, self.text, self.recipe = model, text, recipe
        # Not fused: its threads spin for each small tensor, which on a busy machine takes longer
        # than the rest of the step.
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.05
        )
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.done = 0

    def step(self, progress: float) -> float:
        """One step at a learning rate for this far (0 to 1); the loss in bits a character."""
        r = self.recipe
        rate = r.rate * _schedule(progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # The last window ends with the text's last character, as a target.
        starts = torch.randint(len(self.text) - r.time, (r.batch, 1), generator=self.generator)
        window = self.text[starts + torch.arange(r.time + 1)]
        logits, _ = self.model(window[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP)
        self.optimizer.step()
        self.done += 1
        return loss.item() / math.log(2)

    def run(self, show: Callable[[float, str], None]) -> float:
        """Train to the end of the recipe; the seconds that it took."""
        began, smooth = time.perf_counter(), None
        while (far := self._far(began)) < 1:
            bits = self.step(far)
            smooth = bits if smooth is None else 0.95 * smooth + 0.05 * bits
            left = time.perf_counter() - began
            show(self._far(began), f"step {self.done}, {smooth:.2f} bits, {left:.0f} s")
        return time.perf_counter() - began

    def _far(self, began: float) -> float:
        if self.recipe.steps is not None:
            return self.done / max(self.recipe.steps, 1)
        return (time.perf_counter() - began) / self.recipe.seconds


def _schedule(progress: float) -> float:
    """Up in a line, then down a cosine to a twentieth."""
    if progress < _WARM_UP:
        return (progress + 0.002) / (_WARM_UP + 0.002)
    half = (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP))) / 2
    return 0.05 + 0.95 * half


def settle_threads(model: CharacterModel, text: Tensor, recipe: Recipe) -> int:
    """Give torch the number of threads that trains fastest here and now; that number.

    Two threads on a core that others use wait for one another at the end of every small
    operation: ten times slower than one thread was seen.
    """
    trial = Trainer(copy.deepcopy(model), text, recipe)
    most, best, threads = torch.get_num_threads(), math.inf, 1
    while threads <= most:
        torch.set_num_threads(threads)
        took = []
        for _ in range(4):
            began = time.perf_counter()
            trial.step(1.0)
            took.append(time.perf_counter() - began)
        if statistics.median(took[1:]) > best:
            torch.set_num_threads(threads // 2)
            break
        best = statistics.median(took[1:])
        threads *= 2
    return torch.get_num_threads()


@torch.no_grad()
def bits_per_character(model: CharacterModel, text: Tensor, chunk: int = 512) -> float:
    """What a text costs the model, read once from its start to its end, the state carried on."""
    model.eval()
    total, states = 0.0, None
    for a in range(0, len(text) - 1, chunk):
        piece = text[a : a + chunk + 1].unsqueeze(0)
        logits, states = model(piece[:, :-1], states)
        total += float(F.cross_entropy(logits[0], piece[0, 1:], reduction="sum"))
    model.train()
    return total / (len(text) - 1) / math.log(2)


@torch.no_grad()
def sample(
    model: CharacterModel, prompt: Tensor, length: int, *, seed: int, temperature: float = 0.6
) -> tuple[list[int], float]:
    """Characters drawn one by one through ``step``, and the seconds for each."""
    model.eval()
    generator, states = torch.Generator().manual_seed(seed), None
    logits = torch.empty(0)
    for c in prompt:
        logits, states = model.step(c.unsqueeze(0), states)
    drawn: list[int] = []
    began = time.perf_counter()
    for _ in range(length):
        chances = torch.softmax(logits[0] / temperature, dim=-1)
        c = torch.multinomial(chances, 1, generator=generator)
        drawn.append(int(c))
        logits, states = model.step(c, states)
    model.train()
    return drawn, (time.perf_counter() - began) / max(length, 1)


def paired_times(first: Trainer, second: Trainer, repeats: int) -> tuple[float, float]:
    """The median seconds of a training step of each, turn by turn so that both see one machine."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1):
        for trainer, seen in zip((first, second), times, strict=True):
            began = time.perf_counter()
            trainer.step(1.0)
            if turn:  # the first one warms up
                seen.append(time.perf_counter() - began)
    return statistics.median(times[0]), statistics.median(times[1])
