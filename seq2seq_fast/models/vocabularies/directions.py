"""Directions: from which language to which, as models of several languages are told, by tokens that
a source begins and ends with and that the decoder begins with.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

KINDS = {
    "opus": re.compile(r">>(\w+)<<"),  # OPUS-MT: the target, before the source
    "m2m100": re.compile(r"__([a-z]{2,3})__"),
    "nllb": re.compile(r"([a-z]{3})_[A-Z][a-z]{3}"),
    "mbart": re.compile(r"([a-z]{2})_[A-Z]{2}"),
    "madlad": re.compile(r"<2([a-z]{2,3})(?:_\w+)?>"),  # the target, before the source
}
"""How multilingual models name languages; the group is an ISO 639 code."""
MANY = 8  # languages that a message names

# ISO 639-1 and the codes of three letters that models have for it.
ISO = """
af:afr am:amh ar:ara/arb as:asm ay:aym/ayr az:aze/azj ba:bak be:bel bg:bul bn:ben bo:bod br:bre
bs:bos ca:cat ceb:ceb co:cos cs:ces cy:cym da:dan de:deu dv:div el:ell en:eng eo:epo es:spa
et:est eu:eus fa:fas/pes fi:fin fo:fao fr:fra fy:fry ga:gle gd:gla gl:glg gn:grn gu:guj ha:hau
he:heb hi:hin hr:hrv ht:hat hu:hun hy:hye id:ind ig:ibo is:isl it:ita ja:jpn jv:jav ka:kat
kk:kaz km:khm kn:kan ko:kor ks:kas ku:kur/kmr ky:kir la:lat lb:ltz lg:lug li:lim ln:lin lo:lao
lt:lit lv:lav/lvs mg:mlg/plt mi:mri mk:mkd ml:mal mn:mon/khk mr:mar ms:msa/zsm mt:mlt my:mya
nb:nob ne:nep/npi nl:nld nn:nno no:nor/nob ny:nya oc:oci om:orm/gaz or:ori/ory pa:pan pl:pol
ps:pus/pbt pt:por qu:que/quy rn:run ro:ron ru:rus rw:kin sa:san sc:srd sd:snd sg:sag si:sin
sk:slk sl:slv sm:smo sn:sna so:som sq:sqi/als sr:srp ss:ssw st:sot su:sun sv:swe sw:swa/swh
ta:tam te:tel tg:tgk th:tha ti:tir tk:tuk tl:tgl tn:tsn tr:tur ts:tso tt:tat ug:uig uk:ukr
ur:urd uz:uzb/uzn vi:vie wo:wol xh:xho yi:yid/ydd yo:yor zh:zho zu:zul
"""
THREE = {
    two: threes.split("/") for two, _, threes in (entry.partition(":") for entry in ISO.split())
}
TWO = {three: two for two, threes in THREE.items() for three in threes}


class Direction(NamedTuple):
    """What a source begins and ends with, and what its result has to."""

    start: list[int]
    end: list[int]
    forced_bos_token_id: int | None = None  # the result's first token
    decoder_start: int | None = None  # what the decoder reads in place of the model's own start


@dataclass(frozen=True)
class Languages:
    """The languages of a model.

    Parameters
    ----------
    kind : str
        Of KINDS; "" for a model that is not told languages.
    ids : dict of str to int
        The model's own codes and the tokens that stand for them.
    source_last : bool
        The source's language comes after its end, not before the source.
    decoder_starts : bool
        The decoder begins with the target's language, which is no part of the result.
    """

    kind: str = ""
    ids: dict[str, int] | None = None
    source_last: bool = False
    decoder_starts: bool = False
    target_on_source: bool = False

    @staticmethod
    def of(names: Sequence[str]) -> Languages:
        """Those that some tokens stand for: several, all named in one way."""
        for kind, pattern in KINDS.items():
            ids = {name: i for i, name in enumerate(names) if pattern.fullmatch(name)}
            if len(ids) > 1:
                on_source = kind in ("opus", "madlad")
                return Languages(kind, ids, target_on_source=on_source)
        return Languages()

    @property
    def codes(self) -> list[str]:
        """The model's own, in the order of their tokens."""
        return list(self.ids or ())

    def find(self, language: str, name: str) -> str:
        """The model's own code of a language, given so or by ISO 639.

        Raises
        ------
        ValueError
            The model does not know it, or it is written in several ways; the message lists those,
            or near ones.
        """
        codes = self.codes
        if language in codes:
            return language
        wanted = _iso(language)
        found = [code for code in codes if self._iso_of(code) & wanted]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{name} {language!r} is any of {', '.join(found)}: name one")
        near = difflib.get_close_matches(language, codes, MANY, 0.4) or codes[:MANY]
        raise ValueError(
            f"{name} {language!r} is none of the model's {len(codes)} languages, such as"
            f" {', '.join(near)}"
        )

    def _iso_of(self, code: str) -> set[str]:
        match = KINDS[self.kind].fullmatch(code)
        return _iso(match[1]) if match else set()

    def between(
        self, source: str | None, target: str | None, start: list[int], end: list[int]
    ) -> Direction:
        """How a source is given whose own tokens are between `start` and `end`.

        Raises
        ------
        ValueError
            A language is missing, or is none of the model's.
        """
        ids = self.ids or {}
        if not ids:
            return Direction(start, end)
        if target is None:
            raise ValueError(
                f"target_language must be one of the model's {len(ids)} languages, such as"
                f" {', '.join(self.codes[:MANY])}; got None"
            )
        to = ids[self.find(target, "target_language")]
        if self.target_on_source:
            return Direction([to, *start], end)
        if source is None:
            raise ValueError(
                f"source_language must be one of the model's {len(ids)} languages, such as"
                f" {', '.join(self.codes[:MANY])}; got None"
            )
        of = ids[self.find(source, "source_language")]
        first, last = ([], [*end, of]) if self.source_last else ([of], end)
        if self.decoder_starts:
            return Direction(first, last, decoder_start=to)
        return Direction(first, last, forced_bos_token_id=to)


def _iso(language: str) -> set[str]:
    """A language by all of its ISO 639 codes: "de-AT" is de and deu."""
    two = iso(language)
    return {two, *THREE.get(two, ())}


def iso(language: str) -> str:
    """The shortest ISO 639 code of a language that is given by any: "en" for "eng_Latn"."""
    first = re.split("[-_]", language.strip("<>_ ").casefold())[0].removeprefix("2")
    return TWO.get(first, first)
