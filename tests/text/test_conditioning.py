"""Sentence vectors are standardised, ids become rows of a table; everything else passes."""

import numpy as np

from flaxgan.text import sentence_stats
from flaxgan.text.conditioning import Text, prepare_text, standardise


def test_training_captions_get_mean_0_and_sd_1():
    draw = np.random.default_rng(0)
    emb = (draw.normal(size=(500, 6)) * [1, 2, 3, 0.1, 5, 6] + 4).astype(np.float16)
    text = Text(sentence_emb=emb, mask=np.ones((500, 3), bool))
    result = standardise(text, sentence_stats(emb))
    assert result.sentence_emb.dtype == np.float32
    np.testing.assert_allclose(result.sentence_emb.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(result.sentence_emb.std(axis=0), 1, atol=1e-4)
    assert result.mask is text.mask


def test_sentence_stats():
    emb = np.array([[1, 5, 0], [3, 5, 4]], np.float16)
    stats = sentence_stats(emb)
    np.testing.assert_array_equal(stats.mean, [2, 5, 2])
    np.testing.assert_allclose(stats.sd, [1, 1e-6, 2])  # a constant dimension stays finite
    assert stats.mean.dtype == stats.sd.dtype == np.float32


def test_without_vectors_or_statistics_text_passes():
    tokens = Text(tokens=np.ones((2, 3), np.int32))
    stats = sentence_stats(np.ones((2, 3), np.float16))
    assert standardise(tokens, stats) is tokens
    text = Text(sentence_emb=np.ones((2, 3)))
    assert standardise(text, None) is text


def test_ids_become_rows_of_the_table():
    table = np.arange(12.0).reshape(4, 3)
    text = Text(tokens=np.array([[3, 0]]), mask=np.array([[True, False]]))
    ready = prepare_text(text, None, table)
    np.testing.assert_array_equal(ready.token_emb, [[[9, 10, 11], [0, 1, 2]]])
    assert ready.tokens is None
    assert ready.mask is text.mask


def test_without_a_table_ids_are_what_networks_read():
    text = Text(tokens=np.array([[3, 0]]))
    assert prepare_text(text, None, None) is text
    assert prepare_text(None, None, np.ones((1, 1))) is None
    vectors = Text(token_emb=np.ones((1, 2, 3)))
    assert prepare_text(vectors, None, np.ones((1, 1))) is vectors
