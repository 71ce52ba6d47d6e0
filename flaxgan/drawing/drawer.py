"""Draws any number of pictures over all devices, also those of other processes, in batches."""

import dataclasses
from collections.abc import Iterator, Sequence

import flax.linen as nn
import jax
import numpy as np

from flaxgan.drawing.sampler import sample, sample_batches
from flaxgan.text.conditioning import Text, TextStats
from flaxgan.training import parallel
from flaxgan.training.state import Params


@dataclasses.dataclass(frozen=True)
class Drawer:
    """What `sample` needs besides parameters, noise and text.

    Attributes:
      generator: the module.
      z_dim: size of the noise vector.
      text_stats: see `TrainState`.
      devices: that share each batch.
      seed: of the noise.
    """

    generator: nn.Module
    z_dim: int
    text_stats: TextStats | None
    devices: Sequence[jax.Device]
    seed: int = 0

    def batches(
        self, params: Params, indices: np.ndarray, text: Text | None, batch_size: int
    ) -> Iterator[np.ndarray]:
        """Draws in order, compiling one shape.

        Args:
          params: generator parameters.
          indices: `[n]` int, which noise vectors of the seed.
          text: captions `[n, …]`; None for an unconditional generator.
          batch_size: pictures at once, rounded up to a multiple of the devices.

        Yields:
          `[<= batch_size, h, w, c]` uint8.
        """
        params, text_stats = parallel.replicate((params, self.text_stats), self.devices)
        seed = parallel.replicate(np.uint32(self.seed), self.devices)

        def draw(indices: np.ndarray, text: Text | None) -> np.ndarray:
            rows, words = parallel.shard_rows((indices, text), self.devices)
            images = sample(
                params,
                rows,
                words,
                generator=self.generator,
                z_dim=self.z_dim,
                seed=seed,
                text_stats=text_stats,
            )
            return parallel.fetch(images)

        size = parallel.even_batch_size(batch_size, len(indices), len(self.devices))
        yield from sample_batches(draw, indices, text, size)

    def draw(self, params: Params, indices: np.ndarray, text: Text | None) -> np.ndarray:
        """`[n, h, w, c]` uint8: all of `batches` at once."""
        return np.concatenate(list(self.batches(params, indices, text, 64 * len(self.devices))))
