"""Holes of pictures that an inpainter learns to fill: 1 where a picture is to be drawn, else 0.

Reference: Zhao et al. 2021, "Large Scale Image Completion via Co-Modulated Generative Adversarial
  Networks" (CoModGAN), appendix, and Suvorov et al. 2022, "Resolution-robust Large Mask Inpainting
  with Fourier Convolutions" (LaMa), section 2.3: free-form strokes and boxes, large ones above all.
  Added: halves, and everything around a box, for pictures that are to be continued.
"""

import jax
import jax.numpy as jnp
from jax import Array

STROKES, POINTS = 3, 5  # strokes of a hole, and corners of each
WIDTH = (0.06, 0.16)  # of half a stroke, in sides of the picture
LEG = 0.45  # the most between two corners of a stroke, along a side
BOXES = 2
BOX = (0.2, 0.95)  # sides of a box
LEFT = (0.25, 0.75)  # what a half leaves, about
KEPT = (0.4, 0.95)  # sides of the box that is left where all around it is a hole
SHARES = (0.3, 0.4, 0.15, 0.15)  # of strokes, boxes, halves, surroundings


def random_holes(keys: Array, side: int) -> Array:
    """Holes of square pictures.

    Args:
      keys: `[b]`, one for each.
      side: of the pictures, pixels.

    Returns:
      `[b, side, side, 1]` float32, 0 or 1; in none all are 0.
    """
    return jax.vmap(lambda key: _one(key, side))(keys)[..., None]


def _one(key: Array, side: int) -> Array:
    """One hole `[side, side]`."""
    which, *keys = jax.random.split(key, 1 + len(SHARES))
    kinds = jnp.stack([make(k, side) for make, k in zip(KINDS, keys, strict=True)])
    return kinds[jax.random.choice(which, len(SHARES), p=jnp.array(SHARES))].astype(jnp.float32)


def strokes(key: Array, side: int) -> Array:
    """Broken lines with round ends: `[side, side]` bool."""
    starts, legs, widths, count = jax.random.split(key, 4)
    start = jax.random.uniform(starts, (STROKES, 1, 2))
    leg = jax.random.uniform(legs, (STROKES, POINTS - 1, 2), minval=-LEG, maxval=LEG)
    corners = start + jnp.concatenate([jnp.zeros((STROKES, 1, 2)), leg.cumsum(axis=1)], axis=1)
    corners = jnp.clip(corners, 0.0, 1.0)
    width = jax.random.uniform(widths, (STROKES, 1, 1, 1), minval=WIDTH[0], maxval=WIDTH[1])
    near = distance_to_segments(corners[:, :-1], corners[:, 1:], side) <= width
    drawn = jnp.arange(STROKES) <= jax.random.randint(count, (), 0, STROKES)
    return (near & drawn[:, None, None, None]).any(axis=(0, 1))


def distance_to_segments(start: Array, end: Array, side: int) -> Array:
    """`[…, 2]` and `[…, 2]`, (row, column) in [0, 1], to the distance of each pixel `[…, s, s]`."""
    pixels = jnp.stack(jnp.meshgrid(*2 * [centres(side)], indexing="ij"), axis=-1)  # [s, s, 2]
    start, along = start[..., None, None, :], (end - start)[..., None, None, :]
    length = jnp.maximum((along**2).sum(axis=-1), 1e-12)
    t = jnp.clip(((pixels - start) * along).sum(axis=-1) / length, 0.0, 1.0)
    return jnp.sqrt(((pixels - start - t[..., None] * along) ** 2).sum(axis=-1))


def boxes(key: Array, side: int) -> Array:
    """One box or more, inside the picture: `[side, side]` bool."""
    count, key = jax.random.split(key)
    found = jnp.stack([_box(k, side, BOX) for k in jax.random.split(key, BOXES)])
    drawn = jnp.arange(BOXES) <= jax.random.randint(count, (), 0, BOXES)
    return (found & drawn[:, None, None]).any(axis=0)


def halves(key: Array, side: int) -> Array:
    """All on one side of a row or a column: `[side, side]` bool."""
    cut, turn = jax.random.split(key)
    upper = centres(side) < jax.random.uniform(cut, (), minval=LEFT[0], maxval=LEFT[1])
    rows = jnp.broadcast_to(upper[:, None], (side, side))
    turned = jnp.stack([rows, rows[::-1], rows.T, rows[::-1].T])
    return turned[jax.random.randint(turn, (), 0, 4)]


def surroundings(key: Array, side: int) -> Array:
    """All but a box: `[side, side]` bool."""
    return ~_box(key, side, KEPT)


def centres(side: int) -> Array:
    """`[side]`: where pixels are along a side, in [0, 1]."""
    return (jnp.arange(side) + 0.5) / side


def _box(key: Array, side: int, sizes: tuple[float, float]) -> Array:
    """A box of whole pixels, at least one, at most all but one row and column."""
    size_key, place_key = jax.random.split(key)
    size = jax.random.uniform(size_key, (2,), minval=sizes[0], maxval=sizes[1])
    size = jnp.clip(jnp.round(size * side), 1, max(side - 1, 1))
    first = jnp.floor(jax.random.uniform(place_key, (2,)) * (side - size + 1))
    place = jnp.arange(side)
    rows, columns = ((place >= first[i]) & (place < first[i] + size[i]) for i in range(2))
    return rows[:, None] & columns


KINDS = (strokes, boxes, halves, surroundings)
