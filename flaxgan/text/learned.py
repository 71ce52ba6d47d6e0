"""Tokens for text encoders that are part of the networks: see `flaxgan.text.transformer`."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from flaxgan.clean_text import clean
from flaxgan.text import e5
from flaxgan.text.conditioning import Text

BYTE_VOCABULARY = 256


class BytesEncoder:
    """UTF-8 bytes: any language, no download."""

    name, learned, params, standardised = "bytes", True, None, False

    def __init__(self, max_tokens: int, dim: int):
        """Captions are cut to `max_tokens` bytes; `dim` is the width of the network."""
        self.max_tokens, self.dim = max_tokens, dim
        self.fingerprint = f"bytes-{max_tokens}-{dim}"

    def tokenize(self, captions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """See TextEncoder."""
        return byte_tokenize([clean(caption) for caption in captions], self.max_tokens)

    def count_tokens(self, captions: Sequence[str]) -> list[int]:
        """See TextEncoder."""
        return [len(clean(caption).encode()) for caption in captions]

    def unknown_fraction(self, caption: str) -> float:
        """There is no unknown byte."""
        return 0.0

    def encode(self, params: Any, tokens: Array, mask: Array) -> tuple[Array, Array]:
        """There is nothing to run outside the networks."""
        raise TypeError("the byte encoder is learned: give its tokens to the networks")

    def look_up(self, text: Text) -> Text:
        """Bytes are what the networks read."""
        return text

    def intern(self, text: Text) -> tuple[Text, None]:
        """There are no vectors outside the networks."""
        return text, None

    def as_function(self) -> tuple[Any, Callable[[Any, Array, Array], Text]]:
        """See TextEncoder."""
        return {}, lambda params, tokens, mask: Text(tokens=tokens, mask=mask)


class WordsEncoder:
    """Frozen word vectors of multilingual-e5-small, without its twelve layers.

    The vectors know which words are alike; what a sentence says is learned with the networks.
    Nothing has to be encoded in advance, and a batch costs a look-up.
    """

    name, learned, params = "words", True, None

    def __init__(
        self,
        *,
        word: Any,
        ids: Callable[[Sequence[str]], list[list[int]]],
        unk: int,
        max_tokens: int,
        dim: int,
        fingerprint: str,
        standardised: bool = False,
    ):
        """Holds the parts; `ids` gives the token ids of captions, special tokens included."""
        self.standardised = standardised
        self.max_tokens, self.dim = max_tokens, dim
        self._word, self._ids, self._unk = word, ids, unk
        recipe = f"words-{fingerprint}-{max_tokens}-{dim}"
        self.fingerprint = hashlib.sha256(recipe.encode()).hexdigest()

    def tokenize(self, captions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """See TextEncoder; t is `max_tokens`, so that every batch has one shape."""
        tokens = np.zeros((len(captions), self.max_tokens), np.int32)
        mask = np.zeros((len(captions), self.max_tokens), bool)
        for row, ids in enumerate(self._ids([clean(caption) for caption in captions])):
            cut = len(ids) > self.max_tokens
            kept = [*ids[: self.max_tokens - 1], ids[-1]] if cut else ids
            tokens[row, : len(kept)] = kept
            mask[row, : len(kept)] = True
        return tokens, mask

    def count_tokens(self, captions: Sequence[str]) -> list[int]:
        """See TextEncoder."""
        return [len(ids) for ids in self._ids([clean(caption) for caption in captions])]

    def unknown_fraction(self, caption: str) -> float:
        """Fraction of the caption's tokens that the vocabulary lacks."""
        ids = self._ids([clean(caption)])[0]
        return ids.count(self._unk) / max(1, len(ids) - 2)

    @property
    def word_dim(self) -> int:
        """Width of the frozen vectors."""
        return e5.look_up(self._word, np.zeros(1, np.int32)).shape[-1]

    def encode(self, params: Any, tokens: Array, mask: Array) -> tuple[Array, Array]:
        """There is nothing to run outside the networks."""
        raise TypeError("the words encoder is learned: give its word vectors to the networks")

    def look_up(self, text: Text) -> Text:
        """Token ids `[b, t]` to frozen word vectors `[b, t, d]` float16."""
        numbers, vectors = self.intern(text)
        return Text(token_emb=vectors[numbers.tokens], mask=np.asarray(text.mask))

    def intern(self, text: Text) -> tuple[Text, np.ndarray]:
        """See TextEncoder; the vectors are float16."""
        tokens = np.asarray(text.tokens)
        unique, inverse = np.unique(tokens, return_inverse=True)
        vectors = np.asarray(e5.look_up(self._word, unique), np.float16)
        return text.replace(tokens=inverse.reshape(tokens.shape).astype(np.int32)), vectors

    def as_function(self) -> tuple[Any, Callable[[Any, Array, Array], Text]]:
        """See TextEncoder."""

        def text(params: Any, tokens: Array, mask: Array) -> Text:
            vectors = e5.look_up(params["word"], tokens).astype(jnp.float16)
            return Text(token_emb=vectors, mask=mask)

        return {"word": self._word}, text


def byte_tokenize(captions: list[str], max_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """UTF-8 bytes, cut or padded with zeros to a fixed length.

    Returns:
      Tokens `[b, max_tokens]` int32 and mask `[b, max_tokens]` bool; the empty caption keeps one
      zero byte, so that its mean exists.
    """
    tokens = np.zeros((len(captions), max_tokens), np.int32)
    mask = np.zeros((len(captions), max_tokens), bool)
    for row, caption in enumerate(captions):
        data = np.frombuffer(caption.encode()[:max_tokens] or b"\0", np.uint8)
        tokens[row, : len(data)] = data
        mask[row, : len(data)] = True
    return tokens, mask
