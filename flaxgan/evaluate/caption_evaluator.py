"""How well pictures fit their captions, by a network that was trained on pairs of the two."""

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from flaxgan.errors import UserError
from flaxgan.evaluate.clip_metrics import clip_score, r_precision
from flaxgan.evaluate.evaluator import CaptionedSet, Score
from flaxgan.evaluate.feature_network import FeatureNetwork

CANDIDATES = 100  # captions that a picture's own must be nearer than


class CaptionEvaluator:
    """R-precision@1 among 100 captions, and CLIPScore where the network is CLIP.

    Yields `<name>_r_precision` and, if asked, `<name>_score`; `real` is that of the real pictures
    of the same captions, `chance` that of real pictures with the captions shuffled.
    """

    def __init__(
        self,
        name: str,
        image: FeatureNetwork,
        encode_text: Callable[[Sequence[str]], np.ndarray],
        captioned: CaptionedSet,
        *,
        with_score: bool,
        seed: int = 0,
    ):
        """Checks the captions; nothing is computed yet.

        Args:
          name: of the matcher, before the names of the scores.
          image: pictures to `[b, d]`.
          encode_text: captions to `[n, d]` in the same space.
          captioned: what is drawn.
          with_score: whether 100 cos is reported too.
          seed: of the candidates.

        Raises:
          UserError: no captions, or too few different ones.
        """
        if captioned.captions is None:
            raise UserError(f"{name} compares pictures with captions, and this data set has none")
        distinct = len(set(captioned.captions))
        if distinct < CANDIDATES:
            raise UserError(
                f"{name}_r_precision chooses among {CANDIDATES} captions and there are "
                f"{distinct} different ones; evaluate more pictures"
            )
        self.image, self.sets = image, (captioned,)
        self._name, self._encode_text = name, encode_text
        self._captioned, self._captions = captioned, captioned.captions
        self._with_score, self._seed = with_score, seed

    def accumulator(self) -> "CaptionAccumulator":
        """A fresh one."""
        return CaptionAccumulator(self)

    def scores(self, features: np.ndarray) -> Iterator[Score]:
        """From features `[n, d]` of the pictures to scores."""
        values = self._values(features, self._text)
        best = self._values(self._real, self._text)
        order = np.roll(np.arange(len(features)), len(features) // 2)
        chance = self._values(self._real, self._text[order])
        protocol = {
            "network": self.image.name,
            "weights_sha256": self.image.weights_sha256,
            **self.image.protocol,
            "split": self._captioned.name,
            "pictures": len(features),
        }
        for name, (value, std_error) in values.items():
            extra = {}
            if name.endswith("r_precision"):
                extra = {"candidates": CANDIDATES, "seed": self._seed}
            yield Score(
                name,
                value,
                std_error=std_error,
                real=best[name][0],
                chance=chance[name][0],
                protocol={**protocol, **extra},
            )

    def _values(self, image: np.ndarray, text: np.ndarray) -> dict[str, tuple[float, float]]:
        values = {}
        if self._with_score:
            cosines = clip_score(image, text)
            error = float(cosines.std(ddof=1) / np.sqrt(len(cosines)))
            values[f"{self._name}_score"] = float(cosines.mean()), error
        values[f"{self._name}_r_precision"] = r_precision(
            image, text, candidates=CANDIDATES, seed=self._seed
        )
        return values

    @functools.cached_property
    def _text(self) -> np.ndarray:
        return self._encode_text(self._captions)

    @functools.cached_property
    def _real(self) -> np.ndarray:
        return np.concatenate([self.image(images) for images in self._captioned.real_images(256)])


class CaptionAccumulator:
    """Keeps features, not pictures."""

    def __init__(self, evaluator: CaptionEvaluator):
        """Starts with nothing."""
        self._evaluator = evaluator
        self._features: list[np.ndarray] = []

    def add(self, set_name: str, images: np.ndarray) -> None:
        """`[b, h, w, c]` uint8, the next pictures."""
        self._features.append(self._evaluator.image(images))

    def scores(self) -> Iterator[Score]:
        """Once the set is complete."""
        yield from self._evaluator.scores(np.concatenate(self._features))
