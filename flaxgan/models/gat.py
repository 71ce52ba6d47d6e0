"""GAT: generator and discriminator of plain transformer blocks, here conditioned on text.

Reference: Hyun et al. 2026, "Scalable GANs with Transformers". As there: RMSNorm before every
branch, rotary positions, SwiGLU, branches of G scaled and gated by w = mapping(z, condition),
images read at four depths and added up, small layer scales in D.
Deviations: pixels instead of a VAE's latents; a caption instead of a class: G attends to its words,
D matches them with places; only the sum of the images is judged, not each depth at its own noise
level; D reads the mean over places instead of a class token; the mapping learns at full speed;
attention has no biases.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from flaxgan.config.fields import Config
from flaxgan.config.rule import Rule
from flaxgan.errors import UserError
from flaxgan.models.attention import (
    Attention,
    SwiGLU,
    at_least_float32,
    grid_positions,
    sinusoids,
)
from flaxgan.models.family import Family, common
from flaxgan.models.layers import block_class, depth_to_space, of_stages, space_to_depth
from flaxgan.models.matching import JointEmbedding
from flaxgan.text.conditioning import Text, TextFeatures, text_features

HEAD_WIDTH = 32
IMAGE_HEADS = 4
LAYER_SCALE = 0.1


class Generator(nn.Module):
    """z and text to an image.

    Attributes:
      resolution: pixels, a multiple of patch.
      channels: 3 RGB or 1 grey.
      width: of every token, a multiple of 4 per head; there is one head per 32.
      depth: number of blocks.
      patch: side of the square that one token draws, in pixels.
      w_dim: size of w.
      text_encoder: learned with this network: a module whose `features(text)` gives TextFeatures;
        None: the sentence vectors that text brings are used as they are.
      output: "tanh" or "linear": images may leave [-1, 1] a little.
      remat: blocks are computed again in the backward pass: less memory, more time.
      dtype: compute dtype; parameters and images are float32.
    """

    resolution: int
    channels: int = 3
    width: int = 96
    depth: int = 4
    patch: int = 4
    w_dim: int = 128
    text_encoder: nn.Module | None = None
    remat: bool = False
    output: str = "tanh"
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.mapping = Mapping(self.w_dim, self.dtype)

    def to_w(self, z: Array, text: Text | TextFeatures | None) -> Array:
        """`[b, z]` and text to what modulates every block, `[b, w_dim]`: see `flaxgan.models`."""
        return self.mapping(z, text_features(self.text_encoder, text))

    @nn.nowrap
    def w_stages(self) -> int:
        """Of each block, with the part of the image that is read after it."""
        return self.depth

    @nn.compact
    def __call__(self, z: Array, text: Text | TextFeatures | None, w: Array | None = None) -> Array:
        """`[b, z]` and text to `[b, h, w, c]` in [-1, 1].

        With `w`, `[b, w_dim]` or `[b, w_stages, w_dim]`, z is not read.
        """
        positions = patch_positions(self.resolution, self.patch, self.width)
        text = text_features(self.text_encoder, text)
        stages = of_stages(self.to_w(z, text) if w is None else w, self.w_stages())

        def start(_: Array) -> Array:
            return sinusoids(positions, self.width)

        x = self.param("start", start).astype(self.dtype)
        x = jnp.broadcast_to(x, (len(z), *x.shape))
        heads = image_heads(self.depth)
        image = 0.0
        for i, w in enumerate(stages):
            x = block_class(GeneratorBlock, self.remat)(self.dtype, name=f"block{i}")(
                x, w, text, positions
            )
            if i in heads:
                # equal shares of an image that starts at about half of the range
                init = nn.initializers.variance_scaling(0.25 / len(heads), "fan_in", "normal")
                y = Modulated(self.dtype, name=f"image_norm{i}")(x, w)
                y = nn.Dense(
                    self.patch**2 * self.channels,
                    kernel_init=init,
                    dtype=self.dtype,
                    name=f"to_image{i}",
                )(y)
                image = image + at_least_float32(y)
        side = self.resolution // self.patch
        image = depth_to_space(image.reshape(len(z), side, side, -1), self.patch)
        return jnp.tanh(image) if self.output == "tanh" else image


class Mapping(nn.Module):
    """z and the sentence, each of mean square 1, to the w that modulates every block."""

    w_dim: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: Array, text: TextFeatures | None) -> Array:
        """`[b, z]` and text to `[b, w_dim]`."""
        inputs = [z] if text is None else [z, text.sentence]
        norm = nn.RMSNorm(use_scale=False, dtype=self.dtype)
        x = jnp.concatenate([norm(y) for y in inputs], axis=-1)
        for name in ("hidden", "w"):
            x = nn.silu(nn.Dense(self.w_dim, dtype=self.dtype, name=name)(x))
        return x


class Modulated(nn.Module):
    """(1 + scale(w)) RMSNorm(x), scale starting near zero."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, w: Array) -> Array:
        """`[b, n, c]` and `[b, w]` to `[b, n, c]`."""
        scale = from_w(x.shape[-1], self.dtype, "scale")(w)[:, None]
        return (1.0 + scale) * nn.RMSNorm(use_scale=False, dtype=self.dtype)(x)


class GeneratorBlock(nn.Module):
    """Places look at each other, then at the words if there are any, then each thinks alone.

    Every branch is gate(w) branch(Modulated(x, w)), its gate starting near zero.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, w: Array, text: TextFeatures | None, positions: Array) -> Array:
        """`[b, n, c]`, `[b, w]`, text and `[n, 2]` to `[b, n, c]`."""
        width = x.shape[-1]

        def branch(module: nn.Module, x: Array, **inputs: Array | None) -> Array:
            y = Modulated(self.dtype, name=f"{module.name}_norm")(x, w)
            gate = from_w(width, self.dtype, f"{module.name}_gate")(w)[:, None]
            return gate * module(y, **inputs)

        places = Attention(heads_of(width), self.dtype, name="places")
        x = x + branch(places, x, positions=positions)
        if text is not None and text.tokens is not None:
            words = Attention(heads_of(width), self.dtype, name="words")
            x = x + branch(words, x, context=text.tokens, mask=text.mask)
        return x + branch(SwiGLU(dtype=self.dtype, name="feed_forward"), x)


class DiscriminatorBlock(nn.Module):
    """Places look at each other, then each thinks alone; both branches start small."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, positions: Array) -> Array:
        """`[b, n, c]` and `[n, 2]` to `[b, n, c]`."""
        width = x.shape[-1]

        def branch(module: nn.Module, x: Array, **inputs: Array) -> Array:
            y = nn.RMSNorm(dtype=self.dtype, name=f"{module.name}_norm")(x)
            init = nn.initializers.constant(LAYER_SCALE)
            scale = self.param(f"{module.name}_scale", init, (width,))
            return scale.astype(self.dtype) * module(y, **inputs)

        places = Attention(heads_of(width), self.dtype, name="places")
        x = x + branch(places, x, positions=positions)
        return x + branch(SwiGLU(dtype=self.dtype, name="feed_forward"), x)


class ImageTrunk(nn.Module):
    """Images to one vector per patch."""

    resolution: int
    width: int
    depth: int
    patch: int
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """`[b, h, w, c]` to `[b, n, width]`, of mean square about 1."""
        positions = patch_positions(self.resolution, self.patch, self.width)
        x = space_to_depth(images, self.patch).reshape(len(images), len(positions), -1)
        x = nn.Dense(self.width, dtype=self.dtype, name="from_image")(x)
        # fixed positions: the norms' inputs cannot vanish, however flat a patch is, and with that
        # the gradient, which the penalty squares, cannot explode
        x = x + sinusoids(positions, self.width).astype(self.dtype)
        for i in range(self.depth):
            block = block_class(DiscriminatorBlock, self.remat)
            x = block(self.dtype, name=f"block{i}")(x, positions)
        return nn.RMSNorm(dtype=self.dtype, name="norm_out")(x)


class WordMatch(nn.Module):
    """How well every word matches the places that it looks at, averaged over the words."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, patches: Array, tokens: Array, mask: Array | None) -> Array:
        """`[b, n, c]`, `[b, t, d]` and mask `[b, t]` to `[b]`, float32."""
        width = patches.shape[-1]
        order = sinusoids(jnp.arange(tokens.shape[1], dtype=jnp.float32)[:, None], width)
        words = nn.Dense(width, dtype=self.dtype, name="words")(tokens)
        words = words + order.astype(self.dtype)
        seen = Attention(heads_of(width), self.dtype, name="look")(words, context=patches)
        wanted = nn.Dense(width, dtype=self.dtype, name="wanted")(words)
        match = jnp.sum(at_least_float32(seen * wanted), axis=-1) / width**0.5  # [b, t]
        if mask is None:
            return match.mean(axis=1)
        count = jnp.maximum(mask.sum(axis=1), 1)
        return jnp.where(mask, match, 0.0).sum(axis=1) / count


class Discriminator(nn.Module):
    """Image patches and text to one logit: realism + sentence match + word match.

    Attributes:
      resolution, channels, width, depth, patch, text_encoder, remat, dtype: as in Generator.
      embed_dim: size of the space that images and captions share; 0: there is none.
    """

    resolution: int
    channels: int = 3
    width: int = 96
    depth: int = 4
    patch: int = 4
    text_encoder: nn.Module | None = None
    embed_dim: int = 0
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        def dense(features: int) -> nn.Dense:
            return nn.Dense(features, dtype=self.dtype)

        self.trunk = ImageTrunk(
            self.resolution, self.width, self.depth, self.patch, self.remat, self.dtype
        )
        self.realism = dense(1)
        self.image_match = dense(self.width)
        self.sentence_match = dense(self.width)
        self.word_match = WordMatch(self.dtype)
        if self.embed_dim > 0:
            self.embedding = JointEmbedding(self.embed_dim, self.dtype)

    @nn.nowrap
    def image_stages(self) -> list[list[str]]:
        """One stage for each block: see `flaxgan.models`."""
        stages = [[f"trunk/block{i}"] for i in range(self.depth)]
        stages[0].insert(0, "trunk/from_image")
        stages[-1].append("trunk/norm_out")
        return stages

    def encode_text(self, text: Text | None) -> TextFeatures | None:
        """Text to what `logits` reads of it."""
        return text_features(self.text_encoder, text)

    def image_features(self, images: Array, keys: Array | None = None) -> Array:
        """`[b, h, w, c]` to `[b, n, width]`; there is nothing random that `keys` would drive."""
        return self.trunk(images)

    def logits(self, features: Array, text: TextFeatures | None) -> Array:
        """Features and text to logits `[b]`, float32."""
        pooled = features.mean(axis=1)
        logits = at_least_float32(self.realism(pooled))[:, 0]
        if text is None:
            return logits
        # projection: Miyato & Koyama 2018, eq. 3
        product = self.image_match(pooled) * self.sentence_match(text.sentence)
        logits = logits + at_least_float32(product).sum(axis=-1) / self.width**0.5
        if text.tokens is not None:
            logits = logits + self.word_match(features, text.tokens, text.mask)
        return logits

    def embed_image(self, features: Array) -> Array:
        """Images in the space of captions: see JointEmbedding."""
        return self.embedding.of_image(features.mean(axis=1))

    def embed_text(self, text: TextFeatures) -> Array:
        """Captions in the space of images: see JointEmbedding."""
        return self.embedding.of_text(text)

    def score(self, images: Array, text: Text | None, keys: Array | None = None) -> Array:
        """Images and text to logits `[b]`: the parts in turn."""
        features, text = self.image_features(images, keys), self.encode_text(text)
        if self.embed_dim > 0 and text is not None:
            self.embed_image(features), self.embed_text(text)  # so that init makes its parameters
        return self.logits(features, text)


def image_heads(depth: int) -> list[int]:
    """Numbers of the blocks after which a part of the image is read: the last and up to three
    before it, evenly spaced."""
    every = max(1, depth // IMAGE_HEADS)
    return list(range(depth - 1, -1, -every))[:IMAGE_HEADS]


def heads_of(width: int) -> int:
    """Number of attention heads."""
    return max(1, width // HEAD_WIDTH)


def from_w(width: int, dtype: Any, name: str) -> nn.Dense:
    """Layer that reads a modulation from w; what it says is near zero at the start, not zero, so
    that the first images already depend on z."""
    init = nn.initializers.variance_scaling(0.01, "fan_avg", "uniform")
    return nn.Dense(width, kernel_init=init, dtype=dtype, name=name)


def patch_positions(resolution: int, patch: int, width: int) -> Array:
    """Row and column of every patch: `[n, 2]`.

    Raises:
      UserError: patches do not fill the image, or heads do not fill the width.
    """
    if resolution % patch:
        raise UserError(f"the resolution {resolution} must be a multiple of the patch {patch}")
    if width % (4 * heads_of(width)):
        raise UserError(f"the width of gat must be a multiple of {HEAD_WIDTH}, not {width}")
    return grid_positions(resolution // patch, resolution // patch)


def build(
    config: Config, encoders: tuple[nn.Module | None, nn.Module | None]
) -> tuple[nn.Module, nn.Module]:
    """See `Family`."""
    model = config.model
    shared = {**common(config), "remat": model.remat, "patch": model.patch}
    return (
        Generator(
            width=model.g_channels,
            depth=model.g_blocks,
            w_dim=model.w_dim,
            text_encoder=encoders[0],
            output=model.output,
            **shared,
        ),
        Discriminator(
            width=model.d_channels,
            depth=model.d_blocks,
            embed_dim=model.embed_dim,
            text_encoder=encoders[1],
            **shared,
        ),
    )


def _width_rule(field: str) -> Rule:
    return Rule(
        field,
        lambda width, _: width % (4 * heads_of(width)) == 0,
        lambda width, _: (
            f"{field} must be a multiple of 4 x {heads_of(width)} for gat, not {width}"
        ),
    )


FAMILY = Family(
    build,
    fields=frozenset(
        {"g_channels", "d_channels", "g_blocks", "d_blocks", "patch", "w_dim", "embed_dim", "remat"}
    ),
    rules=(
        Rule(
            "data.resolution",
            lambda side, config: side % config.model.patch == 0,
            lambda side, config: (
                f"data.resolution must be a multiple of model.patch {config.model.patch} for gat, "
                f"not {side}"
            ),
        ),
        _width_rule("model.g_channels"),
        _width_rule("model.d_channels"),
    ),
    sizes={
        "s": {"g_channels": 128, "d_channels": 128, "g_blocks": 4, "d_blocks": 4, "patch": 4},
        "b": {"g_channels": 256, "d_channels": 256, "g_blocks": 6, "d_blocks": 6, "patch": 4},
        "l": {"g_channels": 384, "d_channels": 384, "g_blocks": 12, "d_blocks": 12, "patch": 4},
    },
)
