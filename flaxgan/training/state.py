"""Everything that training changes, as one pytree without functions."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from flaxgan.models.given_pictures import with_picture
from flaxgan.text.conditioning import Text, TextStats, prepare_text

Params = Any


@flax.struct.dataclass
class Batch:
    """One batch.

    Attributes:
      images: `[b, h, w, c]` uint8 in [0, 255], or float in [-1, 1].
      text: captions of the images; None for unconditional training.
      mismatched: captions of other images, one for each; None where no loss needs them.
      negatives: n b captions of other images, for contrastive losses; None where there are none.
      text_ids: `[b]` int32, equal for equal captions and negative for the empty one; None where
        no loss needs them.
      negative_ids: the same of the negatives.
    """

    images: Array
    text: Text | None = None
    mismatched: Text | None = None
    negatives: Text | None = None
    text_ids: Array | None = None
    negative_ids: Array | None = None


@flax.struct.dataclass
class Health:
    """What became of updates that were not finite.

    Attributes:
      skipped: `[]` int32, how many were left out.
      skipped_in_row: `[]` int32, those since the last good one.
      lr_scale: `[]` float32, factor of both learning rates; lowered when the run is rolled back.
    """

    skipped: Array
    skipped_in_row: Array
    lr_scale: Array

    @classmethod
    def good(cls) -> "Health":
        """At the start."""
        return cls(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), jnp.ones(()))

    def after(self, finite: Array) -> "Health":
        """One update later."""
        bad = 1 - finite.astype(jnp.int32)
        return self.replace(
            skipped=self.skipped + bad, skipped_in_row=(self.skipped_in_row + bad) * bad
        )


@flax.struct.dataclass
class TrainState:
    """The train state; equal on every replica.

    Attributes:
      step: `[]` int32, updates done.
      seed: `[]` uint32, of every random number in training.
      g_params, d_params: parameters, float32.
      ema_params: averaged generator, what is sampled from.
      ema_slow_params: averaged over a longer time; None where there is no second average.
      g_opt_state, d_opt_state: optimiser states.
      health: of the updates.
      text_stats: mean and sd of the training captions' sentence vectors; None for learned text.
      augment_p: `[]` probability of augmentation where it adapts (ADA), else None.
      word_table: `[v, d]` frozen vectors that the token ids of batches are rows of; None where
        batches bring their own. Made from the captions, and not saved.
    """

    step: Array
    seed: Array
    g_params: Params
    d_params: Params
    ema_params: Params
    g_opt_state: optax.OptState
    d_opt_state: optax.OptState
    health: Health
    text_stats: TextStats | None = None
    ema_slow_params: Params | None = None
    augment_p: Array | None = None
    word_table: Array | None = None

    def prepare(self, text: Text | None) -> Text | None:
        """Captions as batches bring them to what the networks read."""
        return prepare_text(text, self.text_stats, self.word_table)


def init_state(
    generator: nn.Module,
    discriminator: nn.Module,
    batch: Batch,
    *,
    z_dim: int,
    g_tx: optax.GradientTransformation,
    d_tx: optax.GradientTransformation,
    seed: int = 0,
    text_stats: TextStats | None = None,
    ema_slow: bool = False,
    augment_p: float | None = None,
    word_table: Array | None = None,
    sharding: Callable[[TrainState], Any] | None = None,
) -> TrainState:
    """Draws the initial state in one compiled call, so that no two leaves share a buffer.

    Args:
      generator, discriminator: modules of `flaxgan.build_models`.
      batch: any batch with the shapes that training will see; its values do not matter.
      z_dim: size of the noise vector.
      g_tx, d_tx: optimisers.
      seed: of the initial parameters and of all noise in training.
      text_stats: see TrainState.
      ema_slow: whether there is a second averaged generator.
      augment_p: at the start, where it adapts; None: it does not.
      word_table: see TrainState.
      sharding: gives the shardings of all leaves of an abstract state; None: all of them on the
        default device.
    """
    images = jax.ShapeDtypeStruct((1, *batch.images.shape[1:]), jnp.float32)
    text = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), jax.dtypes.canonicalize_dtype(x.dtype)),
        batch.text,
    )

    @jax.jit  # traced once, for the shapes and for the values
    def init(seed: Array) -> TrainState:
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (images, text))
        one_text = prepare_text(zeros[1], text_stats, word_table)
        one_text = with_picture(generator, one_text, zeros[0])
        # rbg: threefry takes three times as long to compile here, once for every parameter
        g_key, d_key = jax.random.split(jax.random.key(seed, impl="rbg"))
        g_params = generator.init(g_key, jnp.zeros((1, z_dim)), one_text)["params"]
        d_params = discriminator.init(d_key, zeros[0], one_text, method="score")["params"]
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            seed=seed,
            g_params=g_params,
            d_params=d_params,
            ema_params=jax.tree.map(jnp.copy, g_params),
            g_opt_state=g_tx.init(g_params),
            d_opt_state=d_tx.init(d_params),
            health=Health.good(),
            text_stats=jax.tree.map(jnp.array, text_stats),
            ema_slow_params=jax.tree.map(jnp.copy, g_params) if ema_slow else None,
            augment_p=None if augment_p is None else jnp.float32(augment_p),
            word_table=None if word_table is None else jnp.array(word_table),
        )

    shardings = None if sharding is None else sharding(jax.eval_shape(init, np.uint32(seed)))
    return jax.jit(init, out_shardings=shardings)(np.uint32(seed))
