"""Contrastive loss between images and captions, over the global batch."""

from typing import NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array

from flaxgan import collectives


@flax.struct.dataclass
class Memory:
    """Embeddings of the real images and captions that were seen last, newest first.

    With few images a step, telling the right caption from the others is too easy: colours do. A
    memory gives more to choose from, and costs one matrix product.

    Attributes:
      image_emb, text_emb: `[m, e]`, constants; zero until they are filled.

    Reference: Wang et al. 2020, "Cross-Batch Memory for Embedding Learning".
    """

    image_emb: Array
    text_emb: Array

    @classmethod
    def empty(cls, size: int, dim: int) -> "Memory":
        """`size` rows of zeros."""
        return cls(jnp.zeros((size, dim)), jnp.zeros((size, dim)))

    def push(self, image_emb: Array, text_emb: Array) -> "Memory":
        """Puts the rows of a GLOBAL batch in front; the oldest fall out."""

        def shift(new: Array, old: Array) -> Array:
            return jnp.concatenate([jax.lax.stop_gradient(new), old])[: len(old)]

        return Memory(shift(image_emb, self.image_emb), shift(text_emb, self.text_emb))


class Contrast(NamedTuple):
    """What `info_nce` gives.

    Attributes:
      loss: `[b]`, float32.
      found: `[b]`, 1 where an image found its caption, else 0.
      image_emb, text_emb: `[B, e]`, those of the global batch, for a Memory.
    """

    loss: Array
    found: Array
    image_emb: Array
    text_emb: Array


def info_nce(
    image_emb: Array,
    text_emb: Array,
    *,
    memory: Memory | None = None,
    axis_name: str | None = None,
) -> Contrast:
    """Symmetric InfoNCE: each image has to find its caption, and each caption its image.

    With s_ij = <v_i, t_j> over all i, j of the GLOBAL batch, the loss of example i is
    - 1/2 log softmax_j(s_ij)[i] - 1/2 log softmax_j(s_ji)[i]; what a memory holds are further
    wrong choices.

    Args:
      image_emb: v `[b, e]`; scores include the inverse temperature, so rows carry its root.
      text_emb: t `[b, e]`.
      memory: of earlier batches; None: only this one.
      axis_name: replicas over which the batch is spread; None: this is the global batch.

    Returns:
      See Contrast.

    Reference: Radford et al. 2021 (CLIP), figure 3; in a GAN: XMC-GAN (Zhang et al. 2021), eq. 3
      to 5: D learns it on real images, G on its own against D's fixed embeddings.
    """
    chex.assert_equal_shape([image_emb, text_emb])
    chex.assert_rank(image_emb, 2)
    own = collectives.global_indices(len(image_emb), axis_name)
    # one collective, not two: XLA on CPU runs independent ones at once, each waiting in a thread
    # that the others need, until all wait
    both = collectives.gather(jnp.concatenate([image_emb, text_emb], axis=1), axis_name)
    global_image_emb, global_text_emb = jnp.split(both, 2, axis=1)  # [B, e]
    images, texts = global_image_emb, global_text_emb
    if memory is not None:
        texts = jnp.concatenate([texts, memory.text_emb])
        images = jnp.concatenate([images, memory.image_emb])
    to_text, to_image = image_emb @ texts.T, text_emb @ images.T  # [b, B + m]
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    loss = 0.5 * (cross_entropy(to_text, own) + cross_entropy(to_image, own))
    found = (jnp.argmax(to_text, axis=-1) == own).astype(loss.dtype)
    return Contrast(loss, found, global_image_emb, global_text_emb)
