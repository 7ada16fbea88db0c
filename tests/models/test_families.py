"""What the families have in common: every tensor of a file is read, or known as one that changes
nothing, or the file is refused; traits of a plan that no family of today has are assembled, too."""

from __future__ import annotations

import dataclasses

import fuzz
import numpy as np
import pytest
import random_ctranslate2
import tiny_marian
from conftest import assert_same_bits
from safetensors.numpy import load_file, save_file

from seq2seq_fast import load
from seq2seq_fast.models.assembly import assemble
from seq2seq_fast.models.families import huggingface, marian
from seq2seq_fast.models.plan import NormTraits

ONES = np.ones((1, 16), np.float32)


def write_marian(folder, more):
    (folder / "model.bin").write_bytes(
        tiny_marian.model_file({**tiny_marian.random_tensors(), **more})
    )


def write_ctranslate2(folder, more):
    fuzz.write_ctranslate2(folder)
    random_ctranslate2.edit(folder, more)


def write_whisper(folder, more):
    fuzz.write_hugging_face(folder)
    path = folder / "model.safetensors"
    save_file({**load_file(path), **more}, path)


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_marian, "encoder_l1_self_Wr"),
        (write_marian, "decoder_l3_context_bq"),
        (write_marian, "Wpos"),
        (write_ctranslate2, "decoder/layer_0/ffn/linear_2/weight"),
        (write_ctranslate2, "encoder/project_in/weight"),
        (write_whisper, "model.decoder.layers.0.fc3.weight"),
        (write_whisper, "model.encoder.layers.1.fc1.bias"),
        (write_whisper, "model.decoder.layernorm_embedding.weight"),
    ],
)
def test_a_tensor_that_is_not_known_is_refused(tmp_path, write, name):
    write(tmp_path, {name: ONES})
    with pytest.raises(ValueError, match=rf"model\.\w+: has {name}, which is not read so far"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("write", "name", "value"),
    [
        (write_marian, "Wemb_QuantMultA", np.full((1, 1), 3, np.float32)),
        (write_ctranslate2, "decoder/alignment_layer", np.int16(1)),
        (write_ctranslate2, "decoder/scale_outputs", np.float32(1)),
        (write_whisper, "model.encoder.version", np.full(1, 3, np.float32)),
    ],
)
def test_one_that_changes_nothing_is_not(tmp_path, write, name, value):
    for folder, more in (("without", {}), ("with", {name: value})):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, more)
    model, other = load(tmp_path / "without"), load(tmp_path / "with")
    assert other.nbytes == model.nbytes
    assert_same_bits(other.decoder.output.matrix.panels, model.decoder.output.matrix.panels)


def test_layers_that_the_configuration_does_not_count_are_refused(tmp_path):
    config = tiny_marian.CONFIG.replace("enc-depth: 2", "enc-depth: 1")
    (tmp_path / "model.bin").write_bytes(tiny_marian.model_file(config=config))
    with pytest.raises(ValueError, match=r"model\.bin: has encoder_l2_\w+, which is not read"):
        load(tmp_path)


def test_marian_has_norms_before_and_after(backend, tmp_path):
    """Two of a sublayer, each by a name of its own."""
    tensors = tiny_marian.random_tensors()
    norms = [name for name in tensors if "_ln_" in name]
    rng = np.random.default_rng(3)
    for name in norms:
        tensors[f"{name}_pre"] = 1 + rng.standard_normal((1, 16)).astype(np.float32) / 4
    config = tiny_marian.CONFIG + "transformer-preprocess: n\n"
    (tmp_path / "model.bin").write_bytes(tiny_marian.model_file(tensors, config))
    layer = load(tmp_path).encoder.layers[0]
    for place, name in (
        (layer.attention_norm, "encoder_l1_self_Wo"),
        (layer.feed_forward_norm, "encoder_l1_ffn_ffn"),
    ):
        assert place.placement == "both"
        for norm, suffix in ((place.norm, "_pre"), (place.second, "")):
            assert_same_bits(norm.gamma, tensors[f"{name}_ln_scale{suffix}"][0])
            assert_same_bits(norm.beta, tensors[f"{name}_ln_bias{suffix}"][0])
    assert load(tmp_path).generate([[5, 3, 0]], max_new_tokens=4)[0].tokens
    for missing in (f"{norms[0]}_pre", norms[0]):
        some = {name: tensor for name, tensor in tensors.items() if name != missing}
        (tmp_path / "model.bin").write_bytes(tiny_marian.model_file(some, config))
        with pytest.raises(ValueError, match=f"tensor {missing} is missing"):
            load(tmp_path)


def test_norms_without_beta(tmp_path):
    """Layer norm is that with zeros for beta; a family whose norms must have beta misses it."""
    betas = ("layer_norm.bias",)
    write_whisper(tmp_path, {})
    path = tmp_path / "model.safetensors"
    found = load_file(path)
    zeros = {k: np.zeros_like(v) for k, v in found.items() if k.endswith(betas)}
    assert len(zeros) == 7
    save_file({**found, **zeros}, path)
    want = load(tmp_path)
    save_file({k: v for k, v in found.items() if k not in zeros}, path)
    with pytest.raises(ValueError, match=r"tensor model\.encoder\.layer\S+_norm\.bias is missing"):
        load(tmp_path)
    spectrum = np.random.default_rng(0).standard_normal((6, 80)).astype(np.float32)
    for kind, same in (("layer", True), ("rms", False)):
        plan, tensors = huggingface.read(path, None)
        model = assemble(dataclasses.replace(plan, bare_norm=NormTraits(kind, 1e-5)), tensors)
        assert model.encoder.norm.kind == kind
        values = model.encode([spectrum]).values
        assert np.array_equal(values, want.encode([spectrum]).values) == same


def test_a_plan_reads_nothing_but_shapes(tmp_path):
    """So that what a file is can be told before its weights are read."""
    write_marian(tmp_path, {})
    plan, tensors = marian.read(tmp_path / "model.bin", None)
    assert plan.decoder.recurrent and plan.output is None
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="was cut short while it was read"):
        assemble(plan, tensors)
