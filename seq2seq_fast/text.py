"""Sentences of text, by sentencex."""

from __future__ import annotations

from .extras import require


def sentences(text: str, language: str = "en") -> list[list[str]]:
    """The sentences of each line of a text, without the white space between them."""
    segment = require("sentencex", "text").segment
    text = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text
    return [
        [stripped for sentence in segment(language, line) if (stripped := sentence.strip())]
        for line in text.splitlines()
    ]
