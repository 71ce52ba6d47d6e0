"""Obedience to the caption, exactly: what a classifier sees in `avatars` against what was asked.

The data set knows the attributes of every picture, so nothing is judged by a language model. The
classifier (`networks/attribute_net.py`) was trained on real renders; attributes that it does not
tell in 99.5 % of unseen renders at a resolution are left out there.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from flaxgan.data import CaptionedImages
from flaxgan.data import avatars as data
from flaxgan.evaluate import attribute_accuracy
from flaxgan.evaluate.attribute_accuracy import Asked, asked
from flaxgan.evaluate.evaluator import CaptionedSet, Score, captioned_set
from flaxgan.evaluate.manifold import nearest_distance
from flaxgan.evaluate.networks.attribute_net import AttributeClassifier

FULL, OPEN = 0, 2  # numbers of English captions: naming all, naming one to three things
PRIOR_EXAMPLES = 10_000  # of the training distribution, without pictures
SHIFTS = 8  # chance: real pictures against the captions of others, this many times
DUPLICATE_QUANTILE = 0.01
SMALL = 32  # pixels, side of what is compared with the training pictures
BATCH = 256


class AttributeEvaluator:
    """Accuracy, binding, diversity and duplicates for `avatars`.

    What `attribute_accuracy.accuracies` names, for the split `test`; `attr_heldout` is `attr_mean`
    on the split `heldout`, and `binding_heldout` the share of its withheld pairs that are right.
    Beside them:
      `diversity_tv`: `attribute_accuracy.open_distances`, averaged; two pictures of each caption.
      `repeat_rate`: `attribute_accuracy.repeats`, averaged; `real` is the expectation for draws
        from the training distribution that do not look at the caption.
      `distinct`, `entropy`: `attribute_accuracy.variety` of the pictures of `test`.
      `nearest_train`: median distance to the nearest training picture, as a multiple of that of
        real test pictures.
      `duplicates`: share of pictures nearer to a training picture than 1 % of real ones are.
    """

    def __init__(
        self,
        classifier: AttributeClassifier,
        test: CaptionedImages,
        heldout: CaptionedImages,
        train: CaptionedImages,
        num: int | None = None,
    ):
        """Reads what the splits' pictures show and what their captions say.

        Args:
          classifier: for the pictures' resolution.
          test, heldout: splits of `avatars`, with all captions.
          train: what the generator was trained on.
          num: pictures of `test` and of `heldout`, at most; None: all.
        """
        self._classifier, self._train = classifier, train
        labels = {"test": test.labels(), "heldout": heldout.labels()}
        full = {
            name: captioned_set(split, name, min(num or len(split), len(split)), which=FULL)
            for name, split in (("test", test), ("heldout", heldout))
        }
        once = captioned_set(test, "test/open", len(full["test"]), which=OPEN)
        self._open = CaptionedSet(once.name, test, np.tile(once.rows, 2), (once.captions or []) * 2)
        self.sets = (*full.values(), self._open)
        self._asked = {s.name: self._read(s, labels[s.name.split("/")[0]]) for s in self.sets}

    def _read(self, captioned: CaptionedSet, labels: dict[str, list[str]]) -> Asked:
        rows = [{name: labels[name][row] for name in data.ATTRIBUTES} for row in captioned.rows]
        return asked(
            self._classifier.classes, rows, captioned.captions or [], self._classifier.alike
        )

    def accumulator(self) -> "AttributeAccumulator":
        """A fresh one."""
        return AttributeAccumulator(self)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """`[b, h, w, 3]` uint8 to `[b, attributes]` class numbers."""
        return self._classifier.predict(images)

    def scores(self, predicted: dict[str, np.ndarray], small: np.ndarray) -> Iterator[Score]:
        """From predictions to scores.

        Args:
          predicted: set name -> `[n, attributes]` class numbers.
          small: `[n, d]` the pictures of `test`, from `thumbnails`.
        """
        yield from self._accuracies("test", predicted["test"], attribute_accuracy.accuracies)
        yield from self._accuracies("heldout", predicted["heldout"], _heldout_accuracies)
        yield from self._diversity(predicted["test/open"])
        yield from self._variety(predicted["test"])
        yield from self._duplicates(nearest_distance(small, self._train_small)[0])

    def _protocol(self, **facts: Any) -> dict[str, Any]:
        return {**self._classifier.network.protocol, **facts}

    def _accuracies(
        self,
        split: str,
        predicted: np.ndarray,
        function: Callable[[Asked, np.ndarray], dict[str, tuple[float, int]]],
    ) -> Iterator[Score]:
        asked, real = self._asked[split], self._real[split]
        drawn, best = function(asked, predicted), function(asked, real)
        shifts = np.linspace(0, len(real), SHIFTS + 1, endpoint=False)[1:].astype(int)
        others = [function(asked, np.roll(real, shift, axis=0)) for shift in shifts]
        for name, (value, count) in drawn.items():
            yield Score(
                name,
                value,
                std_error=float(np.sqrt(value * (1 - value) / count)),
                real=best[name][0],
                chance=float(np.mean([other[name][0] for other in others])),
                protocol=self._protocol(split=split, pictures=count),
            )

    def _diversity(self, predicted: np.ndarray) -> Iterator[Score]:
        asked, prior = self._asked["test/open"], self._prior
        protocol = self._protocol(pictures=len(predicted))
        distances = attribute_accuracy.open_distances(prior, asked, predicted)
        real = attribute_accuracy.open_distances(prior, asked, asked.truth)
        yield _mean("diversity_tv", distances, real, protocol)
        half = len(predicted) // 2
        once = Asked(asked.classes, asked.truth[:half], asked.named[:half])
        agreement = attribute_accuracy.repeats(once, predicted[:half], predicted[half:])
        yield _mean("repeat_rate", agreement, attribute_accuracy.chance_repeats(prior), protocol)

    def _variety(self, predicted: np.ndarray) -> Iterator[Score]:
        real = attribute_accuracy.variety(self._real["test"])
        protocol = self._protocol(pictures=len(predicted))
        for name, value, best in zip(
            ("distinct", "entropy"), attribute_accuracy.variety(predicted), real, strict=True
        ):
            yield Score(name, value, real=best, protocol=protocol)

    def _duplicates(self, nearest: np.ndarray) -> Iterator[Score]:
        real = self._real_nearest
        limit = np.quantile(real, DUPLICATE_QUANTILE)
        protocol = {"distance": "Euclidean, 32 x 32 pixels", "train_pictures": len(self._train)}
        ratio = float(np.median(nearest) / max(float(np.median(real)), 1e-9))
        yield Score("nearest_train", ratio, real=1.0, protocol=protocol)
        share, expected = float((nearest < limit).mean()), float((real < limit).mean())
        yield Score("duplicates", share, real=expected, protocol=protocol)

    @functools.cached_property
    def _real(self) -> dict[str, np.ndarray]:
        """What the classifier sees in the real pictures."""
        return {
            s.name: np.concatenate([self.predict(images) for images in s.real_images(BATCH)])
            for s in self.sets[:2]
        }

    @functools.cached_property
    def _real_nearest(self) -> np.ndarray:
        small = [thumbnails(images) for images in self.sets[0].real_images(BATCH)]
        return nearest_distance(np.concatenate(small), self._train_small)[0]

    @functools.cached_property
    def _train_small(self) -> np.ndarray:
        everything = captioned_set(self._train, "train")
        return np.concatenate([thumbnails(images) for images in everything.real_images(BATCH)])

    @functools.cached_property
    def _prior(self) -> Asked:
        """The training distribution, with captions of the kind of `test/open`."""
        rows, texts = _training_distribution()
        return asked(self._classifier.classes, rows, texts, self._classifier.alike)


@functools.cache
def _training_distribution() -> tuple[list[dict[str, str]], list[str]]:
    """Attributes and open captions of PRIOR_EXAMPLES."""
    examples = [data.sample_example("train", i, OPEN + 1) for i in range(PRIOR_EXAMPLES)]
    return [attributes for attributes, _ in examples], [texts[OPEN] for _, texts in examples]


class AttributeAccumulator:
    """Keeps predictions and thumbnails, not pictures."""

    def __init__(self, evaluator: AttributeEvaluator):
        """Starts with nothing."""
        self._evaluator = evaluator
        self._predicted: dict[str, list[np.ndarray]] = {s.name: [] for s in evaluator.sets}
        self._small: list[np.ndarray] = []

    def add(self, set_name: str, images: np.ndarray) -> None:
        """`[b, h, w, 3]` uint8, the next pictures of a set."""
        self._predicted[set_name].append(self._evaluator.predict(images))
        if set_name == "test":
            self._small.append(thumbnails(images))

    def scores(self) -> Iterator[Score]:
        """Once every set is complete."""
        predicted = {name: np.concatenate(parts) for name, parts in self._predicted.items()}
        yield from self._evaluator.scores(predicted, np.concatenate(self._small))


def _heldout_accuracies(asked: Asked, predicted: np.ndarray) -> dict[str, tuple[float, int]]:
    mean = attribute_accuracy.accuracies(asked, predicted)["attr_mean"]
    return {"attr_heldout": mean} | attribute_accuracy.withheld_accuracy(asked, predicted)


def _mean(
    name: str, drawn: dict[str, float], real: dict[str, float], protocol: dict[str, object]
) -> Score:
    """Averages over attributes."""
    return Score(
        name,
        float(np.mean(list(drawn.values()))),
        real=float(np.mean([real[attribute] for attribute in drawn])),
        protocol={**protocol, "per_attribute": drawn},
    )


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Area averages of 32 x 32 pixels: `[b, s, s, 3]` uint8, s a multiple of 32, to `[b, 3072]`."""
    b, side = len(images), images.shape[1]
    block = side // SMALL
    small = images.reshape(b, SMALL, block, SMALL, block, 3).mean(axis=(2, 4))
    return small.round().astype(np.uint8).reshape(b, -1)
