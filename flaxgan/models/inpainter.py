"""A text-conditional inpainter: a picture with holes and a caption to a whole picture.

Reference: Zhao et al. 2021, "Large Scale Image Completion via Co-Modulated Generative Adversarial
Networks" (CoModGAN): a generator whose style is mapped from noise and from an encoded picture,
whose maps get those of the encoder, and a discriminator that also sees the holes. The generator,
the decoder here, and the discriminator are those of `flaxgan.models.r3gan`, so that a trained
R3GAN is a start: what is added begins at zero.
Outside the holes the result is the picture itself: D judges the composed picture, as in Yu et al.
2019, "Free-Form Image Inpainting with Gated Convolution".
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flaxgan.config.fields import Config
from flaxgan.config.rule import Rule
from flaxgan.models import r3gan
from flaxgan.models.family import Family
from flaxgan.models.holes import random_holes
from flaxgan.models.layers import Conv, block_class, down_121, scaled_init, space_to_depth
from flaxgan.models.r3gan import Beside, ResidualBlock
from flaxgan.text.conditioning import Text, TextFeatures


class Encoder(nn.Module):
    """A picture with holes to what goes to the decoder.

    Attributes: as in `flaxgan.models.r3gan.Generator`.
    """

    widths: tuple[int, ...]
    blocks: int
    patch: int
    pixel_channels: int
    w_dim: int
    expansion: float
    group_width: int
    remat: bool
    dtype: Any

    @nn.compact
    def __call__(self, picture: Array) -> Beside:
        """`[b, h, w, c + 1]` to maps of all sides, zero at the start of training."""

        def to_decoder(x: Array, width: int, size: int, name: str) -> Array:
            zeros = nn.initializers.zeros_init()
            return Conv(width, size=size, kernel_init=zeros, dtype=self.dtype, name=name)(x)

        pixels = to_decoder(picture, self.pixel_channels, 3, "pixels")
        x = space_to_depth(picture, self.patch)
        maps = {}
        for i, width in enumerate(self.widths):
            if i == 0:
                init = scaled_init(1.0)
                x = Conv(width, kernel_init=init, dtype=self.dtype, name="stem")(x)
            else:
                x = down_121(x)
                x = Conv(width, size=1, use_bias=False, dtype=self.dtype, name=f"narrow{i}")(x)
            for j in range(self.blocks):
                x = block_class(ResidualBlock, self.remat)(
                    num_blocks=self.blocks * len(self.widths),
                    expansion=self.expansion,
                    group_width=self.group_width,
                    dtype=self.dtype,
                    name=f"block{i}_{j}",
                )(x)
            maps[x.shape[1]] = to_decoder(x, width, 1, f"map{i}")
        zeros = nn.initializers.zeros_init()
        w = nn.Dense(self.w_dim, kernel_init=zeros, dtype=self.dtype, name="to_w")
        return Beside(w(x.mean(axis=(1, 2))), maps, pixels)


class Generator(nn.Module):
    """z, a caption and a picture with holes to a whole picture.

    Attributes:
      encoder: of the picture.
      decoder: draws.
    """

    encoder: Encoder
    decoder: r3gan.Generator

    @nn.nowrap
    def blank(self, images: Array, keys: Array | None) -> Array:
        """`[b, h, w, c]` to what this network completes to them: see `with_hole`."""
        if keys is None:
            keys = jax.random.split(jax.random.key(0), len(images))
        return with_hole(images, random_holes(keys, images.shape[1]))

    def __call__(self, z: Array, text: Text | TextFeatures) -> Array:
        """`[b, z]`, and text with its picture `[b, h, w, c + 1]`, to `[b, h, w, c]`, float32."""
        picture = text.picture
        drawn = self.decoder(z, text, beside=self.encoder(picture))
        return compose(drawn, picture)


class Discriminator(r3gan.Discriminator):
    """As that of R3GAN; it also sees where the hole was."""

    def image_features(
        self, images: Array, keys: Array | None = None, picture: Array | None = None
    ) -> tuple[Array, Array]:
        """As there; `picture [b, h, w, c + 1]` is what the image was made from."""
        holes = None if picture is None else space_to_depth(picture[..., -1:], self.patch)
        return super().image_features(images, keys, holes)


def with_hole(images: Array, holes: Array) -> Array:
    """`[b, h, w, c]` without what is in the holes `[b, h, w, 1]`, and those: `[b, h, w, c + 1]`."""
    return jnp.concatenate([images * (1.0 - holes), holes], axis=-1)


def compose(drawn: Array, picture: Array) -> Array:
    """What is drawn in the hole, and the picture, to the bit, around it."""
    return jnp.where(picture[..., -1:] > 0, drawn, picture[..., :-1])


def build(
    config: Config, encoders: tuple[nn.Module | None, nn.Module | None]
) -> tuple[nn.Module, nn.Module]:
    """See `Family`."""
    g_fields, d_fields = r3gan.attributes(config, encoders)
    decoder = r3gan.Generator(**g_fields)
    encoder = Encoder(
        widths=decoder.widths,
        blocks=decoder.blocks,
        patch=decoder.patch,
        pixel_channels=decoder.pixel_channels,
        w_dim=decoder.w_dim,
        expansion=decoder.expansion,
        group_width=decoder.group_width,
        remat=decoder.remat,
        dtype=decoder.dtype,
    )
    return Generator(encoder=encoder, decoder=decoder), Discriminator(**d_fields)


def from_r3gan(
    tensors: Mapping[str, np.ndarray], there: Config, here: Config
) -> Mapping[str, np.ndarray]:
    """Parameters of either network of an R3GAN, by path, as this family has them.

    G draws in holes as the R3GAN draws, at first, and D does not look at them.
    """
    if "from_image/kernel" not in tensors:
        return {f"decoder/{name}": tensor for name, tensor in tensors.items()}
    kernel = tensors["from_image/kernel"]
    more = [(0, 0), (0, 0), (0, here.model.patch**2), (0, 0)]
    return {**tensors, "from_image/kernel": np.pad(kernel, more)}


FAMILY = Family(
    build,
    fields=r3gan.FAMILY.fields,
    rules=(
        *r3gan.rules_of("inpainter"),
        Rule(
            "augment.policies",
            lambda policies, _: not policies,
            "augment.policies would move a picture but not its hole: leave them empty for "
            "inpainter",
        ),
    ),
    adopt={"r3gan": from_r3gan},
)
