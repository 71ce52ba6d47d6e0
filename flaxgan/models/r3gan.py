"""R3GAN for text: residual networks without normalisation, conditioned on a caption's words.

Reference: Huang et al. 2024, "The GAN is dead; long live the GAN! A Modern GAN Baseline" (R3GAN):
no normalisation layers, leaky ReLU, bottleneck residual blocks 1x1 - grouped 3x3 - 1x1 whose last
convolution starts at zero, [1, 2, 1] resampling, linear output. Added for text: a mapping network
of (z, sentence) that modulates every block (StyleGAN-T, Sauer et al. 2023, section 3), attention
of places to each other and to words at chosen resolutions (GigaGAN, Kang et al. 2023, section
3.2), and a discriminator that judges the sentence and, where asked for, every word.
Deviations: pictures are made of, and cut into, patches of `patch` x `patch` pixels, so that no
layer runs at full resolution (16 channels there cost more on CPU than 64 at half of it).
"""

import math
from collections import abc
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from flaxgan.config.fields import Config
from flaxgan.config.rule import Rule
from flaxgan.models.attention import ImageAttention
from flaxgan.models.family import Family, common
from flaxgan.models.layers import (
    Conv,
    block_class,
    depth_to_space,
    down_121,
    leaky_relu,
    of_stages,
    scaled_init,
    space_to_depth,
    up_121,
)
from flaxgan.models.matching import JointEmbedding, TokenMatch
from flaxgan.text.conditioning import Text, TextFeatures, text_features

START = 4  # places of the smallest map, a side


class Beside(NamedTuple):
    """What another network adds to a generator on its way.

    Attributes:
      w: `[b, w_dim]`, to w.
      maps: by their side, to the maps before the blocks.
      pixels: `[b, h, w, pixel_channels]`, to the last hidden layer.
    """

    w: Array
    maps: abc.Mapping[int, Array]
    pixels: Array


def stage_sides(resolution: int, patch: int) -> list[int]:
    """Sides of the feature maps, largest first: resolution / patch, …, 8, 4."""
    return [
        resolution // patch // 2**i for i in range(int(math.log2(resolution // patch / START)) + 1)
    ]


def widths(base: int, count: int) -> tuple[int, ...]:
    """Channels of `count` maps, largest first, in units of the base: 1, 2, 4, 8, 8, …"""
    return tuple(base * min(2**i, 8) for i in range(count))


class Modulation(nn.Module):
    """Channels scaled and shifted by linear maps of w; starts as the identity.

    Attributes:
      dtype: compute dtype.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, w: Array) -> Array:
        """`[b, h, w, c]` and `[b, d]` to `[b, h, w, c]`."""
        zeros = nn.initializers.zeros_init()
        both = nn.Dense(2 * x.shape[-1], kernel_init=zeros, dtype=self.dtype, name="of_w")(w)
        scale, shift = jnp.split(both[:, None, None, :], 2, axis=-1)
        return (1.0 + scale) * x + shift


class ResidualBlock(nn.Module):
    """x + 1x1(3x3(1x1(x))), each after a leaky ReLU; with w, modulated before the first two.

    Attributes:
      num_blocks: residual blocks of the whole network, L.
      expansion: width of the 3x3 convolution as a multiple of that of x.
      group_width: channels of each group of the 3x3 convolution; 0: one group.
      dtype: compute dtype.

    Reference: R3GAN, section 3.2 and appendix: the last convolution starts at zero, the others
      at 1 / L^(1/4) of He's scale, as in Fixup (Zhang et al. 2019) with two layers a branch.
    """

    num_blocks: int
    expansion: float = 0.5
    group_width: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, w: Array | None = None) -> Array:
        """`[b, h, w, c]` and `[b, d]` to `[b, h, w, c]`."""
        channels = x.shape[-1]
        hidden = max(1, round(self.expansion * channels))
        init = scaled_init(self.num_blocks**-0.25)

        def modulate(h: Array, name: str) -> Array:
            return leaky_relu(h if w is None else Modulation(self.dtype, name=name)(h, w))

        h = Conv(hidden, size=1, kernel_init=init, dtype=self.dtype, name="reduce")(
            modulate(x, "modulate0")
        )
        groups = hidden // self.group_width if self.group_width else 1
        h = Conv(hidden, groups=groups, kernel_init=init, dtype=self.dtype, name="spread")(
            modulate(h, "modulate1")
        )
        zeros = nn.initializers.zeros_init()
        h = Conv(channels, size=1, kernel_init=zeros, dtype=self.dtype, name="expand")(
            leaky_relu(h)
        )
        return x + h


class Mapping(nn.Module):
    """(z, sentence) to w: two layers with leaky ReLU.

    Attributes:
      dim: size of w.
      dtype: compute dtype.
    """

    dim: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: Array, sentence: Array | None) -> Array:
        """`[b, z]` and `[b, d]` to `[b, dim]`; z is scaled to mean square 1, as in StyleGAN."""
        z = z * jnp.sqrt(z.shape[-1] / (jnp.sum(z * z, axis=-1, keepdims=True) + 1e-8))
        x = z if sentence is None else jnp.concatenate([z, sentence], axis=-1)
        for i in range(2):
            x = nn.Dense(
                self.dim, kernel_init=scaled_init(1.0), dtype=self.dtype, name=f"dense{i}"
            )(x)
            x = leaky_relu(x)
        return x


class Generator(nn.Module):
    """z and a caption to an image.

    Attributes:
      resolution: pixels, 4 x patch x a power of two.
      channels: 3 RGB or 1 grey.
      widths: channels of the feature maps, from the largest map (resolution / patch) to 4 x 4.
      blocks: residual blocks on each map.
      patch: pixels that one place of the largest map becomes, a side.
      pixel_channels: of the last hidden layer, at full resolution.
      w_dim: size of w.
      attention: sides of the maps with attention to places and words.
      expansion, group_width: see ResidualBlock.
      text_encoder: learned with this network, see `flaxgan.text.transformer`; None: the frozen
        sentence vectors that text brings.
      output: "linear" as published, or "tanh".
      remat: blocks are computed again in the backward pass: less memory, more time.
      dtype: compute dtype; parameters and images are float32.
    """

    resolution: int
    channels: int = 3
    widths: tuple[int, ...] = (64, 128, 256)
    blocks: int = 1
    patch: int = 2
    pixel_channels: int = 16
    w_dim: int = 128
    attention: tuple[int, ...] = (8,)
    expansion: float = 0.5
    group_width: int = 0
    text_encoder: nn.Module | None = None
    remat: bool = False
    output: str = "linear"
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.mapping = Mapping(self.w_dim, self.dtype)

    def to_w(self, z: Array, text: Text | TextFeatures | None) -> Array:
        """`[b, z]` and text to what modulates every block, `[b, w_dim]`: see `flaxgan.models`."""
        words = text_features(self.text_encoder, text)
        return self.mapping(z, words and words.sentence)

    @nn.nowrap
    def w_stages(self) -> int:
        """Of the start, each map, and the output."""
        return len(self.widths) + 2

    @nn.compact
    def __call__(
        self,
        z: Array,
        text: Text | TextFeatures | None,
        w: Array | None = None,
        beside: Beside | None = None,
    ) -> Array:
        """`[b, z]` and text to `[b, h, w, c]`, float32, about [-1, 1].

        With `w`, `[b, w_dim]` or `[b, w_stages, w_dim]`, z is not read. What is `beside` is added.
        """
        words = text_features(self.text_encoder, text)
        w = self.to_w(z, words) if w is None else w
        w = w if beside is None else w + beside.w
        first, *middle, last = of_stages(w, self.w_stages())
        sides = stage_sides(self.resolution, self.patch)[::-1]
        widths = self.widths[::-1]
        start = nn.Dense(
            START * START * widths[0], kernel_init=scaled_init(1.0), dtype=self.dtype, name="start"
        )
        x = start(first).reshape(-1, START, START, widths[0])
        for side, width, w in zip(sides, widths, middle, strict=True):
            if side > START:
                if width != x.shape[-1]:  # before upsampling, where it is four times cheaper
                    x = Conv(width, size=1, use_bias=False, dtype=self.dtype, name=f"to{side}")(x)
                x = up_121(x)
            x = x if beside is None else x + beside.maps[side]
            for i in range(self.blocks):
                x = block_class(ResidualBlock, self.remat)(
                    num_blocks=self.blocks * len(widths),
                    expansion=self.expansion,
                    group_width=self.group_width,
                    dtype=self.dtype,
                    name=f"block{side}_{i}",
                )(x, w)
            if side in self.attention:
                x = ImageAttention(heads=heads_of(width), dtype=self.dtype, name=f"attend{side}")(
                    x, words and words.tokens, words and words.mask
                )
        x = leaky_relu(Modulation(self.dtype, name="modulate_out")(x, last))
        x = Conv(self.pixel_channels * self.patch**2, dtype=self.dtype, name="to_pixels")(x)
        # one layer sees pixels across the borders of patches: without it they show as a grid
        x = depth_to_space(x, self.patch)
        x = leaky_relu(x if beside is None else x + beside.pixels)
        x = Conv(self.channels, dtype=self.dtype, name="to_image")(x).astype(jnp.float32)
        return jnp.tanh(x) if self.output == "tanh" else x


class Discriminator(nn.Module):
    """An image and a caption to one logit.

    Attributes: as in Generator, and
      embed_dim: size of the space that images and captions share; 0: there is none.
      token_match: side of the map that words are looked for in; 0: sentences only.
    """

    resolution: int
    channels: int = 3
    widths: tuple[int, ...] = (64, 128, 256)
    blocks: int = 1
    patch: int = 2
    attention: tuple[int, ...] = ()
    expansion: float = 0.5
    group_width: int = 0
    embed_dim: int = 0
    token_match: int = 0
    text_encoder: nn.Module | None = None
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        sides = stage_sides(self.resolution, self.patch)
        self.from_image = Conv(self.widths[0], dtype=self.dtype)
        self.narrow = [
            Conv(width, size=1, use_bias=False, dtype=self.dtype) for width in self.widths[1:]
        ]
        self.trunk = [
            [
                block_class(ResidualBlock, self.remat)(
                    num_blocks=self.blocks * len(sides),
                    expansion=self.expansion,
                    group_width=self.group_width,
                    dtype=self.dtype,
                )
                for _ in range(self.blocks)
            ]
            for _ in sides
        ]
        self.attend = {
            str(side): ImageAttention(heads=heads_of(width), dtype=self.dtype)
            for side, width in zip(sides, self.widths, strict=True)
            if side in self.attention
        }
        width = self.widths[-1]
        self.pool = nn.Dense(width, kernel_init=scaled_init(1.0), dtype=self.dtype)
        self.joint = nn.Dense(width, kernel_init=scaled_init(1.0), dtype=self.dtype)
        self.output = nn.Dense(1, use_bias=False, dtype=self.dtype)
        if self.embed_dim:
            self.embedding = JointEmbedding(self.embed_dim, self.dtype)
        if self.token_match:
            self.match = TokenMatch(dtype=self.dtype)

    @nn.nowrap
    def image_stages(self) -> list[list[str]]:
        """One stage for each map, largest first: see `flaxgan.models`."""
        return [
            [
                f"narrow_{i - 1}" if i else "from_image",
                *(f"trunk_{i}_{j}" for j in range(self.blocks)),
                *([f"attend_{side}"] if side in self.attention else []),
            ]
            for i, side in enumerate(stage_sides(self.resolution, self.patch))
        ]

    def encode_text(self, text: Text | None) -> TextFeatures | None:
        """Text as `logits` and `embed_text` read it."""
        return text_features(self.text_encoder, text)

    def image_features(
        self, images: Array, keys: Array | None = None, picture: Array | None = None
    ) -> tuple[Array, Array]:
        """`[b, h, w, c]` to the 4x4 map as a vector, and the map that words are looked for in.

        There is nothing random that `keys` would drive. What an image was made from, such as the
        small picture that was enlarged, `[b, h / patch, w / patch, c]`, is seen beside its patches
        (GigaGAN, section 3.4).
        """
        sides = stage_sides(self.resolution, self.patch)
        x = space_to_depth(images, self.patch)
        x = self.from_image(x if picture is None else jnp.concatenate([x, picture], axis=-1))
        seen = x
        for i, (side, blocks) in enumerate(zip(sides, self.trunk, strict=True)):
            if i:
                x = self.narrow[i - 1](down_121(x))
            for block in blocks:
                x = block(x)
            if side in self.attention:
                x = self.attend[str(side)](x, None, None)
            if side == self.token_match:
                seen = leaky_relu(x)
        return leaky_relu(x).reshape(len(x), -1), seen

    def logits(self, features: tuple[Array, Array], text: TextFeatures | None) -> Array:
        """Features and a caption to logits `[b]`, float32."""
        vector, seen = features
        x = leaky_relu(self.pool(vector))
        if text is not None and text.sentence is not None:
            x = jnp.concatenate([x, text.sentence.astype(x.dtype)], axis=-1)
        logits = self.output(leaky_relu(self.joint(x)))[:, 0]
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        if self.token_match and text is not None and text.tokens is not None:
            logits = logits + self.match(seen, text)
        return logits

    def embed_image(self, features: tuple[Array, Array]) -> Array:
        """Images in the space of captions: see JointEmbedding."""
        return self.embedding.of_image(features[0])

    def embed_text(self, text: TextFeatures) -> Array:
        """Captions in the space of images: see JointEmbedding."""
        return self.embedding.of_text(text)

    def score(self, images: Array, text: Text | None, keys: Array | None = None) -> Array:
        """Images and text to logits `[b]`: the parts in turn."""
        picture = None if text is None else text.picture
        features, words = self.image_features(images, keys, picture), self.encode_text(text)
        if self.embed_dim and words is not None and words.sentence is not None:
            self.embed_image(features), self.embed_text(words)
        return self.logits(features, words)


def heads_of(width: int) -> int:
    """Heads of 32 channels."""
    return max(1, width // 32)


def build(
    config: Config, encoders: tuple[nn.Module | None, nn.Module | None]
) -> tuple[nn.Module, nn.Module]:
    """See `Family`."""
    g_fields, d_fields = attributes(config, encoders)
    return Generator(**g_fields), Discriminator(**d_fields)


def attributes(
    config: Config, encoders: tuple[nn.Module | None, nn.Module | None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of the two networks of a config."""
    model = config.model
    count = len(stage_sides(config.data.resolution, model.patch))
    shared = {
        **common(config),
        "remat": model.remat,
        "patch": model.patch,
        "expansion": model.expansion,
        "group_width": model.group_width,
    }
    return (
        {
            "widths": widths(model.g_channels, count),
            "blocks": model.g_blocks,
            "w_dim": model.w_dim,
            "attention": model.attention,
            "text_encoder": encoders[0],
            "output": model.output,
            **shared,
        },
        {
            "widths": widths(model.d_channels, count),
            "blocks": model.d_blocks,
            "attention": model.d_attention,
            "embed_dim": model.embed_dim,
            "token_match": model.token_match,
            "text_encoder": encoders[1],
            **shared,
        },
    )


def enlarge_patches(
    tensors: abc.Mapping[str, np.ndarray], there: Config, here: Config
) -> abc.Mapping[str, np.ndarray]:
    """Parameters for patches of more pixels, where the maps stay as many.

    G's last map is repeated in all pixels of what was one, and D reads their mean: D's logits of
    an enlarged picture are those of the small one, exactly. G's pictures are the small ones under a
    grid, which its last layers have to unlearn: their convolution across pixels now meets repeats.

    Args:
      tensors: of either network, by path.
      there: of the run that they come from.
      here: of the new run.
    """
    times, rest = divmod(here.model.patch, there.model.patch)
    if rest or times == 1 or here.data.resolution != times * there.data.resolution:
        return tensors
    new = dict(tensors)
    p = there.model.patch
    for name in ("to_pixels/kernel", "to_pixels/bias"):
        if name in tensors:
            x = tensors[name]
            x = x.reshape(*x.shape[:-1], p, p, -1).repeat(times, axis=-3).repeat(times, axis=-2)
            new[name] = x.reshape(*tensors[name].shape[:-1], -1)
    if "from_image/kernel" in tensors:
        x = tensors["from_image/kernel"]
        h, w, _, out = x.shape
        x = x.reshape(h, w, p, p, -1, out).repeat(times, axis=2).repeat(times, axis=3)
        new["from_image/kernel"] = x.reshape(h, w, -1, out) / times**2
    return new


def _sides(config: Config) -> list[int]:
    return stage_sides(config.data.resolution, config.model.patch)


def _resolution_fits(resolution: int, config: Config) -> bool:
    smallest = START * config.model.patch
    return resolution in [smallest * 2**i for i in range(resolution.bit_length())]


def resolution_rule(family: str) -> Rule:
    """Maps are halved down to START x START places."""

    def message(side: int, config: Config) -> str:
        return (
            f"data.resolution must be 4 x model.patch x a power of two for {family}, not "
            f"{side} with model.patch {config.model.patch}"
        )

    return Rule("data.resolution", _resolution_fits, message)


def group_rule(base: str) -> Rule:
    """Every map of a network is cut into whole groups."""

    def cut(config: Config) -> list[tuple[int, int]]:
        """(width, hidden width) of the maps that are not."""
        model = config.model
        pairs = [
            (width, max(1, round(model.expansion * width)))
            for width in widths(getattr(model, base), len(_sides(config)))
        ]
        return [(w, hidden) for w, hidden in pairs if hidden % (model.group_width or 1)]

    def message(group: int, config: Config) -> str:
        width, hidden = cut(config)[0]
        return (
            f"model.group_width must divide model.expansion x {width} channels = {hidden} "
            f"(model.{base} x 1, 2, 4 or 8), not be {group}"
        )

    return Rule("model.group_width", lambda _, config: not cut(config), message)


def _attention_rules(field: str, base: str) -> tuple[Rule, ...]:
    def unknown(sides: tuple[int, ...], config: Config) -> list[int]:
        return [side for side in sides if side not in _sides(config)]

    def narrow(sides: tuple[int, ...], config: Config) -> list[tuple[int, int]]:
        """(side, width) of maps whose channels are not whole heads."""
        maps = _sides(config)
        all_widths = widths(getattr(config.model, base), len(maps))
        pairs = [(side, all_widths[maps.index(side)]) for side in sides]
        return [(side, width) for side, width in pairs if width % (4 * heads_of(width))]

    def narrow_message(sides: tuple[int, ...], config: Config) -> str:
        side, width = narrow(sides, config)[0]
        return (
            f"model.{field} {side}: that map has {width} channels, which must be a multiple of "
            f"4 x {heads_of(width)} heads: change model.{base}"
        )

    return (
        Rule(
            f"model.{field}",
            lambda sides, config: not unknown(sides, config),
            lambda sides, config: (
                f"model.{field} must be one of {', '.join(map(str, _sides(config)))}, not "
                f"{unknown(sides, config)[0]}"
            ),
        ),
        Rule(f"model.{field}", lambda sides, config: not narrow(sides, config), narrow_message),
    )


def rules_of(family: str) -> tuple[Rule, ...]:
    """What the config of a family of these networks must fulfil."""
    return (
        resolution_rule(family),
        Rule(
            "model.token_match",
            lambda side, config: side in (0, *_sides(config)),
            lambda side, config: (
                f"model.token_match for {family} must be one of "
                f"{', '.join(map(str, (0, *_sides(config))))}, not {side}"
            ),
        ),
        group_rule("g_channels"),
        group_rule("d_channels"),
        *_attention_rules("attention", "g_channels"),
        *_attention_rules("d_attention", "d_channels"),
    )


FAMILY = Family(
    build,
    grow=enlarge_patches,
    fields=frozenset(
        {
            *("g_channels", "d_channels", "remat", "embed_dim", "token_match", "patch"),
            *("g_blocks", "d_blocks", "attention", "d_attention", "expansion", "group_width"),
            "w_dim",
        }
    ),
    rules=rules_of("r3gan"),
    sizes={
        "s": {"g_channels": 32, "d_channels": 32, "embed_dim": 128},
        "b": {"g_channels": 64, "d_channels": 64, "embed_dim": 256, "attention": (8, 16)},
        "l": {
            "g_channels": 96,
            "d_channels": 96,
            "g_blocks": 2,
            "d_blocks": 2,
            "embed_dim": 256,
            "attention": (8, 16),
            "w_dim": 256,
        },
    },
)
