"""A text-conditional upsampler: a small picture and its caption to one `patch` times as large.

Reference: Kang et al. 2023, "Scaling up GANs for Text-to-Image Synthesis" (GigaGAN), section 3.4:
a U-Net whose smallest map attends to words, and a discriminator that also sees the small picture.
Both are made of the blocks of R3GAN (Huang et al. 2024), see `flaxgan.models.r3gan`.
Deviations: all maps are at most as large as the small picture; its pixels become patches of `patch`
x `patch` pixels at the end (Shi et al. 2016, "Real-Time Single Image and Video Super-Resolution
Using an Efficient Sub-Pixel Convolutional Neural Network"). The network adds to a linearly enlarged
picture (Kim et al. 2016, VDSR). It is convolutional, so that it takes pictures of any size.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from flaxgan.config.fields import Config
from flaxgan.config.rule import Rule
from flaxgan.models import r3gan
from flaxgan.models.attention import Attention
from flaxgan.models.family import Family, common
from flaxgan.models.layers import (
    Conv,
    block_class,
    depth_to_space,
    down_121,
    leaky_relu,
    scaled_init,
    up_121,
)
from flaxgan.models.low_pictures import area_reduce, degrade
from flaxgan.models.r3gan import Mapping, Modulation, ResidualBlock, heads_of
from flaxgan.text.conditioning import Text, text_features

LEVELS = 3  # maps of 1, 1/2 and 1/4 of the small picture's size
UNIT = 2 ** (LEVELS - 1)  # sides of small pictures are padded to multiples of it


class Generator(nn.Module):
    """z, a caption and a small picture to a large one.

    Attributes:
      channels: 3 RGB or 1 grey.
      widths: channels of the LEVELS maps, from the largest to the smallest.
      blocks: residual blocks on each map, on the way down and on the way up.
      patch: pixels that a pixel of the small picture becomes, a side: the enlargement.
      pixel_channels: of the last hidden layer, at full resolution.
      w_dim: size of w.
      expansion, group_width: see ResidualBlock.
      text_encoder: learned with this network, see `flaxgan.text.transformer`; None: the frozen
        sentence vectors that text brings, if there are any.
      remat: blocks are computed again in the backward pass: less memory, more time.
      dtype: compute dtype; parameters and images are float32.
    """

    channels: int = 3
    widths: tuple[int, ...] = (64, 128, 256)
    blocks: int = 2
    patch: int = 4
    pixel_channels: int = 8
    w_dim: int = 128
    expansion: float = 0.5
    group_width: int = 0
    text_encoder: nn.Module | None = None
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.nowrap
    def shrink(self, images: Array, keys: Array | None) -> Array:
        """`[b, h, w, c]` to what this network enlarges to them: see `low_pictures`."""
        small = area_reduce(images, self.patch)
        return small if keys is None else degrade(small, keys)

    @nn.compact
    def __call__(self, z: Array, text: Text) -> Array:
        """`[b, z]`, and text with its picture `[b, h, w, c]`, to `[b, p h, p w, c]`, float32."""
        _, h, w, _ = text.picture.shape
        pad = [(0, 0), (0, -h % UNIT), (0, -w % UNIT), (0, 0)]
        images = self._enlarged(jnp.pad(text.picture, pad, mode="edge"), z, text)
        return images[:, : self.patch * h, : self.patch * w]

    def _enlarged(self, small: Array, z: Array, text: Text) -> Array:
        """As `__call__`, of a small picture whose sides are multiples of UNIT."""
        words = text_features(self.text_encoder, text)
        w = Mapping(self.w_dim, self.dtype, name="mapping")(z, words.sentence)

        def blocks(x: Array, name: str) -> Array:
            for i in range(self.blocks):
                x = block_class(ResidualBlock, self.remat)(
                    num_blocks=self.blocks * (2 * LEVELS - 1),
                    expansion=self.expansion,
                    group_width=self.group_width,
                    dtype=self.dtype,
                    name=f"{name}_{i}",
                )(x, w)
            return x

        def narrow(x: Array, width: int, name: str) -> Array:
            return Conv(width, size=1, use_bias=False, dtype=self.dtype, name=name)(x)

        x = Conv(self.widths[0], kernel_init=scaled_init(1.0), dtype=self.dtype, name="stem")(small)
        skips = []
        for level in range(LEVELS - 1):
            x = blocks(x, f"down{level}")
            skips.append(x)
            x = narrow(down_121(x), self.widths[level + 1], f"to_down{level + 1}")
        x = blocks(x, "middle")
        if words.tokens is not None:
            b, *_, c = x.shape
            y = nn.RMSNorm(dtype=self.dtype, name="words_norm")(x.reshape(b, -1, c))
            attend = Attention(heads_of(c), self.dtype, zero_init_out=True, name="words")
            x = x + attend(y, words.tokens, words.mask).reshape(x.shape)
        for level in reversed(range(LEVELS - 1)):
            x = up_121(narrow(x, self.widths[level], f"to_up{level}"))
            x = blocks(x + skips[level], f"up{level}")
        x = leaky_relu(Modulation(self.dtype, name="modulate_out")(x, w))
        count = self.pixel_channels * self.patch**2
        x = Conv(count, size=1, dtype=self.dtype, name="to_pixels")(x)
        # one layer sees pixels across the borders of patches: without it they show as a grid
        x = leaky_relu(depth_to_space(x, self.patch))
        zeros = nn.initializers.zeros_init()
        x = Conv(self.channels, kernel_init=zeros, dtype=self.dtype, name="to_image")(x)
        return enlarge(small, self.patch) + x.astype(jnp.float32)


def enlarge(pictures: Array, times: int) -> Array:
    """Linear interpolation, pixels as areas: `[b, h, w, c]` to `[b, times h, times w, c]`."""
    b, h, w, c = pictures.shape
    return jax.image.resize(pictures, (b, times * h, times * w, c), "linear")


def build(
    config: Config, encoders: tuple[nn.Module | None, nn.Module | None]
) -> tuple[nn.Module, nn.Module]:
    """See `Family`."""
    model = config.model
    shared = common(config) | {
        "remat": model.remat,
        "patch": model.patch,
        "expansion": model.expansion,
        "group_width": model.group_width,
    }
    sides = r3gan.stage_sides(config.data.resolution, model.patch)
    discriminator = r3gan.Discriminator(
        widths=r3gan.widths(model.d_channels, len(sides)),
        blocks=model.d_blocks,
        embed_dim=model.embed_dim,
        text_encoder=encoders[1],
        **shared,
    )
    del shared["resolution"]
    generator = Generator(
        widths=r3gan.widths(model.g_channels, LEVELS),
        blocks=model.g_blocks,
        w_dim=model.w_dim,
        text_encoder=encoders[0],
        **shared,
    )
    return generator, discriminator


FAMILY = Family(
    build,
    fields=frozenset(
        {
            *("g_channels", "d_channels", "remat", "embed_dim", "patch", "w_dim"),
            *("g_blocks", "d_blocks", "expansion", "group_width"),
        }
    ),
    rules=(
        r3gan.resolution_rule("upsampler"),
        Rule("model.patch", lambda patch, _: patch >= 2, "must be >= 2 for upsampler"),
        Rule("model.output", lambda output, _: output == "linear", "must be linear for upsampler"),
        Rule(
            "augment.policies",
            lambda policies, _: not policies,
            "augment.policies would move a picture but not the small one beside it: leave them "
            "empty for upsampler",
        ),
        r3gan.group_rule("g_channels"),
        r3gan.group_rule("d_channels"),
    ),
)
