"""Decoding, against searches written plainly, one sentence and one beam at a time."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tiny_marian
from conftest import assert_same_bits

from seq2seq_fast import load, use
from seq2seq_fast.decoding.search import most_tokens

EOS, UNK = 0, 1
SOURCES = [[5, 3, 9, EOS], [7, EOS], [2, 2, 11, 19, 4, 8, EOS], [6, EOS], [12, 13, 3, EOS]]


@pytest.fixture(scope="module", params=["ssru", "self_attention", "ssru_int8"])
def model(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "model.tiny.bin"
    if request.param == "self_attention":
        path.write_bytes(tiny_marian.self_attention_file())
    else:
        path.write_bytes(tiny_marian.model_file())
    return load(path, weights=None if request.param == "ssru_int8" else "float32")


def log_probabilities(model, ids, tokens):
    """After each of the tokens, and before them: (tokens + 1, vocabulary), by steps by hand."""
    state = model.start(model.encode([ids]))
    rows, before = [], None
    for token in [*tokens, None]:
        logits, state, _ = model.step(before, state)
        logits = logits[0].astype(np.float64)
        logits[UNK] = -np.inf
        shifted = logits - logits.max()
        rows.append(shifted - np.log(np.exp(shifted).sum()))
        before = [token]
    return np.array(rows)


def plain_beam_search(model, ids, beams, most, penalty):
    """Beam search by its definition, every prefix decoded from its beginning."""
    running, found = [((), 0.0)], []
    for step in range(most):
        candidates = []
        for tokens, score in running:
            for token, extra in enumerate(log_probabilities(model, ids, tokens)[-1]):
                candidates.append(((*tokens, token), score + extra))
        candidates.sort(key=lambda one: -one[1])
        candidates = candidates[: 2 * beams]
        for tokens, score in candidates[:beams]:
            if tokens[-1] == EOS or step == most - 1:
                found.append((tokens, score / len(tokens) ** penalty))
        running = [one for one in candidates if one[0][-1] != EOS][:beams]
        if len(found) >= beams:
            break
    found.sort(key=lambda one: -one[1])
    return [([t for t in tokens if t != EOS], score) for tokens, score in found[:beams]]


@pytest.mark.parametrize("beams", [2, 3])
@pytest.mark.parametrize("penalty", [1.0, pytest.param(0.3, marks=pytest.mark.slow)])
def test_beam_search_is_what_it_says(backend, model, beams, penalty):
    found = model.generate(
        SOURCES,
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=5,
        length_penalty=penalty,
    )
    with use(backend="numpy"):
        for ids, got in zip(SOURCES, found, strict=True):
            want = plain_beam_search(model, ids, beams, 5, penalty)
            assert [one.tokens for one in got] == [tokens for tokens, _ in want]
            assert [one.score for one in got] == pytest.approx([s for _, s in want], abs=1e-4)


def test_wide_beams_find_the_best_of_all(model):
    """Two tokens, all of them tried."""
    every = range(tiny_marian.VOCABULARY)
    for ids in SOURCES:
        first = log_probabilities(model, ids, ())[0]
        scores = {(EOS,): first[EOS]}
        for token in every:
            if token != EOS:
                second = log_probabilities(model, ids, (token,))[1]
                scores.update({(token, two): first[token] + second[two] for two in every})
        best = max(scores, key=scores.get)
        found = model.generate(
            [ids], num_beams=len(every), max_new_tokens=2, length_penalty=0, patience=3
        )[0]
        assert [*found.tokens, EOS][: len(best)] == list(best)
        assert found.score == pytest.approx(scores[best], abs=1e-5)


LISTS = [[EOS, 2, 3, 9], [0, 5], [0, *range(4, 20)], [19, 0], [0, 7, 8]]
PENALTIES = {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "required_tokens": [17]}
OPTIONS = [
    {},
    {"num_beams": 3, "num_return_sequences": 2},
    {"num_beams": 4, "early_stopping": True, "length_penalty": 0.5},
    {"num_beams": 2, "coverage_penalty": 0.3, "patience": 2.0},
    {"do_sample": True, "seed": 5},
    {"do_sample": True, "num_return_sequences": 3, "temperature": 1.7, "top_k": 6, "top_p": 0.9},
    {**PENALTIES, "suppress_tokens": [4]},
    {**PENALTIES, "num_beams": 3},
    {"num_beams": 3, "shortlist": LISTS},
    {"shortlist": LISTS},
    {"prefix": [[3, 4], [], [5], [6, 6, 6], [2]], "num_beams": 2},
]  # fmt: skip
OPTIONS[2:] = [pytest.param(options, marks=pytest.mark.slow) for options in OPTIONS[2:]]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "greedy")
def test_neighbours_backends_and_threads_change_nothing(backend, model, options):
    def some(order):
        chosen = dict(options)
        for name in ("shortlist", "prefix"):
            if name in options:
                chosen[name] = [options[name][i] for i in order]
        return model.generate([SOURCES[i] for i in order], **chosen)

    with use(backend="numpy"):
        alone = [some([i])[0] for i in range(len(SOURCES))]
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 1, 3], [1, 1, 2]):
        with use(threads=3):
            assert some(order) == [alone[i] for i in order]


@pytest.mark.slow
def test_long_results_outgrow_a_cache(backend, model):
    """Room for keys is made in the middle of a search, while sequences leave."""
    limits = {"max_new_tokens": 100, "suppress_tokens": [EOS], "repetition_penalty": 1.2}
    with use(backend="numpy"):
        want = [model.generate([ids], **limits)[0] for ids in SOURCES[:2]]
    assert model.generate(SOURCES[:2], **limits) == want
    assert all(len(one.tokens) == 100 for one in want)
    natural = [model.generate([ids], max_new_tokens=90)[0] for ids in SOURCES]
    assert model.generate(SOURCES, max_new_tokens=90) == natural


def test_searches_at_the_same_time(backend, model):
    """One left in the middle, one inside another, some in threads: what a model keeps
    from one search for the next is never two's."""
    with use(backend="numpy"):
        want = [model.generate([ids])[0] for ids in SOURCES]
    longest = max(range(len(want)), key=lambda i: len(want[i].tokens))
    assert len(want[longest].tokens) > 3
    left = model.stream(SOURCES[longest])
    begun = [next(left).id, next(left).id]
    inside = []
    outside = model.generate(
        [SOURCES[longest]], callback=lambda *_: inside.append(model.generate([SOURCES[1]])[0])
    )
    assert outside == [want[longest]]
    assert inside == [want[1]] * len(want[longest].tokens)
    assert [*begun, *(token.id for token in left)] == want[longest].tokens
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda ids: model.generate([ids])[0], SOURCES * 20)) == want * 20


def test_a_far_limit_costs_nothing(model):
    found = model.generate(SOURCES, max_new_tokens=10**12, no_repeat_ngram_size=1)
    assert found == model.generate(SOURCES, max_new_tokens=30, no_repeat_ngram_size=1)


# ---- options ----


def test_length_limits(model):
    for ids, found in zip(SOURCES, model.generate(SOURCES), strict=True):
        assert len(found.token_scores) <= most_tokens(len(ids))
    for beams in (1, 3):
        found = model.generate(SOURCES, min_new_tokens=4, max_new_tokens=6, num_beams=beams)
        assert all(len(one.tokens) >= 4 and len(one.token_scores) <= 6 for one in found)
        full = model.generate(SOURCES, min_new_tokens=3, max_new_tokens=3, num_beams=beams)
        assert all(len(one.tokens) == 3 and not one.finished for one in full)


def test_suppressed_and_unknown_tokens_never_occur(model):
    free = model.generate(SOURCES, max_new_tokens=8)
    banned = sorted({one.tokens[0] for one in free if one.tokens})
    for beams in (1, 3):
        for one in model.generate(
            SOURCES, max_new_tokens=8, suppress_tokens=banned, num_beams=beams
        ):
            assert not set(one.tokens) & {*banned, UNK}


def test_required_tokens_occur(model):
    for beams in (1, 2):
        for one in model.generate(
            SOURCES, max_new_tokens=4, required_tokens=[17, 3], num_beams=beams
        ):
            assert {17, 3} <= set(one.tokens)


def test_prefix_comes_first_and_scores_nothing(model):
    prefix = [[4, 5], [], [9], [4], [6]]
    for beams in (1, 3):
        found = model.generate(SOURCES, prefix=prefix, max_new_tokens=6, num_beams=beams)
        for forced, one in zip(prefix, found, strict=True):
            assert one.tokens[: len(forced)] == forced
            assert one.token_scores[: len(forced)] == [0.0] * len(forced)


def test_no_ngram_repeats(model):
    for beams in (1, 3):
        for one in model.generate(
            SOURCES, max_new_tokens=12, no_repeat_ngram_size=2, num_beams=beams
        ):
            pairs = list(itertools.pairwise(one.tokens))
            assert len(set(pairs)) == len(pairs)


def test_where_no_token_is_left_a_result_ends(backend, model):
    every = [token for token in range(tiny_marian.VOCABULARY) if token not in (EOS, UNK, 5)]
    for options in ({}, {"num_beams": 3}, {"do_sample": True}):
        stuck = {
            "suppress_tokens": [*every, EOS],
            "no_repeat_ngram_size": 2,
            "max_new_tokens": 9,
            **options,
        }
        for one in model.generate(SOURCES, **stuck):
            assert one.tokens == [5, 5]
            assert one.score == -np.inf


def test_vocabulary_is_all_there_is(model):
    for beams in (1, 3):
        found = model.generate(SOURCES, shortlist=LISTS, max_new_tokens=6, num_beams=beams)
        for allowed, ids, one in zip(LISTS, SOURCES, found, strict=True):
            assert set(one.tokens) <= set(allowed)
            rows = log_probabilities(model, ids, one.tokens)[:, sorted({*allowed} - {UNK})]
            rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
            columns = sorted({*allowed} - {UNK})
            for token, score, row in zip(one.tokens, one.token_scores, rows, strict=False):
                assert score == pytest.approx(row[columns.index(token)], abs=1e-4)
    with pytest.raises(ValueError, match="the list of source 1 lacks the end, 0"):
        model.generate(SOURCES[:2], shortlist=[[0], [3]])
    with pytest.raises(ValueError, match="has no token that is not suppressed"):
        model.generate(SOURCES[:2], shortlist=[[0], [0, 3]], suppress_tokens=[EOS])


def test_samples_follow_the_probabilities(model):
    ids = SOURCES[0]
    found = model.generate(
        [ids], do_sample=True, num_return_sequences=4000, max_new_tokens=1, length_penalty=0
    )[0]
    drawn = np.bincount(
        [one.tokens[0] if one.tokens else EOS for one in found], minlength=tiny_marian.VOCABULARY
    )
    want = np.exp(log_probabilities(model, ids, ())[0]) * 4000
    assert (np.abs(drawn - want) < 5 * np.sqrt(want) + 1).all()
    for one in found[:50]:
        token = one.tokens[0] if one.tokens else EOS
        assert one.score == pytest.approx(np.log(want[token] / 4000), abs=1e-4)


def test_filters_of_samples(model):
    ids = SOURCES[2]
    row = log_probabilities(model, ids, ())[0]
    order = np.argsort(-row)

    def drawn(**options):
        found = model.generate(
            [ids], do_sample=True, num_return_sequences=500, max_new_tokens=1, **options
        )[0]
        return {one.tokens[0] if one.tokens else EOS for one in found}

    assert drawn(top_k=3) <= set(order[:3].tolist())
    assert drawn(top_k=1) == drawn(temperature=1e-3) == drawn(top_p=1e-9) == {order[0]}
    cumulative = np.cumsum(np.exp(row[order]))
    assert drawn(top_p=0.6) <= set(order[: int((cumulative < 0.6).sum()) + 1].tolist())
    assert len(drawn(temperature=100.0)) > 10
    assert drawn(seed=1) == drawn(seed=1)
    one, other = (
        model.generate([ids], do_sample=True, num_return_sequences=20, seed=seed, max_new_tokens=5)
        for seed in (1, 2)
    )
    assert one != other


def test_stream_and_callback_tell_each_token(model):
    for options in ({"max_new_tokens": 7}, {"max_new_tokens": 7, "do_sample": True, "seed": 3}):
        whole = model.generate([SOURCES[2]], **options)[0]
        pieces = list(model.stream(SOURCES[2], **options))
        assert [token.id for token in pieces] == whole.tokens
        assert [token.score for token in pieces] == whole.token_scores[: len(pieces)]
        told = [[] for _ in SOURCES]
        every = model.generate(
            SOURCES, callback=lambda i, t, told=told: told[i].append(t), **options
        )
        assert [[token.id for token in one] for one in told] == [one.tokens for one in every]
    stream = model.stream(SOURCES[2], max_new_tokens=50)
    first = next(stream)
    model.generate(SOURCES)  # nothing that is done in between changes a stream
    assert [first, *itertools.islice(stream, 3)] == list(
        itertools.islice(model.stream(SOURCES[2], max_new_tokens=50), 4)
    )


def test_a_step_by_hand_equals_the_search(backend, model):
    found = model.generate([SOURCES[0]], max_new_tokens=6)[0]
    state = model.start(model.encode([SOURCES[0]]))
    before = None
    for token, score in zip(found.tokens, found.token_scores, strict=False):
        logits, state, _ = model.step(before, state)
        logits[:, UNK] = -np.inf
        assert int(logits.argmax()) == token
        exact = logits[0].astype(np.float64)
        assert score == pytest.approx(
            exact[token] - exact.max() - np.log(np.exp(exact - exact.max()).sum()), abs=1e-5
        )
        before = [token]


def test_states_branch_and_select(backend, model):
    state = model.start(model.encode(SOURCES))
    _, state, _ = model.step(None, state)
    one, left, _ = model.step([3, 4, 5, 6, 7], state)
    other, _, _ = model.step([7, 6, 5, 4, 3], state)  # from the same state
    again, _, _ = model.step([3, 4, 5, 6, 7], state)
    assert_same_bits(one, again)
    assert not np.array_equal(one, other)
    rows = np.array([4, 0])
    few, _, _ = model.step([2, 9], left.select(rows, rows))
    every, _, _ = model.step([9, 2, 2, 2, 2], left)
    assert_same_bits(few[:2], every[[4, 0]])


def test_several_tokens_in_one_step(backend, model):
    """Are what they are one at a time: logits, attention, and what comes after."""
    tokens = np.random.default_rng(1).integers(2, 20, (len(SOURCES), 40))
    state = model.start(model.encode(SOURCES))
    _, one, _ = model.step(None, state)
    _, many, _ = model.step(None, state)
    attention = []
    for column in tokens[:, :33].T:
        logits, one, weights = model.step(column, one)
        attention.append(weights)
    for part in (tokens[:, :1], tokens[:, 1:18], tokens[:, 18:33]):
        found, many, weights = model.step(part, many)
    assert_same_bits(found, logits)
    assert_same_bits(weights, np.stack(attention[18:33], axis=2))
    for column in tokens[:, 33:].T:
        assert_same_bits(model.step(column, many).logits, model.step(column, one).logits)
        one, many = model.step(column, one).state, model.step(column, many).state
    assert one.position == many.position == 41


@pytest.mark.parametrize(
    "options",
    [{}, {"num_beams": 3}, {"do_sample": True, "num_return_sequences": 3, "seed": 5}],
    ids=str,
)
def test_a_search_goes_on_from_a_state(backend, model, options):
    """A prompt, and tokens read before, are what the decoder has read; the state stays."""
    prompt = np.random.default_rng(2).integers(2, 20, (len(SOURCES), 35)).tolist()
    want = model.generate(SOURCES, decoder_input_ids=prompt, max_new_tokens=40, **options)
    state = model.start(model.encode(SOURCES))
    _, read, _ = model.step(np.array(prompt)[:, :20], state)
    rest = [ids[20:] for ids in prompt]
    for _ in range(2):
        assert model.generate(read, decoder_input_ids=rest, max_new_tokens=40, **options) == want
    assert model.generate(state, decoder_input_ids=prompt, max_new_tokens=40, **options) == want
    alone = model.generate(
        SOURCES[2:3], decoder_input_ids=prompt[2:3], max_new_tokens=40, **options
    )
    if not options.get("do_sample"):
        assert alone == want[2:3]
    assert model.generate(SOURCES, max_new_tokens=40, **options) != want
    with pytest.raises(ValueError, match="one row to a sequence; got 10 rows of 5"):
        model.generate(model.start(model.encode(SOURCES), beams=2))


def test_a_logits_processor_changes_or_returns_logits(backend, model):
    """Here: after an even token an odd one."""
    seen = []

    def in_place(tokens, logits):
        seen.append(tokens.shape)
        for row, past in zip(logits, tokens, strict=True):
            if len(past) and past[-1] % 2 == 0:
                row[::2] = -np.inf

    def returned(tokens, logits):
        changed = logits.copy()
        in_place(tokens, changed)
        return changed

    for options in ({}, {"num_beams": 2}, {"do_sample": True}):
        options = {"max_new_tokens": 12, **options}
        found = model.generate(SOURCES, logits_processor=in_place, **options)
        assert found == model.generate(SOURCES, logits_processor=returned, **options)
        for one in found:
            pairs = itertools.pairwise(one.tokens)
            assert all(before % 2 or now % 2 for before, now in pairs)
    assert seen[:2] == [(5, 0), (5, 1)]
