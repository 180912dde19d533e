"""Recursion without Python's stack: a walk over nested terms may go as deep as the spec does."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

T = TypeVar("T")


def run(walk: Generator[Any, T, T]) -> T:
    """The result of a walk: a generator that yields the walks it needs, and gets their results."""
    stack = [walk]
    result: Any = None
    while stack:
        try:
            inner = stack[-1].send(result)
        except StopIteration as done:
            stack.pop()
            result = done.value
        else:
            stack.append(inner)
            result = None
    final: T = result
    return final
