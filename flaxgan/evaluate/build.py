"""From the names of metrics to evaluators."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flaxgan.config import Config, check
from flaxgan.errors import UserError
from flaxgan.evaluate.evaluator import CaptionedSet, Evaluator, captioned_set
from flaxgan.evaluate.metric import METRICS, OpenSplit, Task
from flaxgan.machine import cache_dir


def build_evaluators(
    config: Config,
    open_split: OpenSplit,
    *,
    split: str,
    num: int | None = None,
    which: int = 0,
    stand_in: bool = True,
) -> list[Evaluator]:
    """Evaluators for `config.eval.metrics`; those of one network share its features.

    Args:
      config: of the generator; its data section says what is real.
      open_split: opens a split of that data set, with all captions.
      split: whose pictures are the reference and whose captions are drawn.
      num: how many; None: all.
      which: number of the caption that is drawn of each picture; `attributes` choose their own.
      stand_in: whether distances are also computed for other real pictures.

    Raises:
      UserError: an unknown metric, weights that are missing, or too few pictures.
    """
    check(config, "eval", "data")
    reference = captioned_set(open_split(split), split, num, which=which)
    if len(reference) < 2:
        raise UserError(f"metrics need at least 2 pictures; {split} has {len(reference)}")
    return list(_build(Task(config, open_split, reference), stand_in))


def _build(task: Task, stand_in: bool) -> Iterator[Evaluator]:
    from flaxgan.evaluate.feature_evaluator import FeatureEvaluator

    options = task.config.eval
    other = _stand_in(task) if stand_in else None
    metrics = [METRICS[name] for name in dict.fromkeys(options.metrics)]
    distances = [metric for metric in metrics if metric.network is not None]
    for load in dict.fromkeys(metric.network for metric in distances):
        yield FeatureEvaluator(
            load(options),
            [metric.distance for metric in distances if metric.network is load],
            task.reference,
            other,
            cache_dir=Path(options.cache_dir) if options.cache_dir else cache_dir("features"),
            seed=options.seed,
            k=options.prdc_k,
        )
    for metric in metrics:
        if metric.evaluator is not None:
            yield metric.evaluator(task)


def _stand_in(task: Task) -> CaptionedSet | None:
    """As many real pictures that are not in the reference; None where there are not as many."""
    reference, data = task.reference, task.config.data
    count = len(reference)
    for split in (data.split, data.test_split):
        if split != reference.name and len(dataset := task.open_split(split)) >= count:
            return captioned_set(dataset, split, count)
    if len(reference.dataset) >= 2 * count:
        rows = np.arange(count, 2 * count)
        return CaptionedSet(f"{reference.name} {count}..", reference.dataset, rows, None)
    return None
