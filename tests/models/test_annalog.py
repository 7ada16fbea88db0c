"""A trained model of the BART group, ANNalog (MIT), by the package of that name: its published file
read here, and put together from a plan, says what the package's own code says.

It changes molecules, written as SMILES, into similar ones: post-norm, learned positions, ReLU.
"""

from __future__ import annotations

import importlib.util
import pickle
import re
import types
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from seq2seq_fast.models.assembly import assemble
from seq2seq_fast.models.formats import torch_file
from seq2seq_fast.models.plan import (
    Layer,
    Learned,
    Names,
    NormTraits,
    Plan,
    Stack,
    Tokens,
    heads_of,
)
from seq2seq_fast.models.tensors import Tensors

pytestmark = [
    pytest.mark.transformers,
    pytest.mark.skipif(
        importlib.util.find_spec("annalog") is None,
        reason="no such package: pip install --no-deps annalog==1.0.6",
    ),
]

WIDTH, LAYERS, HEADS, INNER, POSITIONS, START, END = 256, 3, 8, 512, 102, 2, 3
NAMES = Names(
    weight="weight", bias="bias", gamma="weight", beta="bias",
    self_projection=tuple(f"{{layer}}.self_attention.fc_{part}.*" for part in "qkv"),
    self_output="{layer}.self_attention.fc_o.*",
    self_norm=("{layer}.self_attn_layer_norm.*",),
    cross_query="{layer}.encoder_attention.fc_q.*",
    cross_key_value=("{layer}.encoder_attention.fc_k.*", "{layer}.encoder_attention.fc_v.*"),
    cross_output="{layer}.encoder_attention.fc_o.*",
    cross_norm=("{layer}.enc_attn_layer_norm.*",),
    up="{layer}.positionwise_feedforward.fc_1.*", down="{layer}.positionwise_feedforward.fc_2.*",
    feed_forward_norm=("{layer}.ff_layer_norm.*",),
)  # fmt: skip
SMILES = [
    "c1ccccc1C(=O)N",
    "CC(=O)OC1=CC=CC=C1C(=O)O",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "CC(C)CC1=CC=C(C=C1)C(C)C(=O)O",
    "CC(=O)NC1=CC=C(C=C1)O",
    "c1ccc2c(c1)cccc2",
    "CCO",
    "CCN(CC)CC",
    "c1ccncc1",
    "O=C(O)c1ccccc1",
    "Cc1ccccc1N",
    "COc1ccc2cc(ccc2c1)C(C)C(=O)O",
    "OC(=O)CCc1ccccc1",
    "CC1=CC(=O)CCC1",
    "NCCc1ccc(O)c(O)c1",
    "O=C1CCCCC1",
]


@cache
def folder():
    return Path(importlib.util.find_spec("annalog").submodule_search_locations[0])


class PlainData(pickle.Unpickler):
    """Of the vocabulary, which has no objects."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"{module}.{name}")


@cache
def sources():
    with (folder() / "ckpt_and_vocab" / "stereo_experiment_vocab_ttf.pkl").open("rb") as file:
        ids = PlainData(file).load()["stoi"]
    return [
        [START, *(ids[token] for token in re.findall(r"\[[^]]+\]|Br|Cl|.", one)), END]
        for one in SMILES
    ]


@pytest.fixture(scope="module")
def theirs():
    """The package's own model: that of its file is all that needs no RDKit."""
    import torch

    torch.set_num_threads(1)
    text = (folder() / "model_files" / "seq2seq_attention.py").read_text(encoding="utf-8")
    module = types.ModuleType("annalog_model")
    exec(text.replace("from . import vocabulary", ""), module.__dict__)
    state = torch.load(folder() / "ckpt_and_vocab" / "Lev_extended.pt", map_location="cpu")
    sizes = len(state["decoder.fc_out.bias"]), WIDTH, LAYERS, HEADS, INNER, 0.1, "cpu", POSITIONS
    model = module.Seq2Seq(module.Encoder(*sizes), module.Decoder(*sizes), 1, 1, "cpu")
    model.load_state_dict(state)
    return model.eval()


@pytest.fixture(scope="module")
def ours():
    path = folder() / "ckpt_and_vocab" / "Lev_extended.pt"

    def tokens(side):
        positions = Learned(f"{side}.pos_embedding.weight")
        return Tokens(f"{side}.tok_embedding.weight", np.sqrt(WIDTH), positions)

    def stack(side):
        heads = heads_of(WIDTH, HEADS)
        layers = tuple(Layer(f"{side}.layers.{i}", heads) for i in range(LAYERS))
        return Stack(layers, "post", "relu", None)

    plan = Plan(
        NAMES, tokens("encoder"), stack("encoder"), tokens("decoder"), stack("decoder"),
        output="decoder.fc_out.*", norm=NormTraits("layer", 1e-5), bos=START, eos=END, unk=None,
    )  # fmt: skip
    return assemble(plan, Tensors(path, dict(torch_file.entries(path))))


def test_the_same_logits_and_greedy_tokens(theirs, ours):
    import torch

    for source in sources():
        found = ours.generate([source], max_new_tokens=99)[0]
        ids, given = [START], torch.tensor([source])
        with torch.no_grad():
            mask = theirs.make_src_mask(given)
            memory = theirs.encoder(given, mask)
            while ids[-1] != END and len(ids) < 100:
                target = torch.tensor([ids])
                logits, _ = theirs.decoder(target, memory, theirs.make_trg_mask(target), mask)
                ids.append(int(logits[0, -1].argmax()))
        assert [*found.tokens, END] == ids[1:]
        state, token, steps = ours.start(ours.encode([source])), None, []
        for chosen in ids[1:]:
            step = ours.step(token, state)
            steps.append(step.logits[0])
            state, token = step.state, [chosen]
        assert np.abs(np.array(steps) - logits[0].numpy()).max() < 1e-3
