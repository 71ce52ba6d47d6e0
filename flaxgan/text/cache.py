"""Sentence vectors of a data set's captions: computed once, kept on disk as float16."""

import contextlib
import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

from flaxgan import machine
from flaxgan.atomic_write import open_atomic
from flaxgan.config import TextConfig
from flaxgan.errors import UserError
from flaxgan.progress import progress_bar
from flaxgan.text.conditioning import Text, TextStats
from flaxgan.text.encoder import TextEncoder, jit_encode

CHUNK = 4096  # captions per file: what an interruption can lose


def default_cache_dir() -> Path:
    """~/.cache/flaxgan/embeddings, or below $XDG_CACHE_HOME."""
    return machine.cache_dir("embeddings")


def embed_captions(
    encoder: TextEncoder,
    captions: Sequence[str],
    *,
    cache_dir: str | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Sentence vectors of captions, from the cache where they are there.

    Distinct captions are encoded once, in chunks of 4,096 that are written as they are done.

    Args:
      encoder: a frozen encoder.
      captions: `n` strings.
      cache_dir: folder; None: `default_cache_dir()`.
      batch_size: captions encoded at once, at the most.

    Returns:
      `[n, d]` float16.

    Raises:
      UserError: the folder cannot be written.
    """
    unique = sorted(set(captions))
    folder = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    chunks = [unique[start : start + CHUNK] for start in range(0, len(unique), CHUNK)]
    with progress_bar("encoding captions", len(unique)) as advance:
        parts = []
        for chunk in chunks:
            path = folder / f"{_key(encoder, chunk)}.npy"
            part = read_cached(path, (len(chunk), encoder.dim))
            if part is None:
                with replacing(path) as file:  # first: an unwritable folder fails at once
                    part = _encode(encoder, chunk, batch_size, advance)
                    np.save(file, part, allow_pickle=False)
            else:
                advance(len(chunk))
            parts.append(part)
    rows = {caption: i for i, caption in enumerate(unique)}
    return np.concatenate(parts)[[rows[caption] for caption in captions]]


def encode_captions(encoder: Any, captions: Sequence[str], config: TextConfig) -> Text:
    """All captions as text `[n, …]` in host memory, as networks read it."""
    return encoder.look_up(compact_captions(encoder, captions, config))


def compact_captions(encoder: Any, captions: Sequence[str], config: TextConfig) -> Text:
    """All captions in the form that is kept in memory: cached sentence vectors, or token ids.

    Rows of it become what networks read through `encoder.look_up`.
    """
    if encoder.learned:
        tokens, mask = encoder.tokenize(list(captions))
        return Text(tokens=np.asarray(tokens), mask=np.asarray(mask))
    emb = embed_captions(
        encoder, captions, cache_dir=config.cache_dir, batch_size=config.batch_size
    )
    return Text(sentence_emb=emb)


def sentence_stats(sentence_emb: np.ndarray) -> TextStats:
    """Mean and standard deviation of each dimension of `[n, d]`, float32; sd at least 1e-6."""
    emb = sentence_emb.astype(np.float32)
    return TextStats(mean=emb.mean(axis=0), sd=np.maximum(emb.std(axis=0), 1e-6))


def word_stats(tokens: np.ndarray, mask: np.ndarray, vectors: np.ndarray) -> TextStats:
    """The same of the words of captions, each as often as it occurs.

    Args:
      tokens: `[n, t]` rows of the table.
      mask: `[n, t]` bool, True where there is a token.
      vectors: `[v, d]`, the table.
    """
    counts = np.bincount(tokens[mask], minlength=len(vectors)) / mask.sum()
    chunks = [slice(start, start + 2**15) for start in range(0, len(vectors), 2**15)]
    mean = sum(counts[rows] @ vectors[rows].astype(np.float64) for rows in chunks)
    sd = np.sqrt(sum(counts[rows] @ (vectors[rows] - mean) ** 2 for rows in chunks))
    return TextStats(mean=mean.astype(np.float32), sd=np.maximum(sd, 1e-6).astype(np.float32))


def _encode(
    encoder: TextEncoder, captions: list[str], batch_size: int, advance: Callable[[int], None]
) -> np.ndarray:
    """Sorted by length, so that little is padding; batches go to the devices in turn."""
    lengths = encoder.count_tokens(captions)
    order = sorted(range(len(captions)), key=lengths.__getitem__)
    encode = jit_encode(encoder)
    devices = jax.local_devices()
    devices = devices[:1] if devices[0].platform == "cpu" else devices  # one already has all cores
    params = [jax.device_put(encoder.params, device) for device in devices]
    result = np.zeros((len(captions), encoder.dim), np.float16)
    pending: list[tuple[list[int], jax.Array]] = []
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        tokens, mask = encoder.tokenize([captions[i] for i in rows])
        padding = ((0, batch_size - len(rows)), (0, 0))  # one shape for each length
        which = start // batch_size % len(devices)
        arrays = jax.device_put((np.pad(tokens, padding), np.pad(mask, padding)), devices[which])
        pending.append((rows, encode(params[which], *arrays)))
        if len(pending) > 2 * len(devices) or start + batch_size >= len(order):
            for done, vectors in pending:
                result[done] = np.asarray(vectors)[: len(done)]
                advance(len(done))
            pending = []
    return result


def _key(encoder: TextEncoder, captions: list[str]) -> str:
    digest = hashlib.sha256(encoder.fingerprint.encode())
    for caption in captions:
        digest.update(caption.encode() + b"\0")
    return digest.hexdigest()[:32]


def read_cached(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """A float16 array of the cache; None where there is none, or a broken one, with a warning."""
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
        if array.shape != shape or array.dtype != np.float16:
            raise ValueError(f"it holds {array.dtype} {array.shape}, not float16 {shape}")
        return array
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        warnings.warn(
            f"embedding cache {path} is broken and will be rebuilt: {error}",
            stacklevel=3,
        )
        return None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `path` once it is complete, and is gone if it fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_atomic(path) as file:
            yield file
    except OSError as error:
        raise UserError(
            f"cannot write the embedding cache {path.parent}: {error.strerror}; "
            "name another folder: --text.cache-dir FOLDER"
        ) from error
