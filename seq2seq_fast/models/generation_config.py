"""How a folder of Hugging Face's asks for its model to be decoded: generation_config.json, or the
same keys of config.json, where there is none.

What the fields mean is as in huggingface/transformers, `generation/configuration_utils.py`. Lengths
there count the token that the decoder begins with. Where nothing is said of one, it is this
package's own.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..decoding.options import Options
from .formats import huggingface

FILE = "generation_config.json"
SAME = (  # options that have the same name and meaning
    "num_beams", "length_penalty", "early_stopping", "do_sample", "temperature", "top_k", "top_p",
    "repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
    "forced_bos_token_id", "forced_eos_token_id", "eos_token_id", "bad_words_ids",
    "suppress_tokens", "begin_suppress_tokens",
)  # fmt: skip
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beam_groups": (1,), "diversity_penalty": (0,), "penalty_alpha": (0,), "constraints": ((),),
    "force_words_ids": ((),), "guidance_scale": (1,), "typical_p": (1,), "sequence_bias": ((),),
    "encoder_repetition_penalty": (1,), "exponential_decay_length_penalty": (),
    "renormalize_logits": (False,), "min_p": (0,), "epsilon_cutoff": (0,), "eta_cutoff": (0,),
}  # fmt: skip
"""What changes results and is not read, with the values at which it changes none."""


def read(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a search, by the names of `decoding.options.Options`.

    Parameters
    ----------
    folder : Path
    config : mapping
        What its config.json says.

    Raises
    ------
    ValueError
        A field is of a wrong type or makes no sense, or is one that is not read and would change
        results; the message names the file and the field.
    """
    path = folder / FILE
    said: Mapping[str, Any] = huggingface.read_json(path) if path.is_file() else config
    return options_of(said, path if path.is_file() else folder / "config.json")


def options_of(said: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The same of fields that are there already."""

    def fail(key: str, expected: str) -> ValueError:
        return ValueError(f"{path}: says {key}: {reprlib.repr(said[key])}, {expected}")

    def length(key: str) -> int | None:
        value = said.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise fail(key, "expected an integer of at least 0")
        return value

    for key, neutral in NEUTRAL.items():
        value = said.get(key)
        if value is not None and value not in neutral and value != []:
            raise fail(key, "which is not read so far")
    found = {key: said[key] for key in SAME if said.get(key) is not None}
    if said.get("force_bos_token_to_be_generated") and said.get("bos_token_id") is not None:
        found.setdefault("forced_bos_token_id", said["bos_token_id"])
    longest, shortest = length("max_new_tokens"), length("min_new_tokens")
    if longest is None and length("max_length"):
        longest = max(1, length("max_length") or 0) - 1
    if shortest is None and length("min_length"):
        shortest = max(1, length("min_length") or 0) - 1
    for name, value in (("max_new_tokens", longest), ("min_new_tokens", shortest)):
        if value:
            found[name] = value
    if not found.get("do_sample"):  # they say how to draw
        for name in ("do_sample", "temperature", "top_k", "top_p"):
            found.pop(name, None)
    for name, value in found.items():
        try:
            Options.check_defaults({name: value})
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None
    return {"search": "transformers", **found}


def of_task(config: Mapping[str, Any], task: str, path: Path) -> tuple[str, dict[str, Any]]:
    """What config.json says of a task, such as "summarization": the text that a source begins with,
    and options that win over those of the folder."""
    every = config.get("task_specific_params")
    said = every.get(task) if isinstance(every, Mapping) else None
    if not isinstance(said, Mapping):
        return "", {}
    prefix = said.get("prefix")
    found = options_of(said, path)
    del found["search"]
    return prefix if isinstance(prefix, str) else "", found
