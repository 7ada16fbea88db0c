"""Config: what a folder of Hugging Face's says of its model, checked where it is asked."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..formats import huggingface

ACTIVATIONS = {
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu", "silu": "silu", "swish": "silu", "tanh": "tanh", "sigmoid": "sigmoid",
}  # fmt: skip
MAX_LAYERS = 1000


class Config:
    """config.json.

    Parameters
    ----------
    file : Path
        The file, for messages.
    values : mapping
        What it says.
    """

    def __init__(self, file: Path, values: Mapping[str, Any]) -> None:
        self.file, self.values = file, values

    @staticmethod
    def beside(file: Path) -> Config:
        """That of a file of weights.

        Raises
        ------
        ValueError
            There is none, or it is no JSON; the message names it.
        """
        path = file.with_name("config.json")
        if not path.exists():
            raise ValueError(
                f"{file}: not a model of seq2seq_fast's, and there is no config.json beside it"
            )
        return Config(path, huggingface.read_json(path))

    def says(self, key: str, expected: str) -> ValueError:
        """What is wrong with a value."""
        have = reprlib.repr(self.values.get(key))
        return ValueError(f"{self.file}: says {key}: {have}, expected {expected}")

    def integer(self, key: str, least: int, most: int, default: int | None = None) -> int:
        """A whole number; `default` where there is none."""
        have: Any = self.values.get(key)
        if have is None and default is not None:
            return default
        if not isinstance(have, int) or isinstance(have, bool) or not least <= have <= most:
            raise self.says(key, f"an integer from {least} to {most}")
        return have

    def flag(self, key: str, default: bool) -> bool:
        """True or false; `default` where there is neither."""
        have = self.values.get(key)
        if have is None:
            return default
        if not isinstance(have, bool):
            raise self.says(key, "true or false")
        return have

    def number(self, key: str, default: float, most: float) -> float:
        """From 0 to `most`."""
        have: Any = self.values.get(key, default)
        fine = isinstance(have, (int, float)) and not isinstance(have, bool)
        if not fine or not (math.isfinite(have) and 0 <= have <= most):
            raise self.says(key, f"a number from 0 to {most:g}")
        return float(have)

    def require(self, key: str, expected: Any) -> None:
        """Raises ValueError if it says something else; nothing said is fine."""
        if self.values.get(key, expected) not in (expected, None):
            raise self.says(key, repr(expected))

    def activation(self, key: str, default: str) -> str:
        """One of ours."""
        have = self.values.get(key, default)
        if not isinstance(have, str) or have not in ACTIVATIONS:
            raise self.says(key, f"one of {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[have]

    def start_token(self, vocabulary: int) -> int:
        """The first token that the decoder reads: where nothing is said, as of mBART, whose first
        token is a language, that which begins texts."""
        for key in ("decoder_start_token_id", "bos_token_id"):
            if self.values.get(key) is not None:
                return self.integer(key, 0, vocabulary - 1)
        raise self.says("decoder_start_token_id", "the token that the decoder reads first")

    def end_token(self, vocabulary: int) -> int:
        """The token that ends a sequence; of several the first."""
        have = self.values.get("eos_token_id")
        if isinstance(have, list) and have:
            return Config(self.file, {"eos_token_id": have[0]}).end_token(vocabulary)
        return self.integer("eos_token_id", 0, vocabulary - 1)
