"""A frozen network as a function from pictures to feature vectors, over all devices."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax import Array

from flaxgan.training import parallel


@dataclasses.dataclass(frozen=True)
class FeatureNetwork:
    """Pictures in, features out; everything between the two is part of the protocol.

    Attributes:
      name: as metrics spell it: `fd_<name>`.
      dim: length of a feature vector.
      params: of the network.
      apply: pure `(params, images [b, h, w, 3] uint8) -> [b, dim] float32`, resize and scaling of
        the input included.
      weights_sha256: of the file that the weights came from.
      protocol: what must be equal for two numbers to be comparable: layer, resize, input size.
    """

    name: str
    dim: int
    params: Any
    apply: Callable[[Any, Array], Array]
    weights_sha256: str
    protocol: Mapping[str, str | int | float]

    def __call__(self, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """Features of any number of pictures, `batch_size` at a time over all devices.

        Args:
          images: `[n, h, w, c]` uint8, c 1 or 3; grey is repeated.
          batch_size: at most this many at once, rounded up to a multiple of the devices.

        Returns:
          `[n, dim]` float32, independent of batch size and number of devices up to rounding.
        """
        devices = jax.local_devices()
        batch_size = parallel.even_batch_size(batch_size, len(images), len(devices))
        images = np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
        features = []
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            padding = ((0, batch_size - len(part)), (0, 0), (0, 0), (0, 0))  # one compiled shape
            rows = parallel.shard_rows(np.pad(part, padding), devices)
            features.append(np.asarray(self._compiled(self._placed_params, rows))[: len(part)])
        return np.concatenate(features) if features else np.zeros((0, self.dim), np.float32)

    @functools.cached_property
    def _compiled(self) -> Callable[[Any, Array], Array]:
        return jax.jit(self.apply)

    @functools.cached_property
    def _placed_params(self) -> Any:
        return jax.device_put(self.params, parallel.replicated_sharding(jax.local_devices()))
