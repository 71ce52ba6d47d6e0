"""Penalties as terms of D's loss: which images they are taken on, and how strong they are.

The formulas are in `flaxgan.losses.penalties`; `flaxgan.losses.PENALTIES` is the table.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from flaxgan.config.fields import LossConfig
from flaxgan.losses import penalties
from flaxgan.losses.penalties import Penalty


class Formula(Protocol):
    """Computes a penalty."""

    def __call__(
        self,
        d_fn: Callable[[Array, Array | None], tuple[Array, Any]],
        images: Array,
        sentence: Array | None,
        *,
        options: LossConfig,
        gamma: Array,
        keys: Callable[[], Array],
    ) -> Penalty:
        """The penalty `[b]`, the logits `[b]` and aux of one forward pass.

        Args:
          d_fn: images `[b, h, w, c]` and sentences `[b, d]` to (logits `[b]`, aux).
          images: `[b, h, w, c]`.
          sentence: `[b, d]` of their captions; None where there is no text.
          options: of the loss; the term reads its own fields.
          gamma: `[]` at this point of the training.
          keys: gives `[b]` random keys, one for each image.
        """


def _off(d_fn: Any, images: Array, sentence: Array | None, **_: Any) -> Penalty:
    logits, aux = d_fn(images, sentence)
    return jnp.zeros_like(logits), logits, aux


@dataclasses.dataclass(frozen=True)
class PenaltyTerm:
    """One penalty, and what its watchdogs have to know.

    Attributes:
      formula: see `Formula`.
      on_real, on_fake: which images it is taken on.
      weight_flag: the command-line flag that makes it stronger.
      squared_gradient: (value of the penalty, gamma, options) -> mean |grad_x D(x)|^2 that it was
        computed from, for one kind of image, in plain floats; None: it does not say.
      follows_gamma: whether `gamma`, and its schedule, is its weight.
    """

    formula: Formula
    on_real: bool
    on_fake: bool
    weight_flag: str = ""
    squared_gradient: Callable[[float, float, LossConfig], float] | None = None
    follows_gamma: bool = False

    def __call__(self, *args: Any, real: bool, **options: Any) -> Penalty:
        """As the formula; zeros for images that it is not taken on."""
        wanted = self.on_real if real else self.on_fake
        return (self.formula if wanted else _off)(*args, **options)


def _gradient(
    d_fn: Any, images: Array, sentence: Array | None, *, gamma: Array, **_: Any
) -> Penalty:
    return penalties.gradient_penalty(lambda x: d_fn(x, sentence), images, gamma=gamma)


def _matching_aware(
    d_fn: Any, images: Array, sentence: Array | None, *, options: LossConfig, **_: Any
) -> Penalty:
    return penalties.ma_gp(
        d_fn, images, sentence, weight=options.ma_gp_weight, power=options.ma_gp_power
    )


def _finite_differences(
    d_fn: Any,
    images: Array,
    sentence: Array | None,
    *,
    options: LossConfig,
    gamma: Array,
    keys: Callable[[], Array],
) -> Penalty:
    noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(keys())
    # half: the expectation is gamma |g|^2, the exact penalties are gamma / 2 |g|^2
    return penalties.finite_difference_penalty(
        lambda x: d_fn(x, sentence), images, noise, gamma=0.5 * gamma, eps=options.fd_eps
    )


def _from_matching_aware(value: float, gamma: float, options: LossConfig) -> float:
    return (value / options.ma_gp_weight) ** (2.0 / options.ma_gp_power)


NONE = PenaltyTerm(_off, on_real=False, on_fake=False)
MA_GP = PenaltyTerm(
    _matching_aware,
    on_real=True,
    on_fake=False,
    weight_flag="--loss.ma-gp-weight",
    squared_gradient=_from_matching_aware,
)
# gamma / 2 |g|^2 on real images
R1 = PenaltyTerm(
    _gradient,
    on_real=True,
    on_fake=False,
    weight_flag="--loss.gamma",
    squared_gradient=lambda value, gamma, _: 2.0 * value / gamma,
    follows_gamma=True,
)
# the sum of that on real images and on fakes
R1_R2 = PenaltyTerm(
    _gradient,
    on_real=True,
    on_fake=True,
    weight_flag="--loss.gamma",
    squared_gradient=lambda value, gamma, _: value / gamma,
    follows_gamma=True,
)
R1_R2_FD = dataclasses.replace(R1_R2, formula=_finite_differences)
