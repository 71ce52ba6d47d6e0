"""Captions with one word swapped for another that fits its place: hard negatives without labels."""

import dataclasses

import numpy as np

from flaxgan.text.conditioning import Text


class Swaps:
    """Knows, from all captions, which tokens occur between which two others, and how often.

    "a man with red hair and a blue hat" can become "a man with red hair and a green hat" where
    some caption has "a green hat": grammar does not give it away, only the picture does. A swap
    for a word of the same meaning says nothing wrong; it is as often the other way round, so that
    it teaches nothing.

    Words that few captions have say most about a picture, and are swapped most: a place is as
    likely as the square of its token's inverse document frequency, log(captions / captions that
    have it) (Spärck Jones 1972). What takes its place is as likely as it is often there.

    Reference: captions with swapped words as negatives: NegCLIP (Yuksekgonul et al. 2023, section
      4), which swaps words of the same part of speech within one caption.
    """

    def __init__(self, tokens: np.ndarray, mask: np.ndarray):
        """Reads `[n, t]` token ids and which of them are there, of all captions."""
        size = int(tokens.max(initial=0)) + 1  # its cube fits 64 bits for a million tokens
        inner = np.zeros(mask.shape, bool)  # with a neighbour on either side
        inner[:, 1:-1] = mask[:, :-2] & mask[:, 1:-1] & mask[:, 2:]
        rows, places = np.nonzero(inner)
        before, own, after = (tokens[rows, places + d].astype(np.int64) for d in (-1, 0, 1))
        fits, where, times = np.unique(
            (before * size + after) * size + own, return_inverse=True, return_counts=True
        )
        _, first, slot = np.unique(fits // size, return_index=True, return_inverse=True)
        self._tokens = tokens.astype(np.int32)
        self._fits = (fits % size).astype(np.int32)  # ordered by what is around them
        self._ends = np.concatenate([[0], np.cumsum(times)])  # in all places, ordered so
        group_ends = np.append(first[1:], len(fits))
        self._start, self._stop = (self._ends[x][slot] for x in (first, group_ends))
        self._number = np.full(tokens.shape, -1, np.int32)  # of each token among `_fits`
        self._number[rows, places] = where
        self._weight = _inverse_document_frequency(tokens, mask) ** 2
        self._rows = {row.tobytes(): i for i, row in enumerate(self._tokens)}

    def __call__(self, captions: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Swaps one token in each caption.

        Args:
          captions: `[n]` caption ids, rows of the arrays that were read.
          noise: `[n, 2]` floats in [0, 1): which token, and which other one.

        Returns:
          `[n, t]` int32 token ids, and `[n]` bool, False where no token can be swapped.
        """
        tokens, number = self._tokens[captions].copy(), self._number[captions]
        own_start, own_stop = self._ends[number], self._ends[number + 1]
        others = self._stop[number] - self._start[number] - (own_stop - own_start)
        can = (number >= 0) & (others > 0)
        likely = np.cumsum(can * self._weight[tokens], axis=1)
        possible = likely[:, -1] > 0
        which = noise[:, 0] * likely[:, -1]
        rows = np.nonzero(possible)[0]
        places = np.argmax(likely > which[:, None], axis=1)[possible]
        at = self._start[number[rows, places]]
        at = at + (noise[rows, 1] * others[rows, places]).astype(np.int64)
        # the token's own places are stepped over
        own_start, own_stop = own_start[rows, places], own_stop[rows, places]
        at = np.where(at < own_start, at, at + own_stop - own_start)
        tokens[rows, places] = self._fits[np.searchsorted(self._ends, at, side="right") - 1]
        return tokens, possible

    def find(self, tokens: np.ndarray) -> np.ndarray:
        """`[n, t]` int32 token ids to `[n]` ids of captions that have them, -1 where none has."""
        return np.array([self._rows.get(row.tobytes(), -1) for row in tokens], np.int64)


def _inverse_document_frequency(tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Of each token id, log(captions / captions that have it); above 0, also where all have it."""
    ordered = np.sort(np.where(mask, tokens.astype(np.int64), -1), axis=1)
    first = np.ones(ordered.shape, bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    counts = np.bincount(ordered[first & (ordered >= 0)], minlength=int(tokens.max(initial=0)) + 1)
    return np.log((len(tokens) + 1) / np.maximum(counts, 1))


@dataclasses.dataclass(frozen=True)
class MadeSwaps:
    """Swapped captions that were made in advance, for encoders that read a word in its caption.

    Attributes:
      text: `[n * count, …]`, `count` of each caption of the training set.
      possible: `[n * count]` bool, False where no token of the caption can be swapped.
      ids: `[n * count]` int32, those of `Batch.negative_ids`.
    """

    text: Text
    possible: np.ndarray
    ids: np.ndarray


def make_swaps(
    captions: Text, count: int, text_ids: np.ndarray
) -> tuple[Text, np.ndarray, np.ndarray]:
    """`count` swapped captions of each caption; the same ones whenever they are made.

    Args:
      captions: `[n, t]` token ids and mask.
      count: of each.
      text_ids: `[n]` of the captions, or more, see `Batch`.

    Returns:
      Token ids and mask `[n * count, t]`, and `possible` and `ids` of `MadeSwaps`.
    """
    tokens, mask = np.asarray(captions.tokens), np.asarray(captions.mask)
    swaps, rows = Swaps(tokens, mask), np.repeat(np.arange(len(tokens)), count)
    swapped, possible = swaps(rows, np.random.default_rng(0).random((len(rows), 2)))
    found, new = swaps.find(swapped), len(text_ids) + np.arange(len(rows))
    ids = np.where(found < 0, new, text_ids[found]).astype(np.int32)
    return captions.replace(tokens=swapped, mask=mask[rows]), possible, ids
