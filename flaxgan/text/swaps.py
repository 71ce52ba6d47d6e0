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
        tokens = np.asarray(tokens, np.int64)
        size = int(tokens.max(initial=0)) + 1
        inner = np.zeros(mask.shape, bool)  # with a neighbour on either side
        inner[:, 1:-1] = mask[:, :-2] & mask[:, 1:-1] & mask[:, 2:]
        keys = np.zeros(tokens.shape, np.int64)
        keys[:, 1:-1] = tokens[:, :-2] * size + tokens[:, 2:]
        pairs = np.unique(np.stack([keys[inner], tokens[inner]]), axis=1)
        slots, self._start, self._count = np.unique(pairs[0], return_index=True, return_counts=True)
        self._fits = pairs[1].astype(np.int32)
        self._slot = np.full(tokens.shape, -1, np.int32)
        self._slot[inner] = np.searchsorted(slots, keys[inner])
        self._tokens = tokens.astype(np.int32)

    def __call__(self, captions: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Swaps one token in each caption.

        Args:
          captions: `[n]` caption ids, rows of the arrays that were read.
          noise: `[n, 2]` floats in [0, 1): which token, and which other one.

        Returns:
          `[n, t]` int32 token ids, and `[n]` bool, False where no token can be swapped.
        """
        tokens, slot = self._tokens[captions].copy(), self._slot[captions]
        count = np.where(slot >= 0, self._count[slot], 1)
        can = np.cumsum(count > 1, axis=1)
        possible = can[:, -1] > 0
        which = (noise[:, 0] * can[:, -1]).astype(np.int64)
        rows, place = np.arange(len(tokens)), np.argmax(can > which[:, None], axis=1)
        rows, place = rows[possible], place[possible]
        start, number = self._start[slot[rows, place]], count[rows, place]
        step = 1 + (noise[possible, 1] * (number - 1)).astype(np.int64)
        own = tokens[rows, place]
        order = np.array(
            [
                np.searchsorted(self._fits[s : s + n], t)
                for s, n, t in zip(start, number, own, strict=True)
            ],
            np.int64,
        ).reshape(len(rows))
        tokens[rows, place] = self._fits[start + (order + step) % number]
        return tokens, possible
