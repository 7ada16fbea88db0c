"""seq2seq-fast info"""

from __future__ import annotations

import argparse
import json

from .streams import write_output

EXAMPLES = """example:
  seq2seq-fast info --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(options: argparse.Namespace) -> None:
    from ..runtime import info

    found = info()
    if options.json:
        write_output(json.dumps(found, indent=2) + "\n")
        return
    for name, value in found.items():
        if isinstance(value, dict):
            value = "; ".join(
                f"{key} {' '.join(v) if isinstance(v, list) else v}" for key, v in value.items()
            )
        write_output(f"{name:<15} {value}\n")
