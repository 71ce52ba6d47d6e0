"""The hinge game: Lim and Ye 2017; Miyato et al. 2018 (SNGAN), eq. 16 and 17."""

from jax.nn import relu

from flaxgan.losses.adversarial import AdversarialLoss

HINGE = AdversarialLoss(
    real=lambda real: relu(1.0 - real),
    fake=lambda real, fake: relu(1.0 + fake),
    g=lambda real, fake: -fake,
    chance=2.0,
    gap=(6.0, 4.0),  # the loss is 0 from a gap of 2 on
)
