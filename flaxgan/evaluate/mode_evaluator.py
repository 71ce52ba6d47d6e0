"""Mode coverage: which of the 1,000 numbers of `stacked_digits` are drawn, and how evenly.

Reference: Srivastava et al. 2017 (VEEGAN), section 4.2; Lin et al. 2018 (PacGAN), section 5; both
for 26,000 drawn pictures, as Huang et al. 2024 (R3GAN), table 1.
"""

import functools
from collections.abc import Iterator

import numpy as np

from flaxgan.data.stacked_digits import NUM_MODES
from flaxgan.evaluate.evaluator import CaptionedSet, Score
from flaxgan.evaluate.networks.digit_net import DigitClassifier

BATCH = 256


def covered(counts: np.ndarray) -> int:
    """How many modes have at least one picture: `[k]` numbers of pictures to an int."""
    return int((counts > 0).sum())


def reverse_kl(counts: np.ndarray) -> float:
    """KL(drawn || uniform) = sum_k p_k log(p_k K), in nats.

    Args:
      counts: `[k]` numbers of pictures, not all 0.

    Returns:
      0 where all modes have equally many, log K where one has all. Of n pictures that are drawn
      uniformly it is about (K - 1) / (2 n) for n far above K: compare equal numbers of pictures.
    """
    p = counts[counts > 0] / counts.sum()
    return float((p * np.log(p * len(counts))).sum())


class ModeEvaluator:
    """`modes` and `reverse_kl` of as many pictures as the reference has."""

    def __init__(self, classifier: DigitClassifier, reference: CaptionedSet):
        """Judges pictures.

        Args:
          classifier: reads the digits.
          reference: real pictures, whose scores are the column `real`.
        """
        self._classifier, self._reference = classifier, reference
        self.sets = (reference,)

    def accumulator(self) -> "ModeAccumulator":
        """A fresh one."""
        return ModeAccumulator(self)

    def count(self, images: np.ndarray) -> np.ndarray:
        """`[b, 32, 32, 3]` uint8 to how many of them show each number, `[1000]` int64."""
        return np.bincount(self._classifier.modes(images), minlength=NUM_MODES)

    def scores(self, counts: np.ndarray) -> Iterator[Score]:
        """From numbers of pictures of each mode `[1000]` to scores."""
        protocol = {
            **self._classifier.network.protocol,
            "weights_sha256": self._classifier.network.weights_sha256,
            "digit_accuracy": self._classifier.accuracy,
            "pictures": int(counts.sum()),
            "of": NUM_MODES,
        }
        real = self._real_counts
        yield Score("modes", covered(counts), real=covered(real), protocol=protocol)
        yield Score("reverse_kl", reverse_kl(counts), real=reverse_kl(real), protocol=protocol)

    @functools.cached_property
    def _real_counts(self) -> np.ndarray:
        return sum(
            (self.count(images) for images in self._reference.real_images(BATCH)),
            np.zeros(NUM_MODES, np.int64),
        )


class ModeAccumulator:
    """Keeps how often each number was seen."""

    def __init__(self, evaluator: ModeEvaluator):
        """Starts with nothing."""
        self._evaluator, self._counts = evaluator, np.zeros(NUM_MODES, np.int64)

    def add(self, set_name: str, images: np.ndarray) -> None:
        """`[b, 32, 32, 3]` uint8, the next pictures of the set."""
        self._counts += self._evaluator.count(images)

    def scores(self) -> Iterator[Score]:
        """Once the set is complete."""
        yield from self._evaluator.scores(self._counts)
