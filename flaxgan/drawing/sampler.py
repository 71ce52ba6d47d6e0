"""Prompt -> tokens -> z -> images, batched; shared by sample.py, sample grids and evaluators."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flaxgan import rng
from flaxgan.config import Config, from_json
from flaxgan.errors import UserError
from flaxgan.images import to_uint8
from flaxgan.saving import generator_file
from flaxgan.saving.finding import newest_intact
from flaxgan.saving.meta import read_meta
from flaxgan.text.conditioning import Text, TextStats, standardise
from flaxgan.training.state import Params


@functools.partial(jax.jit, static_argnames=("generator", "z_dim"))
def sample(
    params: Params,
    indices: Array,
    text: Text | None = None,
    *,
    generator: nn.Module,
    z_dim: int,
    seed: int | Array = 0,
    text_stats: TextStats | None = None,
) -> Array:
    """Draws images, one for each index.

    Args:
      params: generator parameters, usually `state.ema_params`.
      indices: `[b]` int, which noise vectors of the seed: the same (seed, index) is the same z.
      text: captions `[b, …]`; None for an unconditional generator.
      generator: the module of `params`.
      z_dim: size of the noise vector.
      seed: of the noise.
      text_stats: as in `TrainState`; None: sentence vectors are used as they are.

    Returns:
      `[b, h, w, c]` uint8.
    """
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
        rng.stream(jax.random.key(seed), "sample"), indices
    )
    text = text and standardise(text, text_stats)
    return to_uint8(generator.apply({"params": params}, rng.normal(keys, z_dim), text))


Draw = Callable[[np.ndarray, Text | None], Array]


def sample_batches(
    draw: Draw, indices: np.ndarray, text: Text | None, batch_size: int
) -> Iterator[np.ndarray]:
    """Calls `draw(indices [batch_size], text)` over any number of images, compiling one shape.

    Yields:
      `[<= batch_size, h, w, c]` uint8, in the order of `indices [n]`.
    """
    for start in range(0, len(indices), batch_size):
        part = jax.tree.map(lambda x: x[start : start + batch_size], (indices, text))  # noqa: B023
        size = len(part[0])
        padded = jax.tree.map(
            lambda x: np.concatenate([x, np.repeat(x[-1:], batch_size - size, axis=0)]),  # noqa: B023
            part,
        )
        yield np.asarray(draw(*padded))[:size]


def sample_batched(
    draw: Draw, indices: np.ndarray, text: Text | None, batch_size: int
) -> np.ndarray:
    """All of `sample_batches` at once: `[n, h, w, c]` uint8."""
    return np.concatenate(list(sample_batches(draw, indices, text, min(batch_size, len(indices)))))


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A trained generator with its text encoder: prompts in, pictures out.

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

    @property
    def images_seen(self) -> int:
        """Real images that it was trained on, counted anew in every epoch."""
        return self.step * self.config.train.batch_size

    def __call__(
        self, prompts: Sequence[str], *, num: int = 1, seed: int = 0, batch_size: int = 16
    ) -> np.ndarray:
        """Draws `num` pictures of each prompt; picture k of every prompt has the same z.

        Args:
          prompts: any number; for an unconditional generator they are not read.
          num: pictures of each prompt.
          seed: of the noise.
          batch_size: pictures drawn at once.

        Returns:
          `[len(prompts), num, h, w, c]` uint8.
        """
        text = None
        if self.text_encoder is not None:
            text = jax.tree.map(
                lambda x: np.repeat(np.asarray(x), num, axis=0), self.encode(prompts)
            )
        draw = functools.partial(
            sample,
            self.params,
            generator=self.generator,
            z_dim=self.config.model.z_dim,
            seed=np.uint32(seed),
            text_stats=self.text_stats,
        )
        indices = np.tile(np.arange(num), len(prompts))
        images = sample_batched(draw, indices, text, batch_size)
        return images.reshape(len(prompts), num, *images.shape[1:])

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


def load_sampler(
    path: Path, report: Callable[[str], None] = print, *, slow: bool = False
) -> Sampler:
    """Loads the averaged generator of a checkpoint, and nothing else of the train state.

    Args:
      path: a workdir or its `checkpoints` folder (the newest intact checkpoint is used, broken
        ones are reported), one checkpoint, or a file made by `flaxgan.commands.export`.
      report: called with one line for each broken checkpoint that is passed over.
      slow: the second average, `train.ema_slow_halflife_kimg`; a file has one generator only.

    Raises:
      UserError: no checkpoint, none intact, or no second average.
    """
    if path.suffix == generator_file.SUFFIX:
        if slow:
            raise UserError(f"{path.name} holds one generator: leave out --slow")
        return _load_file(path)
    item = "ema_slow" if slow else "ema"
    return newest_intact(path, lambda folder: _load_checkpoint(folder, item), report)


def _load_checkpoint(folder: Path, item: str) -> Sampler:
    from flaxgan.saving.restore import restore_ema  # Orbax is slow to import; a file needs none

    meta = read_meta(folder)
    return _load(
        folder,
        meta,
        step=_count(folder, meta, "next_index"),
        restore=lambda target: restore_ema(folder, target, item)[0],
    )


def _load_file(path: Path) -> Sampler:
    header = generator_file.read_header(path)
    return _load(
        path,
        header,
        step=_count(path, header, "step"),
        restore=lambda target: generator_file.read_generator(path, target),
    )


def _load(path: Path, meta: dict[str, Any], *, step: int, restore: Callable[[Any], Any]) -> Sampler:
    """Builds what the config describes; `restore` fills its abstract parameters."""
    from flaxgan.models import build_models
    from flaxgan.text import build_text_encoder

    config = config_of(path, meta)
    encoder = build_text_encoder(config.text)
    sentence_dim = None if encoder is None or encoder.learned else encoder.dim
    generator, _ = build_models(config, sentence_dim=sentence_dim)
    item = restore(_abstract_ema(generator, config, encoder))
    return Sampler(
        config=config,
        generator=generator,
        params=item["params"],
        text_encoder=encoder,
        text_stats=item["text_stats"],
        checkpoint=path,
        step=step,
        meta=meta,
    )


def _count(path: Path, meta: dict[str, Any], name: str) -> int:
    value = meta.get(name)
    if type(value) is not int or not 0 <= value < 2**31:
        raise UserError(f"{path} is not intact: its meta says no {name}")
    return value


def config_of(path: Path, meta: dict[str, Any]) -> Config:
    """The config of a checkpoint's meta, or of an exported file's header.

    Raises:
      UserError: another version of flaxgan wrote it.
    """
    text = meta.get("config")
    if not isinstance(text, str):
        raise UserError(f"{path} is not intact: its meta has no config")
    try:
        return from_json(text)
    except UserError as error:
        raise UserError(f"{path} was saved by another version of flaxgan: {error}") from error


def _abstract_ema(generator: nn.Module, config: Config, encoder: Any) -> dict[str, Any]:
    """Shapes of the averaged parameters and of the text statistics, without computing them."""
    text = stats = None
    if encoder is not None and encoder.learned:
        text = encode_text(encoder, [""])
    elif encoder is not None:
        vector = jax.ShapeDtypeStruct((encoder.dim,), jnp.float32)
        stats = TextStats(mean=vector, sd=vector)
        text = Text(sentence_emb=np.zeros((1, encoder.dim), np.float32))
    z = np.zeros((1, config.model.z_dim), np.float32)
    params = jax.eval_shape(lambda: generator.init(jax.random.key(0), z, text)["params"])
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
        {"params": params, "text_stats": stats},
    )
