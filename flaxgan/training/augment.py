"""Differentiable augmentation of what D sees, real and fake, on device.

Each policy is two pure functions of one example: `draw_*` turns three uniform numbers into the
parameters of the transformation, and the transformation maps an image to an image. Parameters
depend on the example's key and the image's size alone, so the same keys move a real image and a
fake alike, whatever the batch and the number of devices.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from flaxgan import rng
from flaxgan.registry import Table

Size = tuple[int, int]


def draw_flip(u: Array, size: Size) -> tuple[Array]:
    """Whether the image is mirrored: half of the time, so that G cannot learn mirrored images."""
    return (u[0] < 0.5,)


def flip(image: Array, mirrored: Array) -> Array:
    """Swaps left and right of `[h, w, c]`. Captions that name a side become wrong."""
    return jnp.where(mirrored, image[:, ::-1], image)


def draw_color(u: Array, size: Size) -> tuple[Array, Array, Array]:
    """Brightness in [-0.5, 0.5), saturation in [0, 2) and contrast in [0.5, 1.5)."""
    return u[0] - 0.5, 2.0 * u[1], u[2] + 0.5


def color(image: Array, brightness: Array, saturation: Array, contrast: Array) -> Array:
    """Adds `brightness`, then scales the distances of `[h, w, c]` from its means.

    `saturation` scales the distance from the mean over channels, `contrast` that from the mean
    over everything. The result may leave [-1, 1].
    """
    image = image + brightness
    channels = image.shape[-1]
    # a mean over so short an axis takes XLA on CPU 3 to 10 times longer than adding slices
    grey = sum(jnp.split(image, channels, axis=-1)) / channels
    image = grey + saturation * (image - grey)
    mean = image.mean()
    return mean + contrast * (image - mean)


def draw_translation(u: Array, size: Size) -> tuple[Array, Array]:
    """Pixels down and to the right, whole numbers within 1/8 of height and width."""
    reach = [_reach(n) for n in size]
    down, right = (_integer(u[i], 2 * r + 1) - r for i, r in enumerate(reach))
    return down, right


def translation(image: Array, down: Array, right: Array) -> Array:
    """Moves `[h, w, c]` by whole pixels; zeros, which are mid-grey, come in."""
    h, w, _ = image.shape
    # by one-hot matrices: XLA on CPU computes a slice or gather pixel by pixel, together with the
    # colour change before it, which takes 2.5 times longer, and a scatter on the way back
    rows = (jnp.arange(h)[:, None] == jnp.arange(h) + down).astype(image.dtype)
    columns = (jnp.arange(w)[:, None] == jnp.arange(w) + right).astype(image.dtype)
    exact = jax.lax.Precision.HIGHEST
    image = jnp.einsum("ij,jwc->iwc", rows, image, precision=exact)
    return jnp.einsum("ij,hjc->hic", columns, image, precision=exact)


def draw_cutout(u: Array, size: Size) -> tuple[Array, Array]:
    """Top and left of the hole, which may lie half outside."""
    # the centre is on a pixel of [0, n) if the hole is odd, else on an edge of [0, n]
    centres = (_integer(u[i], n + 1 - _hole(n) % 2) for i, n in enumerate(size))
    top, left = (centre - _hole(n) // 2 for centre, n in zip(centres, size, strict=True))
    return top, left


def cutout(image: Array, top: Array, left: Array) -> Array:
    """Zeroes a hole of half the height and width of `[h, w, c]`."""
    h, w, _ = image.shape
    y, x = jnp.arange(h) - top, jnp.arange(w) - left
    rows, columns = (y >= 0) & (y < _hole(h)), (x >= 0) & (x < _hole(w))
    return jnp.where((rows[:, None] & columns)[:, :, None], 0.0, image)


class Policy(NamedTuple):
    """Uniform numbers `[3]` and (h, w) to parameters; image `[h, w, c]` and those to an image."""

    draw: Callable[[Array, Size], Any]
    apply: Callable[..., Array]


# in the order of application: a hole stays grey because colours change before it
POLICIES = Table(
    "augment.policies",
    {
        "flip": Policy(draw_flip, flip),
        "color": Policy(draw_color, color),
        "translation": Policy(draw_translation, translation),
        "cutout": Policy(draw_cutout, cutout),
    },
    kind=Policy,
    group="flaxgan.augment_policies",
)


def uniforms(key: Array, name: str) -> Array:
    """`[4]` float32 in [0, 1) for one policy and example: three to draw from, one for the gate."""
    return jax.random.uniform(rng.stream(key, name), (4,), jnp.float32)


def augment(images: Array, keys: Array, policies: tuple[str, ...], p: float | Array) -> Array:
    """Applies each policy to each example independently with probability p.

    Args:
      images: `[b, h, w, c]` float in [-1, 1].
      keys: `[b]`, one per example.
      policies: names from POLICIES, which also fixes the order of application.
      p: `[]` in [0, 1]; 1 is DiffAugment, 0 the identity.

    Returns:
      `[b, h, w, c]` of the dtype of `images`, differentiable with respect to them.

    Raises:
      UserError: an unknown policy.

    Reference: Zhao et al. 2020 (DiffAugment), section 4: color, translation and cutout; Karras et
      al. 2020 (StyleGAN2-ADA), section 2: the probability p, drawn here once per policy, thus once
      for the three parts of color.
    """
    for name in policies:
        POLICIES[name]  # raises for an unknown one

    def one(image: Array, key: Array) -> Array:
        for name, policy in POLICIES.items():
            if name in policies:
                u = uniforms(key, name)
                changed = policy.apply(image, *policy.draw(u[:3], image.shape[:2]))
                image = jnp.where(u[3] < p, changed, image)
        return image

    # float16 and bfloat16 are too coarse for means and sums of images
    exact = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    return jax.vmap(one)(exact, keys).astype(images.dtype)


def update_p(
    p: Array,
    real_sign_mean: Array,
    *,
    target: float = 0.6,
    batch_size: int,
    kimg_per_unit: float = 500.0,
    p_max: float = 1.0,
) -> Array:
    """Adaptive p: up while D is too sure of the training images, else down, at a constant speed.

    Args:
      p: `[]` in [0, p_max].
      real_sign_mean: `[]` in [-1, 1], r_t = E[sign(D(real))] over the whole global batch; 1 when D
        calls every training image real.
      target: the r_t that is held.
      batch_size: global images since the last update.
      kimg_per_unit: thousand images in which p can rise from 0 to 1, above 0.
      p_max: the largest p.

    Returns:
      The new p, `[]`.

    Reference: Karras et al. 2020 (StyleGAN2-ADA), section 3, eq. 1. There p is adjusted every four
      minibatches and clamped from below alone.
    """
    move = jnp.sign(real_sign_mean - target) * (batch_size / (1000.0 * kimg_per_unit))
    return jnp.clip(p + move, 0.0, p_max)


def _reach(n: int) -> int:
    """The longest translation along n pixels: 1/8, rounded."""
    return int(n / 8 + 0.5)


def _hole(n: int) -> int:
    """The side of the hole along n pixels: 1/2, rounded."""
    return int(n / 2 + 0.5)


def _integer(u: Array, n: int) -> Array:
    """u in [0, 1) to a whole number in [0, n)."""
    return jnp.floor(u * n).astype(jnp.int32)
