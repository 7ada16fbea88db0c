"""Pictures: the attention heat map and the benchmark's ratios."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..extras import require

if TYPE_CHECKING:
    from ..text.results import Translation
    from .measuring import Ratio

__all__ = ["benchmark", "heat_map"]

INCHES_PER_TOKEN = 0.32
MARKERS = "osD^v"  # of the peers
RATIO_TICKS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100, 200)


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
    rows: Sequence[tuple[str, Mapping[str, Ratio]]],
    file: str | os.PathLike[str] | BinaryIO,
    format: str | None = None,
) -> None:
    """Save each shape's ratios as points: right of the line at 1 this package is faster.

    The fastest peer of a shape is filled, its spread a line, its ratio written at the edge. The
    axis is logarithmic, so that twice as fast and half as fast lie equally far from 1.

    Parameters
    ----------
    rows : sequence of pairs
        A shape's name, and of every peer how many times as long as this package it takes. Shapes
        that no peer has computed are left out.
    file, format
        As for heat_map(), whose errors it raises, too.
    """
    rows = [row for row in rows if row[1]]
    peers = list(dict.fromkeys(name for _, ratios in rows for name in ratios))
    figure, axes = _new_figure(9, 1.5 + 0.32 * len(rows))
    for number, peer in enumerate(peers):
        color, marker = f"C{number}", MARKERS[number % len(MARKERS)]
        axes.plot([], [], marker, color=color, label=peer)  # for the legend
        for row, (_, ratios) in enumerate(rows):
            if peer not in ratios:
                continue
            fastest = ratios[peer] == min(ratios.values())
            axes.plot(
                ratios[peer].median, row, marker, color=color, zorder=3 + fastest,
                markerfacecolor=color if fastest else "white",
            )  # fmt: skip
            if fastest:
                axes.plot(ratios[peer][1:], [row, row], color=color, zorder=2)
    for row, (_, ratios) in enumerate(rows):
        ratio = min(ratios.values()).median
        axes.annotate(
            f"{ratio:.2f}", (1.01, row), xycoords=("axes fraction", "data"), va="center",
            weight="bold" if ratio < 1 else "normal",
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [shape for shape, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xscale("log")
    low, high = min(axes.get_xlim()[0], 0.8), max(axes.get_xlim()[1], 1.25)
    axes.set_xticks([tick for tick in RATIO_TICKS if low <= tick <= high], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.axvspan(low, 1, color="0.94", zorder=0)
    axes.grid(axis="x", color="0.9", zorder=0.5)
    axes.axvline(1, color="0.3", linewidth=1, zorder=1.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("time of the peer / time of this package")
    for text, at, side in (("B, H, Tq, Tk, D  ", 0, "right"), ("  fastest", 1, "left")):
        axes.annotate(text, (at, 1), (0, 5), "axes fraction", "offset points", ha=side)
    for text, side in (("\u2190 slower  ", "right"), ("  faster \u2192", "left")):
        axes.annotate(
            text, (1, 1), (0, 5), ("data", "axes fraction"), "offset points", ha=side
        )  # fmt: skip
    figure.legend(loc="outside upper center", ncols=max(1, len(peers)), frameon=False)
    _save(figure, file, format)
