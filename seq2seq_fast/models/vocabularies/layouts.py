"""Layouts: which id a model of Hugging Face's has for each piece of its tokenizer, where that is
neither the tokenizer's own nor listed in a file, as in huggingface/transformers, `models/*/
tokenization_*.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..formats import huggingface
from .tokens import read_tokens

CONFIG = "tokenizer_config.json"
T5_EXTRA_IDS, BYT5_EXTRA_IDS = 100, 125
PEGASUS_OFFSET = 103
MBART_LANGUAGES = (  # of mBART, then what mBART-50 has more
    "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT"
    " lv_LV my_MM ne_NP nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN",
    " af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF"
    " pt_XX sv_SE sw_KE ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI",
)
SENTINEL = re.compile(r"<extra_id_\d+>|<mask(?:_\d+)?>")
"""What stands for a hole in a text, and is not a text's own."""


def bytes_names() -> list[str]:
    """ByT5: three tokens, the 256 bytes, and holes."""
    holes = (f"<extra_id_{i}>" for i in range(BYT5_EXTRA_IDS))
    return ["<pad>", "</s>", "<unk>", *map(chr, range(256)), *holes]


def t5(pieces: Sequence[str], folder: Path, listed: Path | None) -> list[str]:
    """SentencePiece's own ids, then holes, counted downwards."""
    count = huggingface.json_if_there(folder / CONFIG).get("extra_ids", T5_EXTRA_IDS)
    if not isinstance(count, int) or not 0 <= count <= 1000:
        raise ValueError(f"{folder}: says extra_ids: {count!r:.40}, expected 0 to 1000")
    if "<extra_id_0>" in pieces:
        return list(pieces)
    return [*pieces, *(f"<extra_id_{i}>" for i in reversed(range(count)))]


def pegasus(pieces: Sequence[str], folder: Path, listed: Path | None) -> list[str]:
    """The end and holes first; SentencePiece's own ids move by 103."""
    unknown = (f"<unk_{i}>" for i in range(2, PEGASUS_OFFSET))
    return ["<pad>", "</s>", "<mask_1>", "<mask_2>", *unknown, *pieces[2:]]


def mbart(pieces: Sequence[str], folder: Path, listed: Path | None) -> list[str]:
    """fairseq's four first, so that SentencePiece's own ids move by one; then languages. NLLB, too,
    whose folder names them."""
    languages = [name for name in _special(folder) if re.fullmatch(r"[a-z]{2,3}_[A-Z]\w+", name)]
    if not languages:
        # mBART-50 has the languages of mBART first.
        told = huggingface.json_if_there(folder / CONFIG)
        fifty = "50" in str(told.get("tokenizer_class", ""))
        languages = "".join(MBART_LANGUAGES[: 1 + fifty]).split()
    return ["<s>", "<pad>", "</s>", "<unk>", *pieces[3:], *languages, "<mask>"]


def m2m100(pieces: Sequence[str], folder: Path, listed: Path | None) -> list[str]:
    """As vocab.json has it, then languages."""
    names = read_tokens(listed or folder / "vocab.json")
    languages = [name for name in _special(folder) if re.fullmatch(r"__[a-z]{2,3}__", name)]
    if not languages:
        raise ValueError(
            f"{folder}: names no languages: expected additional_special_tokens such as __en__ in"
            " special_tokens_map.json or tokenizer_config.json"
        )
    return [*names, *languages]


LAYOUTS: dict[str, Callable[[Sequence[str], Path, Path | None], list[str]]] = {
    "t5": t5, "pegasus": pegasus, "mbart": mbart, "m2m100": m2m100,
}  # fmt: skip


def _special(folder: Path) -> list[str]:
    """The names of additional tokens, in order."""
    for name in ("special_tokens_map.json", CONFIG):
        found = huggingface.json_if_there(folder / name)
        listed = found.get("additional_special_tokens") or found.get("extra_special_tokens")
        if isinstance(listed, list):
            return [name_of(one) or "" for one in listed]
    return []


def name_of(token: Any) -> str | None:
    """A token's name, which may be told with how it is split from text."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None
