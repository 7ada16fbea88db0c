"""The README's tables: attention beside every installed peer, on one thread and on two.

    pip install ".[bench]" torch onnxruntime onnx
    python -m benchmarks.attention [--plot FILE.png]

The measuring itself is `seq2seq-fast bench`'s (seq2seq_fast/bench.py); this script runs it for both
numbers of threads, each in a process of its own, since libraries keep their threads once started.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="of the run on one thread")
    options = parser.parse_args()
    for threads in (1, 2):
        command = [sys.executable, "-m", "seq2seq_fast.cli", "bench", "--threads", str(threads)]
        if options.plot and threads == 1:
            command += ["--plot", str(options.plot)]
        print(f"\n## {threads} thread{'s' * (threads > 1)}\n", flush=True)
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
