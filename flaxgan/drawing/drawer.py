"""The one way from noise and text to pictures: in batches, over any devices.

Training (grids, scores), `Sampler` and the evaluators draw through `Drawer`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import Array

from flaxgan import rng
from flaxgan.images import to_uint8
from flaxgan.models.latents import draw_truncated
from flaxgan.text.conditioning import Text, TextFeatures, TextStats, standardise
from flaxgan.training import parallel
from flaxgan.training.state import Params


@functools.partial(jax.jit, static_argnames="z_dim")
def noise(indices: Array, z_dim: int, seed: int | Array = 0) -> Array:
    """Noise vectors `[b, z_dim]`, float32: the same (seed, index) is the same one.

    Args:
      indices: `[b]` int.
      z_dim: size of each.
      seed: of all.
    """
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
        rng.stream(jax.random.key(seed), "sample"), indices
    )
    return rng.normal(keys, z_dim)


@functools.partial(jax.jit, static_argnames=("generator", "z_dim"))
def sample(
    params: Params,
    indices: Array,
    text: Text | TextFeatures | None = None,
    *,
    generator: nn.Module,
    z_dim: int,
    seed: int | Array = 0,
    text_stats: TextStats | None = None,
    truncation: Array | float | None = None,
) -> Array:
    """Draws images, one for each index.

    Args:
      params: generator parameters, usually `state.ema_params`.
      indices: `[b]` int, which noise vectors of the seed, see `noise`; or `[b, z_dim]` float, the
        vectors themselves.
      text: captions `[b, …]`, or their features; None for an unconditional generator.
      generator: the module of `params`.
      z_dim: size of the noise vector.
      seed: of the noise.
      text_stats: as in `TrainState`; None: sentence vectors are used as they are.
      truncation: see `flaxgan.models.latents.draw_truncated`; None: there is none.

    Returns:
      `[b, h, w, c]` uint8.
    """
    z = indices if indices.ndim == 2 else noise(indices, z_dim, seed)
    if isinstance(text, Text):  # features are of text that was standardised
        text = standardise(text, text_stats)
    if truncation is not None:
        return to_uint8(draw_truncated(generator, params, z, text, truncation))
    return to_uint8(generator.apply({"params": params}, z, text))


def in_batches(
    draw: Callable[[np.ndarray, Any], Any],
    indices: np.ndarray,
    text: Any,
    batch_size: int,
) -> Iterator[Any]:
    """Calls `draw(indices [batch_size, …], text)` over any number of rows, compiling one shape.

    Yields:
      What it returns, an array or a tree of them, `[<= batch_size, …]`, in the order of
      `indices [n, …]`.
    """
    for start in range(0, len(indices), batch_size):
        part = jax.tree.map(lambda x: x[start : start + batch_size], (indices, text))  # noqa: B023
        size = len(part[0])
        padded = jax.tree.map(
            lambda x: np.concatenate([x, np.repeat(x[-1:], batch_size - size, axis=0)]),  # noqa: B023
            part,
        )
        yield jax.tree.map(lambda x: x[:size], draw(*padded))  # noqa: B023


@dataclasses.dataclass(frozen=True)
class Drawer:
    """What `sample` needs besides parameters, noise and text.

    Attributes:
      generator: the module.
      z_dim: size of the noise vector.
      text_stats: see `TrainState`.
      devices: that share each batch, also those of other processes.
    """

    generator: nn.Module
    z_dim: int
    text_stats: TextStats | None
    devices: Sequence[jax.Device]

    def batches(
        self,
        params: Params,
        indices: np.ndarray,
        text: Text | TextFeatures | None,
        batch_size: int,
        seed: int = 0,
        truncation: float | None = None,
    ) -> Iterator[np.ndarray]:
        """Draws in order, compiling one shape.

        Args:
          params: generator parameters; not copied if they are whole on all devices already.
          indices: `[n]` int, which noise vectors of the seed; or `[n, z]`, the vectors.
          text: captions `[n, …]`, or their features; None for an unconditional generator.
          batch_size: pictures at once, rounded up to a multiple of the devices.
          seed: of the noise.
          truncation: see `sample`.

        Yields:
          `[<= batch_size, h, w, c]` uint8.
        """
        params, text_stats = self.place(params)
        alone = len(self.devices) == 1  # to one device jit is faster than device_put
        key = np.uint32(seed) if alone else parallel.replicate(np.uint32(seed), self.devices)

        options: dict[str, Any] = {}
        if truncation is not None:
            psi = np.float32(truncation)
            options["truncation"] = psi if alone else parallel.replicate(psi, self.devices)

        def draw(indices: np.ndarray, text: Any) -> np.ndarray:
            rows = (indices, text) if alone else parallel.shard_rows((indices, text), self.devices)
            images = sample(
                params,
                *rows,
                generator=self.generator,
                z_dim=self.z_dim,
                seed=key,
                text_stats=text_stats,
                **options,
            )
            return parallel.fetch(images)

        size = parallel.even_batch_size(batch_size, len(indices), len(self.devices))
        yield from in_batches(draw, indices, text, size)

    def place(self, params: Params) -> tuple[Params, TextStats | None]:
        """The parameters and the text statistics, whole on all devices."""
        tree, there = (params, self.text_stats), parallel.replicated_sharding(self.devices)
        # device_put takes 25 µs for each leaf, also for one that need not move
        if all(getattr(leaf, "sharding", None) == there for leaf in jax.tree.leaves(tree)):
            return tree
        return parallel.replicate(tree, self.devices)

    def draw(self, params: Params, indices: np.ndarray, text: Text | None) -> np.ndarray:
        """`[n, h, w, c]` uint8: all of `batches` at once."""
        return np.concatenate(list(self.batches(params, indices, text, 64 * len(self.devices))))
