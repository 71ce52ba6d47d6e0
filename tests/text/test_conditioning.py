"""Sentence vectors are standardised; everything else passes."""

import numpy as np

from flaxgan.text import sentence_stats
from flaxgan.text.conditioning import Text, standardise


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
