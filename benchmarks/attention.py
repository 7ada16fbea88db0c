"""The README's tables: attention beside every installed peer, on one thread and on two.

    pip install ".[bench]" torch onnxruntime onnx
    python benchmarks/attention.py [--plot FILE.png]

The measuring itself is `seq2seq-fast bench`'s (seq2seq_fast/bench.py). This script runs it for both
numbers of threads, each in a process of its own, since libraries keep their threads once started.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from seq2seq_fast.cli import main as command_line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, help="this number only")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="of the run on one thread")
    options = parser.parse_args()
    if options.threads:
        plot = ["--plot", str(options.plot)] if options.plot else []
        sys.exit(command_line(["bench", "--threads", str(options.threads), *plot]))
    for threads in (1, 2):
        print(f"\n## Threads: {threads}\n", flush=True)
        plot = ["--plot", options.plot] if options.plot and threads == 1 else []
        subprocess.run([sys.executable, __file__, "--threads", str(threads), *plot], check=True)


if __name__ == "__main__":
    main()
