"""One GAN step: the only place where losses and optimisers meet."""

from collections.abc import Callable

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

from flaxgan import collectives, optim, rng
from flaxgan.augment import update_p
from flaxgan.config import AugmentConfig, LossConfig
from flaxgan.images import to_float
from flaxgan.objective import Metrics, Objective
from flaxgan.state import Batch, Params, TrainState

StepFn = Callable[..., tuple[TrainState, Metrics]]


def make_train_step(
    generator: nn.Module,
    discriminator: nn.Module,
    *,
    z_dim: int,
    g_tx: optax.GradientTransformation,
    d_tx: optax.GradientTransformation,
    loss: LossConfig = LossConfig(),
    augment: AugmentConfig = AugmentConfig(),
    ema_halflife_kimg: float = 5.0,
    ema_slow_halflife_kimg: float = 0.0,
    ema_rampup: float = 0.05,
) -> StepFn:
    """Builds the pure step `(state, batch, *, axis_name=None, with_penalty=True)`.

    The step is written per device and names no mapping: with `axis_name=None` it is the global
    formula, under pmap or shard_map with an axis name it averages gradients and metrics over it.
    It updates D on real and fake images, then G against the new D, then the averaged generators.

    Args:
      generator: `apply({"params": p}, z [b, z], text) -> images [b, h, w, c]`.
      discriminator: see `flaxgan.models`.
      z_dim: size of the noise vector.
      g_tx, d_tx: optax optimisers.
      loss: the objective.
      augment: what D sees of images.
      ema_halflife_kimg, ema_slow_halflife_kimg, ema_rampup: see `optim.ema_decay`; the slow
        average is updated where the state has one.

    Returns:
      The step; it returns the new state and a dict of scalars, float32.

    Raises:
      UserError: an unknown loss or a weight out of range.
    """
    objective = Objective(generator, discriminator, loss, augment)
    augment_p = optim.cosine(augment.p, augment.p_end, augment.ramp_kimg)

    def step(
        state: TrainState, batch: Batch, *, axis_name: str | None = None, with_penalty: bool = True
    ) -> tuple[TrainState, Metrics]:
        chex.assert_rank(batch.images, 4)
        real = to_float(batch.images)
        batch = batch.replace(
            images=None,
            text=state.prepare(batch.text),
            mismatched=state.prepare(batch.mismatched),
            negatives=state.prepare(batch.negatives),
        )
        draw = _Draw(state, len(real), z_dim, axis_name)
        adaptive = state.augment_p is not None
        draw.augment_p = state.augment_p if adaptive else augment_p(draw.images_seen / 1000.0)

        # D: one ascent on real images, fakes of the current G, and real images with wrong captions
        fake = objective.draw_images(state.g_params, draw.normal("z_d"), batch)
        penalty_weight = float(loss.penalty_every_steps) if with_penalty else 0.0
        d_grads, d_metrics = jax.grad(objective.d_loss, has_aux=True)(
            state.d_params, real, jax.lax.stop_gradient(fake), batch, draw, penalty_weight
        )
        d_grads, d_metrics = collectives.mean((d_grads, d_metrics), axis_name)
        d_updates, d_opt_state = d_tx.update(d_grads, state.d_opt_state, state.d_params)
        d_params = optax.apply_updates(state.d_params, d_updates)

        # G: against the new D
        g_grads, g_metrics = jax.grad(objective.g_loss, has_aux=True)(
            state.g_params, d_params, real, batch, draw
        )
        g_grads, g_metrics = collectives.mean((g_grads, g_metrics), axis_name)
        g_updates, g_opt_state = g_tx.update(g_grads, state.g_opt_state, state.g_params)
        g_params = optax.apply_updates(state.g_params, g_updates)

        def averaged(ema_params: Params, halflife_kimg: float) -> Params:
            decay = optim.ema_decay(draw.images_seen, draw.batch_size, halflife_kimg, ema_rampup)
            return jax.tree.map(lambda ema, new: new + decay * (ema - new), ema_params, g_params)

        new_state = state.replace(
            step=state.step + 1,
            g_params=g_params,
            d_params=d_params,
            ema_params=averaged(state.ema_params, ema_halflife_kimg),
            g_opt_state=g_opt_state,
            d_opt_state=d_opt_state,
        )
        if state.ema_slow_params is not None:
            slow = averaged(state.ema_slow_params, ema_slow_halflife_kimg)
            new_state = new_state.replace(ema_slow_params=slow)
        metrics = d_metrics | g_metrics
        metrics["d_grad_norm"] = optax.tree.norm(d_grads)
        metrics["g_grad_norm"] = optax.tree.norm(g_grads)
        if augment.policies:
            metrics["augment_p"] = jnp.asarray(draw.augment_p, jnp.float32)
        if adaptive:
            p = update_p(
                state.augment_p,
                metrics["real_sign"],
                target=augment.ada_target,
                batch_size=draw.batch_size,
                kimg_per_unit=augment.ada_kimg,
            )
            new_state = new_state.replace(augment_p=p)
        return new_state, metrics

    return step


class _Draw:
    """Random numbers of one step: one key per stream and global example."""

    augment_p: Array

    def __init__(self, state: TrainState, local_batch: int, z_dim: int, axis_name: str | None):
        self._key = jax.random.key(state.seed)
        self._step = state.step
        self._indices = collectives.global_indices(local_batch, axis_name)
        self._z_dim = z_dim
        self.axis_name = axis_name
        self.batch_size = local_batch * collectives.size(axis_name)
        self.images_seen = state.step.astype(jnp.float32) * self.batch_size

    def keys(self, name: str) -> Array:
        return rng.example_keys(self._key, name, self._step, self._indices)

    def normal(self, name: str) -> Array:
        return rng.normal(self.keys(name), self._z_dim)
