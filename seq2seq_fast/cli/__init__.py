"""The command `seq2seq-fast`: translate, transcribe, convert, info, fingerprint, bench.

Results go to standard output as they are finished, everything else to standard error. What the user
got wrong, or what is missing, ends in one line and exit code 2; Ctrl-C in 130.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import signals

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name. If left out those of the process, whose signals and streams are
        then the command's, too.

    Returns
    -------
    int
        The exit code: 0, 2 for an error, 128 + n if signal n ended it (Ctrl-C: 130).
    """
    if arguments is None:
        signals.install()  # before the imports that take time
    from .running import run

    return run(arguments)
