"""The command `seq2seq-fast`: translate, transcribe, info, fingerprint, bench.

Results go to standard output as they are finished, everything else to standard error. What the user
got wrong, or what is missing, ends in one line and exit code 2; Ctrl-C in 130.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from . import __version__
from .fingerprinting import fingerprint
from .runtime import info, use
from .subtitles import FORMATS, written
from .weights import WEIGHTS

if TYPE_CHECKING:
    from .translate import Translation

PROGRAM = "seq2seq-fast"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        with use(threads=options.threads):
            options.run(options)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has left: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except (ValueError, TypeError, OSError, ImportError, RuntimeError, MemoryError) as error:
        message = " ".join(str(error).split())
        print(f"{PROGRAM}: error: {message}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(PROGRAM, description="Encoder-decoder models on the CPU.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        sub.add_argument("--threads", type=int, metavar="N", help="at most N threads")
        return sub

    translate = command(
        "translate", _translate, "Translate arguments, files or standard input, line by line."
    )
    translate.add_argument("text", nargs="*", help="a text; none: read files or standard input")
    translate.add_argument(
        "--file", action="append", default=[], type=Path, help="a UTF-8 file, a text per line"
    )
    translate.add_argument("--to", default="pt", metavar="LANGUAGE", help="pt (default) or en")
    translate.add_argument("--model", type=Path, metavar="FOLDER", help="a model of your own")
    translate.add_argument("--weights", choices=WEIGHTS, help="the default: as they are published")
    translate.add_argument(
        "--shortlist", action="store_true", help="only the tokens that the model's lex*.bin lists"
    )
    translate.add_argument(
        "--beam", type=int, default=1, metavar="N", help="beam search with N beams"
    )
    translate.add_argument(
        "--attention", type=Path, metavar="FILE.png", help="picture of one text's attention"
    )

    transcribe = command("transcribe", _transcribe, "Write down the speech of a sound file.")
    transcribe.add_argument("audio", type=Path, help="WAV, FLAC, OGG, MP3 ...")
    transcribe.add_argument("--model", type=Path, metavar="FOLDER", help="a model of your own")
    transcribe.add_argument("--weights", choices=WEIGHTS, help="the default: as they are published")
    transcribe.add_argument("--language", metavar="CODE", help="the default: what the model hears")
    transcribe.add_argument(
        "--task", choices=("transcribe", "translate"), default="transcribe",
        help="translate: into English",
    )  # fmt: skip
    transcribe.add_argument("--prompt", default="", help="text to tell the model first: names, say")
    transcribe.add_argument(
        "--beam", type=int, default=5, metavar="N", help="beam search with N beams (default 5)"
    )
    transcribe.add_argument("--words", action="store_true", help="when each word was said, in JSON")
    transcribe.add_argument(
        "--format", choices=FORMATS, help="the default: what --output ends in, or txt"
    )
    transcribe.add_argument("--output", type=Path, metavar="FILE", help="the default: print it")

    command("info", _info, "Show what this installation is.").add_argument(
        "--json", action="store_true", help="as JSON"
    )
    command("fingerprint", _fingerprint, "One number that is the same on every sound machine.")
    bench = command("bench", _bench, "Time attention beside every peer that is installed.")
    bench.add_argument(
        "--shape", action="append", metavar="B,H,Tq,Tk,D", help="instead of the usual table"
    )
    bench.add_argument("--plot", type=Path, metavar="FILE.png", help="the table as a picture")
    return parser


# ---- translate ----


def _translate(options: argparse.Namespace) -> None:
    from .translate import Translator, find_model, source_language

    if options.text and options.file:
        raise ValueError("give texts or --file, not both")
    if options.attention and len(options.text) != 1:
        raise ValueError("--attention shows one text: give it as the only argument")
    translator = Translator(
        options.model or find_model(options.to),
        language=source_language(options.to),
        weights=options.weights,
        shortlist=options.shortlist,
        beam_size=options.beam,
    )
    with contextlib.ExitStack() as stack:
        texts = options.text or _lines(options.file, stack)
        typed = not (options.text or options.file) and sys.stdin.isatty()
        results: Iterator[Translation]
        if typed:  # somebody waits for each line's answer
            results = (found for text in texts for found in translator.translate([text]))
        else:
            results = translator.stream(texts)
        with _progress(len(options.text) or None, wanted=not typed) as step:
            for translation in results:
                with _uninterrupted():
                    print(translation.text, flush=True)
                step()
    if options.attention:
        from .plot import heat_map

        heat_map(translation, options.attention)


def _lines(files: list[Path], stack: contextlib.ExitStack) -> Iterator[str]:
    """The lines of the files, or of standard input if there are none, one after the other."""
    opened: Iterable[tuple[str, IO[str]]]
    if files:
        # All are opened first: a name that is wrong is told before any work is done.
        opened = [(str(f), stack.enter_context(f.open(encoding="utf-8"))) for f in files]
    else:
        sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
        opened = [("standard input", sys.stdin)]
    return _read(opened)


def _read(opened: Iterable[tuple[str, IO[str]]]) -> Iterator[str]:
    for name, lines in opened:
        try:
            for line in lines:
                yield line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{name}: not UTF-8 text ({error.reason})") from None


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the end of the block: an interrupted print can cut a line, or repeat one."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _progress(total: int | None, *, wanted: bool, unit: str = " texts") -> Iterator[Any]:
    """A bar on standard error, if that is a terminal and tqdm is there; yields its step."""
    bar = None
    if wanted and total != 1 and sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            from tqdm import tqdm

            bar = tqdm(total=total, unit=unit, file=sys.stderr)
    try:
        yield bar.update if bar is not None else lambda n=1: None
    finally:
        if bar is not None:
            bar.close()


# ---- transcribe ----


def _transcribe(options: argparse.Namespace) -> None:
    from .audio import Recording
    from .transcribe import Transcriber, find_model

    format = options.format or "txt"
    if options.output and not options.format:
        format = options.output.suffix.lstrip(".").lower()
        if format not in FORMATS:
            known = ", ".join(f".{name}" for name in FORMATS)
            raise ValueError(f"--output must end in one of {known}, or give --format")
    transcriber = Transcriber(
        options.model or find_model(), weights=options.weights, beam_size=options.beam
    )
    with contextlib.ExitStack() as stack:
        recording = Recording(options.audio)
        out = sys.stdout
        if options.output:
            out = stack.enter_context(options.output.open("w", encoding="utf-8"))
        # Text that appears on a terminal shows by itself how far it is.
        step = stack.enter_context(
            _progress(
                None if recording.duration is None else int(recording.duration),
                wanted=bool(options.output) or not out.isatty(),
                unit=" s",
            )
        )
        done = 0

        def move(seconds: float) -> None:
            nonlocal done
            step(int(seconds) - done)
            done = int(seconds)

        segments = transcriber.stream(
            recording,
            options.language,
            task=options.task,
            prompt=options.prompt,
            words=options.words,
            progress=move,
        )
        for part in written(segments, format):
            with _uninterrupted():
                out.write(part)
                out.flush()


# ---- info, fingerprint, bench ----


def _info(options: argparse.Namespace) -> None:
    found = info()
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        if isinstance(value, dict):
            value = "; ".join(
                f"{key} {' '.join(v) if isinstance(v, list) else v}" for key, v in value.items()
            )
        print(f"{name:<15} {value}")


def _fingerprint(options: argparse.Namespace) -> None:
    print(fingerprint())


def _bench(options: argparse.Namespace) -> None:
    from . import bench

    threads = options.threads or 1
    shapes = [_shape(text) for text in options.shape] if options.shape else bench.GRID
    if options.plot:
        from .extras import require

        require("matplotlib", "plot")  # before the work, not after it
    print(*bench.describe(), sep="\n")
    print(f"float32, threads: {threads}; microseconds, median ± half the range of")
    print(f"{bench.ROUNDS} rounds; error: largest difference from float64\n")
    started = False

    def report(shape: bench.Shape, row: dict[str, bench.Cell]) -> None:
        nonlocal started
        if not started:
            print(bench.header(list(row)))
        started = True
        print(bench.line(shape, row), flush=True)

    table = bench.measure(shapes, threads, report)
    if options.plot:
        from .plot import benchmark

        times = {
            name: [row[name].seconds if name in row else None for row in table] for name in table[0]
        }
        benchmark([str(shape) for shape in shapes], times, options.plot)


def _shape(text: str) -> Any:
    from .bench import Shape

    try:
        batch, heads, queries, keys, width = map(int, text.split(","))
    except ValueError:
        batch = heads = queries = keys = width = 0
    shape = Shape(batch, heads, queries, keys, width)
    if min(shape[:5]) < 1:
        raise ValueError(f"--shape must be five positive integers B,H,Tq,Tk,D; got {text!r}")
    return shape


if __name__ == "__main__":
    sys.exit(main())
