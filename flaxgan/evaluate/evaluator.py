"""What evaluators share: sets of captioned pictures, the scores, and one pass over the pictures."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from flaxgan.data import CaptionedImages
from flaxgan.errors import UserError
from flaxgan.registry import table_of


@dataclasses.dataclass(frozen=True)
class CaptionedSet:
    """Captions that are drawn, and the real picture of each.

    Attributes:
      name: unique among the sets of one evaluation, such as "test" or "test/open".
      dataset: the real pictures.
      rows: `[n]` int, the picture of each caption in the data set.
      captions: `n` strings; None for an unconditional data set.
    """

    name: str
    dataset: CaptionedImages
    rows: np.ndarray
    captions: list[str] | None

    def __len__(self) -> int:
        return len(self.rows)

    def real_images(self, batch_size: int) -> Iterator[np.ndarray]:
        """The real pictures in order, `[<= batch_size, h, w, c]` uint8 at a time."""
        for start in range(0, len(self), batch_size):
            rows = self.rows[start : start + batch_size]
            yield np.stack([self.dataset.image(row) for row in rows])


def lower_is_better(name: str) -> bool:
    """Whether of two values of a score the lower is the better: see `Metric.lower`."""
    return any(name in metric.lower for _, metric in table_of("eval.metrics").items())


Draw = Callable[[CaptionedSet, int], Iterable[np.ndarray]]  # (set, batch size) -> images in order


@dataclasses.dataclass(frozen=True)
class Score:
    """One number, and what it must be read against.

    Attributes:
      name: such as "fd_efflite0".
      value: of the drawn pictures.
      std_error: standard error of the value, where the metric has one.
      real: the value of real pictures in the place of the drawn ones; no generator need be better.
      chance: the value of real pictures of other captions: what a perfect painter gets who does
        not read.
      protocol: everything else that must be equal for two values to be comparable.
    """

    name: str
    value: float
    std_error: float | None = None
    real: float | None = None
    chance: float | None = None
    protocol: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def better(self) -> str:
        """ "lower" or "higher"."""
        return "lower" if lower_is_better(self.name) else "higher"


class Accumulator(Protocol):
    """Takes in pictures batch by batch."""

    def add(self, set_name: str, images: np.ndarray) -> None:
        """`[b, h, w, c]` uint8, the next pictures of a set."""

    def scores(self) -> Iterator[Score]:
        """Once every set is complete."""


class Evaluator(Protocol):
    """Judges pictures drawn for its sets."""

    sets: Sequence[CaptionedSet]

    def accumulator(self) -> Accumulator:
        """A fresh one."""


def run_evaluators(
    evaluators: Sequence[Evaluator],
    draw: Draw,
    *,
    batch_size: int,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Score]:
    """Draws every set once and shows it to the evaluators that want it.

    Args:
      evaluators: sets of the same name must be the same set.
      draw: pictures of a set, in the order of its captions.
      batch_size: pictures at a time.
      advance: called with the number of pictures done.
    """
    accumulators = [evaluator.accumulator() for evaluator in evaluators]
    sets = {wanted.name: wanted for evaluator in evaluators for wanted in evaluator.sets}
    for name, captioned in sets.items():
        takers = [
            accumulator
            for evaluator, accumulator in zip(evaluators, accumulators, strict=True)
            if any(wanted.name == name for wanted in evaluator.sets)
        ]
        count = 0
        for images in draw(captioned, batch_size):
            for taker in takers:
                taker.add(name, images)
            count += len(images)
            advance(len(images))
        if count != len(captioned):
            raise ValueError(f"{count} pictures of set {name}, which has {len(captioned)}")
    return [score for accumulator in accumulators for score in accumulator.scores()]


def captioned_set(
    dataset: CaptionedImages, name: str, num: int | None = None, *, which: int = 0
) -> CaptionedSet:
    """The first `num` pictures of a split, each with one of its captions.

    Args:
      dataset: the split.
      name: of the set.
      num: pictures; None: all.
      which: number of the caption; around the end for pictures that have fewer.

    Raises:
      UserError: the split has fewer pictures.
    """
    if num is None:
        num = len(dataset)
    if not 0 < num <= len(dataset):
        raise UserError(
            f"{name} has {len(dataset):,} pictures, {num:,} requested; "
            "lower --num-images or choose another split"
        )
    captions = None
    if dataset.flat_captions:
        groups = [dataset.captions(row) for row in range(num)]
        captions = [group[which % len(group)] for group in groups]
    return CaptionedSet(name, dataset, np.arange(num), captions)
