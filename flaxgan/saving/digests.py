"""A digest of each array of a tree that does not depend on how the array is cut into shards.

Orbax restores a flipped bit without noticing, and a checkpoint may be read on other devices than
those that wrote it. The digest is therefore a sum over 32-bit words, each mixed by a bijection that
depends on its position. A change of one word always changes it; any other change goes unnoticed
with a probability of about 2^-32.
"""

import math
from typing import Any

import jax
import numpy as np

from flaxgan.saving.generator_file import named_leaves
from flaxgan.training import processes

BLOCK = 2**17  # words at once: what a core's cache holds


def digests(tree: Any) -> dict[str, int]:
    """Name of each leaf to its digest in [0, 2^32).

    Where leaves are sharded over several processes, all of them must call it at the same point.

    Args:
      tree: NumPy or jax arrays.
    """
    leaves = named_leaves(tree)
    found = {name: _own_part(leaf) for name, leaf in leaves.items()}
    if processes.count() > 1:
        spread = [name for name, leaf in leaves.items() if _is_spread(leaf)]
        if spread:
            totals = processes.gather([found[name] for name in spread]).sum(axis=0)
            found |= {name: int(n) % 2**32 for name, n in zip(spread, totals, strict=True)}
    return found


def _is_spread(leaf: Any) -> bool:
    """Whether other processes hold parts of it that this one does not."""
    return isinstance(leaf, jax.Array) and not (
        leaf.is_fully_addressable or leaf.is_fully_replicated
    )


def _own_part(leaf: Any) -> int:
    """Digest of an array; of a sharded one, the share that this process adds."""
    if not isinstance(leaf, jax.Array) or leaf.is_fully_replicated:
        return digest(np.asarray(leaf))
    shards = [shard for shard in leaf.addressable_shards if shard.replica_id == 0]
    starts = [[part.start or 0 for part in shard.index] for shard in shards]
    total = sum(
        digest(np.asarray(shard.data), start, leaf.shape)
        for shard, start in zip(shards, starts, strict=True)
    )
    return total % 2**32


def digest(
    x: np.ndarray, starts: list[int] | None = None, shape: tuple[int, ...] | None = None
) -> int:
    """Digest of an array, or the share that one of its shards adds.

    Args:
      x: the array or the shard.
      starts: place of the shard's first element in the array, one number per axis.
      shape: of the array.
    """
    if x.size == 0:
        return 0
    shape = x.shape if shape is None else shape
    words = _words(x)  # [..., k]: k words per element
    lengths = (*shape, words.shape[-1])
    starts = [*([0] * x.ndim if starts is None else starts), 0]
    strides = [math.prod(lengths[axis + 1 :]) for axis in range(len(lengths))]
    places = [
        (np.arange(start, start + n, dtype=np.uint64) * np.uint64(stride)).astype(np.uint32)
        for start, n, stride in zip(starts, words.shape, strides, strict=True)
    ]
    inner = np.zeros(1, np.uint32)
    for place in places[1:]:
        inner = np.add.outer(inner, place).reshape(-1)
    rows = words.reshape(words.shape[0], -1)
    step, total = max(1, BLOCK // max(1, rows.shape[1])), 0
    for row in range(0, len(rows), step):
        at = np.add.outer(places[0][row : row + step], inner)
        total += int(_mixed(rows[row : row + step], at).sum(dtype=np.uint64))
    return total % 2**32


def _mixed(words: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Applies to each word a bijection that depends on its position; overwrites `places`."""
    places *= np.uint32(0x9E3779B1)
    places ^= words
    places *= np.uint32(0x85EBCA6B)
    places ^= places >> np.uint32(13)
    places *= np.uint32(0xC2B2AE35)
    places ^= places >> np.uint32(16)
    return places


def _words(x: np.ndarray) -> np.ndarray:
    """`[..., k]` uint32 with the bits of every element."""
    x = np.ascontiguousarray(x).reshape(*x.shape, 1)  # ascontiguousarray makes [] to [1]
    if x.dtype.itemsize % 4 == 0:
        return x.view(np.uint32)
    return x.view(np.uint8).astype(np.uint32)
