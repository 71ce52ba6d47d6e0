"""One GAN step: the only place where losses and optimisers meet."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

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
from flaxgan.models.given_pictures import with_picture
from flaxgan.text.conditioning import Text
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
    """Builds the pure step `(state, batch, *, axis_name=None, with_penalty=True, alone="", …)`.

    The step is written per device and names no mapping: with `axis_name=None` it is the global
    formula, under pmap or shard_map with an axis name it averages gradients and metrics over it.
    It updates D on real and fake images, then G against the new D, then the averaged generators
    (`alone="g"`: G by its IMLE term, without D, then the averages; `alone="d"`: D by its InfoNCE,
    without G);
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
    return _TrainStep(
        objective=Objective(generator, discriminator, loss, augment),
        z_dim=z_dim,
        g_tx=g_tx,
        d_tx=d_tx,
        halflives_kimg={
            "ema_params": ema_halflife_kimg,
            "ema_slow_params": ema_slow_halflife_kimg,
        },
        ema_rampup=ema_rampup,
        accumulate_steps=accumulate_steps,
    ).step


@dataclasses.dataclass(frozen=True, eq=False)  # no eq: jit knows its functions by identity
class _TrainStep:
    """What a step is made of; see `make_train_step`."""

    objective: Objective
    z_dim: int
    g_tx: optax.GradientTransformation
    d_tx: optax.GradientTransformation
    halflives_kimg: dict[str, float]  # by field of TrainState
    ema_rampup: float
    accumulate_steps: int

    def step(
        self,
        state: TrainState,
        batch: Batch,
        *,
        axis_name: str | None = None,
        with_penalty: bool = True,
        alone: Literal["", "d", "g"] = "",
        placement: Placement = WHERE_THEY_ARE,
    ) -> tuple[TrainState, Metrics]:
        """One update of D, of G and of the averages; `alone`: of one network without the other."""
        chex.assert_rank(batch.images, 4)
        draw = self._random_numbers(state, len(batch.images), axis_name)
        gradients = _Gradients.of(
            self.objective, state.prepare, batch, draw, placement, self.accumulate_steps
        )
        lr_scale = state.health.lr_scale
        if alone == "d":
            return self._step_d_alone(state, gradients, placement)
        if alone == "g":
            return self._step_g_alone(state, draw, gradients, placement)

        # D: one ascent on real images, fakes of the current G, and real images with wrong captions
        g_whole, d_whole = placement.whole(state.g_params), placement.whole(state.d_params)
        penalty_weight = float(self.objective.loss.penalty_every_steps) if with_penalty else 0.0
        d_grads, d_metrics = gradients.of_d(g_whole, d_whole, penalty_weight)
        d_params, d_opt_state = _update(
            self.d_tx, d_grads, state.d_opt_state, state.d_params, lr_scale
        )

        # G: against the new D
        g_grads, g_metrics = gradients.of_g(g_whole, placement.whole(d_params))
        g_params, g_opt_state = _update(
            self.g_tx, g_grads, state.g_opt_state, state.g_params, lr_scale
        )

        metrics = with_diversity(d_metrics) | g_metrics
        metrics["d_grad_norm"] = optax.tree.norm(d_grads)
        metrics["g_grad_norm"] = optax.tree.norm(g_grads)
        if self.objective.augment.policies:
            metrics["augment_p"] = jnp.asarray(draw.augment_p, jnp.float32)
        new = {
            "g_params": g_params,
            "d_params": d_params,
            **self._averages(state, g_params, draw),
            "g_opt_state": g_opt_state,
            "d_opt_state": d_opt_state,
            **self._adapted_augmentation(state, metrics, draw),
        }
        return _keep_if_finite(state, new, metrics)

    def _step_d_alone(
        self, state: TrainState, gradients: "_Gradients", placement: Placement
    ) -> tuple[TrainState, Metrics]:
        """One update of D by its InfoNCE on real images."""
        d_grads, metrics = gradients.of_d_alone(placement.whole(state.d_params))
        d_params, d_opt_state = _update(
            self.d_tx, d_grads, state.d_opt_state, state.d_params, state.health.lr_scale
        )
        metrics["d_grad_norm"] = optax.tree.norm(d_grads)
        return _keep_if_finite(state, {"d_params": d_params, "d_opt_state": d_opt_state}, metrics)

    def _step_g_alone(
        self,
        state: TrainState,
        draw: "_RandomNumbers",
        gradients: "_Gradients",
        placement: Placement,
    ) -> tuple[TrainState, Metrics]:
        """One update of G by its IMLE term."""
        g_grads, metrics = gradients.of_g_alone(placement.whole(state.g_params))
        g_params, g_opt_state = _update(
            self.g_tx, g_grads, state.g_opt_state, state.g_params, state.health.lr_scale
        )
        metrics["g_grad_norm"] = optax.tree.norm(g_grads)
        new = {
            "g_params": g_params,
            **self._averages(state, g_params, draw),
            "g_opt_state": g_opt_state,
        }
        return _keep_if_finite(state, new, metrics)

    def _random_numbers(
        self, state: TrainState, local_batch: int, axis_name: str | None
    ) -> "_RandomNumbers":
        """Those of this replica's examples, and how probable augmentation is."""
        draw = _RandomNumbers.of(state, local_batch, self.z_dim, axis_name)
        p = state.augment_p
        if p is None:
            augment = self.objective.augment
            schedule = optim.cosine(augment.p, augment.p_end, augment.ramp_kimg)
            p = schedule(draw.images_seen / 1000.0)
        return dataclasses.replace(draw, augment_p=p)

    def _averages(
        self, state: TrainState, g_params: Params, draw: "_RandomNumbers"
    ) -> dict[str, Params]:
        """The averaged generators that the state has, by field, moved towards the new one."""

        def averaged(ema_params: Params, halflife_kimg: float) -> Params:
            decay = optim.ema_decay(
                draw.images_seen, draw.batch_size, halflife_kimg, self.ema_rampup
            )
            return jax.tree.map(lambda ema, new: new + decay * (ema - new), ema_params, g_params)

        old = {name: getattr(state, name) for name in self.halflives_kimg}
        return {
            name: averaged(params, self.halflives_kimg[name])
            for name, params in old.items()
            if params is not None
        }

    def _adapted_augmentation(
        self, state: TrainState, metrics: Metrics, draw: "_RandomNumbers"
    ) -> dict[str, Array]:
        """The next probability of augmentation, where it adapts (ADA)."""
        if state.augment_p is None:
            return {}
        augment = self.objective.augment
        p = update_p(
            state.augment_p,
            metrics["real_sign"],
            target=augment.ada_target,
            batch_size=draw.batch_size,
            kimg_per_unit=augment.ada_kimg,
        )
        return {"augment_p": p}


@dataclasses.dataclass(frozen=True)
class _Gradients:
    """Gradients of a batch: in one piece or in parts, averaged over the replicas.

    Attributes:
      objective: what is differentiated.
      prepare: captions as batches bring them to what the networks read.
      rows: this replica's batch, and the places of its examples in the global one.
      parts: the rows in equal parts, `[parts, …]`; None: they are worked on in one piece.
      draw: random numbers.
      placement: where gradients belong.
    """

    objective: Objective
    prepare: Callable[[Text | None], Text | None]
    rows: tuple[Batch, Array]
    parts: tuple[Batch, Array] | None
    draw: "_RandomNumbers"
    placement: Placement

    @classmethod
    def of(
        cls,
        objective: Objective,
        prepare: Callable[[Text | None], Text | None],
        batch: Batch,
        draw: "_RandomNumbers",
        placement: Placement,
        count: int,
    ) -> "_Gradients":
        """Of a batch that is worked on in `count` parts."""
        rows = (batch, draw.indices)
        parts = None if count == 1 else accumulation.split(rows, count, len(batch.images))
        return cls(objective, prepare, rows, parts, draw, placement)

    def of_d(
        self, g_params: Params, d_params: Params, penalty_weight: float
    ) -> tuple[Params, Metrics]:
        """D's gradients on real images and fakes of G, and metrics."""
        objective = self.objective

        def gradients(
            real: Array, batch: Batch, draw: _RandomNumbers, others: Others | None
        ) -> tuple[Params, Metrics]:
            fake = objective.draw_images(g_params, draw.normal("z_d"), batch)
            return jax.grad(objective.d_loss, has_aux=True)(
                d_params, real, jax.lax.stop_gradient(fake), batch, draw, penalty_weight, others
            )

        return self._mean(gradients, lambda *part: objective.real_embeddings(d_params, *part))

    def of_d_alone(self, d_params: Params) -> tuple[Params, Metrics]:
        """D's gradients without a G, and metrics."""
        objective = self.objective

        def gradients(
            real: Array, batch: Batch, draw: _RandomNumbers, others: Others | None
        ) -> tuple[Params, Metrics]:
            return jax.grad(objective.d_loss_alone, has_aux=True)(
                d_params, real, batch, draw, others
            )

        return self._mean(gradients, lambda *part: objective.real_embeddings(d_params, *part))

    def of_g(self, g_params: Params, d_params: Params) -> tuple[Params, Metrics]:
        """G's gradients against a fixed D, and metrics."""
        objective = self.objective

        def gradients(
            real: Array, batch: Batch, draw: _RandomNumbers, others: Others | None
        ) -> tuple[Params, Metrics]:
            return jax.grad(objective.g_loss, has_aux=True)(
                g_params, d_params, real, batch, draw, others
            )

        return self._mean(
            gradients, lambda *part: objective.fake_embeddings(g_params, d_params, *part)
        )

    def of_g_alone(self, g_params: Params) -> tuple[Params, Metrics]:
        """G's gradients without a D, and metrics."""

        def gradients(
            real: Array, batch: Batch, draw: _RandomNumbers, _: Others | None
        ) -> tuple[Params, Metrics]:
            return jax.grad(self.objective.g_loss_alone, has_aux=True)(g_params, real, batch, draw)

        return self._mean(gradients, None)

    def _mean(
        self,
        gradients: Callable[..., tuple[Params, Metrics]],
        embed: Callable[..., Embeddings] | None,
    ) -> tuple[Params, Metrics]:
        """Mean over all parts and replicas; `embed` gives what contrastive terms compare."""
        if self.parts is None:
            found = gradients(*self._prepared(self.rows), None)
        else:
            found = self._mean_of_parts(gradients, embed, self.parts)
        grads, metrics = collectives.mean(found, self.draw.axis_name)
        return self.placement.spread(grads), metrics

    def _mean_of_parts(
        self,
        gradients: Callable[..., tuple[Params, Metrics]],
        embed: Callable[..., Embeddings] | None,
        parts: tuple[Batch, Array],
    ) -> tuple[Params, Metrics]:
        """Mean over parts; contrastive terms still see the embeddings of the whole batch."""
        constants = None
        if embed is not None and self.objective.uses_embeddings:
            constants = accumulation.each(lambda part, _: embed(*self._prepared(part)), parts)

        def of_part(part: tuple[Batch, Array], number: Array) -> tuple[Params, Metrics]:
            others = None if constants is None else Others(constants, parts[0], number)
            return gradients(*self._prepared(part), others)

        return accumulation.mean(of_part, parts)

    def _prepared(self, part: tuple[Batch, Array]) -> "tuple[Array, Batch, _RandomNumbers]":
        """Real images, captions and random numbers of some rows."""
        batch, indices = part
        texts = {name: self.prepare(getattr(batch, name)) for name in TEXTS}
        real, draw = to_float(batch.images), dataclasses.replace(self.draw, indices=indices)
        generator = self.objective.generator
        texts["text"] = with_picture(generator, texts["text"], real, draw.keys("shrink"))
        return real, batch.replace(images=None, **texts), draw


def _update(
    tx: optax.GradientTransformation,
    grads: Params,
    opt_state: optax.OptState,
    params: Params,
    lr_scale: Array,
) -> tuple[Params, optax.OptState]:
    """New parameters and optimiser state."""
    updates, opt_state = tx.update(grads, opt_state, params)
    scaled = jax.tree.map(lambda x: lr_scale * x, updates)
    return optax.apply_updates(params, scaled), opt_state


def _keep_if_finite(
    state: TrainState, new: dict[str, Any], metrics: Metrics
) -> tuple[TrainState, Metrics]:
    """The state with its new fields, or with the old ones where a loss or gradient is not finite.

    Such an update is left out as a whole: clipping or zeroing the gradients would keep what
    already came from them.
    """
    decisive = ("d_loss", "g_loss", "d_grad_norm", "g_grad_norm")
    finite = jnp.isfinite(sum(metrics[name] for name in decisive if name in metrics))
    old = {name: getattr(state, name) for name in new}
    kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
    health = state.health.after(finite)
    metrics["skipped"] = health.skipped.astype(jnp.float32)
    metrics["skipped_in_row"] = health.skipped_in_row.astype(jnp.float32)
    return state.replace(step=state.step + 1, health=health, **kept), metrics


@dataclasses.dataclass(frozen=True)
class _RandomNumbers:
    """Random numbers of one step: one key per stream and global example."""

    key: Array
    step: Array
    indices: Array
    batch_size: int
    z_dim: int
    axis_name: str | None
    augment_p: Array

    @classmethod
    def of(
        cls, state: TrainState, local_batch: int, z_dim: int, axis_name: str | None
    ) -> "_RandomNumbers":
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
