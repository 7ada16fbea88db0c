"""seq2seq-fast info"""

from __future__ import annotations

import argparse
import json
from typing import Any

from .streams import write_output

EXAMPLES = """example:
  seq2seq-fast info --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(options: argparse.Namespace) -> None:
    from ..backends.selection import info

    found = info()
    if options.json:
        write_output(json.dumps(found, indent=2) + "\n")
        return
    for name, value in found.items():
        write_output(f"{name:<15} {_shown(value)}\n")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key} {_shown(one)}" for key, one in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
