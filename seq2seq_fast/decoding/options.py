"""How to decode: the options of a search, checked where they are given.

An option that does not exist is a TypeError that offers the nearest one; a value of a wrong type is
a TypeError, one that makes no sense a ValueError. Each names the option, what was expected and what
was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..checks import flag, integer, number, sequence, shown, token_ids
from ..option_names import known

if TYPE_CHECKING:
    from ..models.encoder_decoder import EncoderDecoder
    from .search import Token

__all__ = ["Options"]

Array = np.ndarray[Any, Any]

MAX_BEAMS = 256
"""Each is a row of logits, and wider ones find worse results: Koehn and Knowles, "Six Challenges
for Neural Machine Translation", 2017."""
MAX_SAMPLES = 4096
MAX_LENGTH = 1 << 62  # positions of int64, and room to add to them
MAX_PENALTY = 16.0
"""Of length: a power of any length stays finite in float64."""
MIN_FACTOR, MAX_FACTOR = 1e-12, 1e12
"""What logits are divided by, twice: they stay finite in float32 up to 1e14."""


@dataclass(frozen=True)
class Options:
    """How to decode. The defaults are greedy search.

    Parameters
    ----------
    num_beams : int
        Beam search where more than 1, at most 256: Graves, "Sequence Transduction with RNNs", 2012.
    num_return_sequences : int, optional
        Return a list of so many hypotheses, the best first; with `do_sample`, so many samples,
        at most 4096.
    max_new_tokens : int, optional
        A result has at most so many tokens, its end included; by default 10 + 2.5 x the source's
        own length, or what the model has positions for.
    min_new_tokens : int
        The end does not come before so many tokens.
    length_penalty : float
        A sum of log-probabilities is divided by length ** length_penalty before it is compared;
        from -16 to 16.
    coverage_penalty : float
        Times the sum over source tokens of log(min(sum of cross-attention, 1)), of the last
        layer's mean over heads, is added: Wu et al., "Google's Neural Machine Translation
        System", 2016.
    patience : float
        A beam search ends with num_beams * patience hypotheses: Kasai et al., "A Call for
        Clarification in Beam Search", 2022.
    early_stopping : bool or "never"
        When a beam search ends: by CTranslate2's rules with True as soon as the best beam is
        finished; by transformers' with True when there are enough hypotheses, with False when the
        best beam is now no better than the worst of them, with "never" when it cannot become so.
    search : {"ctranslate2", "transformers"}
        By whose rules hypotheses are kept, a beam search ends and tokens are forbidden. By
        transformers' what is forbidden keeps its probability in a beam search, and what the decoder
        reads first counts as there already. Hugging Face's folders have "transformers" by
        themselves.
    do_sample : bool
        Draw tokens instead of taking the likeliest.
    temperature : float
        Logits are divided by it before a draw; from 1e-12 to 1e12.
    top_k : int
        Draw from so many likeliest tokens only; 0 for all.
    top_p : float
        Draw from the likeliest tokens only that together are as likely as this: Holtzman et al.,
        "The Curious Case of Neural Text Degeneration", 2020.
    seed : int
        Of the draws. A source draws the same whatever its neighbours.
    repetition_penalty : float
        Logits of tokens that are there already are divided by it (multiplied, if negative): Keskar
        et al., "CTRL", 2019. From 1e-12 to 1e12.
    no_repeat_ngram_size : int
        No n tokens in a row occur twice; 0 for no such rule.
    encoder_no_repeat_ngram_size : int
        No n tokens in a row occur that are in the source; 0 for no such rule.
    decoder_input_ids : sequence of sequences of int, optional
        Tokens that the decoder reads first, in place of the model's own beginning; all of one
        length. They are not part of the result.
    prefix : sequence of sequences of int, optional
        Tokens that each result begins with.
    forced_bos_token_id, forced_eos_token_id : int, optional
        The first token of every result, and the last of one that reaches max_new_tokens.
    eos_token_id : int or sequence of int, optional
        Tokens that end a result; the model's own end if left out.
    suppress_tokens, begin_suppress_tokens : sequence of int
        Tokens that never occur, and those that do not come first.
    bad_words_ids : sequence of sequences of int
        Tokens in a row that never occur.
    required_tokens : sequence of int
        Tokens that every result has at least once: the end waits for them.
    shortlist : sequence of sequences of int, optional
        For each source the only tokens that may occur, the end among them. Others are not computed,
        and take no part in probabilities.
    logits_processor : callable, optional
        Called before each choice with the tokens so far, int64 of shape (rows, position), and the
        logits, float32 of shape (rows, vocabulary); it changes these in place, or returns others.
        Not with a shortlist.
    callback : callable, optional
        Called with a source's number and each of its tokens as soon as that is found; not with
        beams.

    Raises
    ------
    TypeError, ValueError
        An option is of a wrong type, or makes no sense; the message names it.

    Examples
    --------
    >>> Options(num_beams=4, num_return_sequences=5)
    Traceback (most recent call last):
    ValueError: num_return_sequences must be at most num_beams, 4; got 5
    >>> Options.of({"num_beans": 4}, "generate")
    Traceback (most recent call last):
    TypeError: generate has no option 'num_beans'; did you mean 'num_beams'?
    """

    num_beams: int = 1
    num_return_sequences: int | None = None
    max_new_tokens: int | None = None
    min_new_tokens: int = 0
    length_penalty: float = 1.0
    coverage_penalty: float = 0.0
    patience: float = 1.0
    early_stopping: bool | str = False
    search: str = "ctranslate2"
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    encoder_no_repeat_ngram_size: int = 0
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | None = None
    eos_token_id: int | Sequence[int] | None = None
    decoder_input_ids: Sequence[Sequence[int]] | None = None
    prefix: Sequence[Sequence[int]] | None = None
    suppress_tokens: Sequence[int] = ()
    begin_suppress_tokens: Sequence[int] = ()
    bad_words_ids: Sequence[Sequence[int]] = ()
    required_tokens: Sequence[int] = ()
    shortlist: Sequence[Sequence[int]] | None = None
    logits_processor: Callable[[Array, Array], Array | None] | None = None
    callback: Callable[[int, Token], Any] | None = None

    def __post_init__(self) -> None:
        for name, given in self.given().items():
            object.__setattr__(self, name, _checked(name, given))
        self._check_together()

    def given(self) -> dict[str, Any]:
        """Those that are not defaults, by their names."""
        every = vars(self).items()
        return {name: value for name, value in every if value is not getattr(Options, name)}

    def every(self) -> dict[str, Any]:
        """All of them, by their names: what wins over any model's defaults."""
        return dict(vars(self))

    def _check_together(self) -> None:
        """What options ask of each other."""
        if (
            self.num_return_sequences is not None
            and not self.do_sample
            and self.num_return_sequences > self.num_beams
        ):
            raise ValueError(
                f"num_return_sequences must be at most num_beams, {self.num_beams};"
                f" got {self.num_return_sequences}"
            )
        if self.max_new_tokens is not None and self.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens must be at most max_new_tokens, {self.max_new_tokens};"
                f" got {self.min_new_tokens}"
            )
        if self.num_beams > 1 and (self.do_sample or self.callback):
            raise ValueError(
                f"num_beams must be 1 with do_sample or callback; got {self.num_beams}"
            )
        if self.logits_processor and self.shortlist is not None:
            raise ValueError("logits_processor must be None with shortlist")
        if self.search == "transformers" and self.num_beams > 1:
            for name in ("shortlist", "required_tokens"):
                if getattr(self, name):
                    raise ValueError(
                        f"{name} is for search='ctranslate2': beams by transformers' rules have no"
                        " such thing"
                    )
        if self.search != "transformers" and self.early_stopping == "never":
            raise ValueError("early_stopping='never' is for search='transformers'")
        if self.decoder_input_ids is not None:
            lengths = {len(ids) for ids in self.decoder_input_ids}
            if len(lengths) > 1:
                raise ValueError(
                    "decoder_input_ids must hold sequences of one length;"
                    f" got lengths {sorted(lengths)}"
                )
            if 0 in lengths:
                raise ValueError("decoder_input_ids must not hold empty sequences")

    @classmethod
    def of(
        cls, given: Mapping[str, Any], where: str, defaults: Mapping[str, Any] | None = None
    ) -> Options:
        """Those that `where`, a function, was given by their names; what was not given is as a
        model's defaults say.

        Raises
        ------
        TypeError, ValueError
            One of them does not exist, or as for the class.
        """
        known(cls, given, where)
        return cls(**_merged(defaults or {}, given))

    @classmethod
    def check_defaults(cls, defaults: Mapping[str, Any]) -> None:
        """Raises TypeError or ValueError for a model's default that makes no sense by itself."""
        known(cls, defaults, "a model's defaults")
        for name, value in defaults.items():
            _checked(name, value)

    @classmethod
    def of_texts(
        cls,
        given: Mapping[str, Any],
        where: str,
        function: Callable[..., Any],
        defaults: Mapping[str, Any],
    ) -> Options:
        """Those that `function` was given, beside its own, for texts, of which each may be several
        sequences of tokens."""
        known(cls, given, where, also=function)
        for name in PER_SEQUENCE:
            if name in given:
                raise TypeError(
                    f"{where} does not take {name}: it is given for each sequence of token ids, and"
                    " a text may be several of them; the model's own generate() takes it"
                )
        return cls(**_merged(defaults, given))

    def ends(self, model: EncoderDecoder) -> tuple[int, ...]:
        """The tokens that end a result."""
        if self.eos_token_id is None:
            return (model.eos,)
        return cast("tuple[int, ...]", self.eos_token_id)  # as which it was checked

    def fit(self, model: EncoderDecoder, sources: int | None = None, position: int = 0) -> None:
        """Check what depends on the model.

        Parameters
        ----------
        model : EncoderDecoder
        sources : int, optional
            How many there are; what is given for each is not checked if left out.
        position : int
            Tokens that its decoder has read.

        Raises
        ------
        ValueError
            A token that is not in the vocabulary; not one prefix for each source, say; a length
            that the model has no positions for.
        """
        of_each = {
            name: getattr(self, name)
            for name in ("decoder_input_ids", "prefix", "shortlist")
            if getattr(self, name) is not None
        }
        for name, given in of_each.items():
            if sources is not None and len(given) != sources:
                raise ValueError(
                    f"{name} must be one for each of {sources} sources; got {len(given)}"
                )
        for name, ids in (
            *((name, getattr(self, name)) for name in TOKENS),
            *((name, [getattr(self, name)]) for name in FORCED if getattr(self, name) is not None),
            ("eos_token_id", self.ends(model)),
            *(("bad_words_ids", ids) for ids in self.bad_words_ids),
            *((name, ids) for name, given in of_each.items() for ids in given),
        ):
            array = np.asarray(ids)
            if array.size and not 0 <= array.min() <= array.max() < model.vocabulary_size:
                raise ValueError(
                    f"{name} must be from 0 to {model.vocabulary_size - 1};"
                    f" got {array.min()} to {array.max()}"
                )
        # The last token of a prompt is read in the first step, as the beginning is without one.
        read = position + max(map(len, of_each.get("decoder_input_ids", ())), default=1) - 1
        left = model.positions - read
        if left < 1:
            name = "decoder_input_ids" if "decoder_input_ids" in of_each else "sources"
            raise ValueError(
                f"{name} must leave room for a token: the model has {model.positions} positions;"
                f" got {read}, all before the first step"
            )
        for name in ("max_new_tokens", "min_new_tokens"):
            if (getattr(self, name) or 0) > left:
                raise ValueError(
                    f"{name} must be at most {left}, since the model has {model.positions}"
                    f" positions{f', {read} of them taken' if read else ''};"
                    f" got {getattr(self, name)}"
                )


def _merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, and of a model's defaults those that do not contradict it."""
    found = {**defaults, **given}

    def gives_way(name: str) -> None:
        if name not in given:
            found.pop(name, None)

    # What was given may be anything: it is checked later.
    if given.get("do_sample") is True or given.get("callback") is not None:
        gives_way("num_beams")
    if isinstance(given.get("num_beams"), int) and given["num_beams"] > 1:
        gives_way("do_sample")
    if "search" in given:
        gives_way("early_stopping")
    longest, shortest = found.get("max_new_tokens"), found.get("min_new_tokens")
    if isinstance(longest, int) and isinstance(shortest, int) and shortest > longest:
        gives_way("min_new_tokens")
        gives_way("max_new_tokens" if "min_new_tokens" in given else "min_new_tokens")
    return found


INTEGERS: dict[str, tuple[int, int | None]] = {  # from, to
    "num_beams": (1, MAX_BEAMS),
    "num_return_sequences": (1, MAX_SAMPLES),
    "max_new_tokens": (1, MAX_LENGTH),
    "min_new_tokens": (0, MAX_LENGTH),
    "top_k": (0, None),
    "no_repeat_ngram_size": (0, None),
    "encoder_no_repeat_ngram_size": (0, None),
    "forced_bos_token_id": (0, MAX_LENGTH),
    "forced_eos_token_id": (0, MAX_LENGTH),
    "seed": (0, (1 << 128) - 1),  # what the generator of the draws takes
}
NUMBERS = {
    "length_penalty": (-MAX_PENALTY, MAX_PENALTY),
    "coverage_penalty": (-MAX_FACTOR, MAX_FACTOR),
    "patience": (MIN_FACTOR, MAX_FACTOR),
    "temperature": (MIN_FACTOR, MAX_FACTOR),
    "top_p": (MIN_FACTOR, 1.0),
    "repetition_penalty": (MIN_FACTOR, MAX_FACTOR),
}
FLAGS = ("do_sample",)
TOKENS = ("suppress_tokens", "begin_suppress_tokens", "required_tokens")
FORCED = ("forced_bos_token_id", "forced_eos_token_id")
CHOICES = {"search": ("ctranslate2", "transformers")}
CALLABLES = ("logits_processor", "callback")
PER_SEQUENCE = ("decoder_input_ids", "prefix", "shortlist", "callback")


def _checked(name: str, given: Any) -> Any:
    """An option's value, of its own type.

    Raises
    ------
    TypeError, ValueError
        It is of another type, or makes no sense.
    """
    if name in INTEGERS:
        return integer(name, given, *INTEGERS[name])
    if name in NUMBERS:
        return number(name, given, *NUMBERS[name])
    if name in FLAGS:
        return flag(name, given)
    if name == "early_stopping":
        return given if isinstance(given, str) and given == "never" else flag(name, given)
    if name in CHOICES:
        if not isinstance(given, str) or given not in CHOICES[name]:
            raise ValueError(
                f"{name} must be one of {', '.join(CHOICES[name])}; got {shown(given)}"
            )
        return given
    if name == "eos_token_id":
        one = isinstance(given, (int, np.integer)) and not isinstance(given, bool)
        ids = token_ids(name, [given] if one else given).tolist()
        if not ids:
            raise ValueError(f"{name} must name a token")
        return tuple(ids)
    if name in TOKENS:
        return tuple(token_ids(name, given).tolist())
    if name in CALLABLES:
        if not callable(given):
            raise TypeError(f"{name} must be callable; got {shown(given)}")
        return given
    for i, ids in enumerate(sequence(name, given, "sequences of integers")):
        if not len(token_ids(f"{name}[{i}]", ids)) and name == "bad_words_ids":
            raise ValueError(f"{name}[{i}] must not be empty")
    return given
