"""Pictures: the attention heat map and the benchmark's bars."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..extras import require

if TYPE_CHECKING:
    from ..text.translation import Translation

__all__ = ["benchmark", "heat_map"]

INCHES_PER_TOKEN = 0.32


def _new_figure(width: float, height: float) -> tuple[Any, Any]:
    """A figure that needs no screen, and its axes; sizes in inches."""
    figure = require("matplotlib.figure", "plot").Figure((width, height), layout="constrained")
    return figure, figure.subplots()


def format_of(path: str | os.PathLike[str]) -> str:
    """The format of a picture, by the ending of its file.

    Raises
    ------
    ValueError
        The ending is of no format.
    ImportError
        The extra "plot" is not installed.
    """
    canvas = require("matplotlib.backend_bases", "plot").FigureCanvasBase
    format = Path(path).suffix.removeprefix(".").lower()
    if format not in canvas.get_supported_filetypes():
        raise ValueError(
            f"{os.fspath(path)}: the name of a picture ends in .png, .svg, .pdf or the like"
        )
    return format


def heat_map(
    translation: Translation, file: str | os.PathLike[str] | BinaryIO, format: str | None = None
) -> None:
    """Save the classic picture of attention: source tokens across, target tokens down.

    Parameters
    ----------
    translation : Translation
    file : path or binary file
    format : str, optional
        "png", "svg" or "pdf", say; left out, the path's ending says it.

    Raises
    ------
    ValueError
        The ending is of no format.
    OSError
        The file cannot be written.
    ImportError
        The extra "plot" is not installed.

    References
    ----------
    Bahdanau et al., "Neural Machine Translation by Jointly Learning to Align and Translate", 2015,
    figure 3.
    """
    source, target = _labels(translation.source_tokens), _labels(translation.tokens)
    figure, axes = _new_figure(
        2.5 + INCHES_PER_TOKEN * len(source), 1.5 + INCHES_PER_TOKEN * len(target)
    )
    if translation.attention.size:
        image = axes.imshow(translation.attention, cmap="Blues", vmin=0, vmax=1, aspect="equal")
        figure.colorbar(image, ax=axes, label="attention", shrink=0.8)
    axes.set_xticks(range(len(source)), source, rotation=60, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(target)), target)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xlabel("source")
    axes.set_ylabel("translation")
    _save(figure, file, format)


def _save(figure: Any, file: str | os.PathLike[str] | BinaryIO, format: str | None) -> None:
    if format is None and isinstance(file, (str, os.PathLike)):
        format = format_of(file)
    figure.savefig(file, dpi=150, format=format)


def _labels(tokens: Sequence[str]) -> list[str]:
    """Tokens without SentencePiece's mark of a space; a lone space stays visible."""
    return [token.replace("\u2581", " ").strip() or "\u2423" for token in tokens]


def benchmark(
    shapes: Sequence[str],
    times: Mapping[str, Sequence[float | None]],
    file: str | os.PathLike[str] | BinaryIO,
    format: str | None = None,
) -> None:
    """Save bars of times: for each shape one bar per contestant, logarithmic.

    Parameters
    ----------
    shapes : sequence of str
    times : mapping of str to sequences of float
        Seconds of each contestant at each shape; None where it has none.
    file, format
        As for heat_map(), whose errors it raises, too.
    """
    figure, axes = _new_figure(11, 1.5 + 0.22 * len(shapes) * len(times))
    height = 0.8 / len(times)
    for i, (name, seconds) in enumerate(times.items()):
        at = [row + i * height for row in range(len(shapes))]
        axes.barh(at, [1e6 * (s or 0) for s in seconds], height, label=name)
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(shapes))], shapes)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("microseconds (median), less is better")
    axes.set_ylabel("B, H, Tq, Tk, D")
    axes.legend()
    _save(figure, file, format)
