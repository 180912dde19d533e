"""The command line: ``seqc check | explain | emit | build | verify | zoo | new | demo``.

Thin: each command lives in ``seqc/commands/``. Nothing here or there imports torch before a
command that needs it runs, so that ``seqc --help`` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn, TextIO

import seqc
from seqc import diagnostics
from seqc.commands import COMMANDS, Command
from seqc.commands.common import CommandError, did_you_mean, wants_color, write_error

# What a shell reports for a process that a signal ended: 128 + its number (SIGINT, SIGPIPE).
INTERRUPTED, BROKEN_PIPE = 130, 141


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser that shows its texts as they are written and errors as the rest does."""

    def error(self, message: str) -> NoReturn:
        write_error(message, hint=f"see {self.prog} --help")
        raise SystemExit(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code.

    0: done; 1: the spec was refused, or a check failed; 2: the call itself was wrong;
    130 and 141: interrupted, and nobody reads the output any more.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = _run(arguments)
        # Here and not at exit: a reader that is gone shows only when the buffer is flushed.
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _silence_stdout()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        write_error("interrupted")
        return INTERRUPTED


def _run(arguments: list[str]) -> int:
    try:
        options = _parse(arguments)
        command: Command = COMMANDS[options.command]
        return command.run(options)
    except SystemExit as stop:  # argparse, after --help or a wrong call
        return stop.code if isinstance(stop.code, int) else 2
    except CommandError as error:
        write_error(str(error), hint=error.hint)
        return error.code
    except diagnostics.SeqcError as error:
        color = wants_color(sys.stderr)
        for record in error.diagnostics:
            print(diagnostics.render(record, color=color), end="\n\n", file=sys.stderr)
        count = len(error.diagnostics)
        print(f"{count} error{'' if count == 1 else 's'}", file=sys.stderr)
        return 1


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _parser()
    first = arguments[0] if arguments else ""
    if not arguments:
        parser.print_help(sys.stderr)
        raise SystemExit(2)
    if not first.startswith("-") and first not in COMMANDS:
        # Before argparse, which would list the choices but not the nearest.
        raise CommandError(
            f"there is no command {first!r}",
            hint=did_you_mean(first, COMMANDS) or f"the commands: {', '.join(COMMANDS)}",
            code=2,
        )
    return parser.parse_args(arguments)


def _parser() -> argparse.ArgumentParser:
    from seqc.runtime.environment import SWITCHES

    width = max(len(name) for name, _, _ in SWITCHES) + 2
    switches = "\n".join(f"  {name:<{width}}{meaning}" for name, _, meaning in SWITCHES)
    parser = _Parser(
        prog="seqc",
        description="A compiler for recurrences: equations in, a PyTorch layer with fused "
        "kernels out.",
        epilog="A SPEC is a file, the name of a built-in layer (seqc zoo), or - for stdin.\n\n"
        "examples:\n"
        "  seqc demo                       compile MinGRU and train it for a minute\n"
        "  seqc new MyLayer                write a spec to start from\n"
        "  seqc check MyLayer.seq          what the compiler finds out and proves\n"
        f"\nenvironment:\n{switches}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"seqc {seqc.__version__}")
    rooms = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        room = rooms.add_parser(
            name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=command.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(room)
    return parser


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    # The text alone: which line of seqc it was raised from tells a person nothing.
    word = "\x1b[1;33mwarning:\x1b[0m" if wants_color(sys.stderr) else "warning:"
    print(f"{word} {message}", file=sys.stderr)


def _silence_stdout() -> None:
    # Else the interpreter flushes stdout once more at exit and prints the error that was caught.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    raise SystemExit(main())
