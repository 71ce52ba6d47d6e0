"""Contrastive loss between images and captions, over the global batch."""

import chex
import jax.numpy as jnp
import optax
from jax import Array

from flaxgan import collectives


def info_nce(
    image_emb: Array,
    text_emb: Array,
    *,
    negative_emb: Array | None = None,
    axis_name: str | None = None,
) -> tuple[Array, Array]:
    """Symmetric InfoNCE: each image has to find its caption, and each caption its image.

    With s_ij = <v_i, t_j> over all i, j of the GLOBAL batch, the loss of example i is
    - 1/2 log softmax_j(s_ij)[i] - 1/2 log softmax_j(s_ji)[i]; negatives are further wrong captions
    in the first term. In small batches colours alone tell captions apart; a text costs much less
    than an image.

    Args:
      image_emb: v `[b, e]`; scores include the inverse temperature, so rows carry its root.
      text_emb: t `[b, e]`.
      negative_emb: `[n, e]` of further captions, on each replica its own; None: none. One that is
        true of an image of the batch counts as wrong all the same.
      axis_name: replicas over which the batch is spread; None: this is the global batch.

    Returns:
      The loss `[b]`, float32, and whether each image found its caption, `[b]` float32.

    Reference: Radford et al. 2021 (CLIP), figure 3; in a GAN: XMC-GAN (Zhang et al. 2021), eq. 3
      to 5: D learns it on real images, G on its own against D's fixed embeddings.
    """
    chex.assert_equal_shape([image_emb, text_emb])
    chex.assert_rank(image_emb, 2)
    own = collectives.global_indices(len(image_emb), axis_name)
    # one collective, not several: XLA on CPU runs independent ones at once, each waiting in a
    # thread that the others need, until all wait
    rows = [image_emb, text_emb] + ([] if negative_emb is None else [negative_emb])
    b, parts = len(image_emb), collectives.size(axis_name)
    everything = collectives.gather(jnp.concatenate(rows), axis_name)
    everything = everything.reshape(parts, -1, image_emb.shape[-1])
    images, texts, negatives = (
        x.reshape(-1, image_emb.shape[-1]) for x in jnp.split(everything, [b, 2 * b], axis=1)
    )
    to_text = image_emb @ jnp.concatenate([texts, negatives]).T  # [b, B + N]
    to_image = text_emb @ images.T
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    loss = 0.5 * (cross_entropy(to_text, own) + cross_entropy(to_image, own))
    found = (jnp.argmax(to_text, axis=-1) == own).astype(loss.dtype)
    return loss, found
