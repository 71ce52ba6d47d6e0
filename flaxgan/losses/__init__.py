"""Objectives as functions of arrays: per example `[b]`, float32, all minimised.

`ADVERSARIAL` and `PENALTIES` are the tables of what `loss.adversarial` and `loss.penalty` may say.
"""

from flaxgan.losses.adversarial import (
    AdversarialLoss,
    discriminator_loss,
    generator_loss,
    matching_loss,
)
from flaxgan.losses.contrastive import info_nce
from flaxgan.losses.imle import multiscale_l1, nearest
from flaxgan.losses.penalties import finite_difference_penalty, gradient_penalty, ma_gp
from flaxgan.losses.penalty_terms import PenaltyTerm
from flaxgan.losses.tables import ADVERSARIAL, PENALTIES

__all__ = [
    "ADVERSARIAL",
    "PENALTIES",
    "AdversarialLoss",
    "PenaltyTerm",
    "discriminator_loss",
    "finite_difference_penalty",
    "generator_loss",
    "gradient_penalty",
    "info_nce",
    "ma_gp",
    "matching_loss",
    "multiscale_l1",
    "nearest",
]
