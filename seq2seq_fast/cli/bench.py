"""seq2seq-fast bench: times of attention."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .pictures import Picture
from .streams import write_output

if TYPE_CHECKING:
    from . import measuring

EXAMPLES = """example:
  seq2seq-fast bench --shape 1,8,1,512,64 --plot times.png"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shape", action="append", type=_sizes, metavar="B,H,Tq,Tk,D",
        help="instead of the usual table; can be given several times",
    )  # fmt: skip
    parser.add_argument("--plot", metavar="FILE", help="ratios as a picture: .png, .svg, .pdf")


def run(options: argparse.Namespace) -> None:
    from . import contestants, measuring

    picture = Picture(options.plot) if options.plot else None
    threads = options.threads or 1
    shapes = [measuring.Shape(*sizes) for sizes in options.shape or ()] or measuring.GRID
    about = [
        *contestants.describe(),
        f"float32, threads: {threads}; microseconds, median ± half the range of",
        f"{measuring.ROUNDS} rounds; error: largest difference from float64\n\n",
    ]
    write_output("\n".join(about))
    started = False

    def report(shape: measuring.Shape, row: dict[str, measuring.Cell]) -> None:
        nonlocal started
        if not started:
            write_output(measuring.header(list(row)) + "\n")
        started = True
        write_output(measuring.line(shape, row) + "\n")

    table = measuring.measure(shapes, threads, report)
    if picture:
        from .plot import benchmark

        rows = [
            (str(shape), measuring.ratios(row)) for shape, row in zip(shapes, table, strict=True)
        ]
        picture.draw(lambda file, format: benchmark(rows, file, format))


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if len(sizes) != 5 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(
            f"must be five positive integers B,H,Tq,Tk,D; got {text!r:.60}"
        )
    return sizes
