"""A trained generator as one object: prompts in, pictures out."""

import dataclasses
import operator
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from flaxgan.config import Config
from flaxgan.drawing.drawer import Drawer
from flaxgan.errors import UserError
from flaxgan.text.conditioning import Text, TextStats
from flaxgan.training.state import Params


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A trained generator with its text encoder: prompts in, pictures out.

    `flaxgan.load` makes one. It draws on all devices of this process.

    Attributes:
      config: of the training run.
      generator: the module.
      params: averaged parameters.
      text_encoder: None for an unconditional generator.
      text_stats: see `TrainState`.
      checkpoint: the folder or the exported file that it was read from.
      step: of training, at which it was saved.
      meta: JSON saved with the checkpoint.
    """

    config: Config
    generator: nn.Module
    params: Params
    text_encoder: Any
    text_stats: TextStats | None
    checkpoint: Path
    step: int
    meta: dict[str, Any]
    # number of devices -> a drawer for them, and the parameters that are there
    _drawers: dict[int, tuple[Drawer, Params]] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def images_seen(self) -> int:
        """Real images that it was trained on, counted anew in every epoch."""
        return self.step * self.config.train.batch_size

    def __call__(
        self, prompts: str | Sequence[str], *, num: int = 1, seed: int = 0, batch_size: int = 16
    ) -> np.ndarray:
        """Draws `num` pictures of each prompt; picture k of every prompt has the same noise.

        Args:
          prompts: one, or any number of them; an unconditional generator does not read them.
          num: pictures of each prompt, at least 1.
          seed: of the noise, in [0, 2^32).
          batch_size: pictures drawn at once, at least 1; rounded up to a multiple of the devices.

        Returns:
          `[num, h, w, c]` uint8 for one string, `[len(prompts), num, h, w, c]` for a sequence.

        Raises:
          UserError: no prompt, one that is no string, or a number out of range.
        """
        num = _whole("num", num, 1)
        seed = _whole("seed", seed, 0, 2**32)
        batch_size = _whole("batch_size", batch_size, 1)
        rows = _as_list(prompts)
        text = None
        if self.text_encoder is not None:
            text = jax.tree.map(lambda x: np.repeat(np.asarray(x), num, axis=0), self.encode(rows))
        indices = np.tile(np.arange(num), len(rows))
        drawn = self.batches(indices, text, seed=seed, batch_size=batch_size)
        images = np.concatenate(list(drawn))
        images = images.reshape(len(rows), num, *images.shape[1:])
        return images[0] if isinstance(prompts, str) else images

    def batches(
        self, indices: np.ndarray, text: Text | None, *, seed: int = 0, batch_size: int = 16
    ) -> Iterator[np.ndarray]:
        """Draws one picture for each index, in order.

        Args:
          indices: `[n]` int, which noise vectors of the seed: the same (seed, index) is the same
            noise.
          text: of `encode`, `[n, …]`; None for an unconditional generator.
          seed: of the noise.
          batch_size: pictures at once, rounded up to a multiple of the devices.

        Yields:
          `[<= batch_size, h, w, c]` uint8.
        """
        devices = jax.local_devices()
        if len(indices) < len(devices):
            devices = devices[:1]  # too few pictures to give each device one
        if len(devices) not in self._drawers:
            drawer = Drawer(self.generator, self.config.model.z_dim, self.text_stats, devices)
            params, text_stats = drawer.place(self.params)
            drawer = dataclasses.replace(drawer, text_stats=text_stats)
            self._drawers[len(devices)] = drawer, params
        drawer, params = self._drawers[len(devices)]
        yield from drawer.batches(params, indices, text, batch_size, seed)

    def encode(self, prompts: Sequence[str]) -> Text:
        """The prompts as the generator's text input, one row each."""
        return encode_text(self.text_encoder, prompts)


def encode_text(encoder: Any, captions: Sequence[str]) -> Text:
    """Tokens for a learned encoder, sentence vectors for a frozen one.

    Args:
      encoder: of `flaxgan.text.build_text_encoder`.
      captions: any number.
    """
    from flaxgan.text.encoder import jit_encode

    tokens, mask = encoder.tokenize(list(captions))
    if encoder.learned:
        return encoder.look_up(Text(tokens=tokens, mask=mask))
    return Text(sentence_emb=jit_encode(encoder)(encoder.params, tokens, mask))


def _as_list(prompts: Any) -> list[str]:
    """One prompt or several as a list.

    Raises:
      UserError: there is none, or one is no string.
    """
    rows = [prompts] if isinstance(prompts, str) else prompts
    if not isinstance(rows, Sequence | np.ndarray) or isinstance(rows, bytes):
        raise UserError(f"prompts must be a string or a list of strings, not {prompts!r:.80}")
    rows = list(rows)
    if not rows:
        raise UserError("no prompt: give at least one")
    for row in rows:
        if not isinstance(row, str):
            raise UserError(f"a prompt must be a string, not {row!r:.80}")
    return rows


def _whole(name: str, value: Any, low: int, end: int | None = None) -> int:
    """A whole number in [low, end).

    Raises:
      UserError: it is none, or out of range.
    """
    limits = f"at least {low}" if end is None else f"in [{low}, {end})"
    try:
        number = operator.index(value)
    except TypeError as error:
        raise UserError(f"{name} must be a whole number, {limits}, not {value!r:.80}") from error
    if number < low or (end is not None and number >= end):
        raise UserError(f"{name} must be {limits}, not {value}")
    return number
