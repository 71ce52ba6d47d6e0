"""Contrastive loss between images and captions, over the global batch."""

import chex
import flax.struct
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from flaxgan import collectives


@flax.struct.dataclass
class Embeddings:
    """What InfoNCE compares.

    Attributes:
      images: `[b, e]`.
      texts: `[b, e]` of their captions.
      negatives: `[n, e]` of further captions; None: none.
    """

    images: Array
    texts: Array
    negatives: Array | None = None


_SHIFTS = np.array([0, 8, 16, 24], np.int32)


def info_nce(
    image_emb: Array,
    text_emb: Array,
    *,
    text_ids: Array | None = None,
    negative_emb: Array | None = None,
    negative_ids: Array | None = None,
    axis_name: str | None = None,
) -> tuple[Array, Array]:
    """Symmetric InfoNCE: each image has to find its caption, and each caption its image.

    With s_ij = <v_i, t_j> over all i, j of the GLOBAL batch, the loss of example i is
    - 1/2 log softmax_j(s_ij)[i] - 1/2 log softmax_j(s_ji)[i]; negatives are further wrong captions
    in the first term. In small batches colours alone tell captions apart; a text costs much less
    than an image.

    With ids, only what is known to be wrong is a wrong choice: equal captions, and their images,
    are left out of each other's sums, and the empty caption, which is true of every image, is left
    out of all sums together with its image, whose own loss is 0.

    Args:
      image_emb: v `[b, e]`; scores include the inverse temperature, so rows carry its root.
      text_emb: t `[b, e]`.
      text_ids: `[b]` int, equal for equal captions, negative for the empty one; None: all captions
        count as different.
      negative_emb: `[n, e]` of further captions, on each replica its own; None: none.
      negative_ids: `[n]` int of the further captions, given together with text_ids.
      axis_name: replicas over which the batch is spread; None: this is the global batch.

    Returns:
      The loss `[b]`, float32, and whether each image found its caption, `[b]` float32; both are 0
      for the empty caption.

    Reference: Radford et al. 2021 (CLIP), figure 3; in a GAN: XMC-GAN (Zhang et al. 2021), eq. 3
      to 5: D learns it on real images, G on its own against D's fixed embeddings.
    """
    chex.assert_equal_shape([image_emb, text_emb])
    chex.assert_rank(image_emb, 2)
    own = collectives.global_indices(len(image_emb), axis_name)
    # one collective, not several: XLA on CPU runs independent ones at once, each waiting in a
    # thread that the others need, until all wait
    rows = [image_emb, text_emb] + ([] if negative_emb is None else [negative_emb])
    packed = jnp.concatenate(rows)
    if text_ids is not None:
        ids = [text_ids, text_ids] + ([] if negative_emb is None else [negative_ids])
        packed = jnp.concatenate([packed, _digits(jnp.concatenate(ids), packed.dtype)], axis=1)
    (b, e), parts = image_emb.shape, collectives.size(axis_name)
    everything = collectives.gather(packed, axis_name).reshape(parts, -1, packed.shape[-1])
    images, texts, negatives = (
        x.reshape(-1, packed.shape[-1]) for x in jnp.split(everything, [b, 2 * b], axis=1)
    )
    texts = jnp.concatenate([texts, negatives])
    to_text = image_emb @ texts[:, :e].T  # [b, B + N]
    to_image = text_emb @ images[:, :e].T
    if text_ids is not None:
        ids = _from_digits(texts[:, e:])
        left_out = (ids == text_ids[:, None]) | (ids < 0)
        left_out &= jnp.arange(len(ids)) != own[:, None]
        to_text = jnp.where(left_out, -jnp.inf, to_text)
        to_image = jnp.where(left_out[:, : len(images)], -jnp.inf, to_image)
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    loss = 0.5 * (cross_entropy(to_text, own) + cross_entropy(to_image, own))
    found = (jnp.argmax(to_text, axis=-1) == own).astype(loss.dtype)
    if text_ids is not None:
        loss, found = (jnp.where(text_ids < 0, 0.0, x) for x in (loss, found))
    return loss, found


def _digits(ids: Array, dtype: jnp.dtype) -> Array:
    """`[n]` int32 to `[n, 4]` floats that even bfloat16 holds exactly: the bytes of each."""
    return (ids.astype(jnp.int32)[:, None] >> _SHIFTS & 255).astype(dtype)


def _from_digits(digits: Array) -> Array:
    """What `_digits` was given."""
    return jnp.sum(digits.astype(jnp.int32) << _SHIFTS, axis=-1, dtype=jnp.int32)
