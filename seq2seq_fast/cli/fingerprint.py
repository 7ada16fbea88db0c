"""seq2seq-fast fingerprint"""

from __future__ import annotations

import argparse

from .streams import write_output

EXAMPLES = """example:
  seq2seq-fast fingerprint --threads 1"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None but those that every command has."""


def run(options: argparse.Namespace) -> None:
    from ..fingerprinting import fingerprint

    write_output(fingerprint() + "\n")
