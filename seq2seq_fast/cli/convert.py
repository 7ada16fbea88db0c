"""seq2seq-fast convert: a model into a file of the package's own."""

from __future__ import annotations

import argparse
import os

EXAMPLES = """example:
  seq2seq-fast convert whisper-tiny whisper-tiny-int8 --weights int8"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..nn.weights import WEIGHTS

    parser.add_argument("source", metavar="FOLDER", help="of a model")
    parser.add_argument("target", metavar="TARGET", help="what is written")
    parser.add_argument("--weights", choices=WEIGHTS, help="(default: as they are in the source)")


def run(options: argparse.Namespace) -> None:
    from ..models.convert import convert

    if os.path.exists(options.target) and os.path.samefile(options.source, options.target):
        raise ValueError(f"{options.target}: is the input, too; give the output another name")
    convert(options.source, options.target, weights=options.weights)
