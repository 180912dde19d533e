"""Train a minGRU to remember: seconds on a CPU.

At random moments a mark says "remember this value"; at every step the target is the value at the
last mark. Only a gate that opens at the mark and stays shut until the next can do it.

    python examples/train_copy.py --steps 300
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import seqc


def batch(size: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs (size, length, 2): value and mark; targets (size, length, 1)."""
    value = torch.rand(size, length, generator=generator)
    mark = torch.rand(size, length, generator=generator) < 0.05
    mark[:, 0] = True
    # The position of the last mark at or before each step.
    last = torch.where(mark, torch.arange(length), 0).cummax(dim=1).values
    return torch.stack([value, mark.float()], -1), value.gather(1, last).unsqueeze(-1)


class Model(nn.Module):
    """One recurrent layer and a readout."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        layer = seqc.compile(Path(__file__).with_name("mingru.seq"))
        self.recurrence = layer(input=2, hidden=hidden)
        self.readout = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.recurrence(x)
        return self.readout(y)


def train(steps: int, length: int = 100, size: int = 32, hidden: int = 16) -> tuple[float, float]:
    """The mean squared errors before and after training."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = Model(hidden)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-2)
    held_out = batch(256, length, generator)

    def error() -> float:
        with torch.no_grad():
            return float(nn.functional.mse_loss(model(held_out[0]), held_out[1]))

    before = error()
    for step in range(steps):
        x, target = batch(size, length, generator)
        loss = nn.functional.mse_loss(model(x), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 50 == 0:
            print(f"step {step:4d}  loss {float(loss.detach()):.4f}")
    return before, error()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    start = time.perf_counter()
    before, after = train(arguments.steps)
    print(f"error {before:.4f} -> {after:.4f} in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
