"""A progress bar of a few lines: redrawn on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_BAR = 30


class Progress:
    """Shows how far something is; a line a quarter of the way where there is no terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.live = self.stream.isatty()
        self._last = -1.0
        self._next = 0.25

    def update(self, fraction: float, text: str) -> None:
        """Show ``fraction`` (0 to 1) and a word about it."""
        fraction = min(max(fraction, 0.0), 1.0)
        if not self.live:
            if fraction >= self._next:
                self._next += 0.25
                print(f"  {fraction:4.0%}  {text}", file=self.stream, flush=True)
            return
        now = time.monotonic()
        # Ten times a second is as much as an eye follows; a terminal over ssh is slow.
        if now - self._last < 0.1 and fraction < 1:
            return
        self._last = now
        full = round(_BAR * fraction)
        bar = "█" * full + "░" * (_BAR - full)
        if not (self.stream.encoding or "").lower().startswith("utf"):
            bar = "#" * full + "." * (_BAR - full)
        print(f"\r\x1b[K  {bar} {fraction:4.0%}  {text}", end="", file=self.stream, flush=True)

    def close(self) -> None:
        """Leave the bar as it is and go on below it."""
        if self.live:
            print(file=self.stream, flush=True)
