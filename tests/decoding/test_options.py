"""Options and what is given beside them: refused where they are given, by name, or they work."""

from __future__ import annotations

import dataclasses
import fractions
import math
from decimal import Decimal

import numpy as np
import pytest
import tiny_marian
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq_fast import load
from seq2seq_fast.checks import shown
from seq2seq_fast.decoding.options import INTEGERS, MAX_BEAMS, NUMBERS, Options
from seq2seq_fast.nn.positions import LearnedPositions

EOS = 0
SOURCES = [[5, 3, 9, EOS], [7, EOS], [2, 2, 11, 19, 4, 8, EOS], [6, EOS], [12, 13, 3, EOS]]
NAMES = [field.name for field in dataclasses.fields(Options)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.tiny.bin"
    path.write_bytes(tiny_marian.model_file())
    return load(path, weights="float32")


def with_positions(model, count):
    """The model, with that many positions in encoder and decoder."""

    def changed(part):
        table = np.random.default_rng(3).standard_normal((count, tiny_marian.WIDTH))
        positions = LearnedPositions(table.astype(np.float32))
        return dataclasses.replace(
            part, embedding=dataclasses.replace(part.embedding, positions=positions)
        )

    return dataclasses.replace(
        model, encoder=changed(model.encoder), decoder=changed(model.decoder)
    )


# ---- of a search ----


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_beams": 0}, ValueError, "num_beams must be from 1 to 256; got 0"),
        ({"num_beams": 100_000}, ValueError, "num_beams must be from 1 to 256; got 100000"),
        ({"num_beams": 1.5}, TypeError, "num_beams must be an integer; got 1.5"),
        ({"num_beams": True}, TypeError, "num_beams must be an integer; got True"),
        ({"num_beams": None}, TypeError, "num_beams must be an integer; got None"),
        ({"num_beams": 10**5000}, ValueError, "num_beams must be from 1 to 256; got "),
        ({"do_sample": True, "num_return_sequences": 5000}, ValueError, "num_return_sequences mus"),
        ({"num_return_sequences": 3, "num_beams": 2}, ValueError, "num_return_sequences must be a"),
        ({"max_new_tokens": 0}, ValueError, r"max_new_tokens must be from 1 to 2\*\*62; got 0"),
        ({"max_new_tokens": 1 << 63}, ValueError, r"max_new_tokens must be from 1 to 2\*\*62; got"),
        ({"max_new_tokens": 4, "min_new_tokens": 5}, ValueError, "min_new_tokens must be at most "),
        ({"seed": -1}, ValueError, r"seed must be from 0 to 2\*\*128 - 1; got -1"),
        ({"temperature": 0.0}, ValueError, r"temperature must be from 1e-12 to 1e\+12; got 0.0"),
        ({"temperature": 1e-39}, ValueError, "temperature must be from"),
        ({"temperature": 1e39}, ValueError, "temperature must be from"),
        ({"temperature": "hot"}, TypeError, "temperature must be a number; got 'hot'"),
        ({"temperature": 1j}, TypeError, "temperature must be a number; got 1j"),
        ({"repetition_penalty": 1e-40}, ValueError, "repetition_penalty must be from"),
        ({"length_penalty": np.nan}, ValueError, "length_penalty must be from -16 to 16; got nan"),
        ({"length_penalty": 1e3}, ValueError, "length_penalty must be from -16 to 16; got 1000"),
        ({"length_penalty": -1e300}, ValueError, "length_penalty must be from -16 to 16; got -1e"),
        ({"length_penalty": 10**400}, ValueError, "length_penalty must be from -16 to 16; got 10"),
        ({"coverage_penalty": math.inf}, ValueError, "coverage_penalty must be from"),
        ({"patience": 1e300}, ValueError, "patience must be from"),
        ({"top_p": 1.5}, ValueError, "top_p must be from 1e-12 to 1; got 1.5"),
        ({"early_stopping": "nie"}, TypeError, "early_stopping must be True or False; got 'nie'"),
        ({"early_stopping": "never"}, ValueError, "early_stopping='never' is for search='tran"),
        ({"search": "google"}, ValueError, "search must be one of ctranslate2, transformers; got"),
        ({"eos_token_id": []}, ValueError, "eos_token_id must name a token"),
        ({"eos_token_id": [3, 20]}, ValueError, "eos_token_id must be from 0 to 19; got 3 to 20"),
        ({"forced_bos_token_id": 20}, ValueError, "forced_bos_token_id must be from 0 to 19; g"),
        ({"bad_words_ids": [[]]}, ValueError, r"bad_words_ids\[0\] must not be empty"),
        ({"bad_words_ids": [[1, 20]]}, ValueError, "bad_words_ids must be from 0 to 19; got 1 t"),
        ({"bad_words_ids": [1]}, TypeError, r"bad_words_ids\[0\] must be a sequence of integers"),
        (
            {"search": "transformers", "num_beams": 2, "required_tokens": [3]},
            ValueError,
            "required_tokens is for search='ctranslate2'",
        ),
        ({"do_sample": 1}, TypeError, "do_sample must be True or False; got 1"),
        ({"do_sample": True, "num_beams": 2}, ValueError, "num_beams must be 1 with do_sample"),
        ({"logits_processor": "none"}, TypeError, "logits_processor must be callable; got 'none'"),
        ({"logits_processor": print, "shortlist": [[0]] * 5}, ValueError, "logits_processor must "),
        ({"suppress_tokens": [20]}, ValueError, "suppress_tokens must be from 0 to 19; got 20 to "),
        ({"suppress_tokens": 4}, TypeError, "suppress_tokens must be a sequence of integers; got "),
        ({"suppress_tokens": {4}}, TypeError, "suppress_tokens must be a sequence of integers; go"),
        ({"suppress_tokens": "45"}, TypeError, "suppress_tokens must be a sequence of integers; g"),
        ({"required_tokens": [0.5]}, TypeError, "required_tokens must be integers; got float64"),
        ({"decoder_input_ids": [[2], [2, 3], [2], [2], [2]]}, ValueError, "decoder_input_ids must"),
        ({"decoder_input_ids": [[]] * 5}, ValueError, "decoder_input_ids must not hold empty"),
        ({"prefix": []}, ValueError, "prefix must be one for each of 5 sources; got 0"),
        ({"prefix": [[1]]}, ValueError, "prefix must be one for each of 5 sources; got 1"),
        ({"prefix": [[99]] * 5}, ValueError, "prefix must be from 0 to 19; got 99 to 99"),
        ({"prefix": [[1], None]}, TypeError, r"prefix\[1\] must be a sequence of integers; got N"),
        ({"prefix": [[1], [[2]]]}, TypeError, r"prefix\[1\] must be integers; got \[\[2\]\]"),
        ({"num_beans": 4}, TypeError, "no option 'num_beans'; did you mean 'num_beams'"),
        ({"zzz": 1}, TypeError, "generate has no option 'zzz': it has num_beams, num_return_seque"),
    ],
    ids=shown,
)
def test_bad_options(model, options, error, message):
    with pytest.raises(error, match=message):
        model.generate(SOURCES, **options)


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 300), st.integers(), st.floats(),
    st.complex_numbers(),
    st.sampled_from([10**400, 1 << 62, 1 << 63, 1e-320, 5e-324, 1e308, -0.0]),
    st.text(max_size=3), st.binary(max_size=3), st.fractions(), st.decimals(), st.dates(),
    st.lists(st.integers(-1, 20), max_size=3), st.sets(st.integers(0, 9), max_size=2),
    st.lists(st.lists(st.integers(-1, 20), max_size=3), max_size=5),
    st.lists(st.one_of(st.integers(0, 9), st.floats(), st.text(max_size=1), st.none()), max_size=3),
    st.builds(np.int8, st.integers(-128, 127)), st.builds(np.uint64, st.integers(0, 2**64 - 1)),
    st.builds(np.float16, st.floats(width=16)), st.builds(np.float32, st.floats(width=32)),
    st.builds(np.longdouble, st.floats()), st.builds(np.bool_, st.booleans()),
    st.builds(np.zeros, st.sampled_from([(), (0,), (2,), (5, 1), (5, 0), (1, 1, 1)]),
              st.sampled_from(["i8", "f4", "U1", "O"])),
    st.builds(object), st.dictionaries(st.integers(0, 5), st.integers(0, 5), max_size=2),
)  # fmt: skip


def test_anything_works_or_is_refused_by_name(model):
    """When it is given, and by the search that it is given to."""
    searches = [
        {}, {"do_sample": True},
        {"do_sample": True, "temperature": 1e-12, "repetition_penalty": 1e-12},
        {"num_beams": 3, "coverage_penalty": 0.1}, {"num_beams": 256},
    ]  # fmt: skip

    @settings(max_examples=1500, deadline=None)
    @given(name=st.sampled_from(NAMES), value=ANYTHING, search=st.sampled_from(searches))
    def check(name, value, search):
        # Without an end to its length a model of random weights may go on for ever.
        ends = {"no_repeat_ngram_size": 1} if name == "max_new_tokens" else {"max_new_tokens": 5}
        try:
            found = model.generate(SOURCES, **{**ends, **search, name: value})
        except (TypeError, ValueError) as error:
            assert name in str(error)
            return
        assert len(found) == 5
        assert not any(math.isnan(x) for one in flat(found) for x in (one.score, *one.token_scores))

    check()


def flat(found):
    """Hypotheses, whether there is one for a source or a list."""
    return [one for some in found for one in (some if isinstance(some, list) else [some])]


def test_a_stream_refuses_before_its_first_token(model):
    for options, message in (
        ({"num_beams": 2}, "num_beams must be 1 for a stream; got 2"),
        ({"num_return_sequences": 1}, "num_return_sequences must be left out of a stream"),
        ({"callback": print}, "callback must be left out of a stream"),
        ({"temperature": -1}, "temperature must be"),
        ({"prefix": [[2]] * 2}, "prefix must be one for each of 1 sources; got 2"),
    ):
        with pytest.raises(ValueError, match=message):
            model.stream(SOURCES[0], **options)
    with pytest.raises(TypeError, match="stream has no option 'sead'; did you mean 'seed'"):
        model.stream(SOURCES[0], sead=1)


@pytest.mark.parametrize(
    "search", [{}, {"do_sample": True}, {"num_beams": 3, "num_return_sequences": 3}], ids=str
)
def test_results_are_finite_at_all_bounds(model, search):
    for name, (least, most) in NUMBERS.items():
        for bound in (least, most):
            found = model.generate(SOURCES, **search, **{name: bound})
            assert all(
                math.isfinite(x) for one in flat(found) for x in (one.score, *one.token_scores)
            )
            with pytest.raises(ValueError, match=name):
                Options(**{name: np.nextafter(bound, math.copysign(math.inf, bound - 1e-9))})


@pytest.mark.parametrize("name", [*INTEGERS, *NUMBERS])
def test_kinds_of_numbers(name):
    for value in ("1", b"1", 1j, fractions.Fraction(1), Decimal(1), [1], np.ones(1), True,
                  np.True_, object()):  # fmt: skip
        with pytest.raises(TypeError, match=f"{name} must be a"):
            Options(**{name: value})
    for kind in (int, np.int8, np.uint64):
        assert getattr(Options(**{name: kind(1)}), name) == 1


def test_numbers_of_numpy_give_what_those_of_python_do(model):
    numpys = {
        "num_beams": np.int16(3),
        "length_penalty": np.float32(0.5),
        "num_return_sequences": np.uint8(2),
    }
    pythons = {"num_beams": 3, "length_penalty": 0.5, "num_return_sequences": 2}
    found = model.generate(
        SOURCES, **numpys, early_stopping=np.True_, suppress_tokens=np.array([4])
    )
    assert found == model.generate(SOURCES, **pythons, early_stopping=True, suppress_tokens=[4])


def test_the_widest_beam_works(model):
    found = model.generate(
        SOURCES, num_beams=MAX_BEAMS, num_return_sequences=MAX_BEAMS, max_new_tokens=3
    )
    for some in found:
        assert len(some) == MAX_BEAMS  # of 20^3 there are so many
        assert len({tuple(one.tokens) for one in some}) == MAX_BEAMS
        scores = [one.score for one in some]
        assert scores == sorted(scores, reverse=True)


# ---- positions ----


def test_a_length_is_bounded_by_the_positions(model):
    small = with_positions(model, 12)
    endless = {"suppress_tokens": [EOS]}
    for beams in (1, 2):
        found = small.generate(SOURCES, max_new_tokens=12, num_beams=beams, **endless)
        assert [len(one.tokens) for one in found] == [12] * 5
    # What a source's own length allows may be more: that is cut.
    assert len(small.generate([[5, 3, 9, EOS]], **endless)[0].tokens) == 12
    for options in ({"max_new_tokens": 13}, {"min_new_tokens": 13}):
        with pytest.raises(
            ValueError, match="new_tokens must be at most 12, since the model has 12"
        ):
            small.generate(SOURCES, **options)
        with pytest.raises(
            ValueError, match="new_tokens must be at most 12, since the model has 12"
        ):
            small.stream(SOURCES[0], **options)


def test_what_was_read_takes_positions_too(model):
    small = with_positions(model, 12)
    endless = {"suppress_tokens": [EOS]}
    prompt = [[2, 3, 4]] * 5
    assert {
        len(one.tokens) for one in small.generate(SOURCES, decoder_input_ids=prompt, **endless)
    } == {10}
    with pytest.raises(
        ValueError, match=r"max_new_tokens must be at most 10, .* positions, 2 of them"
    ):
        small.generate(SOURCES, decoder_input_ids=prompt, max_new_tokens=11)
    state = small.start(small.encode(SOURCES))
    _, state, _ = small.step(np.full((5, 4), 3), state)
    assert (
        len(small.generate(state, decoder_input_ids=prompt, max_new_tokens=6, **endless)[0].tokens)
        == 6
    )
    with pytest.raises(
        ValueError, match=r"max_new_tokens must be at most 6, .* positions, 6 of them"
    ):
        small.generate(state, decoder_input_ids=prompt, max_new_tokens=7)
    with pytest.raises(ValueError, match="decoder_input_ids must leave room for a token"):
        small.generate(SOURCES, decoder_input_ids=[[2] * 13] * 5)
    _, state, _ = small.step(np.full((5, 8), 3), state)
    with pytest.raises(ValueError, match="sources must leave room for a token"):
        small.generate(state)


# ---- sources ----


@pytest.mark.parametrize(
    ("sources", "error", "message"),
    [
        ("abc", TypeError, "sources must be a sequence of token ids, or of spectra; got 'abc'"),
        (b"abc", TypeError, "sources must be a sequence"),
        (iter(SOURCES), TypeError, "sources must be a sequence"),
        (None, TypeError, "sources must be a sequence"),
        ([], ValueError, "sources must hold at least one"),
        ([[5, 0], None], TypeError, r"sources\[1\] must be a sequence of integers; got None"),
        ([[5, 0], 7], TypeError, r"sources\[1\] must be a sequence of integers; got 7"),
        ([[5, 0], "text"], TypeError, r"sources\[1\] must be a sequence of integers; got 'text'"),
        ([[5, 0], []], ValueError, r"sources\[1\] must not be empty"),
        ([[5, 0], [0.5]], TypeError, r"sources\[1\] must be integers; got float64"),
        ([[5, 0], [[5, 0]]], TypeError, r"sources\[1\] must be integers; got \[\[5, 0\]\]"),
        ([[5, 0], [[5], [5, 0]]], TypeError, r"sources\[1\] must be integers; got \[\[5\], "),
        ([[5, 0], [10**400]], TypeError, r"sources\[1\] must be integers; got \[10000"),
        ([[5, 0], [20]], ValueError, r"sources\[1\] must be from 0 to 19; got 20 to 20"),
        ([[5, 0], [1] * 13], ValueError, r"sources\[1\] must take at most 12 positions, .* got 13"),
    ],
    ids=lambda one: "" if hasattr(one, "__next__") else shown(one),  # that holds an address
)  # fmt: skip
def test_bad_sources_are_named(model, sources, error, message):
    message = message.replace("token ids, or of spectra", "(?:sequences of )?token ids")
    with pytest.raises(error, match=message):
        with_positions(model, 12).generate(sources)
