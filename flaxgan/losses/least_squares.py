"""Least squares (LSGAN): Mao et al. 2017, eq. 2 and 9, with the targets a = 0, b = c = 1.

D minimises 1/2 E (D(x) - 1)^2 + 1/2 E D(G(z))^2, G minimises 1/2 E (D(G(z)) - 1)^2.
"""

from jax.numpy import square

from flaxgan.losses.adversarial import AdversarialLoss

LEAST_SQUARES = AdversarialLoss(
    real=lambda real: 0.5 * square(real - 1.0),
    fake=lambda real, fake: 0.5 * square(fake),
    g=lambda real, fake: 0.5 * square(fake - 1.0),
    chance=0.25,  # D = 1/2 everywhere
    gap=None,  # D wants a gap of 1 and is punished for more
    certainty=lambda real, fake: real - 0.5,
)
