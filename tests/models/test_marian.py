"""The Marian reader: right numbers from good files, a helpful ValueError from every bad one."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile

import ctranslate2
import numpy as np
import pytest
import tiny_marian
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq_fast import load
from seq2seq_fast.models.formats import marian, sniff


@pytest.fixture
def write(tmp_path):
    """Writes a file's bytes; returns its path."""

    def write(data, name="model.tiny.bin"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def test_reads_what_was_written(write):
    rng = np.random.default_rng(0)
    plain = rng.standard_normal((3, 5)).astype(np.float32)
    packed = rng.standard_normal((4, 6)).astype(np.float32)
    embedding = rng.standard_normal((7, 2)).astype(np.float32)
    half = plain.astype(np.float16)
    text = b"dim-emb: 2\nlist:\n  - 1\nname: \"a b\"\nquoted: ''\n\0"
    path = write(
        tiny_marian.pack(
            {
                "plain": tiny_marian.blob(plain),
                "half": (0x0402, half.shape, half.tobytes()),
                "packed": tiny_marian.intgemm8(packed, transposed=True),
                "x_Wemb": tiny_marian.intgemm8(embedding, transposed=False),
                "special:model.yml": (tiny_marian.INT8, (len(text),), text),
            }
        )
    )
    config, tensors = marian.read(path)
    assert config == {"dim-emb": "2", "name": "a b", "quoted": ""}
    assert list(tensors) == ["plain", "half", "packed", "x_Wemb"]
    for name, want in (("plain", plain), ("half", half)):
        assert tensors[name].dtype == np.float32
        assert (np.asarray(tensors[name]) == want).all()
    for name, want in (("packed", packed.T), ("x_Wemb", embedding)):
        rows = np.asarray(tensors[name].rows)
        assert (rows.dtype, rows.shape) == (np.int8, want.shape)
        assert np.abs(rows / tensors[name].scales - want).max() <= 0.5001 * np.abs(want).max() / 127


def test_every_cut_is_noticed(write):
    data = tiny_marian.model_file()
    header = 16 + 32 * 4
    for size in [*range(9, header, 3), *range(header, len(data), 397), len(data) - 300]:
        path = write(data[:size])
        with pytest.raises(ValueError, match=r"model\.tiny\.bin: .* needs \d+ bytes"):
            marian.read(path)


@pytest.mark.parametrize("version", [0, 2, 2**64 - 1])
def test_another_version(write, version):
    start = struct.pack("<Q", version).hex(" ")
    with pytest.raises(ValueError, match=f"expected a Marian model .* the bytes {start}"):
        marian.read(write(tiny_marian.pack({}, version=version)))


def test_what_is_no_model_is_not_read_to_its_end():
    with pytest.raises(ValueError, match=r"/dev/zero: expected .*; this is no file but a device"):
        marian.read("/dev/zero")


def lie(**changes):
    """A file of one tensor, a field of whose header was changed."""
    data = bytearray(tiny_marian.pack({"Wq": tiny_marian.blob(np.ones((2, 3), np.float32))}))
    places = {"count": 8, "name_length": 16, "type": 24, "axes": 32, "data_length": 40, "rows": 51}
    for field, value in changes.items():
        size = "<i" if field == "rows" else "<Q"
        struct.pack_into(size, data, places[field], value)
    return bytes(data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 2**63}, "claims 9223372036854775808 tensors"),
        ({"count": 60000}, "the header of tensor"),
        ({"name_length": 2**40}, "the name of tensor 0 needs 1099511627776 bytes"),
        ({"name_length": 0}, "the name of tensor 0 is not NUL-terminated"),
        ({"name_length": 2}, "the name of tensor 0 is not NUL-terminated"),
        ({"type": 0x9999}, "tensor Wq has the type 0x9999"),
        ({"axes": 2**62}, "tensor Wq claims 4611686018427387904 axes"),
        ({"data_length": 2**62}, "tensor Wq needs 4611686018427387904 bytes"),
        ({"data_length": 20}, r"tensor Wq of shape \(2, 3\) needs 24 bytes, its data has 20"),
        ({"rows": -1}, r"tensor Wq has the shape \(-1, 3\)"),
        ({"rows": 2**31 - 1}, r"tensor Wq of shape \(2147483647, 3\) needs 25769803764 bytes"),
    ],
)
def test_lies(write, changes, message):
    path = write(lie(**changes))
    tracemalloc.start()
    with pytest.raises(ValueError, match=message) as caught:
        marian.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert peak < 1 << 20  # nothing near what was claimed


@pytest.mark.parametrize("multiplier", [0.0, -1.0, np.nan, np.inf])
def test_bad_multiplier(write, multiplier):
    data = struct.pack("<4bf", 1, 2, 3, 4, multiplier)
    path = write(tiny_marian.pack({"Wq": (tiny_marian.INTGEMM8, (2, 2), data)}))
    with pytest.raises(ValueError, match="tensor Wq has the quantisation multiplier"):
        marian.read(path)


def test_two_tensors_of_one_name(write):
    one = tiny_marian.blob(np.ones((1, 1), np.float32))
    data = tiny_marian.pack({"Wq": one, "Wk": one}).replace(b"Wk\0", b"Wq\0")
    with pytest.raises(ValueError, match="holds two tensors named Wq"):
        marian.read(write(data))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_flipped_bytes_give_a_value_error_or_a_model(tmp_path_factory, data):
    file = bytearray(tiny_marian.model_file())
    header = 16 + 32 * len(tiny_marian.shapes()) + 3000
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, header))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "model.flipped.bin"
    path.write_bytes(file)
    try:
        model = load(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        model.generate([[3, 0]], max_new_tokens=2)


# ---- load(): a model out of named arrays ----


@pytest.mark.parametrize(
    "name", ["encoder_l2_self_Wv", "decoder_l1_rnn_bf", "decoder_ff_logit_out_b"]
)
def test_a_missing_tensor_is_named(write, name):
    tensors = tiny_marian.random_tensors()
    del tensors[name]
    with pytest.raises(ValueError, match=rf"model\.tiny\.bin: tensor {name} is missing"):
        load(write(tiny_marian.model_file(tensors)))


def test_missing_embeddings_are_named(write):
    tensors = tiny_marian.random_tensors()
    del tensors["Wemb"]
    with pytest.raises(ValueError, match="tensor encoder_Wemb is missing"):
        load(write(tiny_marian.model_file(tensors)))


@pytest.mark.parametrize(
    ("name", "shape"), [("encoder_l1_self_Wq", (16, 8)), ("decoder_l2_ffn_b1", (1, 3))]
)
def test_a_wrong_shape_is_named(write, name, shape):
    tensors = tiny_marian.random_tensors()
    tensors[name] = np.ones(shape, np.float32)
    with pytest.raises(
        ValueError, match=rf"tensor {name} has the shape \({shape[0]}, {shape[1]}\)"
    ):
        load(write(tiny_marian.model_file(tensors)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dec-cell: ssru", "dec-cell: gru", "dec-cell: gru"),
        ("autoreg: rnn", "autoreg: self-attention", "tensor decoder_l1_self_Wq is missing"),
        ("autoreg: rnn", "autoreg: average", "transformer-decoder-autoreg: average"),
        ("heads: 2", "heads: 3", "width 16 does not divide into 3 heads"),
        ("heads: 2", "heads: 0", "transformer-heads: '0', expected 1 to 1000"),
        ("heads: 2", "heads: many", "transformer-heads: 'many'"),
        ("enc-depth: 2", "enc-depth: 999", "tensor encoder_l3_self_Wq is missing"),
        ("dim-emb: 16\n", "", None),  # not needed
    ],
)
def test_configuration(write, old, new, message):
    assert old in tiny_marian.CONFIG
    path = write(tiny_marian.model_file(config=tiny_marian.CONFIG.replace(old, new)))
    if message is None:
        assert len(load(path).encoder.layers) == 2
    else:
        with pytest.raises(ValueError, match=message):
            load(path)


def test_what_is_not_there(tmp_path, write):
    with pytest.raises(FileNotFoundError, match="no such model file or folder"):
        load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"expected one model\*\.bin, .*; found none"):
        load(tmp_path)
    write(b"")
    with pytest.raises(ValueError, match="this is an empty file"):
        load(tmp_path)
    write(b"", "model.second.bin")
    with pytest.raises(FileNotFoundError, match=r"found model\.second\.bin, model\.tiny\.bin"):
        load(tmp_path)


# ---- standard Transformers, beside CTranslate2's converter of Marian models ----


def transformer_tensors(seed, pre, tied, normed, layers=2):
    """A standard Transformer's tensors, matrices (in, out)."""
    rng = np.random.default_rng(seed)
    d, f, v = tiny_marian.WIDTH, tiny_marian.INNER, tiny_marian.VOCABULARY
    suffix = "_pre" if pre else ""
    tensors = {}

    def linear(name, part, rows, columns):
        tensors[f"{name}_W{part}"] = draw(rows, columns) / np.float32(np.sqrt(rows))
        tensors[f"{name}_b{part}"] = draw(1, columns) * np.float32(0.1)

    def norm(name):
        tensors[f"{name}_ln_scale{suffix}"] = 1 + draw(1, d) * np.float32(0.1)
        tensors[f"{name}_ln_bias{suffix}"] = draw(1, d) * np.float32(0.1)

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    for side, parts in (("encoder", ("self",)), ("decoder", ("self", "context"))):
        for i in range(1, 1 + layers):
            for part in parts:
                for letter in "qkvo":
                    linear(f"{side}_l{i}_{part}", letter, d, d)
                norm(f"{side}_l{i}_{part}_Wo")
            linear(f"{side}_l{i}_ffn", "1", d, f)
            linear(f"{side}_l{i}_ffn", "2", f, d)
            norm(f"{side}_l{i}_ffn_ffn")
        if pre:
            tensors[f"{side}_top_ln_scale"] = 1 + draw(1, d) * np.float32(0.1)
            tensors[f"{side}_top_ln_bias"] = draw(1, d) * np.float32(0.1)
        if normed:
            tensors[f"{side}_emb_ln_scale_pre"] = 1 + draw(1, d) * np.float32(0.1)
            tensors[f"{side}_emb_ln_bias_pre"] = draw(1, d) * np.float32(0.1)
    tensors["decoder_ff_logit_out_b"] = draw(1, v)
    if tied:
        tensors["Wemb"] = draw(v, d)
    else:
        tensors["encoder_Wemb"], tensors["decoder_Wemb"] = draw(v, d), draw(v, d)
        tensors["decoder_ff_logit_out_W"] = draw(d, v)
    return tensors


@pytest.mark.peers
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("pre", [True, False])
@pytest.mark.parametrize("activation", ["relu", "swish"])
@pytest.mark.parametrize("normed", [False, True])
def test_transformers_agree_with_ctranslate2(tmp_path, pre, tied, activation, normed):
    tensors = transformer_tensors(3, pre, tied, normed)
    config = (
        tiny_marian.CONFIG.replace("autoreg: rnn", "autoreg: self-attention")
        .replace("dec-cell: ssru", "dec-cell: gru")
        .replace("activation: relu", f"activation: {activation}")
        .replace("postprocess: dan", "postprocess: da" if pre else "postprocess: dan")
        .replace('postprocess-top: ""', "postprocess-top: n" if pre else 'postprocess-top: ""')
        .replace("all: true", f"all: {str(tied).lower()}")
    )
    config += f"transformer-preprocess: {'n' if pre else chr(34) * 2}\n"
    config += f"transformer-postprocess-emb: {'nd' if normed else 'd'}\n"
    config += "transformer-no-projection: false\ntransformer-guided-alignment-layer: last\n"
    text = np.frombuffer(config.encode() + b"\0", np.int8)
    path = tmp_path / "model.npz"
    np.savez(path, **{marian.CONFIG_NAME: text}, **tensors)
    names = ["</s>", "<unk>", *(f"w{i}" for i in range(2, tiny_marian.VOCABULARY))]
    vocabulary = tmp_path / "vocab.yml"
    vocabulary.write_text("".join(f'"{name}": {i}\n' for i, name in enumerate(names)))
    # The converter would make other waves than Marian does.
    half = tiny_marian.WIDTH // 2
    angles = np.arange(64)[:, None] * np.exp(-np.arange(half) * np.log(1e4) / (half - 1))
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
    np.savez(tmp_path / "waves.npz", **{marian.CONFIG_NAME: text}, **tensors, Wpos=waves)
    converter = ctranslate2.converters.MarianConverter(
        str(tmp_path / "waves.npz"), [str(vocabulary)] * 2
    )
    converter.convert(str(tmp_path / "converted"))
    theirs = ctranslate2.Translator(str(tmp_path / "converted"))
    sources = [[5, 3, 9, 0], [7, 0], [2, 2, 11, 19, 4, 8, 0]]
    texts = [[names[i] for i in source[:-1]] for source in sources]  # it adds the end itself
    for beams in (1, 3):
        want = theirs.translate_batch(
            texts, beam_size=beams, return_scores=True, max_decoding_length=9, disable_unk=True
        )
        for model in (load(path), load(tmp_path / "converted")):
            options = {"suppress_tokens": [1]} if model.unk is None else {}
            found = model.generate(
                sources, num_beams=beams, max_new_tokens=9, min_new_tokens=1, **options
            )
            for wanted, one in zip(want, found, strict=True):
                assert [names[i] for i in one.tokens] == wanted.hypotheses[0]
                assert one.score == pytest.approx(wanted.scores[0], abs=1e-4)


# ---- .npz and shortlists, damaged ----


def test_npz_damage(tmp_path):
    path = tmp_path / "model.npz"
    config = np.frombuffer(tiny_marian.CONFIG.encode() + b"\0", np.int8)
    np.savez(path, **{marian.CONFIG_NAME: config}, **tiny_marian.random_tensors())
    assert len(load(path).encoder.layers) == 2
    data = path.read_bytes()
    for size in range(0, len(data), 331):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"model\.npz: (not a sound \.npz file|expected)"):
            load(path)
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            broken[at] = rng.integers(0, 256)
        path.write_bytes(broken)
        try:
            load(path)
        except ValueError as error:
            assert "model.npz" in str(error)


def test_npz_that_lies_about_its_size(tmp_path):
    path = tmp_path / "model.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 1 << 20)}
    )
    config = np.frombuffer(tiny_marian.CONFIG.encode() + b"\0", np.int8)
    np.savez(path, **{marian.CONFIG_NAME: config})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("Wemb.npy", header.getvalue() + bytes(64))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"Wemb: of shape \(1099511627776, 1048576\)"):
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 21
    tracemalloc.stop()


def shortlist_file(lists, first=2):
    offsets = np.cumsum([0, *map(len, lists)])
    entries = [i for one in lists for i in one]
    return struct.pack(
        f"<6Q{len(offsets)}Q{len(entries)}I",
        sniff.SHORTLIST_MAGIC, 0, first, 50, len(offsets), len(entries), *offsets, *entries,
    )  # fmt: skip


def test_shortlist(tmp_path):
    path = tmp_path / "lex.bin"
    path.write_bytes(shortlist_file([[5, 9], [], [3], [9, 12, 4]]))
    shortlist = marian.Shortlist(path, 13)
    assert shortlist([0]).tolist() == [0, 1, 5, 9]
    assert shortlist([3, 1, 0, 3]).tolist() == [0, 1, 4, 5, 9, 12]
    assert shortlist([77]).tolist() == [0, 1]  # a token that it does not know
    with pytest.raises(ValueError, match=r"lex\.bin: holds the token 12 of a vocabulary of 12"):
        marian.Shortlist(path, 12)
    with pytest.raises(ValueError, match="begins with 2 tokens of a vocabulary of 1"):
        marian.Shortlist(path, 1)


def test_shortlist_damage(tmp_path):
    path = tmp_path / "lex.bin"
    data = shortlist_file([[5, 9], [], [3]])
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"lex\.bin: "):
            marian.Shortlist(path, 100)
    rng = np.random.default_rng(0)
    for _ in range(500):
        broken = bytearray(data)
        broken[rng.integers(0, len(data))] = rng.integers(0, 256)
        path.write_bytes(broken)
        try:
            assert marian.Shortlist(path, 100)([0, 1, 2]).max(initial=0) < 100
        except ValueError as error:
            assert "lex.bin" in str(error)
