"""Scores of the averaged generators at every checkpoint."""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from flaxgan.data import CaptionedImages, open_dataset
from flaxgan.drawing.drawer import Drawer
from flaxgan.evaluate.build import build_evaluators
from flaxgan.evaluate.evaluator import CaptionedSet, run_evaluators
from flaxgan.evaluate.metric import check_scored
from flaxgan.models.given_pictures import with_real_pictures
from flaxgan.run.experiment import Experiment
from flaxgan.text import encode_captions
from flaxgan.text.conditioning import Text
from flaxgan.training import processes
from flaxgan.training.state import Params, TrainState


class TrainingScores:
    """Draws captions that training never saw and scores the pictures.

    Attributes:
      test: the split whose captions are drawn.
    """

    def __init__(self, experiment: Experiment, drawer: Drawer):
        """Opens the splits and builds `config.eval.metrics`.

        Raises:
          UserError: see `build_evaluators`.
        """
        config = experiment.config
        self._experiment, self._drawer = experiment, drawer
        self._texts: dict[str, Text | None] = {}

        @functools.cache
        def open_split(split: str) -> CaptionedImages:
            if split == config.data.split:
                return experiment.dataset
            return open_dataset(
                dataclasses.replace(config.data, max_captions=0, caption_numbers=()), split
            )

        self.test = open_split(config.data.test_split)
        self._evaluators = build_evaluators(
            config,
            open_split,
            split=config.data.test_split,
            num=min(config.eval.num_images, len(self.test)),
            stand_in=False,
        )

    def of_averages(self, state: TrainState) -> dict[str, float]:
        """name -> score of the averaged generator; `slow/name` of the second one, if there is one.

        The first process's scores, in all processes.

        Raises:
          UserError: see `run`.
        """
        scores = self.run(state.ema_params)
        if state.ema_slow_params is not None:
            slow = self.run(state.ema_slow_params)
            scores |= {f"slow/{name}": value for name, value in slow.items()}
        return processes.from_first(scores)

    def run(self, params: Params) -> dict[str, float]:
        """name -> score of the generator with these (averaged) parameters.

        Raises:
          UserError: `eval.best_metric` is not among them.
        """

        def draw(captioned: CaptionedSet, batch_size: int) -> Iterator[np.ndarray]:
            indices = np.arange(len(captioned))
            yield from self._drawer.batches(params, indices, self._text(captioned), batch_size)

        options = self._experiment.config.eval
        scores = run_evaluators(self._evaluators, draw, batch_size=options.batch_size)
        values = {score.name: score.value for score in scores}
        check_scored(options.best_metric, values)
        return values

    def _text(self, captioned: CaptionedSet) -> Text | None:
        """The set's captions, encoded on first use, and what an upsampler enlarges."""
        experiment, text = self._experiment, None
        if captioned.name not in self._texts:
            if experiment.text_encoder is not None:
                text = encode_captions(
                    experiment.text_encoder, captioned.captions or [], experiment.config.text
                )
            images = captioned.real_images(experiment.config.eval.batch_size)
            self._texts[captioned.name] = with_real_pictures(experiment.generator, text, images)
        return self._texts[captioned.name]
