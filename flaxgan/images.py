"""The two conversions between uint8 pictures and the float images of the networks."""

import jax.numpy as jnp
from jax import Array


def to_float(images: Array) -> Array:
    """uint8 in [0, 255] to float32 in [-1, 1] by x / 127.5 - 1; float images pass unchanged."""
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 127.5 - 1.0
    return images.astype(jnp.float32)


def to_uint8(images: Array) -> Array:
    """Float in [-1, 1] to the nearest uint8 in [0, 255]; values outside are clipped."""
    return jnp.clip(jnp.round((images + 1.0) * 127.5), 0, 255).astype(jnp.uint8)
