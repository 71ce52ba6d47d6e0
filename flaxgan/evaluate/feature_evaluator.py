"""Distances between drawn and real pictures in the features of a frozen network."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from flaxgan.errors import UserError
from flaxgan.evaluate.clip_metrics import cmmd
from flaxgan.evaluate.evaluator import CaptionedSet, Score
from flaxgan.evaluate.feature_network import FeatureNetwork
from flaxgan.evaluate.frechet import Moments, frechet_distance_moments
from flaxgan.evaluate.kernel import kid
from flaxgan.evaluate.manifold import PRDC, prdc
from flaxgan.evaluate.real_features import real_features

SUBSETS, SUBSET_SIZE = 100, 1000  # of KID
CHUNK = 4096  # rows of stored features at a time


class FeatureEvaluator:
    """Fréchet distance, kernel distance, and precision, recall, density, coverage.

    Yields `fd_<network>`, `kid_<network>`, `precision_<network>` …; with Inception they have the
    names that papers use: `fid`, `kid`, `precision` …; `cmmd` belongs to CLIP. The Fréchet distance
    alone keeps sums only, whatever the number of pictures.
    """

    def __init__(
        self,
        network: FeatureNetwork,
        distances: Sequence[str],
        reference: CaptionedSet,
        stand_in: CaptionedSet | None,
        *,
        cache_dir: Path,
        seed: int = 0,
        k: int = 5,
    ):
        """Checks sizes; nothing is computed yet.

        Args:
          network: what pictures are compared in.
          distances: some of "fd", "kid", "prdc", "cmmd".
          reference: the real pictures; as many are drawn, for their captions.
          stand_in: as many other real pictures, for `Score.real`; None: there are none.
          cache_dir: folder of the features of real pictures.
          seed: of KID's subsets.
          k: nearest neighbours of PRDC.

        Raises:
          UserError: too few pictures for so many neighbours.
        """
        if "prdc" in distances and not 1 <= k < len(reference):
            raise UserError(f"prdc_k must be from 1 to {len(reference) - 1}, not {k}")
        self.network, self.distances, self.sets = network, tuple(distances), (reference,)
        self._reference, self._stand_in = reference, stand_in
        self._cache_dir, self._seed, self._k = cache_dir, seed, k

    def accumulator(self) -> "FeatureAccumulator":
        """A fresh one."""
        return FeatureAccumulator(self)

    def scores(self, count: int, moments: Moments, features: np.ndarray | None) -> Iterator[Score]:
        """Compares pictures with the reference.

        Args:
          count: drawn pictures.
          moments: of them; empty when the Fréchet distance is not asked for.
          features: `[n, d]` of them; None when only the Fréchet distance is asked for.
        """
        real = {name: value for name, value, _ in self._real_values}
        protocol = {
            "network": self.network.name,
            "weights_sha256": self.network.weights_sha256,
            **self.network.protocol,
            "reference": self._reference.dataset.name,
            "split": self._reference.name,
            "real_pictures": len(self._reference),
            "pictures": count,
        }
        for name, value, std_error in self._distances(count, moments, features):
            yield Score(
                name,
                value,
                std_error=std_error,
                real=real.get(name),
                protocol={**protocol, **self._details(name, count)},
            )

    def _distances(
        self, count: int, moments: Moments, features: np.ndarray | None
    ) -> Iterator[tuple[str, float, float | None]]:
        """(name, value, standard error) of each distance to the reference."""
        if "fd" in self.distances:
            value = frechet_distance_moments(self._reference_moments, moments)
            yield self._name("fd"), value, None
        if features is None:
            return
        if "kid" in self.distances:
            size = self._subset_size(count)
            result = kid(self._reference_features, features, subset_size=size, seed=self._seed)
            yield self._name("kid"), result.mean, result.stderr
        if "prdc" in self.distances:
            for name, value in (
                prdc(self._reference_features, features, k=self._k)._asdict().items()
            ):
                yield self._name(name), value, None
        if "cmmd" in self.distances:
            yield "cmmd", cmmd(self._reference_features, features), None

    def _name(self, distance: str) -> str:
        """The bare names belong to Inception; other networks are named."""
        if self.network.name == "inception":
            return {"fd": "fid"}.get(distance, distance)
        return f"{distance}_{self.network.name}"

    def _details(self, name: str, count: int) -> dict[str, int]:
        if name.startswith("kid"):
            return {"subsets": SUBSETS, "subset_size": self._subset_size(count), "seed": self._seed}
        return {"k": self._k} if name.startswith(PRDC._fields) else {}

    def _subset_size(self, count: int) -> int:
        """At most half of the pictures: subsets that are all of them would not differ."""
        return min(SUBSET_SIZE, max(2, min(len(self._reference), count) // 2))

    @functools.cached_property
    def _reference_features(self) -> np.ndarray:
        return real_features(self.network, self._reference, cache_dir=self._cache_dir)

    @functools.cached_property
    def _reference_moments(self) -> Moments:
        return _moments(self._reference_features)

    @functools.cached_property
    def _real_values(self) -> list[tuple[str, float, float | None]]:
        """The distances of the stand-in."""
        if self._stand_in is None:
            return []
        features = real_features(self.network, self._stand_in, cache_dir=self._cache_dir)
        return list(self._distances(len(features), _moments(features), features))


class FeatureAccumulator:
    """Keeps sums, and features only for the distances that need them."""

    def __init__(self, evaluator: FeatureEvaluator):
        """Starts with nothing."""
        self._evaluator = evaluator
        self._count, self._moments = 0, Moments.empty(evaluator.network.dim)
        self._features: list[np.ndarray] = []

    def add(self, set_name: str, images: np.ndarray) -> None:
        """`[b, h, w, c]` uint8, the next pictures."""
        features = self._evaluator.network(images)
        self._count += len(features)
        if "fd" in self._evaluator.distances:
            self._moments = self._moments.update(features)
        if set(self._evaluator.distances) - {"fd"}:
            self._features.append(features)

    def scores(self) -> Iterator[Score]:
        """Once the set is complete."""
        features = np.concatenate(self._features) if self._features else None
        yield from self._evaluator.scores(self._count, self._moments, features)


def _moments(features: np.ndarray) -> Moments:
    moments = Moments.empty(features.shape[1])
    for start in range(0, len(features), CHUNK):
        moments = moments.update(features[start : start + CHUNK])
    return moments
