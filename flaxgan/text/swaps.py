"""Captions with one word swapped for another that fits its place: hard negatives without labels."""

import numpy as np


class Swaps:
    """Knows, from all captions, which tokens occur between which two others.

    "a man with red hair and a blue hat" can become "a man with red hair and a green hat" where
    some caption has "a green hat": grammar does not give it away, only the picture does. A swap
    for a word of the same meaning says nothing wrong; it is as often the other way round, so that
    it teaches nothing.

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
        fits, where = np.unique((before * size + after) * size + own, return_inverse=True)
        _, start, slot, count = np.unique(
            fits // size, return_index=True, return_inverse=True, return_counts=True
        )
        self._tokens = tokens.astype(np.int32)
        self._fits = (fits % size).astype(np.int32)  # ordered by what is around them
        self._start, self._count = start[slot], count[slot]  # of those with the same around
        self._number = np.full(tokens.shape, -1, np.int32)  # of each token among `_fits`
        self._number[rows, places] = where
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
        can = np.cumsum((number >= 0) & (self._count[number] > 1), axis=1)
        possible = can[:, -1] > 0
        which = (noise[:, 0] * can[:, -1]).astype(np.int64)
        rows, places = np.nonzero(possible)[0], np.argmax(can > which[:, None], axis=1)[possible]
        number = number[rows, places]
        start, count = self._start[number], self._count[number]
        step = 1 + (noise[rows, 1] * (count - 1)).astype(np.int64)
        tokens[rows, places] = self._fits[start + (number - start + step) % count]
        return tokens, possible

    def find(self, tokens: np.ndarray) -> np.ndarray:
        """`[n, t]` int32 token ids to `[n]` ids of captions that have them, -1 where none has."""
        return np.array([self._rows.get(row.tobytes(), -1) for row in tokens], np.int64)
