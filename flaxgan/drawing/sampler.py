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
from flaxgan.images import to_float
from flaxgan.models.low_pictures import enlarges
from flaxgan.text.conditioning import Text, TextStats
from flaxgan.training.state import Params

MOST_PIXELS = 1_048_576  # of a picture that is enlarged
PIXELS_AT_ONCE = 65_536  # of a batch of them: 16 times 64 x 64


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
        if self.enlarges:
            raise UserError(
                f"{self.config.name} enlarges pictures, and draws none: use flaxgan upsample, or "
                "Sampler.upsample"
            )
        text = None
        if self.text_encoder is not None:
            text = jax.tree.map(lambda x: np.repeat(np.asarray(x), num, axis=0), self.encode(rows))
        indices = np.tile(np.arange(num), len(rows))
        drawn = self.batches(indices, text, seed=seed, batch_size=batch_size)
        images = np.concatenate(list(drawn))
        images = images.reshape(len(rows), num, *images.shape[1:])
        return images[0] if isinstance(prompts, str) else images

    @property
    def enlarges(self) -> bool:
        """Whether it makes pictures from smaller ones: see `upsample`."""
        return enlarges(self.generator)

    @property
    def times(self) -> int:
        """How many times as wide and high `upsample` makes a picture."""
        return self.config.model.patch if self.enlarges else 1

    def upsample(
        self,
        images: np.ndarray,
        prompts: str | Sequence[str] = "",
        *,
        seed: int = 0,
        batch_size: int = 16,
    ) -> np.ndarray:
        """Enlarges pictures, which may have any size, `times` times.

        Args:
          images: `[n, h, w, c]` uint8, or one, `[h, w, c]`.
          prompts: what they show: one text for all, or one for each. "": nothing is said.
          seed: of the noise, in [0, 2^32).
          batch_size: pictures enlarged at once, at least 1; less where they are large.

        Returns:
          `[n, times h, times w, c]` uint8, or of one picture `[times h, times w, c]`.

        Raises:
          UserError: this generator enlarges nothing, or was never trained without a prompt and
            gets none; pictures of another kind, of more than MOST_PIXELS, or not as many as
            prompts; or a number out of range.
        """
        if not self.enlarges:
            raise UserError(
                f"{self.config.name} draws pictures, and enlarges none: load an upsampler, such as "
                "avatars.upsampler"
            )
        seed = _whole("seed", seed, 0, 2**32)
        batch_size = _whole("batch_size", batch_size, 1)
        images = np.asarray(images)
        if images.ndim == 3:
            return self.upsample(images[None], prompts, seed=seed, batch_size=batch_size)[0]
        n, h, w = self._checked(images)
        text = self._prompts_of(prompts, n)
        small = (text or Text()).replace(picture=np.asarray(to_float(images)))
        at_once = max(1, min(batch_size, PIXELS_AT_ONCE // (h * w)))
        drawn = self.batches(np.arange(n), small, seed=seed, batch_size=at_once)
        return np.concatenate(list(drawn))

    def _checked(self, images: np.ndarray) -> tuple[int, int, int]:
        """Number, height and width of pictures that can be enlarged."""
        channels = self.config.data.channels
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != channels:
            raise UserError(
                f"images must be uint8 of shape [n, h, w, {channels}], not {images.dtype} of shape "
                f"{list(images.shape)}"
            )
        n, h, w, _ = images.shape
        if not images.size:
            raise UserError(f"images must hold pixels; their shape is {list(images.shape)}")
        if h * w > MOST_PIXELS:
            raise UserError(
                f"a picture of {w} x {h} pixels is too large to enlarge {self.times} times: at "
                f"most {MOST_PIXELS:,} pixels"
            )
        return n, h, w

    def _prompts_of(self, prompts: str | Sequence[str], count: int) -> Text | None:
        """The text of `count` pictures; None where the generator reads none."""
        rows = _as_list(prompts)
        if isinstance(prompts, str):
            rows = rows * count
        if len(rows) != count:
            raise UserError(
                f"{count} pictures need {count} prompts, or one for all, not {len(rows)}"
            )
        if self.text_encoder is None:
            return None
        if "" in rows and not self.config.data.caption_dropout:
            raise UserError(
                f"{self.config.name} was not trained without prompts: say what the picture shows, "
                "or train it with --data.caption-dropout 0.2"
            )
        return self.encode(rows)

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
