"""The model against the textbook's equations in float64, and its independence of the batch."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import tiny_marian
from conftest import assert_same_bits
from tiny_marian import HEADS, WIDTH

from seq2seq_fast import load, use
from seq2seq_fast.graph.schedule import schedule_of
from seq2seq_fast.models.formats import marian
from seq2seq_fast.models.formats.stored import Quantised
from seq2seq_fast.nn.attention import Heads, SelfAttention
from seq2seq_fast.nn.encoder import Encoder, EncoderLayer
from seq2seq_fast.nn.feed_forward import FeedForward
from seq2seq_fast.nn.linear import Linear
from seq2seq_fast.nn.norms import Norm, SublayerNorm
from seq2seq_fast.nn.positions import Sinusoids, sinusoids
from seq2seq_fast.nn.sources import Embedding
from seq2seq_fast.nn.weights import Matrix

EOS = 0
SOURCES = [[5, 3, 9, EOS], [7, EOS], [2, 2, 11, 19, 4, 8, EOS], [6, EOS]]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.tiny.bin"
    path.write_bytes(tiny_marian.model_file())
    return path


@pytest.fixture(scope="module")
def model(file):
    return load(file, weights="float32")


def real(tensors):
    """A file's tensors as float64, matrices as (inputs, outputs)."""
    found = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, Quantised):
            rows = np.asarray(tensor.rows) / np.float64(tensor.scales)
            tensor = rows if "Wemb" in name else rows.T
        found[name] = np.asarray(tensor).astype(np.float64)
    return found


class Textbook:
    """The same model in float64, one sentence at a time, written from FORMATS' equations alone."""

    def __init__(self, tensors):
        self.t = real(tensors)

    def embed(self, token, position):
        half = WIDTH // 2
        angles = [position * math.exp(-i * math.log(1e4) / (half - 1)) for i in range(half)]
        wave = np.array([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
        return wave if token is None else math.sqrt(WIDTH) * self.t["Wemb"][token] + wave

    def norm(self, x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * self.t[f"{name}_ln_scale"][0] + self.t[f"{name}_ln_bias"][0]

    def feed_forward(self, x, name):
        hidden = np.maximum(x @ self.t[f"{name}_W1"] + self.t[f"{name}_b1"], 0)
        return self.norm(x + hidden @ self.t[f"{name}_W2"] + self.t[f"{name}_b2"], f"{name}_ffn")

    def attend(self, x, memory, name):
        q, k, v = (
            source @ self.t[f"{name}_W{part}"] + self.t[f"{name}_b{part}"]
            for source, part in ((x, "q"), (memory, "k"), (memory, "v"))
        )
        contexts, every = [], []
        for head in np.split(np.arange(WIDTH), HEADS):
            scores = q[:, head] @ k[:, head].T / math.sqrt(WIDTH // HEADS)
            weights = np.exp(scores - scores.max(1, keepdims=True))
            weights /= weights.sum(1, keepdims=True)
            every.append(weights)
            contexts.append(weights @ v[:, head])
        out = np.concatenate(contexts, 1) @ self.t[f"{name}_Wo"] + self.t[f"{name}_bo"]
        return self.norm(x + out, f"{name}_Wo"), np.mean(every, axis=0)

    def encode(self, ids):
        x = np.array([self.embed(token, p) for p, token in enumerate(ids)])
        for i in range(1, 1 + tiny_marian.ENCODERS):
            x, _ = self.attend(x, x, f"encoder_l{i}_self")
            x = self.feed_forward(x, f"encoder_l{i}_ffn")
        return x

    def decode(self, ids, memory):
        """Logits and attention after each of the given target tokens (None first)."""
        cells = [np.zeros(WIDTH)] * tiny_marian.DECODERS
        for position, token in enumerate(ids):
            x = self.embed(token, position)
            for i in range(1, 1 + tiny_marian.DECODERS):
                name = f"decoder_l{i}_rnn"
                forget = 1 / (1 + np.exp(-(x @ self.t[f"{name}_Wf"] + self.t[f"{name}_bf"][0])))
                candidate = x @ self.t[f"{name}_W"]
                cells[i - 1] = forget * cells[i - 1] + (1 - forget) * candidate
                x = self.norm(x + np.maximum(cells[i - 1], 0), f"{name}_ffn")
                y, attention = self.attend(x[None], memory, f"decoder_l{i}_context")
                x = self.feed_forward(y, f"decoder_l{i}_ffn")[0]
            yield x @ self.t["Wemb"].T + self.t["decoder_ff_logit_out_b"][0], attention[0]


def test_equals_the_equations(backend, file, model):
    textbook = Textbook(marian.read(file).tensors)
    targets = [4, 17, 3]
    state = model.start(model.encode(SOURCES))
    expected = [textbook.decode([None, *targets], textbook.encode(ids)) for ids in SOURCES]
    for before in [None, *targets]:
        given = None if before is None else [before] * len(SOURCES)
        logits, state, attention = model.step(given, state)
        for row, (ids, steps) in enumerate(zip(SOURCES, expected, strict=True)):
            want_logits, want_attention = next(steps)
            assert np.abs(logits[row] - want_logits).max() < 2e-5
            mean = attention[row].mean(axis=0)
            assert np.abs(mean[: len(ids)] - want_attention).max() < 2e-6
            assert not mean[len(ids) :].any()


def test_greedy_takes_the_likeliest_token(file, model):
    textbook = Textbook(marian.read(file).tensors)
    for ids in SOURCES:
        found = model.generate([ids], max_new_tokens=6)[0]
        memory, score = textbook.encode(ids), 0.0
        chosen = [*found.tokens, EOS] if len(found.tokens) < 6 else found.tokens
        steps = textbook.decode([None, *found.tokens], memory)
        for token, (logits, _) in zip(chosen, steps, strict=False):
            logits[model.unk] = -np.inf
            assert token == logits.argmax()
            score += logits[token] - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
        assert sum(found.token_scores) == pytest.approx(score, abs=1e-4)
        assert found.score == pytest.approx(score / len(chosen), abs=1e-4)


def test_alignment_equals_the_equations(backend, file, model):
    textbook = Textbook(marian.read(file).tensors)
    ids, tokens = SOURCES[2], [4, 17, 3]
    want = [a for _, a in textbook.decode([None, *tokens], textbook.encode(ids))][:3]
    got = model.align(ids, tokens)
    assert got.shape == (3, len(ids))
    assert np.abs(got - want).max() < 2e-6
    heads = [model.align(ids, tokens, head=head) for head in range(HEADS)]
    assert_same_bits((heads[0] + heads[1]) / np.float32(2), got)
    assert_same_bits(model.align(ids, tokens, layer=1), got)
    assert not np.array_equal(model.align(ids, tokens, layer=0), got)
    with pytest.raises(ValueError, match="attention must be a layer from 0 to 1; got 2"):
        model.align(ids, tokens, layer=2)
    with pytest.raises(ValueError, match="head must be from 0 to 1; got 2"):
        model.align(ids, tokens, head=2)


@pytest.mark.parametrize(
    ("kind", "weights"),
    [("pre", "float32"), ("pre", "float16"), ("post", "int8"), ("gated", "float32"),
     ("gated", "int8"), ("different heads", "float32"), ("both", "float32")],
)  # fmt: skip
def test_many_rows_go_block_by_block(backend, rng, weights, kind):
    """Rows enough not to be run op by op, of widths beyond a block of 256: the bits of NumPy, which
    runs them so; in a last block of few rows, too."""
    width, inner = 280, 300

    def linear(inputs, outputs):
        rows = rng.standard_normal((outputs, inputs)).astype(np.float32) / np.float32(16)
        return Linear(Matrix.pack(rows).to(weights), rng.standard_normal(outputs, np.float32))

    def norm():
        gamma, beta = rng.standard_normal((2, width), np.float32)
        if kind == "gated":
            return Norm(gamma, None, 1e-5, "rms")
        return Norm(gamma, None if kind == "both" else beta, 1e-5)

    def place():
        if kind == "both":
            return SublayerNorm(norm(), "both", norm())
        return SublayerNorm(norm(), "post" if kind == "post" else "pre")

    def layer(heads):
        projection = linear(width, heads.query_width + 2 * heads.key_width)
        return EncoderLayer(
            SelfAttention(projection, linear(heads.query_width, width), heads),
            place(),
            FeedForward(
                linear(width, inner), linear(inner, width),
                "silu" if kind == "gated" else "gelu",
                linear(width, inner) if kind == "gated" else None,
            ),
            place(),
        )  # fmt: skip

    others = Heads(6, 3, 32) if kind == "different heads" else Heads(4, 4, 70)
    encoder = Encoder(
        Embedding(linear(width, 40).matrix, 1.0, Sinusoids(width)),
        (layer(Heads(4, 4, 70)), layer(others)),
        None if kind == "post" else norm(),
    )
    sources = [rng.integers(0, 40, length) for length in (101, 94, 87)]
    with use(backend="numpy"):
        want = encoder(sources)
    for threads in (1, 2, 3):
        assert schedule_of(3, 101, threads) == "by_row_block"
        with use(threads=threads):
            assert_same_bits(encoder(sources).values, want.values)


def test_neighbours_change_nothing(backend, model):
    with use(backend="numpy"):
        alone = [model.generate([ids])[0] for ids in SOURCES]
    for order in ([0, 1, 2, 3], [3, 2, 0, 1], [1, 1, 2]):
        together = model.generate([SOURCES[i] for i in order])
        for i, found in zip(order, together, strict=True):
            assert found == alone[i]


def test_flush_to_zero_of_the_process_has_no_effect(backend, model, flush_to_zero):
    output = Linear(Matrix.pack(model.decoder.output.matrix.rows() * np.float32(1e-39)))
    model = dataclasses.replace(model, decoder=dataclasses.replace(model.decoder, output=output))
    want = model.step(None, model.start(model.encode(SOURCES)))
    assert np.any((want.logits != 0) & (np.abs(want.logits) < np.finfo(np.float32).tiny))
    with flush_to_zero():
        got = model.step(None, model.start(model.encode(SOURCES)))
    assert_same_bits(got.logits, want.logits)
    assert_same_bits(got.attention, want.attention)


def test_steps_by_hand_equal_generate_and_may_branch(model):
    found = model.generate([SOURCES[2]], max_new_tokens=5)[0]
    first = model.start(model.encode([SOURCES[2]]))
    state, before, tokens = first, None, []
    for _ in range(len(found.tokens)):
        logits, state, _ = model.step(before, state)
        logits[:, model.unk] = -np.inf
        tokens.append(int(logits.argmax()))
        model.step([9], state)  # a branch, which leaves the state as it is
        before = tokens[-1:]
    assert tokens == found.tokens
    assert first.position == 0


def test_the_length_is_capped_per_sentence(model):
    for ids, found in zip(SOURCES, model.generate(SOURCES), strict=True):
        assert len(found.token_scores) <= 10 + 2.5 * len(ids)
    assert all(len(found.tokens) <= 2 for found in model.generate(SOURCES, max_new_tokens=2))


def test_unknown_is_never_generated(file):
    tensors = tiny_marian.random_tensors()
    tensors["decoder_ff_logit_out_b"][0, 1] = 1000
    path = file.with_name("model.unknown.bin")
    path.write_bytes(tiny_marian.model_file(tensors))
    assert all(1 not in found.tokens for found in load(path).generate(SOURCES))


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([], ValueError, "at least one sequence"),
        ([[3, 0], []], ValueError, r"sources\[1\] must not be empty"),
        ([[20]], ValueError, r"sources\[0\] must be from 0 to 19; got 20 to 20"),
        ([[-1, 0]], ValueError, r"sources\[0\] must be from 0 to 19; got -1 to 0"),
        ([[0.5]], TypeError, r"sources\[0\] must be integers; got float64"),
    ],
)
def test_bad_ids(model, ids, error, message):
    with pytest.raises(error, match=message):
        model.encode(ids)
    with pytest.raises(error, match=message):
        model.generate(ids)


def test_bad_steps(model):
    state = model.start(model.encode(SOURCES))
    with pytest.raises(ValueError, match=r"one token per row, \(4,\).*; got shape \(2,\)"):
        model.step([1, 2], state)
    with pytest.raises(ValueError, match=r"max_new_tokens must be from 1 to .*; got 0"):
        model.generate(SOURCES, max_new_tokens=0)


def test_sinusoids_are_exact_to_float32():
    table = sinusoids(512, 256)
    positions, i = np.arange(512)[:, None], np.arange(128)
    angles = positions * np.exp(-i * (np.log(1e4) / 127))
    want = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    assert np.abs(table - want).max() < 1e-7
