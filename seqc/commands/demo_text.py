"""Real English that every CPython ships: the topics of ``help()``, as a corpus of characters."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

HELD_OUT = 0.1


@dataclass(frozen=True)
class Corpus:
    """A text split in two: the last tenth is never trained on."""

    train: str
    held_out: str
    alphabet: str
    unigram_bits: float

    def encode(self, text: str) -> list[int]:
        """The positions of the characters in the alphabet."""
        places = {c: i for i, c in enumerate(self.alphabet)}
        return [places[c] for c in text]


def load_corpus(limit: int | None = None) -> Corpus:
    """The corpus; ``limit`` cuts it to so many characters."""
    from pydoc_data.topics import topics

    text = paragraphs("\n\n".join(topics.values()))[:limit]
    cut = round(len(text) * (1 - HELD_OUT))
    return Corpus(text[:cut], text[cut:], "".join(sorted(set(text))), entropy(text))


def paragraphs(text: str) -> str:
    """The text's paragraphs, a line each, and each of them once.

    Topics quote one another: without this a part of the held-out text is in the training text,
    and remembering it would pass for reading. Indentation goes too: runs of spaces cost next to
    nothing to predict and would make every figure look better than it is.
    """
    # A dict keeps the order in which they first come.
    kept = dict.fromkeys(" ".join(p.split()) for p in text.split("\n\n"))
    return "\n".join(p for p in kept if p)


def entropy(text: str) -> float:
    """Bits per character of the text to one who knows only how frequent each character is."""
    counts = Counter(text)
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
