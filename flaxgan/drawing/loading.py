"""From a name or a path to a `Sampler`: the averaged generator of a run, a file or the package."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from flaxgan.config import Config, from_json
from flaxgan.drawing.bundled import all_bundled
from flaxgan.drawing.sampler import Sampler, encode_text
from flaxgan.errors import UserError
from flaxgan.models.given_pictures import with_picture
from flaxgan.saving import generator_file
from flaxgan.saving.hub import download, is_hub_name
from flaxgan.text.conditioning import Text, TextStats
from flaxgan.times import part


def load(what: str | Path, *, slow: bool = False) -> Sampler:
    """Loads a trained generator to draw with.

    Args:
      what: the name of a bundled model ("avatars", "avatars.upsampler" …), or a path: a run (its
        newest intact checkpoint), its `checkpoints` folder, one checkpoint, or a file made by
        `flaxgan export`; or "hub:user/name", or "hub:user/name@revision", a model on the Hugging
        Face Hub (extra `hub`).
      slow: the second averaged generator of a run, of `train.ema_slow_halflife_kimg`; a bundled
        model or a file has one generator only.

    Raises:
      UserError: there is nothing of that name, no intact checkpoint, or no second average; of the
        hub, also no network, or no right to read it.
    """
    if is_hub_name(what):
        found = download(what)
        return dataclasses.replace(load_sampler(found.path, slow=slow), source=found.source)
    models = all_bundled()
    if isinstance(what, str) and what in models:
        return load_sampler(models[what], slow=slow)
    path = Path(what)
    if not os.path.exists(path):  # unlike Path.exists, without an error for impossible names
        raise UserError(
            f"there is no bundled model and no path {str(what)!r}: give one of "
            f"{', '.join(models) or 'the bundled models (this installation has none)'}, or the "
            f"path of a run, of a checkpoint or of a {generator_file.SUFFIX} file"
        )
    return load_sampler(path, slow=slow)


def load_sampler(
    path: Path, report: Callable[[str], None] = print, *, slow: bool = False
) -> Sampler:
    """Loads the averaged generator of a checkpoint, and nothing else of the train state.

    Args:
      path: a workdir or its `checkpoints` folder (the newest intact checkpoint is used, broken
        ones are reported), one checkpoint, or a file made by `flaxgan export`.
      report: called with one line for each broken checkpoint that is passed over.
      slow: the second average, `train.ema_slow_halflife_kimg`; a file has one generator only.

    Raises:
      UserError: no checkpoint, none intact, or no second average.
    """
    if path.suffix == generator_file.SUFFIX:
        if slow:
            raise UserError(f"{path.name} has no slow EMA: remove --slow")
        return _load_file(path)
    from flaxgan.saving.finding import newest_intact

    item = "ema_slow" if slow else "ema"
    return newest_intact(path, lambda folder: _load_checkpoint(folder, item), report)


def _load_checkpoint(folder: Path, item: str) -> Sampler:
    from flaxgan.saving.meta import read_meta
    from flaxgan.saving.restore import restore_ema  # Orbax is slow to import: a file does without

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
    with part("  imports of models and text"):
        from flaxgan.models import build_models
        from flaxgan.text import build_text_encoder

    config = config_of(path, meta)
    with part("  text encoder: tokenizer and weights"):
        encoder = build_text_encoder(config.text)
    sentence_dim = None if encoder is None or encoder.learned else encoder.dim
    generator, _ = build_models(config, sentence_dim=sentence_dim)
    with part("  shapes of the generator"):
        target = _abstract_ema(generator, config, encoder)
    with part("  weights of the generator"):
        item = restore(target)
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
        raise UserError(f"{path} is not intact: its metadata lacks {name}")
    return value


def config_of(path: Path, meta: dict[str, Any]) -> Config:
    """The config of a checkpoint's meta, or of an exported file's header.

    Raises:
      UserError: another version of flaxgan wrote it.
    """
    text = meta.get("config")
    if not isinstance(text, str):
        raise UserError(f"{path} is not intact: its metadata has no config")
    try:
        return from_json(text)
    except UserError as error:
        raise UserError(f"{path} was saved by another version of flaxgan: {error}") from error


def _abstract_stats(dim: int) -> TextStats:
    vector = jax.ShapeDtypeStruct((dim,), jnp.float32)
    return TextStats(mean=vector, sd=vector)


def _blank_text(encoder: Any) -> Text:
    """Text of the shapes that a learned encoder gives; frozen vectors are not computed."""
    width = getattr(encoder, "word_dim", None)
    if width is None:
        return encode_text(encoder, [""])
    tokens, mask = encoder.tokenize([""])
    return Text(token_emb=np.zeros((*tokens.shape, width), np.float16), mask=mask)


def _abstract_ema(generator: nn.Module, config: Config, encoder: Any) -> dict[str, Any]:
    """Shapes of the averaged parameters and of the text statistics, without computing them."""
    text = stats = None
    if encoder is not None and encoder.learned:
        text = _blank_text(encoder)
        if encoder.standardised:
            stats = _abstract_stats(text.token_emb.shape[-1])
    elif encoder is not None:
        stats = _abstract_stats(encoder.dim)
        text = Text(sentence_emb=np.zeros((1, encoder.dim), np.float32))
    z = np.zeros((1, config.model.z_dim), np.float32)
    side, channels = config.data.resolution, config.data.channels

    def init() -> Any:
        images = jnp.zeros((1, side, side, channels))
        return generator.init(jax.random.key(0), z, with_picture(generator, text, images))["params"]

    params = jax.eval_shape(init)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
        {"params": params, "text_stats": stats},
    )
