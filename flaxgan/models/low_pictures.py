"""The small pictures that an upsampler enlarges: made from real ones, exactly and with faults.

How they reach the networks: see `flaxgan.models.given_pictures`.
"""

import jax
import jax.numpy as jnp
from jax import Array

# the most of each fault; pictures are in [-1, 1]
BLUR = (-0.12, 0.25)  # weight of each neighbour along a side, 1/3: a mean of three; < 0: sharpened
WARP = 0.5  # sd of how far pixels are taken from, in pixels
NOISE = 0.045  # sd of noise, and as much again for every 0.1 of slope around
BLOTCHES = 0.1  # sd of noise on a grid a quarter as fine, enlarged
GRAIN = 0.1  # sd of a pattern of 2 x 2 pixels that is repeated, stronger here and weaker there
COLOR = 0.03  # sd of each channel's shift
CLEAN = 0.25  # share of pictures without faults
GRID = 4  # pixels of a cell of what is the same around: noise of blotches, slopes


def area_reduce(images: Array, times: int) -> Array:
    """Means of blocks of `times` x `times` pixels: `[b, h, w, c]` to `[b, h/times, w/times, c]`."""
    b, h, w, c = images.shape
    return images.reshape(b, h // times, times, w // times, times, c).mean(axis=(2, 4))


def degrade(pictures: Array, keys: Array) -> Array:
    """Small pictures with the faults of drawn ones.

    They are blurred or sharpened, their edges are frayed, and there are noise, most of it where
    there are edges, blotches, grain as of a generator that makes patches, and shifted colours. How
    much of each is drawn for every picture, and a share CLEAN has none: so the network learns to
    look how good a picture is.

    Args:
      pictures: `[b, h, w, c]` float in [-1, 1], h and w multiples of GRID.
      keys: `[b]`, one for each.

    Returns:
      `[b, h, w, c]` float in [-1, 1].

    Reference: GigaGAN (Kang et al. 2023), section 3.4, and Real-ESRGAN (Wang et al. 2021): an
      upsampler of imperfect pictures learns from pictures that were made worse.
    """
    return jax.vmap(_degrade_one)(pictures, keys)


def _degrade_one(picture: Array, key: Array) -> Array:
    h, w, c = picture.shape
    blur, warp, noise, blotches, grain, color, clean = jax.random.uniform(key, (7,))

    def normal(stream: int, *shape: int) -> Array:
        return jax.random.normal(jax.random.fold_in(key, stream), shape)

    def enlarged(cells: Array) -> Array:
        return jax.image.resize(cells, (h, w, cells.shape[-1]), "linear")

    x, slopes = picture, []
    weight = BLUR[0] + (BLUR[1] - BLUR[0]) * blur
    for axis in (0, 1):
        before, after = _neighbours(x, axis)
        x = (1 - 2 * weight) * x + weight * (before + after)
    for axis in (0, 1):
        before, after = _neighbours(x, axis)
        slopes.append((after - before) / 2)
    # what lies a little aside, to first order
    x += WARP * warp * sum(normal(1 + i, h, w, 1) * slope for i, slope in enumerate(slopes))
    slope = sum(jnp.abs(slope).mean(axis=-1, keepdims=True) for slope in slopes)
    around = enlarged(area_reduce(slope[None], GRID)[0])
    x += NOISE * noise**1.5 * (1 + 10 * around) * normal(3, h, w, c)
    x += BLOTCHES * blotches**1.5 * enlarged(normal(4, h // GRID, w // GRID, c))
    pattern = jnp.tile(normal(5, 2, 2, c), (h // 2, w // 2, 1))
    x += GRAIN * grain * enlarged(normal(6, h // GRID, w // GRID, 1)) * pattern
    x += COLOR * color * normal(7, c)
    return jnp.where(clean < CLEAN, picture, jnp.clip(x, -1.0, 1.0))


def _neighbours(x: Array, axis: int) -> tuple[Array, Array]:
    """The pixels before and after each along an axis; edges are repeated."""
    size = x.shape[axis]
    padded = jnp.pad(x, [(1, 1) if i == axis else (0, 0) for i in range(x.ndim)], mode="edge")
    return (
        jax.lax.slice_in_dim(padded, 0, size, axis=axis),
        jax.lax.slice_in_dim(padded, 2, size + 2, axis=axis),
    )
