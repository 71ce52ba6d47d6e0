"""A swapped caption differs in one token, which occurs between the same two elsewhere."""

import math

import numpy as np
import pytest

from flaxgan.text.conditioning import Text
from flaxgan.text.swaps import Swaps, make_swaps

CAPTIONS = [
    "<s> a red hat </s>",
    "<s> a blue hat </s>",
    "<s> a green hat </s>",
    "<s> a blue coat </s>",
    "<s> one red coat </s>",
    "<s> a blue hat </s>",
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
    """The same by reading: rare words are swapped most, and others come as often as they do."""
    rows = [caption.split() for caption in captions]
    own, shares, weights = rows[row], {}, {}
    for i in range(1, len(own) - 1):
        around = (own[i - 1], own[i + 1])
        fits = [r[k] for r in rows for k in range(1, len(r) - 1) if (r[k - 1], r[k + 1]) == around]
        others = [word for word in fits if word != own[i]]
        for other in others:
            text = " ".join([*own[:i], other, *own[i + 1 :]])
            shares[text] = (i, others.count(other) / len(others))
            weights[i] = math.log((len(rows) + 1) / sum(own[i] in r for r in rows)) ** 2
    total = sum(weights.values())
    return {text: share * weights[i] / total for text, (i, share) in shares.items()}


@pytest.mark.parametrize("row", range(6))
def test_words_are_swapped_as_they_say_something_and_by_those_that_are_common(row):
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
    assert swaps.find(tokens[[3, 2, 4]]).tolist() == [3, 2, 4]
    new, _ = arrays(["<s> one blue coat </s>"])
    (first,) = swaps.find(tokens[:1])
    assert (first in (0, 6), swaps.find(new).tolist()) == (True, [-1])


@pytest.mark.parametrize("noise", [0.0, np.nextafter(1.0, 0.0)])
def test_extreme_noise_stays_inside(noise):
    tokens, mask = arrays(CAPTIONS)
    result, possible = Swaps(tokens, mask)(np.arange(6), np.full((6, 2), noise))
    assert ((result != tokens).sum(axis=1) == possible).all()
    np.testing.assert_array_equal(result[~mask], tokens[~mask])


def test_swaps_made_in_advance_are_the_same_ones_and_know_captions_of_the_data():
    tokens, mask = arrays([*CAPTIONS, "<s> my own coat </s>"])
    text_ids = np.array([0, 1, 2, 3, 4, 1, 5, -1], np.int32)  # the last is of the empty caption
    made, possible, ids = make_swaps(Text(tokens=tokens, mask=mask), 3, text_ids)
    again, _, _ = make_swaps(Text(tokens=tokens, mask=mask), 3, text_ids)
    np.testing.assert_array_equal(made.tokens, again.tokens)
    np.testing.assert_array_equal(made.mask, np.repeat(mask, 3, axis=0))
    assert possible.tolist() == [True] * 18 + [False] * 3
    assert ((made.tokens != np.repeat(tokens, 3, axis=0)).sum(axis=1) == possible).all()
    known = {words(row, m): i for row, m, i in zip(tokens, mask, text_ids, strict=False)}
    texts = [words(row, m) for row, m in zip(made.tokens, made.mask, strict=True)]
    assert [known.get(text) for text in texts] == [i if i < len(text_ids) else None for i in ids]
    new = [i for i in ids if i >= len(text_ids)]
    assert 0 < len(new) == len(set(new)) < 18  # every other one has an id of its own
