"""One GAN step: the only place where losses and optimisers meet."""

import dataclasses
from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

from flaxgan import collectives, rng
from flaxgan.collectives import Placement
from flaxgan.config import AugmentConfig, LossConfig
from flaxgan.images import to_float
from flaxgan.losses.contrastive import Embeddings
from flaxgan.training import accumulation, optim
from flaxgan.training.augment import update_p
from flaxgan.training.objective import Metrics, Objective, Others, with_diversity
from flaxgan.training.state import Batch, Params, TrainState

WHERE_THEY_ARE = Placement()
StepFn = Callable[..., tuple[TrainState, Metrics]]
TEXTS = ("text", "mismatched", "negatives")  # fields of Batch


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
    accumulate_steps: int = 1,
) -> StepFn:
    """Builds the pure step `(state, batch, *, axis_name=None, with_penalty=True, placement=…)`.

    The step is written per device and names no mapping: with `axis_name=None` it is the global
    formula, under pmap or shard_map with an axis name it averages gradients and metrics over it.
    It updates D on real and fake images, then G against the new D, then the averaged generators;
    where a loss or gradient is not finite it changes nothing but the step and `state.health`.

    Args:
      generator: `apply({"params": p}, z [b, z], text) -> images [b, h, w, c]`.
      discriminator: see `flaxgan.models`.
      z_dim: size of the noise vector.
      g_tx, d_tx: optax optimisers.
      loss: the objective.
      augment: what D sees of images.
      ema_halflife_kimg, ema_slow_halflife_kimg, ema_rampup: see `optim.ema_decay`; the slow
        average is updated where the state has one.
      accumulate_steps: parts that a replica's batch is worked on in, one after the other; the
        result is that of the whole batch. Contrastive terms, which compare all of the batch,
        embed it once more for that (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch
        Size under Memory Limited Setup").

    Returns:
      The step; it returns the new state and a dict of scalars, float32.

    Raises:
      UserError: an unknown loss or a weight out of range.
    """
    objective = Objective(generator, discriminator, loss, augment)
    augment_p = optim.cosine(augment.p, augment.p_end, augment.ramp_kimg)

    def step(
        state: TrainState,
        batch: Batch,
        *,
        axis_name: str | None = None,
        with_penalty: bool = True,
        placement: Placement = WHERE_THEY_ARE,
    ) -> tuple[TrainState, Metrics]:
        chex.assert_rank(batch.images, 4)
        draw = _Draw.of(state, len(batch.images), z_dim, axis_name)
        adaptive = state.augment_p is not None
        p = state.augment_p if adaptive else augment_p(draw.images_seen / 1000.0)
        draw = dataclasses.replace(draw, augment_p=p)
        rows = (batch, draw.indices)
        parts = accumulation.split(rows, accumulate_steps, len(batch.images))

        def prepare(part: tuple[Batch, Array]) -> tuple[Array, Batch, _Draw]:
            """Real images, captions and random numbers of some of the batch."""
            batch, indices = part
            texts = {name: state.prepare(getattr(batch, name)) for name in TEXTS}
            real = to_float(batch.images)
            return (
                real,
                batch.replace(images=None, **texts),
                dataclasses.replace(draw, indices=indices),
            )

        def average(gradients: Callable[..., Any], embed: Callable[..., Embeddings]) -> Any:
            """Gradients and metrics over all parts and replicas."""
            everyone = None
            if accumulate_steps > 1 and objective.uses_embeddings:
                constants = accumulation.each(lambda part, _: embed(*prepare(part)), parts)
                everyone = lambda number: Others(constants, parts[0], number)  # noqa: E731
            if accumulate_steps == 1:
                found = gradients(*prepare(rows), None)
            else:
                found = accumulation.mean(
                    lambda part, number: gradients(*prepare(part), everyone and everyone(number)),
                    parts,
                )
            grads, metrics = collectives.mean(found, axis_name)
            return placement.spread(grads), metrics

        # D: one ascent on real images, fakes of the current G, and real images with wrong captions
        g_whole, d_whole = placement.whole(state.g_params), placement.whole(state.d_params)
        penalty_weight = float(loss.penalty_every_steps) if with_penalty else 0.0

        def d_gradients(real: Array, batch: Batch, draw: _Draw, others: Others | None) -> Any:
            fake = objective.draw_images(g_whole, draw.normal("z_d"), batch)
            return jax.grad(objective.d_loss, has_aux=True)(
                d_whole, real, jax.lax.stop_gradient(fake), batch, draw, penalty_weight, others
            )

        d_grads, d_metrics = average(
            d_gradients, lambda *part: objective.real_embeddings(d_whole, *part)
        )
        d_updates, d_opt_state = d_tx.update(d_grads, state.d_opt_state, state.d_params)
        d_params = optax.apply_updates(state.d_params, _scaled(d_updates, state.health.lr_scale))

        # G: against the new D
        d_whole = placement.whole(d_params)

        def g_gradients(real: Array, batch: Batch, draw: _Draw, others: Others | None) -> Any:
            return jax.grad(objective.g_loss, has_aux=True)(
                g_whole, d_whole, real, batch, draw, others
            )

        g_grads, g_metrics = average(
            g_gradients, lambda *part: objective.fake_embeddings(g_whole, d_whole, *part)
        )
        g_updates, g_opt_state = g_tx.update(g_grads, state.g_opt_state, state.g_params)
        g_params = optax.apply_updates(state.g_params, _scaled(g_updates, state.health.lr_scale))

        def averaged(ema_params: Params, halflife_kimg: float) -> Params:
            decay = optim.ema_decay(draw.images_seen, draw.batch_size, halflife_kimg, ema_rampup)
            return jax.tree.map(lambda ema, new: new + decay * (ema - new), ema_params, g_params)

        metrics = with_diversity(d_metrics) | g_metrics
        metrics["d_grad_norm"] = optax.tree.norm(d_grads)
        metrics["g_grad_norm"] = optax.tree.norm(g_grads)
        if augment.policies:
            metrics["augment_p"] = jnp.asarray(draw.augment_p, jnp.float32)
        new = {
            "g_params": g_params,
            "d_params": d_params,
            "ema_params": averaged(state.ema_params, ema_halflife_kimg),
            "g_opt_state": g_opt_state,
            "d_opt_state": d_opt_state,
        }
        if state.ema_slow_params is not None:
            new["ema_slow_params"] = averaged(state.ema_slow_params, ema_slow_halflife_kimg)
        if adaptive:
            new["augment_p"] = update_p(
                state.augment_p,
                metrics["real_sign"],
                target=augment.ada_target,
                batch_size=draw.batch_size,
                kimg_per_unit=augment.ada_kimg,
            )
        # an update that is not finite is left out as a whole; clipping or zeroing the gradients
        # would keep what already came from them
        decisive = ("d_loss", "g_loss", "d_grad_norm", "g_grad_norm")
        finite = jnp.isfinite(sum(metrics[name] for name in decisive))
        old = {name: getattr(state, name) for name in new}
        kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
        health = state.health.after(finite)
        metrics["skipped"] = health.skipped.astype(jnp.float32)
        metrics["skipped_in_row"] = health.skipped_in_row.astype(jnp.float32)
        return state.replace(step=state.step + 1, health=health, **kept), metrics

    return step


def _scaled(updates: Params, scale: Array) -> Params:
    return jax.tree.map(lambda x: scale * x, updates)


@dataclasses.dataclass(frozen=True)
class _Draw:
    """Random numbers of one step: one key per stream and global example."""

    key: Array
    step: Array
    indices: Array
    batch_size: int
    z_dim: int
    axis_name: str | None
    augment_p: Array

    @classmethod
    def of(cls, state: TrainState, local_batch: int, z_dim: int, axis_name: str | None) -> "_Draw":
        """For all of this replica's examples."""
        return cls(
            key=jax.random.key(state.seed),
            step=state.step,
            indices=collectives.global_indices(local_batch, axis_name),
            batch_size=local_batch * collectives.size(axis_name),
            z_dim=z_dim,
            axis_name=axis_name,
            augment_p=jnp.zeros(()),
        )

    @property
    def images_seen(self) -> Array:
        return self.step.astype(jnp.float32) * self.batch_size

    def keys(self, name: str) -> Array:
        return rng.example_keys(self.key, name, self.step, self.indices)

    def normal(self, name: str) -> Array:
        return rng.normal(self.keys(name), self.z_dim)
