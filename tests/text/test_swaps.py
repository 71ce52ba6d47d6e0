"""A swapped caption differs in one token, which occurs between the same two elsewhere."""

import numpy as np
import pytest

from flaxgan.text.swaps import Swaps

CAPTIONS = [
    "<s> a red hat </s>",
    "<s> a blue hat </s>",
    "<s> a green hat </s>",
    "<s> a blue coat </s>",
    "<s> one red coat </s>",
]
VOCABULARY = sorted({word for caption in [*CAPTIONS, "my own"] for word in caption.split()})


def arrays(captions, length=8):
    """Token ids and mask, padded by zeros, which are also the id of a word."""
    rows = [[VOCABULARY.index(word) for word in caption.split()] for caption in captions]
    tokens = np.array([row + [0] * (length - len(row)) for row in rows], np.int32)
    return tokens, np.arange(length) < np.array([len(row) for row in rows])[:, None]


def words(tokens, mask):
    return " ".join(VOCABULARY[i] for i in tokens[mask])


def swapped(captions, row, count=400):
    """What becomes of a caption, and how often."""
    tokens, mask = arrays(captions)
    noise = np.random.default_rng(0).random((count, 2))
    result, possible = Swaps(tokens, mask)(np.full(count, row), noise)
    assert possible.all()
    assert result.dtype == np.int32
    texts = [words(tokens, mask[row]) for tokens in result]
    return {text: texts.count(text) / count for text in texts}


def by_hand(captions, row):
    """The same by reading: each place with a choice equally often, and there each other word."""
    rows = [caption.split() for caption in captions]
    own, shares = rows[row], {}
    for i in range(1, len(own) - 1):
        around = (own[i - 1], own[i + 1])
        fits = {r[k] for r in rows for k in range(1, len(r) - 1) if (r[k - 1], r[k + 1]) == around}
        for other in fits - {own[i]}:
            shares[" ".join([*own[:i], other, *own[i + 1 :]])] = (i, 1 / (len(fits) - 1))
    places = len({i for i, _ in shares.values()})
    return {text: share / places for text, (_, share) in shares.items()}


@pytest.mark.parametrize("row", range(5))
def test_every_word_that_fits_is_as_likely(row):
    found, expected = swapped(CAPTIONS, row), by_hand(CAPTIONS, row)
    assert expected
    assert found.keys() == expected.keys()
    assert all(abs(found[text] - share) < 0.08 for text, share in expected.items())


def test_a_caption_without_a_choice_is_named_and_left_alone():
    tokens, mask = arrays(["<s> a red hat </s>", "<s> my own coat </s>", "<s> a blue hat </s>"])
    result, possible = Swaps(tokens, mask)(np.array([0, 1, 2]), np.full((3, 2), 0.5))
    assert possible.tolist() == [True, False, True]
    np.testing.assert_array_equal(result[1], tokens[1])


def test_captions_are_found_by_their_tokens():
    tokens, mask = arrays([*CAPTIONS, CAPTIONS[0]])
    swaps = Swaps(tokens.astype(np.int64), mask)
    assert swaps.find(tokens[[3, 1, 4]]).tolist() == [3, 1, 4]
    new, _ = arrays(["<s> one blue coat </s>"])
    (first,) = swaps.find(tokens[:1])
    assert (first in (0, 5), swaps.find(new).tolist()) == (True, [-1])


@pytest.mark.parametrize("noise", [0.0, np.nextafter(1.0, 0.0)])
def test_extreme_noise_stays_inside(noise):
    tokens, mask = arrays(CAPTIONS)
    result, possible = Swaps(tokens, mask)(np.arange(5), np.full((5, 2), noise))
    assert ((result != tokens).sum(axis=1) == possible).all()
    np.testing.assert_array_equal(result[~mask], tokens[~mask])
