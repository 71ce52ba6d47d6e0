"""The two-player games: what D and G minimise, given logits.

Each game is a file of its own beside this one; `flaxgan.losses.ADVERSARIAL` is their table.
"""

import dataclasses
from collections.abc import Callable

import chex
import jax
from jax import Array

from flaxgan.losses.tables import ADVERSARIAL


def _real_logits(real: Array, fake: Array) -> Array:
    return real


@dataclasses.dataclass(frozen=True)
class AdversarialLoss:
    """One game, and all that the rest of flaxgan has to know of it.

    The functions map logits `[b]` to losses `[b]`.

    Attributes:
      real: D's loss for a real image with its caption; None: the fake term holds it.
      fake: D's loss for a fake, or a real image with a wrong caption: (real, fake) logits.
      g: G's loss: (real, fake) logits.
      chance: D's loss, real + fake, where D gives every image the same undecided logit.
      gap: by how many logits real images may lie above fakes before a watchdog says that D wins
        outright, and the lower number at which it stops saying so; None: the game bounds the gap.
      certainty: (real, fake) logits to `[b]` numbers that are positive where D calls the training
        image real; their sign is what ADA reads.
      g_needs_real: whether `g` reads the real logits.
      saturates: whether G's gradient vanishes where D is sure of its fakes.
    """

    real: Callable[[Array], Array] | None
    fake: Callable[[Array, Array], Array]
    g: Callable[[Array, Array], Array]
    chance: float
    gap: tuple[float, float] | None
    certainty: Callable[[Array, Array], Array] = _real_logits
    g_needs_real: bool = False
    saturates: bool = False


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
    loss = ADVERSARIAL[name]
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
    loss = ADVERSARIAL[name]
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
    return jax.nn.softplus(mismatched_fake_logits - fake_logits)
