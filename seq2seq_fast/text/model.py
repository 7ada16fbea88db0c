"""TextModel: a model, its vocabulary and what it reads at once, as the uses of text have them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..decoding.options import Options
from ..models.formats import huggingface
from ..models.generation_config import of_task
from ..models.loading import load, model_file
from ..models.vocabularies import FilePath, find_vocabulary
from ..nn.positions import LearnedPositions

MAX_ADDED = 1  # the token of a language
MAX_TOKENS = 1 << 16  # of a source, where neither the model nor its vocabulary has a limit


class TextModel:
    """What Translator, Summarizer and TextGenerator have in common.

    Parameters
    ----------
    path : path
        A folder with a model that load() reads and its vocabulary, or the model's file in it.
    vocabulary : path or pair of paths, optional
        A tokenizer that lies elsewhere: a SentencePiece model or ``tokenizer.json``, a folder with
        one, or the files of the source and of the target.
    weights : {"float32", "float16", "int8"}, optional
        What the matrices are kept as; as they are in the file if left out.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        vocabulary: FilePath | tuple[FilePath, FilePath] | None,
        weights: str | None,
    ) -> None:
        self.model = load(path, weights=weights)
        self.vocabulary = find_vocabulary(path, self.model, vocabulary)
        self.folder = model_file(Path(path)).parent
        self._config = huggingface.json_if_there(self.folder / "config.json")

    def task(self, name: str) -> tuple[str, dict[str, Any]]:
        """What the folder says of a task: the text that a source begins with, and options."""
        return of_task(self._config, name, self.folder / "config.json")

    @property
    def room(self) -> int:
        """Tokens of a text that the model reads at once, without those that it begins and ends
        with."""
        positions = self.model.encoder.embedding.positions
        limit = positions.most if isinstance(positions, LearnedPositions) else MAX_TOKENS
        return limit - len(self.vocabulary.start) - len(self.vocabulary.end) - MAX_ADDED

    def source(self, text: str, *, sentinels: bool = False) -> list[int]:
        """The token ids of a text as the model reads them."""
        ids = self.vocabulary.encode(text, sentinels=sentinels)
        return [*self.vocabulary.start, *ids, *self.vocabulary.end]

    def checked_source(self, text: str) -> list[int]:
        """The same.

        Raises
        ------
        ValueError
            They are more than the model reads at once.
        """
        ids = self.source(text, sentinels=True)
        added = len(self.vocabulary.start) + len(self.vocabulary.end)
        if len(ids) - added > self.room:
            raise ValueError(
                f"a text has {len(ids) - added} tokens, of which the model reads {self.room} at"
                f" once: cut it ({text[:40]!r}...)"
            )
        return ids

    def options(
        self,
        given: dict[str, Any],
        where: str,
        function: Callable[..., Any],
        task: dict[str, Any] | None = None,
    ) -> Options:
        """Options that `where` was given, beside what `function` takes of its own; what was not
        given is as the model's folder says of the task, or of all."""
        defaults = {**self.model.defaults, **(task or {})}
        chosen = Options.of_texts(given, where, function, defaults)
        chosen.fit(self.model)
        return chosen

    def decode(self, sources: list[list[int]], options: Options, **more: Any) -> Any:
        """Hypotheses of sources."""
        return self.model.generate(sources, **{**options.every(), **more})
