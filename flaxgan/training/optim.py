"""Optimisers and schedules. Every schedule is a function of thousands of images seen (kimg)."""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from flaxgan.config import Config, OptimConfig
from flaxgan.config.rules import check
from flaxgan.registry import Table

Schedule = Callable[[Array], Array]  # kimg -> value


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """One optimiser.

    Attributes:
      build: (learning rate as a function of the step, the section of the config) to optax.
    """

    build: Callable[[optax.Schedule, OptimConfig], optax.GradientTransformation]


OPTIMIZERS = Table(
    "g_opt.name",
    {
        # Kingma and Ba 2015
        "adam": Optimizer(lambda lr, config: optax.adam(lr, config.b1, config.b2, config.eps)),
        "sgd": Optimizer(lambda lr, config: optax.sgd(lr)),
    },
    kind=Optimizer,
    group="flaxgan.optimizers",
)


def cosine(
    start: float, end: float | None, decay_kimg: float, warmup_kimg: float = 0.0
) -> Schedule:
    """Linear ramp from 0 over the warm-up, then half a cosine from `start` to `end`.

    Args:
      start: value after the warm-up.
      end: value after the decay, which starts at 0 kimg; None: constant.
      decay_kimg: length of the cosine, thousand images.
      warmup_kimg: length of the ramp, thousand images.

    Reference: R3GAN (Huang et al. 2024), appendix: gamma, learning rate, beta2 and EMA half-life
      all move along a cosine during the burn-in.
    """

    def value(kimg: Array) -> Array:
        kimg = jnp.asarray(kimg, jnp.float32)
        result = jnp.full_like(kimg, start)
        if end is not None and decay_kimg > 0:
            progress = jnp.clip(kimg / decay_kimg, 0.0, 1.0)
            result = end + (start - end) * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
        if warmup_kimg > 0:
            result = result * jnp.clip(kimg / warmup_kimg, 0.0, 1.0)
        return result

    return value


def ema_decay(images_seen: Array, batch_size: int, halflife_kimg: float, rampup: float) -> Array:
    """Decay of the averaged generator for one step: 0.5 ** (batch / half-life).

    Args:
      images_seen: `[]` images seen before this step.
      batch_size: images in this step.
      halflife_kimg: half-life in thousand images; 0: the average is the newest generator.
      rampup: the half-life is at most this fraction of the images seen, so that the random
        start is forgotten; 0: no ramp.

    Reference: Karras et al. 2020 (StyleGAN2-ADA), EMA half-life with ramp-up.
    """
    if halflife_kimg <= 0:
        return jnp.zeros(())
    halflife = jnp.asarray(halflife_kimg * 1000.0, jnp.float32)
    if rampup > 0:
        halflife = jnp.minimum(halflife, rampup * images_seen.astype(jnp.float32))
    return 0.5 ** (batch_size / jnp.maximum(halflife, 1e-8))


def build_optimizer(config: OptimConfig, *, batch_size: int) -> optax.GradientTransformation:
    """The optimiser of one network.

    Args:
      config: see OptimConfig.
      batch_size: global images per step, which turns optax's step count into kimg.

    Raises:
      UserError: a learning rate, beta or length out of range, or an unknown name.
    """
    check(Config(g_opt=config), "g_opt")
    in_kimg = cosine(config.lr, config.lr_end, config.decay_kimg, config.warmup_kimg)

    def learning_rate(count: Array) -> Array:
        return in_kimg(count * (batch_size / 1000.0))

    return OPTIMIZERS[config.name].build(learning_rate, config)


def freeze(
    tx: optax.GradientTransformation, parts: Collection[str]
) -> optax.GradientTransformation:
    """The optimiser, for all parameters but those of some parts, which stay as they are.

    Args:
      tx: keeps no moments of what is fixed.
      parts: paths of parts of the parameter tree: "trunk/block0".

    Reference: Mo et al. 2020, "Freeze the Discriminator: a Simple Baseline for Fine-Tuning GANs".
    """

    def labels(params: Any) -> Any:
        def label(path: Any, _: Array) -> str:
            name = jax.tree_util.keystr(path, simple=True, separator="/") + "/"
            return "fixed" if any(name.startswith(f"{part}/") for part in parts) else "free"

        return jax.tree_util.tree_map_with_path(label, params)

    return optax.partition({"free": tx, "fixed": optax.set_to_zero()}, labels)
