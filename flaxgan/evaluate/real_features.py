"""Features of real pictures, computed once and kept by what they are features of."""

import hashlib
import json
from pathlib import Path

import numpy as np

from flaxgan.atomic_write import open_atomic
from flaxgan.errors import UserError
from flaxgan.evaluate.evaluator import CaptionedSet
from flaxgan.evaluate.feature_network import FeatureNetwork
from flaxgan.progress import progress_bar


def real_features(
    network: FeatureNetwork, captioned: CaptionedSet, *, cache_dir: Path, batch_size: int = 64
) -> np.ndarray:
    """Features of the real pictures of a set, from the cache where they are there.

    The file is named after a hash of the pictures' pixels, the weights and the protocol, so it
    cannot be another set's. It is mapped, not read: what is in memory does not grow with `n`.

    Args:
      network: what computes them.
      captioned: the set.
      cache_dir: folder, made if need be.
      batch_size: pictures at a time.

    Returns:
      `[n, d]` float32, read-only.

    Raises:
      UserError: the folder cannot be written.
    """
    path = cache_dir / f"{network.name}-{_key(network, captioned, batch_size)}.npy"
    shape = (len(captioned), network.dim)
    stored = _read(path, shape)
    if stored is not None:
        return stored
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with open_atomic(path) as file:
            features = np.lib.format.open_memmap(file.name, "w+", np.float32, shape)
            start = 0
            with progress_bar(f"{network.name} of real pictures", len(captioned)) as advance:
                for images in captioned.real_images(batch_size):
                    features[start : start + len(images)] = network(images, batch_size)
                    start += len(images)
                    advance(len(images))
            features.flush()
    except OSError as error:
        raise UserError(
            f"cannot write features to {cache_dir}: {error.strerror}; name another folder "
            "(--cache-dir, in training --eval.cache-dir)"
        ) from error
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _read(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """None when there is no such file, or one of something else."""
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return stored if stored.shape == shape and stored.dtype == np.float32 else None


def _key(network: FeatureNetwork, captioned: CaptionedSet, batch_size: int) -> str:
    digest = hashlib.sha256()
    digest.update(json.dumps([network.weights_sha256, dict(network.protocol)]).encode())
    for images in captioned.real_images(batch_size):
        digest.update(repr(images.shape[1:]).encode())
        digest.update(np.ascontiguousarray(images))
    return digest.hexdigest()[:32]
