"""Hugging Face's families of text: the same numbers and tokens as transformers has."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from random_huggingface import FAMILIES, random_model, saved, transformers
from safetensors.numpy import load_file, save_file

from seq2seq_fast import load, save, use
from seq2seq_fast.nn.logits import topk_log_softmax

pytestmark = pytest.mark.transformers

SOURCE = [5, 9, 13, 22, 31, 7, 41, 8, 55, 12, 17, 33, 2]
TARGET = [4, 8, 15, 16, 23, 42, 11, 10, 9, 8, 7, 6]


@pytest.fixture(params=FAMILIES)
def family(request):
    transformers()
    return request.param


def states_of(model, source, target):
    """transformers' encoder states and the logits of each step, of a target that follows the
    start."""
    import torch

    start = model.config.decoder_start_token_id
    with torch.no_grad():
        out = model(
            input_ids=torch.tensor([source]),
            attention_mask=torch.ones(1, len(source), dtype=torch.long),
            decoder_input_ids=torch.tensor([[2 if start is None else start, *target]]),
        )
    return out.encoder_last_hidden_state[0].numpy(), out.logits[0].numpy()


def ours_of(model, source, target):
    """The same of ours."""
    memory = model.encode([source])
    state = model.start(memory)
    logits = []
    for token in [None, *target]:
        step = model.step(None if token is None else [token], state)
        state = step.state
        logits.append(step.logits[0])
    return memory.values[0], np.array(logits)


def assert_near(ours, theirs):
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-4 * np.ptp(theirs)


def test_states_and_logits(family, tmp_path):
    theirs = random_model(family)
    model = load(saved(theirs, tmp_path))
    for ours, wanted in zip(
        ours_of(model, SOURCE, TARGET), states_of(theirs, SOURCE, TARGET), strict=True
    ):
        assert_near(ours, wanted)


def greedy_of(theirs, source, count):
    """The likeliest tokens one after the other, without any of generate()'s rules."""
    target = []
    for _ in range(count):
        _, logits = states_of(theirs, source, target)
        target.append(int(logits[-1].argmax()))
    return target


def test_greedy(family, tmp_path):
    """As many tokens as are asked for: through the recorded steps."""
    theirs = random_model(family)
    model = load(saved(theirs, tmp_path))
    for source in (SOURCE, SOURCE[:3], SOURCE[3:] * 3):
        wanted = greedy_of(theirs, source, 40)
        found = model.generate([source], max_new_tokens=40, forced_eos_token_id=None)
        end = wanted.index(model.eos) + 1 if model.eos in wanted else 40
        assert [*found[0].tokens, model.eos][:end] == wanted[:end]


def test_recorded_steps_are_steps(family, backend, tmp_path):
    """generate() runs a graph, step() runs layer by layer: the same bits, whatever the position."""
    model = load(saved(random_model(family), tmp_path))
    options = {"forced_eos_token_id": None, "max_new_tokens": 50, "suppress_tokens": [model.eos]}
    found = model.generate([SOURCE], **options)[0]
    assert len(found.tokens) == 50
    state, token = model.start(model.encode([SOURCE])), None
    for chosen, score in zip(found.tokens, found.token_scores, strict=True):
        logits, state, _ = model.step(token, state)
        logits[:, model.eos] = -np.inf
        ids, scores, _ = topk_log_softmax(logits, 1)
        assert (ids[0, 0], scores[0, 0]) == (chosen, score)
        token = [chosen]


# ---- files as published folders have them, which transformers itself no longer writes ----


def rewritten(folder, tensors, **config):
    """A folder with other tensors, and some keys of config.json changed; None takes one away."""
    folder.mkdir(exist_ok=True)
    said = {**json.loads((folder.parent / "config.json").read_text()), **config}
    said = {key: value for key, value in said.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(said))
    save_file(tensors, folder / "model.safetensors")
    return folder


def same_bits(one, other):
    """Whether two models give the same logits."""
    return all(
        np.array_equal(a, b)
        for a, b in zip(ours_of(one, SOURCE, TARGET), ours_of(other, SOURCE, TARGET), strict=True)
    )


@pytest.fixture
def t5(tmp_path):
    """A folder of T5 and its tensors, with a head that is not the table."""
    saved(random_model("t5-gated"), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    head = np.random.default_rng(1).standard_normal(tensors["shared.weight"].shape)
    tensors["lm_head.weight"] = head.astype(np.float32)
    old = {"scale_decoder_outputs": None}  # which files of before 2026 do not have
    return tmp_path, tensors, old


def test_where_t5_has_its_tables(t5):
    folder, tensors, old = t5
    untied = load(rewritten(folder / "untied", tensors, tie_word_embeddings=False, **old))
    shared = tensors.pop("shared.weight")
    for names in (
        ("decoder.embed_tokens.weight",),  # MADLAD-400
        ("encoder.embed_tokens.weight",),
        ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"),
        ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"),
    ):
        files = {**tensors, **{name: shared.copy() for name in names}}
        found = load(rewritten(folder / "other", files, tie_word_embeddings=False, **old))
        assert same_bits(found, untied)
    files["decoder.embed_tokens.weight"][3, 3] += 1
    with pytest.raises(ValueError, match=r"decoder\.embed_tokens\.weight, which is not the same"):
        load(rewritten(folder / "other", files, tie_word_embeddings=False, **old))


def test_how_t5_scales_its_output(t5):
    """By 1 / sqrt(d_model) where config.json says tied, or nothing, whatever head the file has."""
    folder, tensors, old = t5
    _, untied = ours_of(
        load(rewritten(folder / "untied", tensors, tie_word_embeddings=False, **old)),
        SOURCE, TARGET,
    )  # fmt: skip
    for tied in (True, None):
        files = rewritten(folder / "tied", tensors, tie_word_embeddings=tied, **old)
        _, scaled = ours_of(load(files), SOURCE, TARGET)
        assert_near(scaled * np.float32(np.sqrt(32)), untied)
    head = tensors.pop("lm_head.weight")
    with pytest.raises(ValueError, match=r"lm_head\.weight is missing"):
        load(rewritten(folder / "tied", tensors, tie_word_embeddings=False, **old))
    tied = load(rewritten(folder / "tied", tensors, tie_word_embeddings=True, **old))
    tensors["lm_head.weight"] = tensors["shared.weight"].copy()
    assert same_bits(
        tied, load(rewritten(folder / "own", tensors, tie_word_embeddings=True, **old))
    )
    assert not np.array_equal(head, tensors["lm_head.weight"])


@pytest.mark.parametrize("bias", [True, False])
def test_what_bart_may_lack_or_have_more(tmp_path, bias):
    theirs = random_model("bart")
    saved(theirs, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    if not bias:
        del tensors["final_logits_bias"]
        theirs = copy.deepcopy(theirs)
        theirs.final_logits_bias.zero_()
    tensors["model.encoder.version"] = np.full(1, 3, np.float32)
    tensors["model.encoder.embed_tokens.weight"] = tensors["model.shared.weight"].copy()
    tensors["lm_head.weight"] = tensors["model.shared.weight"].copy()
    found = load(rewritten(tmp_path / "old", tensors))
    for ours, wanted in zip(
        ours_of(found, SOURCE, TARGET), states_of(theirs, SOURCE, TARGET), strict=True
    ):
        assert_near(ours, wanted)
    tensors["model.encoder.layers.0.fc3.weight"] = np.zeros((4, 4), np.float32)
    with pytest.raises(ValueError, match=r"has model\.encoder\.layers\.0\.fc3\.weight"):
        load(rewritten(tmp_path / "old", tensors))


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        ("bart", "model_type", "brat"),
        ("bart", "activation_function", "sine"),
        ("bart", "encoder_layers", 0),
        ("bart", "decoder_attention_heads", 5),
        ("bart", "scale_embedding", "yes"),
        ("t5", "num_heads", None),
        ("t5", "feed_forward_proj", "gated-sine"),
        ("t5", "layer_norm_epsilon", 1e400),
        ("t5", "relative_attention_max_distance", 1 << 40),
        ("t5", "eos_token_id", 67),
    ],
)
def test_a_config_that_makes_no_sense(tmp_path, family, key, value):
    saved(random_model(family), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    known = "bart" if key == "model_type" else f"{key}|heads"
    with pytest.raises(ValueError, match=known):
        load(rewritten(tmp_path / "bad", tensors, **{key: value}))


SOURCES = [SOURCE, SOURCE[:3], SOURCE[3:] * 3, [7, 2], SOURCE * 4]


@pytest.mark.parametrize("weights", ["float32", "float16", "int8"])
def test_batches_backends_and_saved_files_change_nothing(family, weights, tmp_path):
    """In every kind of weights, greedy and with beams."""
    model = load(saved(random_model(family), tmp_path), weights=weights)
    save(model, tmp_path / "saved.safetensors")
    again = load(tmp_path / "saved.safetensors")
    assert again.defaults == model.defaults
    for options in ({"max_new_tokens": 20}, {"max_new_tokens": 12, "num_beams": 4}):
        alone = [model.generate([source], **options)[0] for source in SOURCES]
        assert model.generate(SOURCES, **options) == alone
        assert again.generate(SOURCES, **options) == alone
        with use(threads=2):
            assert model.generate(SOURCES, **options) == alone
        with use(backend="numpy"):
            assert model.generate(SOURCES[:3], **options) == alone[:3]


def test_t5s_second_feed_forward_matrix_stays_a_float(tmp_path):
    """Some of its inputs are in the ten thousands, beside which eight bits leave nothing of the
    others; float16 holds the weights, and sums are of float32."""
    model = load(saved(random_model("t5-gated"), tmp_path), weights="int8")
    for layer in (*model.encoder.layers, *model.decoder.layers):
        forward = layer.feed_forward
        assert (forward.up.matrix.type, forward.down.matrix.type) == ("int8", "float16")


# ---- the kinds of files ----


def pytorch_files(model, folder, *, old=False):
    """pytorch_model.bin, which transformers no longer writes."""
    import torch

    model.config.save_pretrained(folder)
    path = folder / "pytorch_model.bin"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=not old)
    return folder


@pytest.mark.parametrize("kind", ["sharded", "bin", "old bin", "sharded bin"])
def test_every_kind_of_file_has_the_same_bits(family, kind, tmp_path):
    import torch

    theirs = random_model(family)
    whole = load(saved(theirs, tmp_path / "whole"))
    folder = tmp_path / "other"
    folder.mkdir()
    if kind == "sharded":
        theirs.save_pretrained(folder, max_shard_size="20KB")
        assert len(list(folder.glob("model-*.safetensors"))) > 2
    else:
        pytorch_files(theirs, folder, old=kind == "old bin")
    if kind == "sharded bin":
        state = theirs.state_dict()
        names = sorted(state)
        parts = {f"pytorch_model-{i}.bin": names[i::3] for i in range(3)}
        for file, some in parts.items():
            torch.save({name: state[name] for name in some}, folder / file)
        index = {name: file for file, some in parts.items() for name in some}
        text = json.dumps({"weight_map": index})
        (folder / "pytorch_model.bin.index.json").write_text(text)
        (folder / "pytorch_model.bin").unlink()
    assert same_bits(load(folder), whole)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_are_kept(family, dtype, tmp_path):
    """As they are stored; to float32 and back to these changes nothing."""
    import torch

    theirs = copy.deepcopy(random_model(family)).to(getattr(torch, dtype))
    model = load(saved(theirs, tmp_path))
    assert model.decoder.layers[0].feed_forward.up.matrix.type == dtype
    widened = load(tmp_path, weights="float32")
    for ours, wanted in zip(
        ours_of(model, SOURCE, TARGET), ours_of(widened, SOURCE, TARGET), strict=True
    ):
        assert np.array_equal(ours, wanted)
    again = type(theirs).from_pretrained(tmp_path, dtype=torch.float32).eval()
    for ours, wanted in zip(
        ours_of(widened, SOURCE, TARGET), states_of(again, SOURCE, TARGET), strict=True
    ):
        assert_near(ours, wanted)
    save(model, tmp_path / "saved.safetensors")
    assert same_bits(load(tmp_path / "saved.safetensors"), model)
