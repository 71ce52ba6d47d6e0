"""Variations of pictures, and edits by words, from what `flaxgan.drawing.inversion` found.

Reference: Ramesh et al. 2022 (DALL-E 2), "Hierarchical Text-Conditional Image Generation with CLIP
  Latents", section 3.1 (variations) and 3.3 (text diffs). There a picture is a CLIP vector and
  diffusion noise, and a text diff turns that vector; here it is noise and offsets of w, and the
  caption itself is exchanged (deviation). What the inversion could not reproduce is added back
  where nothing changes.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from flaxgan.drawing.drawer import in_batches, noise
from flaxgan.drawing.inversion import Latents, Search, draw_latents, invert
from flaxgan.drawing.walks import mix_texts, slerp
from flaxgan.images import to_float
from flaxgan.text.conditioning import TextFeatures
from flaxgan.training import parallel

FAR = 0.15  # a root mean square above which a reconstruction shows something else
CHANGE, SURE = 0.1, 0.2  # of [-1, 1]: a change of a pixel from CHANGE to SURE counts as 0 to 1
BLUR, GAIN = 0.7, 1.5  # standard deviation in pixels, and what makes up for it where all is changed


@dataclasses.dataclass(frozen=True)
class Inversion:
    """Pictures, and what a generator draws them from.

    Attributes:
      pictures: `[n, h, w, c]` float in [-1, 1].
      latents: `[n, …]`, NumPy.
      text: features `[n, …]` of the captions, without offsets; None: the generator reads none.
      distance: `[n]` in [0, 1], of the reconstructions: see `inversion.root_mean_square`. Above
        FAR a reconstruction shows something else.
    """

    pictures: np.ndarray
    latents: Latents
    text: TextFeatures | None
    distance: np.ndarray

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.pictures)


@dataclasses.dataclass(frozen=True)
class Editor:
    """A generator that inverts, varies and edits.

    Attributes:
      generator: the module.
      params: of it.
      z_dim: size of noise.
      w_dim: size of w; not read without w.
    """

    generator: nn.Module
    params: Any
    z_dim: int
    w_dim: int

    def invert(
        self,
        pictures: np.ndarray,
        text: TextFeatures | None,
        *,
        free_text: bool,
        seed: int,
        batch_size: int,
        search: Search,
        advance: Callable[[int], None] | None,
    ) -> Inversion:
        """See `Sampler.invert`.

        Args:
          pictures: `[n, h, w, c]` uint8.
          text: features `[n, …]`.
          free_text: whether the text is sought, around `text`.
          seed: of the noises that are tried.
          batch_size: pictures at once.
          search: how hard.
          advance: see `inversion.invert`.
        """
        devices = jax.local_devices()
        devices = devices[:1] if len(pictures) < len(devices) else devices
        noises = noise(np.arange(search.candidates), self.z_dim, seed)
        params, noises = parallel.replicate((self.params, noises), devices)

        def find(pictures: np.ndarray, text: TextFeatures | None) -> Any:
            rows = parallel.shard_rows((pictures, text), devices)
            return invert(
                params,
                *rows,
                noises,
                generator=self.generator,
                w_dim=self.w_dim,
                free_text=free_text,
                search=search,
                advance=advance,
            )

        pictures = np.asarray(to_float(pictures))
        size = parallel.even_batch_size(batch_size, len(pictures), len(devices))
        parts = [
            jax.tree.map(np.asarray, found) for found in in_batches(find, pictures, text, size)
        ]
        latents, distance = jax.tree.map(lambda *x: np.concatenate(x), *parts)
        return Inversion(pictures, latents, text, distance)

    def draw(self, latents: Latents, text: TextFeatures | None, batch_size: int) -> np.ndarray:
        """`[n, h, w, c]` float: what latents `[n, …]` and text features `[n, …]` draw."""

        def draw(_: np.ndarray, rows: tuple[Latents, TextFeatures | None]) -> np.ndarray:
            return np.asarray(draw_latents(self.params, *rows, generator=self.generator))

        count = len(latents.z)
        rows = in_batches(draw, np.arange(count), (latents, text), min(batch_size, count))
        return np.concatenate(list(rows))

    def vary(
        self, found: Inversion, num: int, *, strength: float, residual: float, seed: int, batch: int
    ) -> np.ndarray:
        """See `Sampler.vary`: `[n, num, h, w, c]` float.

        Noise goes strength^2 of the way: a tenth of it already changes colours.
        """
        n, share = len(found), strength**2
        others = np.asarray(noise(np.arange(n * num), self.z_dim, seed)).reshape(n, num, -1)
        z = slerp(found.latents.z[:, None], others, np.full((n, num), share, np.float32))
        latents = _repeat(found.latents, num)
        w = None if latents.w is None else (1.0 - share) * latents.w
        latents = latents.replace(z=z.reshape(n * num, -1), w=w)
        drawn = self.draw(latents, _repeat(_float_mask(found.text), num), batch)
        drawn = drawn.reshape(n, num, *drawn.shape[1:])
        weight = np.float32((1.0 - share) * residual)
        return self._completed(found, drawn, weight, batch)

    def edit(
        self,
        found: Inversion,
        text: TextFeatures,
        strengths: np.ndarray,
        *,
        residual: float,
        batch: int,
    ) -> np.ndarray:
        """See `Sampler.edit`.

        Args:
          found: inverted under the captions that are left.
          text: features `[n, …]` of the captions that are asked for.
          strengths: `[k]`, how far between the two.
          residual: in [0, 1].
          batch: pictures at once.

        Returns:
          `[n, k, h, w, c]` float.
        """
        n, k = len(found), len(strengths)
        pairs = zip(_rows(found.text), _rows(text), strict=True)
        mixed = [mix_texts(*pair, strengths) for pair in pairs]
        words = jax.tree.map(lambda *x: np.concatenate(x), *mixed)
        drawn = self.draw(_repeat(found.latents, k), words, batch)
        drawn = drawn.reshape(n, k, *drawn.shape[1:])
        return self._completed(found, drawn, np.float32(residual), batch)

    def _completed(
        self, found: Inversion, drawn: np.ndarray, residual: np.float32, batch: int
    ) -> np.ndarray:
        if not residual:
            return drawn
        plain = self.draw(found.latents, _float_mask(found.text), batch)
        return add_residual(found.pictures[:, None], plain[:, None], drawn, residual)


def add_residual(
    pictures: np.ndarray, reconstructions: np.ndarray, drawn: np.ndarray, weight: float
) -> np.ndarray:
    """drawn + weight (1 - m) (picture - reconstruction).

    m is 1 where what is drawn differs from the reconstruction, and around, and 0 elsewhere: there
    the picture comes through to the pixel.

    Args:
      pictures, reconstructions: `[…, h, w, c]` float in [-1, 1].
      drawn: of the same shape, or one that they broadcast to.
      weight: in [0, 1].

    Returns:
      As `drawn`.
    """
    change = np.abs(drawn - reconstructions).max(axis=-1)
    mask = np.clip((change - CHANGE) / (SURE - CHANGE), 0.0, 1.0)
    flat = (0.0,) * (mask.ndim - 2)
    from scipy import ndimage  # slow to import: drawing does without

    mask = GAIN * ndimage.gaussian_filter(mask, sigma=(*flat, BLUR, BLUR))
    mask = np.minimum(mask, 1.0)
    return drawn + weight * (1.0 - mask[..., None]) * (pictures - reconstructions)


def _repeat(tree: Any, times: int) -> Any:
    return jax.tree.map(lambda x: np.repeat(x, times, axis=0), tree)


def _rows(text: TextFeatures) -> list[TextFeatures]:
    return [jax.tree.map(lambda x: x[i : i + 1], text) for i in range(len(text.sentence))]  # noqa: B023


def _float_mask(text: TextFeatures | None) -> TextFeatures | None:
    """As `mix_texts` gives it, so that equal text is equal to the last bit."""
    if text is None or text.mask is None:
        return text
    return text.replace(mask=np.asarray(text.mask, np.float32))
