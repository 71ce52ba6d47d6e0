"""The games of Goodfellow et al. 2014, "Generative Adversarial Nets"; D = sigmoid of the logit."""

import math

from jax.nn import softplus

from flaxgan.losses.adversarial import AdversarialLoss

CHANCE = 2 * math.log(2.0)  # -log D - log(1 - D) at D = 1/2
GAP = (12.0, 8.0)

# eq. 1: max_D min_G E log D(x) + E log(1 - D(G(z)))
MINIMAX = AdversarialLoss(
    real=lambda real: softplus(-real),
    fake=lambda real, fake: softplus(fake),
    g=lambda real, fake: -softplus(fake),
    chance=CHANCE,
    gap=GAP,
    saturates=True,
)

# section 3: G maximises log D(G(z)) instead
NONSATURATING = AdversarialLoss(
    real=lambda real: softplus(-real),
    fake=lambda real, fake: softplus(fake),
    g=lambda real, fake: softplus(-fake),
    chance=CHANCE,
    gap=GAP,
)
