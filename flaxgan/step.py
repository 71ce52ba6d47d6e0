"""One GAN step: the only place where generator, discriminator, losses and optimisers meet."""

from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

from flaxgan import collectives, optim, rng
from flaxgan.config import LossConfig
from flaxgan.errors import UserError
from flaxgan.images import to_float
from flaxgan.losses import adversarial, penalties
from flaxgan.state import Batch, Params, TrainState
from flaxgan.text.conditioning import standardise

Metrics = dict[str, Array]
StepFn = Callable[..., tuple[TrainState, Metrics]]


def make_train_step(
    generator: nn.Module,
    discriminator: nn.Module,
    *,
    z_dim: int,
    g_tx: optax.GradientTransformation,
    d_tx: optax.GradientTransformation,
    loss: LossConfig = LossConfig(),
    ema_halflife_kimg: float = 5.0,
    ema_rampup: float = 0.05,
) -> StepFn:
    """Builds the pure step `(state, batch, *, axis_name=None, with_penalty=True)`.

    The step is written per device and names no mapping: with `axis_name=None` it is the global
    formula, under pmap or shard_map with an axis name it averages gradients and metrics over it.
    It updates D on real and fake images, then G against the new D, then the averaged generator.

    Args:
      generator: `apply({"params": p}, z [b, z], text) -> images [b, h, w, c]`.
      discriminator: see `flaxgan.models`: `encode_text`, `image_features`, `logits`.
      z_dim: size of the noise vector.
      g_tx, d_tx: optax optimisers.
      loss: the objective.
      ema_halflife_kimg, ema_rampup: see `optim.ema_decay`.

    Returns:
      The step; it returns the new state and a dict of scalars, float32.

    Raises:
      UserError: an unknown loss or a weight out of range.
    """
    _check_loss(loss)

    def discriminate(d_params: Params, images: Array, sentence: Array | None, keys: Array) -> Any:
        """Logits [b] and the image features that they were read from."""
        variables = {"params": d_params}
        features = discriminator.apply(variables, images, keys, method="image_features")
        logits = discriminator.apply(variables, features, sentence, method="logits")
        return logits, features

    def encode_text(d_params: Params, text: Any) -> Array | None:
        return discriminator.apply({"params": d_params}, text, method="encode_text")

    def d_loss(
        d_params: Params, real: Array, fake: Array, batch: Batch, draw: Any, penalty_weight: float
    ) -> tuple[Array, Metrics]:
        sentence = encode_text(d_params, batch.text)
        kimg = draw.images_seen / 1000.0
        gamma = optim.cosine(loss.gamma, loss.gamma_end, loss.gamma_decay_kimg)(kimg)

        def judge(images: Array, sentence: Array | None, name: str) -> Any:
            return discriminate(d_params, images, sentence, draw.keys(name))

        penalty = jnp.zeros(real.shape[:1])
        fake_logits = real_logits = None
        if penalty_weight and loss.penalty == "ma_gp":
            penalty, real_logits, features = penalties.ma_gp(
                lambda x, c: judge(x, c, "d_real"),
                real,
                sentence,
                weight=loss.ma_gp_weight,
                power=loss.ma_gp_power,
            )
        elif penalty_weight and loss.penalty == "r1_r2":
            r1, real_logits, features = penalties.gradient_penalty(
                lambda x: judge(x, sentence, "d_real"), real, gamma=gamma
            )
            r2, fake_logits, _ = penalties.gradient_penalty(
                lambda x: judge(x, sentence, "d_fake"), fake, gamma=gamma
            )
            penalty = r1 + r2
        if real_logits is None:
            real_logits, features = judge(real, sentence, "d_real")
        if fake_logits is None:
            fake_logits, _ = judge(fake, sentence, "d_fake")
        mismatched_logits = None
        if loss.mismatch_weight > 0:
            wrong = encode_text(d_params, batch.mismatched)
            variables = {"params": d_params}
            mismatched_logits = discriminator.apply(variables, features, wrong, method="logits")
        game = adversarial.discriminator_loss(
            loss.adversarial,
            real_logits,
            fake_logits,
            mismatched_logits=mismatched_logits,
            mismatch_weight=loss.mismatch_weight,
        )
        chex.assert_equal_shape([game, penalty])
        metrics = {
            "d_loss": game.mean(),
            "penalty": penalty.mean(),
            "real_logit": real_logits.mean(),
            "fake_logit": fake_logits.mean(),
        }
        if mismatched_logits is not None:
            metrics["mismatched_logit"] = mismatched_logits.mean()
        return jnp.mean(game + penalty_weight * penalty), metrics

    def g_loss(
        g_params: Params, d_params: Params, real: Array, batch: Batch, draw: Any
    ) -> tuple[Array, Metrics]:
        fake = generator.apply({"params": g_params}, draw.normal("z_g"), batch.text)
        sentence = encode_text(d_params, batch.text)
        fake_logits, _ = discriminate(d_params, fake, sentence, draw.keys("g_fake"))
        real_logits = None
        if adversarial.ADVERSARIAL[loss.adversarial].g_needs_real:
            real_logits, _ = discriminate(d_params, real, sentence, draw.keys("g_real"))
        game = adversarial.generator_loss(loss.adversarial, real_logits, fake_logits)
        return game.mean(), {"g_loss": game.mean()}

    def step(
        state: TrainState, batch: Batch, *, axis_name: str | None = None, with_penalty: bool = True
    ) -> tuple[TrainState, Metrics]:
        chex.assert_rank(batch.images, 4)
        real = to_float(batch.images)
        batch = batch.replace(
            images=None,
            text=batch.text and standardise(batch.text, state.text_stats),
            mismatched=batch.mismatched and standardise(batch.mismatched, state.text_stats),
        )
        draw = _Draw(state, len(real), z_dim, axis_name)

        # D: one ascent on real images, fakes of the current G, and real images with wrong captions
        fake = generator.apply({"params": state.g_params}, draw.normal("z_d"), batch.text)
        penalty_weight = float(loss.penalty_every_steps) if with_penalty else 0.0
        d_grads, d_metrics = jax.grad(d_loss, has_aux=True)(
            state.d_params, real, jax.lax.stop_gradient(fake), batch, draw, penalty_weight
        )
        d_grads, d_metrics = collectives.mean((d_grads, d_metrics), axis_name)
        d_updates, d_opt_state = d_tx.update(d_grads, state.d_opt_state, state.d_params)
        d_params = optax.apply_updates(state.d_params, d_updates)

        # G: against the new D
        g_grads, g_metrics = jax.grad(g_loss, has_aux=True)(
            state.g_params, d_params, real, batch, draw
        )
        g_grads, g_metrics = collectives.mean((g_grads, g_metrics), axis_name)
        g_updates, g_opt_state = g_tx.update(g_grads, state.g_opt_state, state.g_params)
        g_params = optax.apply_updates(state.g_params, g_updates)

        decay = optim.ema_decay(draw.images_seen, draw.batch_size, ema_halflife_kimg, ema_rampup)
        ema_params = jax.tree.map(
            lambda ema, new: new + decay * (ema - new), state.ema_params, g_params
        )
        new_state = state.replace(
            step=state.step + 1,
            g_params=g_params,
            d_params=d_params,
            ema_params=ema_params,
            g_opt_state=g_opt_state,
            d_opt_state=d_opt_state,
        )
        norms = {
            "d_grad_norm": optax.tree.norm(d_grads),
            "g_grad_norm": optax.tree.norm(g_grads),
        }
        return new_state, d_metrics | g_metrics | norms

    return step


class _Draw:
    """Random numbers of one step: one key per stream and global example."""

    def __init__(self, state: TrainState, local_batch: int, z_dim: int, axis_name: str | None):
        self._key = jax.random.key(state.seed)
        self._step = state.step
        self._indices = collectives.global_indices(local_batch, axis_name)
        self._z_dim = z_dim
        self.batch_size = local_batch * collectives.size(axis_name)
        self.images_seen = state.step.astype(jnp.float32) * self.batch_size

    def keys(self, name: str) -> Array:
        return rng.example_keys(self._key, name, self._step, self._indices)

    def normal(self, name: str) -> Array:
        return rng.normal(self.keys(name), self._z_dim)


def _check_loss(loss: LossConfig) -> None:
    if loss.adversarial not in adversarial.ADVERSARIAL:
        names = ", ".join(adversarial.ADVERSARIAL)
        raise UserError(f"loss.adversarial must be one of {names}, not {loss.adversarial!r}")
    if loss.penalty not in ("none", "ma_gp", "r1_r2"):
        raise UserError(f"loss.penalty must be none, ma_gp or r1_r2, not {loss.penalty!r}")
    if not 0 <= loss.mismatch_weight <= 1:
        raise UserError(f"loss.mismatch_weight must be in [0, 1], not {loss.mismatch_weight}")
    if loss.penalty_every_steps < 1:
        raise UserError(f"loss.penalty_every_steps must be >= 1, not {loss.penalty_every_steps}")
    for name in ("ma_gp_weight", "ma_gp_power", "gamma", "gamma_end", "gamma_decay_kimg"):
        if (getattr(loss, name) or 0.0) < 0:
            raise UserError(f"loss.{name} must be >= 0, not {getattr(loss, name)}")
