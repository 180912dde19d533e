"""The rooms of the command line: a command a file, and the table of them.

A room has ``SUMMARY``, ``EPILOG``, ``add_arguments(parser)`` and ``run(options) -> exit code``.
Rooms import nothing heavy at the top; what needs torch lies in a file of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from seqc.commands import build, check, demo, emit, explain, new, verify, zoo


@dataclass(frozen=True)
class Command:
    """One command as the parser needs it; ``epilog`` holds its examples."""

    summary: str
    epilog: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


COMMANDS: dict[str, Command] = {
    room.__name__.rpartition(".")[2]: Command(
        room.SUMMARY, room.EPILOG, room.add_arguments, room.run
    )
    for room in (check, explain, emit, build, verify, zoo, new, demo)
}
