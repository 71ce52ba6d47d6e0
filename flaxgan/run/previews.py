"""Sample grids during training: fixed prompts x fixed noise."""

from pathlib import Path

import jax
import numpy as np

from flaxgan.data import CaptionedImages
from flaxgan.drawing import grids
from flaxgan.drawing.drawer import Drawer
from flaxgan.images import to_uint8
from flaxgan.models.given_pictures import is_given_pictures, with_real_pictures
from flaxgan.run.experiment import Experiment
from flaxgan.text import encode_captions
from flaxgan.text.conditioning import Text
from flaxgan.training import processes
from flaxgan.training.state import Params


class SampleGrid:
    """Draws the averaged generator on captions that training never saw."""

    def __init__(self, experiment: Experiment, drawer: Drawer, test: CaptionedImages):
        """Encodes the prompts once.

        Args:
          experiment: the run.
          drawer: of its generator.
          test: the split whose first captions are the prompts, unless the config names some.
        """
        config = experiment.config
        self._drawer, self._cols = drawer, config.train.grid_cols
        self.prompts = [""] * config.train.grid_rows
        self._text: Text | None = None
        if experiment.text_encoder is not None:
            count = min(config.train.grid_rows, len(test))
            captions = [test.captions(row)[0] for row in range(count)]
            prompts = list(config.train.grid_prompts) or captions
            self._text = encode_captions(experiment.text_encoder, prompts, config.text)
            self.prompts = [prompt or grids.NO_PROMPT for prompt in prompts]
        self._real: np.ndarray | None = None
        if is_given_pictures(experiment.generator):
            self._real = np.stack([test.image(i % len(test)) for i in range(len(self.prompts))])
            self._text = with_real_pictures(experiment.generator, self._text, [self._real])

    def grid(self, params: Params) -> np.ndarray:
        """`[rows, cols, h, w, c]` uint8: one row per prompt, the same noise in every row.

        Where the generator is given pictures, a row begins with that one, its pixels enlarged or
        with a grey hole, and ends with the real one.
        """
        indices = np.tile(np.arange(self._cols), len(self.prompts))
        text = jax.tree.map(lambda x: np.repeat(x, self._cols, axis=0), self._text)
        images = self._drawer.draw(params, indices, text)
        images = images.reshape(len(self.prompts), self._cols, *images.shape[1:])
        if self._real is None:
            return images
        small = np.asarray(to_uint8(self._text.picture[..., : images.shape[-1]]))
        times = images.shape[2] // small.shape[1]
        given = small.repeat(times, axis=1).repeat(times, axis=2)
        return np.concatenate([given[:, None], images, self._real[:, None]], axis=1)

    def save(self, params: Params, path: Path) -> np.ndarray:
        """Draws the grid, and in the first process writes it; returns its pixels `[h, w, 3]`.

        Raises:
          OSError: the file cannot be written.
        """
        images = self.grid(params)
        picture = grids.grid_png(images, self.prompts)
        if processes.is_first():
            path.parent.mkdir(parents=True, exist_ok=True)
            grids.save_png(picture, path, {})
        return np.asarray(picture.convert("RGB"))
