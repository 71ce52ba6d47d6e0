"""What a run shows of itself: fixed prompts x fixed noise, and pictures for the evaluators."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from flaxgan import parallel, picture_grid
from flaxgan.data import open_dataset
from flaxgan.experiment import Experiment, encode_captions
from flaxgan.sampling import sample, sample_batched
from flaxgan.state import Params
from flaxgan.text.conditioning import Text

EVAL_IMAGES = 512
DRAW_BATCH = 64


class SampleGrid:
    """Draws the averaged generator on captions that training never saw."""

    def __init__(self, experiment: Experiment, devices: Sequence[jax.Device]):
        """Reads test captions and pictures, and encodes the captions once."""
        config = experiment.config
        self._experiment, self._devices = experiment, list(devices)
        data = config.data
        test = (
            experiment.dataset
            if data.test_split == data.split
            else open_dataset(dataclasses.replace(data, max_captions=0), data.test_split)
        )
        count = min(EVAL_IMAGES, len(test))
        self.real_images = np.stack([test.image(i) for i in range(count)])
        self._test_text: Text | None = None
        self.prompts = [""] * config.train.grid_rows
        self._prompt_text: Text | None = None
        if experiment.text_encoder is not None:
            captions = [test.captions(i)[0] for i in range(count)]
            self.prompts = list(config.train.grid_prompts) or captions[: config.train.grid_rows]
            encode = functools.partial(encode_captions, experiment.text_encoder, config=config)
            self._test_text = encode(captions=captions)
            self._prompt_text = encode(captions=self.prompts)

    def grid(self, params: Params) -> np.ndarray:
        """`[rows, cols, h, w, c]` uint8: one row per prompt, the same noise in every row."""
        cols = self._experiment.config.train.grid_cols
        indices = np.tile(np.arange(cols), len(self.prompts))
        text = jax.tree.map(lambda x: np.repeat(x, cols, axis=0), self._prompt_text)
        images = self._draw(params, indices, text)
        return images.reshape(len(self.prompts), cols, *images.shape[1:])

    def test_images(self, params: Params) -> np.ndarray:
        """`[n, h, w, c]` uint8: one picture for each test caption, each with its own noise."""
        return self._draw(params, np.arange(len(self.real_images)), self._test_text)

    def save(self, params: Params, path: Path) -> np.ndarray:
        """Writes the grid as a PNG with captions; returns its pixels `[h, w, 3]`."""
        images = self.grid(params)
        picture = picture_grid.grid_png(images, self.prompts)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture_grid.save_png(picture, path, {})
        return np.asarray(picture.convert("RGB"))

    def _draw(self, params: Params, indices: np.ndarray, text: Text | None) -> np.ndarray:
        experiment = self._experiment
        batch_size = DRAW_BATCH * len(self._devices)

        def draw(indices: np.ndarray, text: Text | None) -> jax.Array:
            indices, text = parallel.shard_rows((indices, text), self._devices)
            return sample(
                params,
                indices,
                text,
                generator=experiment.generator,
                z_dim=experiment.config.model.z_dim,
                text_stats=experiment.text_stats,
            )

        # a multiple of the devices even when there are few images
        count = len(indices)
        padding = max(0, -count % len(self._devices)) if count < batch_size else 0
        indices, text = jax.tree.map(
            lambda x: np.concatenate([x, np.repeat(x[-1:], padding, axis=0)]), (indices, text)
        )
        return sample_batched(draw, indices, text, batch_size)[:count]
