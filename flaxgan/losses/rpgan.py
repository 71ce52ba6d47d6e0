"""Relativistic pairing: Jolicoeur-Martineau 2018; R3GAN (Huang et al. 2024), eq. 2.

There f(t) = -softplus(-t). Only differences of logits mean something.
"""

import math

from jax.nn import softplus

from flaxgan.losses.adversarial import AdversarialLoss

RPGAN = AdversarialLoss(
    real=None,
    fake=lambda real, fake: softplus(-(real - fake)),
    g=lambda real, fake: softplus(-(fake - real)),
    chance=math.log(2.0),
    gap=(8.0, 6.0),
    certainty=lambda real, fake: real - fake,
    g_needs_real=True,
)
