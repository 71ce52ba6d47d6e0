"""The two-player games: what D and G minimise, given logits."""

import dataclasses
from collections.abc import Callable

import chex
import jax
from jax import Array

from flaxgan.errors import UserError

softplus, relu = jax.nn.softplus, jax.nn.relu


@dataclasses.dataclass(frozen=True)
class AdversarialLoss:
    """One game; every function maps logits `[b]` to losses `[b]`.

    Attributes:
      real: D's loss for a real image with its caption; None: the fake term holds it.
      fake: D's loss for a fake, or a real image with a wrong caption: (real, fake) logits.
      g: G's loss: (real, fake) logits.
      g_needs_real: whether `g` reads the real logits.
    """

    real: Callable[[Array], Array] | None
    fake: Callable[[Array, Array], Array]
    g: Callable[[Array, Array], Array]
    g_needs_real: bool = False


ADVERSARIAL: dict[str, AdversarialLoss] = {
    # Goodfellow et al. 2014, eq. 1: max_D min_G E log D(x) + E log(1 - D(G(z))), D = sigmoid
    "minimax": AdversarialLoss(
        real=lambda real: softplus(-real),
        fake=lambda real, fake: softplus(fake),
        g=lambda real, fake: -softplus(fake),
    ),
    # ibid., section 3: G maximises log D(G(z)) instead
    "nonsaturating": AdversarialLoss(
        real=lambda real: softplus(-real),
        fake=lambda real, fake: softplus(fake),
        g=lambda real, fake: softplus(-fake),
    ),
    # Lim and Ye 2017; Miyato et al. 2018 (SNGAN), eq. 16 and 17
    "hinge": AdversarialLoss(
        real=lambda real: relu(1.0 - real),
        fake=lambda real, fake: relu(1.0 + fake),
        g=lambda real, fake: -fake,
    ),
    # Jolicoeur-Martineau 2018; R3GAN (Huang et al. 2024), eq. 2 with f(t) = -softplus(-t)
    "rpgan": AdversarialLoss(
        real=None,
        fake=lambda real, fake: softplus(-(real - fake)),
        g=lambda real, fake: softplus(-(fake - real)),
        g_needs_real=True,
    ),
}


def discriminator_loss(
    name: str,
    real_logits: Array,
    fake_logits: Array,
    *,
    mismatched_logits: Array | None = None,
    mismatch_weight: float = 0.0,
    mismatched_fake_logits: Array | None = None,
    mismatch_fake_weight: float = 0.0,
) -> Array:
    """D's loss: real + (1 - w - v) fake + w mismatched + v mismatched fake.

    With "hinge", w = 0.5 and v = 0 this is the matching-aware objective of DF-GAN (Tao et al. 2022,
    eq. 3). For "rpgan" the wrong caption is paired with the right one of the same image, as in
    ARC (Novack et al. 2025). With v > 0 fakes of other captions are fakes too, as in GigaGAN (Kang
    et al. 2023, section 3.4).

    Args:
      name: key of ADVERSARIAL.
      real_logits, fake_logits: `[b]`.
      mismatched_logits: `[b]`, D of real images with captions of other images.
      mismatch_weight: w in [0, 1].
      mismatched_fake_logits: `[b]`, D of fake images with captions of other images.
      mismatch_fake_weight: v in [0, 1 - w].

    Returns:
      `[b]` float32.

    Raises:
      UserError: an unknown name.
    """
    loss = _find(name)
    chex.assert_equal_shape([real_logits, fake_logits])
    share = 1.0 - mismatch_weight - mismatch_fake_weight
    total = share * loss.fake(real_logits, fake_logits)
    if loss.real is not None:
        total = total + loss.real(real_logits)
    if mismatch_weight > 0:
        chex.assert_equal_shape([real_logits, mismatched_logits])
        total = total + mismatch_weight * loss.fake(real_logits, mismatched_logits)
    if mismatch_fake_weight > 0:
        chex.assert_equal_shape([real_logits, mismatched_fake_logits])
        total = total + mismatch_fake_weight * loss.fake(real_logits, mismatched_fake_logits)
    return total


def generator_loss(name: str, real_logits: Array | None, fake_logits: Array) -> Array:
    """G's loss.

    Args:
      name: key of ADVERSARIAL.
      real_logits: `[b]`; read only where `g_needs_real`, None elsewhere.
      fake_logits: `[b]`.

    Returns:
      `[b]` float32.

    Raises:
      UserError: an unknown name.
    """
    loss = _find(name)
    chex.assert_rank(fake_logits, 1)
    if loss.g_needs_real:
        chex.assert_equal_shape([real_logits, fake_logits])
    real = fake_logits if real_logits is None else real_logits
    return loss.g(real, fake_logits)


def matching_loss(fake_logits: Array, mismatched_fake_logits: Array) -> Array:
    """G's matching term: D finds its image nearer to its own caption than to another's.

    Args:
      fake_logits: `[b]`, D(G(c), c).
      mismatched_fake_logits: `[b]`, D(G(c), c~).

    Returns:
      `[b]` float32, softplus(D(G(c), c~) - D(G(c), c)).

    Reference: the matching loss of G in GigaGAN (Kang et al. 2023, section 3.4), in the
      relativistic form of ARC (Novack et al. 2025): what D gives all images does not matter.
    """
    chex.assert_equal_shape([fake_logits, mismatched_fake_logits])
    return softplus(mismatched_fake_logits - fake_logits)


def _find(name: str) -> AdversarialLoss:
    if name not in ADVERSARIAL:
        raise UserError(f"loss.adversarial must be one of {', '.join(ADVERSARIAL)}, not {name!r}")
    return ADVERSARIAL[name]
