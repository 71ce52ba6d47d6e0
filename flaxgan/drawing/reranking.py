"""Which of several pictures fits a prompt best: the trained discriminator's own match of the two.

Reference: Ramesh et al. 2021 (DALL-E), section 2.6, "Sample Generation": many candidates, of which
a contrastive model keeps the best. There it was CLIP; here it is the head that was trained with the
generator, so that no network is asked that would also score the pictures.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np
from jax import Array

from flaxgan.config import Config
from flaxgan.drawing.drawer import in_batches
from flaxgan.errors import UserError
from flaxgan.images import to_float
from flaxgan.saving.generator_file import SUFFIX, read_discriminator
from flaxgan.text.conditioning import Text, TextStats, standardise

BATCH = 64


@dataclasses.dataclass(frozen=True)
class Matcher:
    """The space that images and captions share: see `flaxgan.models.matching.JointEmbedding`.

    Attributes:
      discriminator: with `embed_dim` > 0.
      params: its parameters.
      text_stats: see `TrainState`.
    """

    discriminator: nn.Module
    params: Any
    text_stats: TextStats | None

    def scores(self, images: np.ndarray, text: Text) -> np.ndarray:
        """How well pictures fit their prompts, larger is better.

        Args:
          images: `[p, n, h, w, c]` uint8, n of each prompt.
          text: prompts `[p, …]`.

        Returns:
          `[p, n]` float32, cosines times the learned inverse temperature, which is the same for
          all: what the contrastive loss compares.
        """
        p, n, *shape = images.shape
        flat = images.reshape(p * n, *shape)
        parts = in_batches(lambda x, _: self._of_images(x), flat, None, min(BATCH, len(flat)))
        of_images = np.concatenate(list(parts)).reshape(p, n, -1)
        of_text = _embed_text(self.params, text, self.text_stats, discriminator=self.discriminator)
        return np.einsum("pne,pe->pn", of_images, np.asarray(of_text))

    def _of_images(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(_embed_images(self.params, images, discriminator=self.discriminator))


@functools.partial(jax.jit, static_argnames="discriminator")
def _embed_images(params: Any, images: Array, *, discriminator: nn.Module) -> Array:
    """`[b, h, w, c]` uint8 to `[b, e]`."""

    def embed(module: nn.Module) -> Array:
        return module.embed_image(module.image_features(to_float(images)))

    return discriminator.apply({"params": params}, method=embed)


@functools.partial(jax.jit, static_argnames="discriminator")
def _embed_text(
    params: Any, text: Text, text_stats: TextStats | None, *, discriminator: nn.Module
) -> Array:
    """Captions `[b, …]` to `[b, e]`."""

    def embed(module: nn.Module) -> Array:
        return module.embed_text(module.encode_text(standardise(text, text_stats)))

    return discriminator.apply({"params": params}, method=embed)


def load_matcher(
    path: Path, config: Config, meta: dict[str, Any], text_stats: TextStats | None
) -> Matcher:
    """The matcher that was trained with a generator.

    Args:
      path: the generator's checkpoint or exported file.
      config: of its run.
      meta: the checkpoint's, or the file's header.
      text_stats: of the generator.

    Raises:
      UserError: the discriminator is not there or not intact, or compares no images with captions.
    """
    from flaxgan.models import build_models

    if not config.model.embed_dim or config.text.encoder == "none":
        raise UserError(
            f"{config.name} has no matching head to choose by: train with --model.embed-dim 128 "
            "and --loss.contrastive-d-weight 1"
        )
    params: Any
    if path.suffix == SUFFIX:
        tensors = read_discriminator(path, meta)
        if tensors is None:
            raise UserError(
                f"{path.name} has no discriminator beside it to choose by: export it again with "
                "--discriminator"
            )
        params = flax.traverse_util.unflatten_dict(tensors, sep="/")
    else:
        from flaxgan.saving.restore import restore_networks  # Orbax is slow to import

        params = restore_networks(path)[0]["d_params"]
    discriminator = build_models(config)[1]
    params = jax.tree.map(lambda x: jax.device_put(x, jax.local_devices()[0]), params)
    return Matcher(discriminator, params, text_stats)
