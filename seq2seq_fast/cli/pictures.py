"""Pictures that a command draws at its end: what can be wrong with them is checked before."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO

from .outputs import Files, Target
from .plot import format_of


class Picture:
    """A picture to be drawn.

    Parameters
    ----------
    name : str
        Of the file, whose ending says the format.
    inputs : set
        What files_of() gives of the files that are read.

    Raises
    ------
    OSError, ValueError
        As Target does; or the ending is of no format.
    ImportError
        The extra "plot" is not installed.
    """

    def __init__(self, name: str, inputs: Files = frozenset()) -> None:
        self.target = Target(name, inputs)
        self.format = format_of(name)

    def draw(self, draw: Callable[[BinaryIO, str], None]) -> None:
        """Call `draw` with a file and the format, and write what it has drawn."""
        drawn = io.BytesIO()
        draw(drawn, self.format)
        with self.target.open() as write:
            write(drawn.getvalue())
