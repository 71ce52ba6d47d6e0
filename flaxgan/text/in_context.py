"""Frozen vectors of words in the context of their caption."""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxgan.config import TextConfig
from flaxgan.progress import progress_bar
from flaxgan.text import e5
from flaxgan.text.bert import Bert
from flaxgan.text.cache import CHUNK, default_cache_dir, read_cached, replacing
from flaxgan.text.conditioning import Text
from flaxgan.text.encoder import BUCKET, packed, read_e5, unpacked
from flaxgan.text.learned import WordsEncoder


class E5TokensEncoder(WordsEncoder):
    """Words as the first layers of multilingual-e5-small understand them in their caption.

    In "a red beard and a blue shirt" the vector of "red" already says that it is of a beard; the
    networks need not learn that from pictures. Captions are encoded once and cached on disk.
    """

    name = "e5_tokens"

    def __init__(self, *, params: dict[str, Any], config: TextConfig, **parts: Any):
        """Holds the parts of `WordsEncoder`, and the layers."""
        super().__init__(max_tokens=config.max_tokens, dim=config.dim, standardised=True, **parts)
        recipe = f"e5-tokens-{parts['fingerprint']}-{config.layers}-{config.max_tokens}-1"
        self.fingerprint = hashlib.sha256(recipe.encode()).hexdigest()
        self.frozen = params
        self._module = Bert(layers=config.layers)
        self._cache_dir = Path(config.cache_dir) if config.cache_dir else default_cache_dir()
        self._batch_size = config.batch_size

    def look_up(self, text: Text) -> Text:
        """Token ids `[b, t]` to vectors `[b, t, d]` float16, computed now; 0 where padded."""
        tokens, mask = np.asarray(text.tokens), np.asarray(text.mask)
        found = np.zeros((*tokens.shape, self.frozen["token_type"].shape[-1]), np.float16)
        found[mask] = self._encode(tokens, mask, lambda count: None)
        return Text(token_emb=found, mask=mask)

    def intern(self, text: Text) -> tuple[Text, np.ndarray]:
        """See TextEncoder; every token of every distinct caption has a row, float16.

        Raises:
          UserError: the cache cannot be written.
        """
        tokens, mask = np.asarray(text.tokens), np.asarray(text.mask)
        lengths = mask.sum(axis=1, keepdims=True, dtype=np.int32)
        unique, inverse = np.unique(
            np.concatenate([lengths, tokens], axis=1), axis=0, return_inverse=True
        )
        kept = np.arange(tokens.shape[1]) < unique[:, :1]
        table = self._cached(unique[:, 1:], kept)
        rows = np.zeros(kept.shape, np.int32)
        rows[kept] = np.arange(len(table))
        return text.replace(tokens=rows[inverse.reshape(-1)]), table

    def as_function(self) -> tuple[Any, Callable[[Any, jax.Array, jax.Array], Text]]:
        """See TextEncoder."""

        def text(params: Any, tokens: jax.Array, mask: jax.Array) -> Text:
            words = e5.look_up(params["word"], tokens)
            bert = {"params": unpacked(params["bert"])}
            vectors = self._module.apply(bert, words, mask)[0].astype(jnp.float16)
            return Text(token_emb=jnp.where(mask[..., None], vectors, 0), mask=mask)

        return {"word": self._word, "bert": packed(self.frozen)}, text

    def _cached(self, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Vectors of all tokens, `[tokens, d]`, from the cache where they are there."""
        ends = np.cumsum([0, *mask.sum(axis=1)])
        table = np.empty((int(ends[-1]), self.frozen["token_type"].shape[-1]), np.float16)
        with progress_bar("encoding captions", len(tokens)) as advance:
            for start in range(0, len(tokens), CHUNK):
                chunk, kept = tokens[start : start + CHUNK], mask[start : start + CHUNK]
                digest = hashlib.sha256(self.fingerprint.encode() + kept.tobytes())
                digest.update(np.ascontiguousarray(chunk).tobytes())
                path = self._cache_dir / f"{digest.hexdigest()[:32]}.npy"
                part = read_cached(path, (int(kept.sum()), self.frozen["token_type"].shape[-1]))
                if part is None:
                    with replacing(path) as file:  # first: an unwritable folder fails at once
                        part = self._encode(chunk, kept, advance)
                        np.save(file, part, allow_pickle=False)
                else:
                    advance(len(chunk))
                first = ends[start]
                table[first : first + len(part)] = part
        return table

    def _encode(
        self, tokens: np.ndarray, mask: np.ndarray, advance: Callable[[int], None]
    ) -> np.ndarray:
        """Vectors of the tokens that the mask keeps, in order; sorted by length meanwhile."""
        lengths = mask.sum(axis=1)
        ends = np.cumsum(lengths)
        found = np.empty((int(ends[-1]), self.frozen["token_type"].shape[-1]), np.float16)
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            longest = min(-(-int(lengths[rows].max()) // BUCKET) * BUCKET, tokens.shape[1])
            # the last batch is filled up, so that it has the shape of the others
            padded = np.resize(rows, min(self._batch_size, max(len(order), 1)))
            vectors = self._run(tokens[padded, :longest], mask[padded, :longest])
            for row, vector in zip(rows, np.asarray(vectors, np.float16), strict=False):
                found[ends[row] - lengths[row] : ends[row]] = vector[: lengths[row]]
            advance(len(rows))
        return found

    def _run(self, tokens: np.ndarray, mask: np.ndarray) -> jax.Array:
        words = np.asarray(e5.look_up(self._word, tokens), np.float32)
        return _compiled(self._module)(self.frozen, words, mask)


@functools.cache
def _compiled(module: Bert) -> Callable[..., jax.Array]:
    return jax.jit(lambda params, words, mask: module.apply({"params": params}, words, mask)[0])


def build_e5_tokens(config: TextConfig) -> E5TokensEncoder:
    """The first layers of multilingual-e5-small."""
    file, ids = read_e5(config, "", config.layers)
    return E5TokensEncoder(
        params=file.params,
        config=config,
        word=file.word,
        ids=ids,
        unk=file.unk,
        fingerprint=e5.SHA256,
    )
