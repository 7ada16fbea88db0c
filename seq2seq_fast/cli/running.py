"""From arguments to a command to an exit code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from .. import __version__
from . import streams
from .parser import Parser, count, nearest
from .signals import Stopped

COMMANDS = {  # name, which is the module's, too: what the command does
    "translate": "Translate arguments, files or standard input, line by line.",
    "summarize": "Summarize texts of any length.",
    "generate": "Give texts to a model as they are: instructions, code, what is masked.",
    "transcribe": "Write down the speech of sound files, as text, subtitles or JSON.",
    "convert": "Write a model into a file that loads at once.",
    "info": "Show what this installation is and runs on.",
    "fingerprint": "Print one number that is the same on every sound machine.",
    "bench": "Time attention beside every peer that is installed.",
}
EXAMPLE = f'example:\n  {streams.PROGRAM} translate "How are you today?"'


def run(arguments: Sequence[str] | None) -> int:
    """Runs the command that the arguments (None: the process's) name; returns the exit code."""
    streams.prepare()
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    except KeyboardInterrupt as interrupt:
        return 128 + interrupt.number if isinstance(interrupt, Stopped) else 130
    except BrokenPipeError:  # the reader of our output has left: `| head`
        return 0
    except (ValueError, TypeError, OSError, ImportError, RuntimeError, MemoryError) as error:
        streams.say(f"error: {streams.described(error)}")
        return 2
    return 0


def _run(arguments: Sequence[str]) -> None:
    if not arguments or arguments[0].startswith("-"):
        parser = _overview()
        parser.parse(arguments)
        parser.print_help(sys.stderr)
        raise SystemExit(2)
    name = arguments[0]
    if name not in COMMANDS:
        offer = nearest(name, COMMANDS) or f"; known: {', '.join(COMMANDS)}"
        _overview().error(f"unknown command '{name}'{offer}")
    command = importlib.import_module(f".{name}", __package__)
    parser = Parser(
        f"{streams.PROGRAM} {name}", description=COMMANDS[name], epilog=command.EXAMPLES
    )
    parser.add_argument(
        "--threads", type=count, metavar="N", help="at most N threads (default: all processors)"
    )
    command.add_arguments(parser)
    options = parser.parse(arguments[1:])

    from ..backends.selection import use

    with use(threads=options.threads):
        command.run(options)


def _overview() -> Parser:
    names = "\n".join(f"  {name:<13} {text}" for name, text in COMMANDS.items())
    parser = Parser(
        streams.PROGRAM,
        usage=f"{streams.PROGRAM} COMMAND ...",
        description="Encoder-decoder models on the CPU, with the same bits everywhere.",
        epilog=f"commands:\n{names}\n\n{EXAMPLE}\n\n"
        f"`{streams.PROGRAM} COMMAND --help` has the options of each.",
    )
    parser.add_argument("--version", action="version", version=f"{streams.PROGRAM} {__version__}")
    return parser
