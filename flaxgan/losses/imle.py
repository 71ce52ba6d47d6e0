"""Implicit maximum likelihood: of several fakes of a caption, the nearest to the real image."""

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

SCALES = 3


def multiscale_l1(images: Array, real: Array, *, scales: int = SCALES) -> Array:
    """Mean absolute difference of pixels, averaged over copies of 1, 1/2, 1/4 … of the size.

    Args:
      images, real: `[b, h, w, c]`.
      scales: how many sizes; those below one pixel are left out.

    Returns:
      `[b]`, float32, in units of the images.
    """
    chex.assert_equal_shape([images, real])
    difference = images.astype(jnp.float32) - real.astype(jnp.float32)
    found = []
    for _ in range(scales):
        found.append(jnp.abs(difference).mean(axis=(1, 2, 3)))
        if min(difference.shape[1:3]) < 2:
            break
        # the difference of means is the mean of differences
        difference = nn.avg_pool(difference, (2, 2), strides=(2, 2))
    return jnp.stack(found).mean(axis=0)


def nearest(candidates: Array, real: Array) -> tuple[Array, Array]:
    """Of k fakes of each example, which one is nearest to its real image.

    Args:
      candidates: `[k, b, h, w, c]`.
      real: `[b, h, w, c]`.

    Returns:
      Its number `[b]` int32, and its distance `[b]`, see `multiscale_l1`.

    Reference: Li et al. 2020, "Multimodal Image Synthesis with Conditional Implicit Maximum
      Likelihood Estimation", algorithm 1. Every real image pulls a fake, so that none is left
      out, as a game against D allows; and only the nearest is pulled, so that the others of the
      caption need not be its mean.
    """
    chex.assert_rank(candidates, 5)
    distances = jnp.stack([multiscale_l1(fakes, real) for fakes in candidates])
    return jnp.argmin(distances, axis=0), jnp.min(distances, axis=0)
