"""Every attribute of CTranslate2's files means what it means to CTranslate2, or is refused by name.

Models of random weights, as the converters of each family write them, and with one attribute after
the other changed, give CTranslate2's log-probabilities and tokens.
"""

from __future__ import annotations

import json
import math

import ctranslate2
import numpy as np
import pytest
import random_ctranslate2
import random_whisper
from hypothesis import given, settings
from hypothesis import strategies as st
from random_ctranslate2 import ACTIVATIONS

from seq2seq_fast import load, save

pytestmark = pytest.mark.peers

ROOT = math.sqrt(32)  # of the models' width
WORDS = [[5, 7, 9], [11, 30, 8, 8, 25], [17]]
TARGET = [[4, 8, 22], [6], [39, 12, 12, 31]]
FAMILIES = {
    "Marian": {
        "pre_norm": False, "activation": ACTIVATIONS["gelu_sigmoid"], "zero_start": True,
        "tied": True, "positions": 64, "special": ["</s>", "<unk>"],
        "config": {"add_source_eos": True},
    },
    "Marian, from Transformers": {
        "pre_norm": False, "activation": ACTIVATIONS["silu"], "zero_start": True, "tied": True,
        "positions": 64, "scale": ROOT, "special": ["</s>", "<unk>"],
        "config": {"decoder_start_token": "</s>"},
    },
    "BART": {
        "pre_norm": False, "activation": ACTIVATIONS["gelu"], "layernorm_embedding": True,
        "tied": True, "positions": 64, "scale": 1.0, "special": ["<s>", "<pad>", "</s>", "<unk>"],
        "config": {"decoder_start_token": "</s>"},
    },
    "mBART": {
        "activation": ACTIVATIONS["gelu"], "layernorm_embedding": True, "tied": True,
        "positions": 64, "scale": ROOT, "special": ["<s>", "<pad>", "</s>", "<unk>"],
        "config": {"decoder_start_token": "</s>"},
    },
    "M2M100 and NLLB": {
        "tied": True, "positions": 64, "scale": ROOT, "special": ["<s>", "<pad>", "</s>", "<unk>"],
        "config": {"decoder_start_token": "</s>"},
    },
    "Pegasus": {
        "tied": True, "positions": 64, "scale": ROOT, "special": ["<pad>", "</s>", "<unk>"],
        "config": {"bos_token": "<pad>", "decoder_start_token": "<pad>"},
    },
    "fairseq": {
        "positions": 64, "scale": ROOT, "special": ["<s>", "<blank>", "</s>", "<unk>"],
        "config": {"decoder_start_token": "</s>", "add_source_eos": True},
    },
    "fairseq, no scale": {
        "pre_norm": False, "positions": 64, "scale": 1.0,
        "special": ["<s>", "<blank>", "</s>", "<unk>"],
        "config": {"decoder_start_token": "</s>", "add_source_eos": True},
    },
    "OpenNMT-py": {"positions": 64, "special": ["<unk>", "<blank>", "<s>", "</s>"]},
    "OpenNMT-py, of one key head": {"positions": 64, "multi_query_attention": True},
    "OpenNMT-tf": {
        "activation": ACTIVATIONS["gelu_tanh"],
        "config": {"add_source_bos": True, "add_source_eos": True},
    },
    "Eole": {
        "rms_norm": True, "ffn_glu": True, "activation": ACTIVATIONS["silu"], "positions": 64,
        "config": {"layer_norm_epsilon": 1e-6},
    },
    "T5": {
        "rms_norm": True, "activation": ACTIVATIONS["relu"], "relative_attention_bias": True,
        "head_width": 12, "scale": 1.0, "special": ["<pad>", "</s>", "<unk>"],
        "config": {"bos_token": "<pad>", "decoder_start_token": "<pad>"},
    },
    "T5 1.1": {
        "rms_norm": True, "ffn_glu": True, "activation": ACTIVATIONS["gelu_tanh"],
        "relative_attention_bias": True, "distance": 128, "scale": 1.0, "seed": 1,
        "special": ["<pad>", "</s>", "<unk>"],
        "config": {"bos_token": "<pad>", "decoder_start_token": "<pad>"},
    },
}  # fmt: skip


def names(ids):
    return [[f"w{i}" for i in one] for one in ids]


def log_probabilities(model, source, target):
    """Of each of the target tokens, when the model is made to say them."""
    state, ids, found = model.start(model.encode([source])), None, []
    for token in target:
        logits, state, _ = model.step(ids, state)
        exact = logits[0].astype(np.float64) - logits.max()
        found.append(exact[token] - np.log(np.exp(exact).sum()))
        ids = [token]
    return found


def ours(model, first=(), last=(), targets=TARGET):
    """Log-probabilities, all in a row; sources begin with `first` and end with `last`."""
    sources = [[*first, *words, *last] for words in WORDS]
    pairs = zip(sources, targets, strict=True)
    return [p for source, target in pairs
            for p in log_probabilities(model, source, [*target, model.eos])]  # fmt: skip


def theirs(folder, compute_type="float32"):
    """The like by CTranslate2, which adds to the sources what config.json says."""
    scored = ctranslate2.Translator(str(folder), compute_type=compute_type)
    return [p for one in scored.score_batch(names(WORDS), names(TARGET)) for p in one.log_probs]


@pytest.mark.parametrize("quantization", [None, "float16", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_families(tmp_path, family, quantization):
    choices = FAMILIES[family]
    vocabulary = random_ctranslate2.write(
        tmp_path, spread=3.0, quantization=quantization, **choices
    )
    model = load(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    first = [vocabulary.index("<s>")] if config["add_source_bos"] else []
    last = [model.eos] if config["add_source_eos"] else []
    if quantization == "int8":
        # A number next to a half may be rounded otherwise than there, seldom.
        apart = np.abs(np.subtract(ours(model, first, last), theirs(tmp_path, "int8")))
        assert np.median(apart) < 1e-5 and apart.max() < 1e-2
        model = load(tmp_path, weights="float32")
    assert ours(model, first, last) == pytest.approx(theirs(tmp_path), abs=1e-4)

    translator = ctranslate2.Translator(str(tmp_path), compute_type="float32")
    prefix = names(TARGET)  # the language, say
    want = translator.translate_batch(
        names(WORDS), prefix, beam_size=1, max_decoding_length=12, return_scores=True
    )
    got = model.generate(
        [[*first, *words, *last] for words in WORDS],
        prefix=TARGET,
        max_new_tokens=12,
        length_penalty=1.0,
    )
    for wanted, found in zip(want, got, strict=True):
        assert [vocabulary[i] for i in found.tokens] == wanted.hypotheses[0]
        assert found.score == pytest.approx(wanted.scores[0], abs=1e-4)


def test_families_are_saved_as_they_are(tmp_path):
    """Nothing of what a file says is lost in one of the package's own."""
    for i, choices in enumerate(FAMILIES.values()):
        folder = tmp_path / str(i)
        folder.mkdir()
        random_ctranslate2.write(folder, **choices)
        model = load(folder)
        save(model, tmp_path / "model.safetensors")
        assert ours(load(tmp_path / "model.safetensors")) == ours(model)


LAYER = "decoder/layer_0"
OWN = f"{LAYER}/self_attention"


def scalars(*numbers):
    return [np.dtype(kind).type(number) for kind, number in numbers]


READ = [
    *((f"{side}/scale_embeddings", value)
      for side in ("encoder", "decoder")
      for value in (*scalars(("i1", 0), ("i1", 1), ("i1", 2), ("f4", 0), ("f4", 1), ("f4", 0.25),
                             ("f4", ROOT), ("f4", -2), ("f2", 1), ("f2", 3), ("i2", 1), ("i4", 1)),
                    None)),
    *((f"{side}/activation", value)
      for side in ("encoder", "decoder")
      for value in (*scalars(*(("i1", kind) for kind in range(7)), ("i2", 3), ("i4", 4)), None)),
    *((f"{side}/pre_norm", value)
      for side in ("encoder", "decoder")
      for value in (*scalars(("i1", 0), ("i1", 1), ("i2", 0)), None)),
    *((f"{side}/num_heads", value)
      for side in ("encoder", "decoder")
      for value in (*scalars(("i1", 2), ("i2", 16), ("i4", 1)), None)),
    *(("decoder/start_from_zero_embedding", value) for value in scalars(("i1", 1), ("i4", 1))),
    (f"{OWN}/num_heads_kv", np.int32(4)),
    (f"{OWN}/head_dim", np.int32(8)),
    *((f"{OWN}/queries_scale", np.float32(value)) for value in (1 / math.sqrt(8), 0.5, 2)),
    *(("decoder/scale_outputs", np.float32(value)) for value in (1, 0.3, 2)),
    ("decoder/final_logit_softcapping", np.float32(0)),
    ("decoder/sliding_window", np.int32(0)),
    (f"{OWN}/sliding_window", np.int32(0)),
    (f"{OWN}/rotary_dim", np.int32(-1)),
    (f"{LAYER}/layer_scalar", np.float32(1)),
    *((f"decoder/{name}", value)
      for name in ("alignment_heads", "alignment_layer")
      for value in scalars(("i2", 0), ("i2", 1))),
    ("decoder/alibi_use_positive_positions", np.int8(1)),
    ("decoder/scale_alibi", np.int8(1)),
    ("encoder/embeddings_merge", np.int8(1)),
    ("encoder/multi_query_attention", np.int8(1)),
    ("encoder/embeddings_0/multiply_by_sqrt_depth", np.float32(3)),
    ("decoder/embeddings/multiply_by_sqrt_depth", np.float32(3)),
    ("decoder/layer_norm/beta", None),
    ("decoder/projection/bias", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), READ, ids=lambda value: f"{value!r}")
def test_what_is_read_is_read_as_there(tmp_path, name, value):
    random_ctranslate2.write(tmp_path, positions=64, spread=3.0)
    random_ctranslate2.edit(tmp_path, {name: value})
    assert ours(load(tmp_path)) == pytest.approx(theirs(tmp_path), abs=1e-4)


REFUSED = [
    ("decoder/scale_outputs", np.float32(0), "scale_outputs is 0, expected a positive number"),
    ("decoder/final_logit_softcapping", np.float32(0.5), "softcapping 0.5; read so far is 0"),
    ("decoder/alibi", np.int8(1), "decoder/alibi 1; read so far is 0"),
    ("decoder/sliding_window", np.int32(2), "sliding_window 2; read so far is 0"),
    (f"{OWN}/sliding_window", np.int32(2), "sliding_window 2; read so far is 0"),
    (f"{OWN}/rotary_dim", np.int32(0), "rotary_dim 0; read so far is -1"),
    (f"{OWN}/head_dim", np.int32(4), "head_dim 4; read so far is 8"),
    (f"{OWN}/queries_scale", np.float32(0), "queries_scale is 0, expected a positive number"),
    (f"{OWN}/multi_query", np.int8(1), "multi_query 1; read so far is 0"),
    (f"{OWN}/num_heads_kv", np.int32(3), "4 heads do not divide over 3 key heads"),
    (f"{OWN}/num_heads_kv", np.int32(0), "is 0, expected a whole number from 1"),
    (f"{OWN}/relative_position_keys", np.ones((5, 8), np.float32), "which is not read so far"),
    ("decoder/project_out/weight", np.ones((32, 32), np.float32), "which is not read so far"),
    ("encoder/embeddings_1/weight", np.ones((40, 32), np.float32), "which is not read so far"),
    (f"{LAYER}/ffn/layer_norm/gamma", None, "layer_norm/gamma is missing"),
    ("decoder/activation", np.int8(7), "is 7, expected a whole number from 0 to 6"),
    ("decoder/scale_embeddings", np.int16(3), "scale_embeddings is 3 of int16"),
    ("decoder/scale_embeddings", np.ones(1, np.float32), "expected one number"),
    ("decoder/pre_norm", np.ones(1, np.int8), "expected one number"),
]


@pytest.mark.parametrize(("name", "value", "message"), REFUSED)
def test_what_changes_results_there_is_refused_here(tmp_path, name, value, message):
    random_ctranslate2.write(tmp_path, positions=64, spread=3.0)

    def scores():
        options = {"beam_size": 1, "min_decoding_length": 8, "max_decoding_length": 8}
        found = ctranslate2.Translator(str(tmp_path)).translate_batch(
            names(WORDS), return_scores=True, **options
        )
        return [*(one.scores[0] for one in found), *theirs(tmp_path)]

    before = scores()
    random_ctranslate2.edit(tmp_path, {name: value})
    try:
        after = scores()
    except (IndexError, RuntimeError, ValueError):
        after = None  # nor does CTranslate2 read it
    assert after != before
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_one_plus_gamma_is_refused(tmp_path):
    random_ctranslate2.write(tmp_path, rms_norm=True)
    name = f"{LAYER}/ffn/layer_norm/layer_norm_use_residual"
    random_ctranslate2.edit(tmp_path, {name: np.int8(0)})
    assert ours(load(tmp_path)) == pytest.approx(theirs(tmp_path), abs=1e-4)
    random_ctranslate2.edit(tmp_path, {name: np.int8(1)})
    with pytest.raises(ValueError, match="layer_norm_use_residual 1; read so far is 0"):
        load(tmp_path)


@settings(max_examples=20, deadline=None)
@given(encoder=st.floats(-8, 8, width=32), decoder=st.floats(-8, 8, width=32))
def test_any_scale(tmp_path_factory, encoder, decoder):
    folder = tmp_path_factory.mktemp("model")
    random_ctranslate2.write(folder)
    scales = {"encoder": encoder, "decoder": decoder}
    random_ctranslate2.edit(
        folder, {f"{side}/scale_embeddings": np.float32(scale) for side, scale in scales.items()}
    )
    assert ours(load(folder)) == pytest.approx(theirs(folder), abs=1e-4)


@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_grouped_keys(tmp_path, key_heads):
    random_ctranslate2.write(tmp_path, key_heads=key_heads, spread=3.0)
    assert ours(load(tmp_path)) == pytest.approx(theirs(tmp_path), abs=1e-4)


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("epsilon", [None, 1e-3])
def test_epsilon(tmp_path, rms, epsilon):
    """Where the embeddings are so small that it shows."""
    random_ctranslate2.write(
        tmp_path, rms_norm=rms, scale=1e-3, positions=64, config={"layer_norm_epsilon": epsilon}
    )
    nothing = np.zeros((64, 32), np.float32)
    random_ctranslate2.edit(
        tmp_path,
        {f"{side}/position_encodings/encodings": nothing for side in ("encoder", "decoder")},
    )
    assert ours(load(tmp_path)) == pytest.approx(theirs(tmp_path), abs=1e-4)


# ---- files of older versions ----


def of_old(name):
    """Attributes of both sides at once, and one source without a number."""
    shared = ("num_heads", "pre_norm", "activation", "embeddings_merge",
              "alignment_layer", "alignment_heads")  # fmt: skip
    key = name.split("/")[1]
    return key if key in shared else name.replace("encoder/embeddings_0", "encoder/embeddings")


@pytest.mark.parametrize(
    ("change", "first", "last"),
    [
        ({}, [], []),
        ({"with_source_bos": np.int8(1), "with_source_eos": np.int8(1)}, [1], [2]),
        ({"with_target_bos": np.int8(0)}, [], []),
        ({"eos_token": np.frombuffer(b"w9", np.int8)}, [], []),
        ({"bos_token": np.frombuffer(b"w9", np.int8)}, [], []),
        ({"with_relative_position": np.int8(0)}, [], []),
        ({"decoder/embeddings/multiply_by_sqrt_depth": np.float32(3)}, [], []),
        ({"decoder/embeddings/multiply_by_sqrt_depth": np.int8(0)}, [], []),
    ],
    ids=str,
)
@pytest.mark.parametrize("version", [4, 5])
def test_old_files(tmp_path, version, change, first, last):
    random_ctranslate2.write(tmp_path, pre_norm=False, activation=ACTIVATIONS["gelu"], heads=2)
    (tmp_path / "config.json").unlink()
    scales = {f"{side}/scale_embeddings": None for side in ("encoder", "decoder")}
    random_ctranslate2.edit(
        tmp_path, {**scales, **change}, rename=of_old, version=version, revision=4
    )
    assert ours(load(tmp_path), first, last) == pytest.approx(theirs(tmp_path), abs=1e-4)


@pytest.mark.parametrize("version", [5, 6])
def test_no_first_token(tmp_path, version):
    random_ctranslate2.write(tmp_path, config={"decoder_start_token": None})
    if version < 6:
        random_ctranslate2.edit(
            tmp_path, {"user_decoder_start_tokens": np.int8(1)}, version=version
        )
    with pytest.raises(ValueError, match="decoder_start_token is null: the model has to be told"):
        load(tmp_path)


@pytest.mark.parametrize(("writer", "latest"), [(random_ctranslate2, 7), (random_whisper, 3)])
def test_later_revisions_are_refused(tmp_path, writer, latest):
    writer.write(tmp_path)
    random_ctranslate2.edit(tmp_path, {}, revision=latest + 1)
    message = f"is of revision {latest + 1}, read are those up to {latest}"
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


# ---- Whisper ----


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encoder/num_heads", np.int16(4)),
        ("encoder/num_heads", None),
        ("decoder/num_heads", np.int8(4)),
        ("decoder/scale_embeddings", np.int8(1)),
        ("decoder/scale_embeddings", np.float32(2)),
        ("decoder/scale_embeddings", None),
        ("decoder/activation", np.int8(2)),
        ("decoder/activation", None),
        ("decoder/pre_norm", np.int8(0)),
    ],
)
def test_whisper(tmp_path, name, value):
    random_whisper.write(tmp_path, quantization="float16")
    random_ctranslate2.edit(tmp_path, {name: value})
    spectrum = np.random.default_rng(2).standard_normal((3000, 80)).astype(np.float32)
    peer = ctranslate2.models.Whisper(str(tmp_path), compute_type="float32")
    features = ctranslate2.StorageView.from_array(np.ascontiguousarray(spectrum.T[None]))
    model = load(tmp_path)
    memory = model.encode([spectrum])
    np.testing.assert_allclose(memory.values, np.array(peer.encode(features)), atol=1e-3)
    prompt = [random_whisper.tokenizer().token_to_id(f"<|{one}|>")
              for one in ("startoftranscript", "en", "transcribe", "notimestamps")]  # fmt: skip
    (want,) = peer.generate(
        features, [prompt], beam_size=1, max_length=16, suppress_blank=False, suppress_tokens=[],
        return_scores=True,
    )  # fmt: skip
    _, state, _ = model.step(np.array([prompt[:-1]]), model.start(memory))
    probabilities, ids = [], prompt[-1:]
    for token in want.sequences_ids[0]:
        logits, state, _ = model.step(ids, state)
        assert logits[0].argmax() == token
        exact = logits[0].astype(np.float64) - logits.max()
        probabilities.append(exact[token] - np.log(np.exp(exact).sum()))
        ids = [token]
    assert np.mean(probabilities) == pytest.approx(want.scores[0], abs=1e-4)


def test_whisper_starts_from_a_token(tmp_path):
    random_whisper.write(tmp_path)
    random_ctranslate2.edit(tmp_path, {"decoder/start_from_zero_embedding": np.int8(1)})
    with pytest.raises(ValueError, match="start_from_zero_embedding 1; read so far is 0"):
        load(tmp_path)


# ---- vocabularies ----


def test_which_vocabulary(tmp_path):
    """The shared one before the target's, JSON before lines."""
    vocabulary = random_ctranslate2.write(tmp_path)
    turned = json.dumps(vocabulary[::-1])
    for name in ("source_vocabulary", "target_vocabulary"):
        (tmp_path / f"{name}.json").write_text(turned)
    (tmp_path / "shared_vocabulary.txt").write_text("\n".join(vocabulary[::-1]))
    assert load(tmp_path).eos == 2
    (tmp_path / "shared_vocabulary.json").unlink()
    assert load(tmp_path).eos == 37
    (tmp_path / "shared_vocabulary.txt").unlink()
    (tmp_path / "target_vocabulary.json").write_text(json.dumps(vocabulary))
    assert load(tmp_path).eos == 2


@pytest.mark.parametrize(
    ("text", "eos"),
    [
        ("a\n<s>\n</s>\n", 2),
        ("a\r\n<s>\r\n</s>\r\n", 2),
        ("\r\n<s>\n</s>\n", 2),  # the token is a carriage return
        ("a\rb\n<s>\n</s>", 2),
        ("\x85\n\u2028\n<s>\n</s>\n", 3),
    ],
)
def test_lines_end_where_they_do_there(tmp_path, text, eos):
    random_ctranslate2.write(tmp_path, vocabulary=40)
    (tmp_path / "shared_vocabulary.json").unlink()
    end = "\r\n" if text.endswith("\r\n") else "\n"
    rest = "".join(f"w{i}{end}" for i in range(40))
    (tmp_path / "shared_vocabulary.txt").write_bytes((text.removesuffix(end) + end + rest).encode())
    assert load(tmp_path).eos == eos
