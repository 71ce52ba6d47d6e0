"""Objectives as functions of arrays: per example `[b]`, float32, all minimised."""

from flaxgan.losses.adversarial import (
    ADVERSARIAL,
    discriminator_loss,
    generator_loss,
    matching_loss,
)
from flaxgan.losses.contrastive import info_nce
from flaxgan.losses.penalties import finite_difference_penalty, gradient_penalty, ma_gp

__all__ = [
    "ADVERSARIAL",
    "discriminator_loss",
    "finite_difference_penalty",
    "generator_loss",
    "gradient_penalty",
    "info_nce",
    "ma_gp",
    "matching_loss",
]
