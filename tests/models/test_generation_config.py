"""generation_config.json: each field is the option that it means, or is refused by name."""

from __future__ import annotations

import json

import pytest
from random_huggingface import random_model, saved

from seq2seq_fast.models.generation_config import of_task, read

CNN = {  # bart-large-cnn's
    "num_beams": 4, "length_penalty": 2.0, "max_length": 142, "min_length": 56,
    "no_repeat_ngram_size": 3, "early_stopping": True, "forced_bos_token_id": 0,
    "forced_eos_token_id": 2, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
    "decoder_start_token_id": 2, "transformers_version": "4.27.0.dev0", "_from_model_config": True,
}  # fmt: skip


def written(folder, said):
    (folder / "generation_config.json").write_text(json.dumps(said))
    return folder


def test_bart_large_cnn(tmp_path):
    """Lengths there count the token that the decoder begins with."""
    assert read(written(tmp_path, CNN), {"num_beams": 9}) == {
        "search": "transformers", "num_beams": 4, "length_penalty": 2.0, "max_new_tokens": 141,
        "min_new_tokens": 55, "no_repeat_ngram_size": 3, "early_stopping": True,
        "forced_bos_token_id": 0, "forced_eos_token_id": 2, "eos_token_id": 2,
    }  # fmt: skip


def test_an_older_folder_says_it_in_config_json(tmp_path):
    assert read(tmp_path, {"num_beams": 9, "bad_words_ids": [[58100]], "d_model": 512}) == {
        "search": "transformers", "num_beams": 9, "bad_words_ids": [[58100]],
    }  # fmt: skip
    old = {"force_bos_token_to_be_generated": True, "bos_token_id": 0, "max_length": None}
    assert read(tmp_path, old) == {"search": "transformers", "forced_bos_token_id": 0}


def test_how_to_draw_is_nothing_to_a_search_that_does_not(tmp_path):
    warm = {"temperature": 0.7, "top_k": 50}
    assert read(tmp_path, warm) == {"search": "transformers"}
    assert read(tmp_path, {**warm, "do_sample": True}) == {
        "search": "transformers", "do_sample": True, **warm
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"num_beams": "four"}, "num_beams must be an integer"),
        ({"num_beams": 0}, "num_beams must be from 1"),
        ({"length_penalty": [2]}, "length_penalty must be a number"),
        ({"early_stopping": "maybe"}, "early_stopping must be True or False"),
        ({"bad_words_ids": [5]}, r"bad_words_ids\[0\] must be a sequence"),
        ({"max_length": -1}, "says max_length: -1, expected an integer of at least 0"),
        ({"min_length": 2.5}, "says min_length: 2.5"),
        ({"num_beam_groups": 2}, "says num_beam_groups: 2, which is not read so far"),
        ({"guidance_scale": 1.5}, "says guidance_scale: 1.5, which is not read so far"),
    ],
)
def test_a_field_that_makes_no_sense_or_is_not_read(tmp_path, said, message):
    with pytest.raises(ValueError, match=message) as raised:
        read(written(tmp_path, said), {})
    assert str(tmp_path / "generation_config.json") in str(raised.value)


def test_what_changes_nothing_is_no_error(tmp_path):
    neutral = {"num_beam_groups": 1, "guidance_scale": None, "constraints": [], "typical_p": 1.0}
    assert read(written(tmp_path, neutral), {}) == {"search": "transformers"}


def test_a_task_of_t5(tmp_path):
    said = {"prefix": "summarize: ", "max_length": 200, "min_length": 30, "num_beams": 4}
    config = {"task_specific_params": {"summarization": said}}
    wanted = {"max_new_tokens": 199, "min_new_tokens": 29, "num_beams": 4}
    assert of_task(config, "summarization", tmp_path) == ("summarize: ", wanted)
    assert of_task(config, "translation_en_to_de", tmp_path) == ("", {})
    assert of_task({"task_specific_params": [1]}, "summarization", tmp_path) == ("", {})


# ---- a model with defaults ----


@pytest.fixture
def model(tmp_path):
    """A small one that asks for beams, a first token and a length."""
    folder = saved(random_model("bart"), tmp_path / "bart")
    said = {"num_beams": 3, "forced_bos_token_id": 7, "max_length": 9, "min_length": 8,
            "early_stopping": "never"}  # fmt: skip
    return folder, written(folder, said)


@pytest.mark.transformers
def test_what_is_given_wins_over_the_folder_and_that_over_defaults(model, tmp_path):
    from seq2seq_fast import load, save

    folder, _ = model
    loaded = load(folder)
    source = [[5, 9, 13, 2]]
    (found,) = loaded.generate(source)
    assert found.tokens[0] == 7 and 7 <= len(found.tokens) <= 8
    explicit = {"search": "transformers", "num_beams": 3, "forced_bos_token_id": 7,
                "max_new_tokens": 8, "min_new_tokens": 7, "early_stopping": "never"}  # fmt: skip
    bare = load(folder)
    object.__setattr__(bare, "defaults", {})
    assert bare.generate(source, **explicit) == [found]
    assert len(loaded.generate(source, max_new_tokens=3)[0].tokens) == 3  # the least gives way
    assert loaded.generate(source, num_beams=1)[0] == bare.generate(
        source, **{**explicit, "num_beams": 1}
    )[0]  # fmt: skip
    assert loaded.generate(source, do_sample=True, seed=4)[0].tokens[0] == 7  # and so do beams
    assert [token.id for token in loaded.stream(source[0])][:1] == [7]
    save(loaded, tmp_path / "saved.safetensors")
    again = load(tmp_path / "saved.safetensors")
    assert again.defaults == loaded.defaults
    assert again.generate(source) == [found]


@pytest.mark.transformers
def test_a_limit_beyond_the_positions_is_that_of_the_positions(model):
    from seq2seq_fast import load

    folder, _ = model
    written(folder, {"max_length": 5000})
    assert load(folder).defaults["max_new_tokens"] == 72
    assert len(load(folder).generate([[5, 2]], suppress_tokens=[2])[0].tokens) == 72
