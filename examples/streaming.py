"""One layer, three ways to run it, the same numbers: at once, in chunks, and step by step.

python examples/streaming.py
"""

from __future__ import annotations

from pathlib import Path

import torch

import seqc


def main() -> None:
    torch.manual_seed(0)
    TwoSpeed = seqc.compile(Path(__file__).with_name("two_speed.seq"))
    layer = TwoSpeed(hidden=8).eval()
    x = torch.randn(2, 100, 8)

    with torch.no_grad():
        # The whole sequence, in parallel.
        y, final = layer(x)

        # As it arrives, in chunks of any length: hand the state on.
        state, chunks = None, []
        for chunk in x.split([1, 40, 0, 59], dim=1):
            y_chunk, state = layer(chunk, state)
            chunks.append(y_chunk)
        chunked = torch.cat(chunks, dim=1)
        chunked_state = state

        # One step at a time.
        state, steps = None, []
        for x_t in x.unbind(dim=1):
            y_t, state = layer.step(x_t, state)
            steps.append(y_t)
        stepped = torch.stack(steps, dim=1)

    print("the states:", ", ".join(f"{k} {tuple(v.shape)}" for k, v in final._asdict().items()))
    for name, got, got_state in (
        ("in chunks", chunked, chunked_state),
        ("step by step", stepped, state),
    ):
        difference = max(
            float((got - y).abs().max()),
            *(float((a - b).abs().max()) for a, b in zip(got_state, final, strict=True)),
        )
        print(f"{name:>12}: largest difference {difference:.1e}")
        assert difference < 1e-5, name


if __name__ == "__main__":
    main()
