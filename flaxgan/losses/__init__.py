"""Objectives as functions of arrays: per example `[b]`, float32, all minimised."""

from flaxgan.losses.adversarial import ADVERSARIAL, discriminator_loss, generator_loss
from flaxgan.losses.penalties import finite_difference_penalty, gradient_penalty, ma_gp

__all__ = [
    "ADVERSARIAL",
    "discriminator_loss",
    "finite_difference_penalty",
    "generator_loss",
    "gradient_penalty",
    "ma_gp",
]
