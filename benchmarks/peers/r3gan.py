"""Peer of flaxgan.models.r3gan, and of the losses of configs/avatars32_cpu.py.

They are RpGAN with R1 and R2, InfoNCE with further negatives, and IMLE.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.text import TextTransformer

PIXEL_CHANNELS = 16


def _lrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


def sides_of(resolution: int, patch: int) -> list[int]:
    """Of the maps, largest first, down to 4."""
    count = int(math.log2(resolution // patch // 4)) + 1
    return [resolution // patch // 2**i for i in range(count)]


def widths_of(base: int, count: int) -> list[int]:
    """Channels of the maps, largest first."""
    return [base * min(2**i, 8) for i in range(count)]


def up_121(x: Tensor) -> Tensor:
    """Linear interpolation; pixel 2i is pixel i, and the edge is repeated."""
    height, width = (2 * n - 1 for n in x.shape[2:])
    x = F.interpolate(x, size=(height, width), mode="bilinear", align_corners=True)
    return F.pad(x, (0, 1, 0, 1), mode="replicate")


def down_121(x: Tensor) -> Tensor:
    """The filter [1, 2, 1] / 4 on even pixels, as two means."""
    return F.avg_pool2d(F.avg_pool2d(F.pad(x, (1, 0, 1, 0), mode="replicate"), 2, 1), 2, 2)


def space_to_depth(x: Tensor, patch: int) -> Tensor:
    """Patches to channels, in flaxgan's order: row, column, channel."""
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // patch, patch, w // patch, patch).permute(0, 3, 5, 1, 2, 4)
    x = x.reshape(b, -1, h // patch, w // patch)
    return x.contiguous(memory_format=torch.channels_last)


def depth_to_space(x: Tensor, patch: int) -> Tensor:
    """The inverse of `space_to_depth`."""
    b, _, h, w = x.shape
    x = x.permute(0, 2, 3, 1).reshape(b, h, w, patch, patch, -1).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * patch, w * patch, -1).permute(0, 3, 1, 2)


class Modulation(nn.Module):
    """Channels scaled and shifted by linear maps of w."""

    def __init__(self, channels: int, w_dim: int):
        super().__init__()
        self.of_w = nn.Linear(w_dim, 2 * channels)
        nn.init.zeros_(self.of_w.weight)
        nn.init.zeros_(self.of_w.bias)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        scale, shift = self.of_w(w)[:, :, None, None].chunk(2, 1)
        return torch.addcmul(shift, x, 1 + scale)


class ResidualBlock(nn.Module):
    """x + 1x1(3x3(1x1(x))); with w, modulated before the first two."""

    def __init__(self, channels: int, w_dim: int | None = None):
        super().__init__()
        hidden = channels // 2
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.spread = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.expand = nn.Conv2d(hidden, channels, 1)
        self.modulated = w_dim is not None
        if w_dim is not None:
            self.modulate0 = Modulation(channels, w_dim)
            self.modulate1 = Modulation(hidden, w_dim)

    def forward(self, x: Tensor, w: Tensor | None = None) -> Tensor:
        h = self.reduce(_lrelu(self.modulate0(x, w) if self.modulated else x))
        h = self.spread(_lrelu(self.modulate1(h, w) if self.modulated else h))
        return x + self.expand(_lrelu(h))


class Attention(nn.Module):
    """Heads of 32 channels; queries and keys are normalised, and turned by their places."""

    def __init__(self, channels: int, context: int | None = None, side: int = 0):
        super().__init__()
        self.heads = max(1, channels // 32)
        size = channels // self.heads
        self.query, self.out = (nn.Linear(channels, channels, bias=False) for _ in range(2))
        self.key, self.value = (
            nn.Linear(context or channels, channels, bias=False) for _ in range(2)
        )
        self.query_norm, self.key_norm = nn.RMSNorm(size, eps=1e-6), nn.RMSNorm(size, eps=1e-6)
        self.side = side
        if side:
            rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
            places = torch.stack([rows.ravel(), columns.ravel()], -1).float()
            pairs = size // 4
            angles = places[:, :, None] * 0.01 ** (torch.arange(pairs).float() / pairs)
            self.register_buffer("cos", angles.cos()[:, None], persistent=False)
            self.register_buffer("sin", angles.sin()[:, None], persistent=False)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None):
        source = x if context is None else context
        query, key, value = (
            layer(y).unflatten(-1, (self.heads, -1))
            for layer, y in ((self.query, x), (self.key, source), (self.value, source))
        )
        query, key = self.query_norm(query), self.key_norm(key)
        if self.side:
            query, key = self._turned(query), self._turned(key)
        y = F.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            attn_mask=None if mask is None else mask[:, None, None, :],
        )
        return self.out(y.transpose(1, 2).flatten(2))

    def _turned(self, x: Tensor) -> Tensor:
        first, second = x.unflatten(-1, (2, 2, -1)).unbind(-2)
        turned = (first * self.cos - second * self.sin, first * self.sin + second * self.cos)
        return torch.stack(turned, -2).flatten(-3)


class ImageAttention(nn.Module):
    """Places look at each other, then at the words."""

    def __init__(self, channels: int, context: int, side: int):
        super().__init__()
        self.places_norm = nn.RMSNorm(channels, eps=1e-6)
        self.words_norm = nn.RMSNorm(channels, eps=1e-6)
        self.places = Attention(channels, side=side)
        self.words = Attention(channels, context=context)

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        b, c, h, w = x.shape
        y = x.permute(0, 2, 3, 1).reshape(b, h * w, c)
        y = y + self.places(self.places_norm(y))
        y = y + self.words(self.words_norm(y), tokens, mask)
        return y.view(b, h, w, c).permute(0, 3, 1, 2)


class Sizes(NamedTuple):
    """What both networks are built from; fields as in flaxgan's config."""

    resolution: int
    g_channels: int
    d_channels: int
    z_dim: int
    w_dim: int
    patch: int
    attention: tuple[int, ...]
    embed_dim: int
    word_dim: int
    text_dim: int
    text_depth: int
    max_tokens: int
    direct: bool

    def text_encoder(self) -> TextTransformer:
        """A new one."""
        return TextTransformer(
            self.word_dim, self.text_dim, self.text_depth, self.max_tokens, self.direct
        )


class _Mapping(nn.Module):
    def __init__(self, inputs: int, w_dim: int):
        super().__init__()
        self.dense0, self.dense1 = nn.Linear(inputs, w_dim), nn.Linear(w_dim, w_dim)

    def forward(self, z: Tensor, sentence: Tensor) -> Tensor:
        z = z * torch.sqrt(z.shape[-1] / (z.square().sum(-1, keepdim=True) + 1e-8))
        x = _lrelu(self.dense0(torch.cat([z, sentence], -1)))
        return _lrelu(self.dense1(x))


class Generator(nn.Module):
    """Noise `[b, z]` and word vectors `[b, t, words]` with their mask to `[b, 3, h, w]`."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.patch, self.sides = sizes.patch, sides_of(sizes.resolution, sizes.patch)[::-1]
        self.widths = widths_of(sizes.g_channels, len(self.sides))[::-1]
        self.text_encoder = sizes.text_encoder()
        words = self.text_encoder.width
        self.mapping = _Mapping(sizes.z_dim + words, sizes.w_dim)
        self.start = nn.Linear(sizes.w_dim, 16 * self.widths[0])
        before = self.widths[0]
        for side, width in zip(self.sides, self.widths, strict=True):
            if width != before:
                self.add_module(f"to{side}", nn.Conv2d(before, width, 1, bias=False))
            self.add_module(f"block{side}_0", ResidualBlock(width, sizes.w_dim))
            if side in sizes.attention:
                self.add_module(f"attend{side}", ImageAttention(width, words, side))
            before = width
        self.modulate_out = Modulation(before, sizes.w_dim)
        self.to_pixels = nn.Conv2d(before, PIXEL_CHANNELS * self.patch**2, 3, padding=1)
        self.to_image = nn.Conv2d(PIXEL_CHANNELS, 3, 3, padding=1)

    def forward(self, z: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        return self.draw(z, *self.text_encoder(words, mask), mask)

    def draw(self, z: Tensor, sentence: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """From what the text encoder makes of a caption."""
        w = self.mapping(z, sentence)
        x = self.start(w).view(-1, 4, 4, self.widths[0]).permute(0, 3, 1, 2)
        for side in self.sides:
            if side > 4:
                if hasattr(self, f"to{side}"):
                    x = self.get_submodule(f"to{side}")(x)
                x = up_121(x)
            x = self.get_submodule(f"block{side}_0")(x, w)
            if hasattr(self, f"attend{side}"):
                x = self.get_submodule(f"attend{side}")(x, tokens, mask)
        x = self.to_pixels(_lrelu(self.modulate_out(x, w)))
        return self.to_image(_lrelu(depth_to_space(x, self.patch)))


class _Embedding(nn.Module):
    def __init__(self, image: int, text: int, dim: int):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.image, self.text = nn.Linear(image, dim), nn.Linear(text, dim)

    def of_image(self, x: Tensor) -> Tensor:
        return self._scaled(self.image(x))

    def of_text(self, x: Tensor) -> Tensor:
        return self._scaled(self.text(x))

    def _scaled(self, x: Tensor) -> Tensor:
        root = torch.exp(0.5 * self.log_scale.clamp_max(math.log(100.0)))
        return root * x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-12)


class Discriminator(nn.Module):
    """Images `[b, 3, h, w]` and sentences to logits `[b]`, and both to one space."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.patch, count = sizes.patch, len(sides_of(sizes.resolution, sizes.patch))
        self.widths = widths_of(sizes.d_channels, count)
        self.text_encoder = sizes.text_encoder()
        words, last = self.text_encoder.width, self.widths[-1]
        self.from_image = nn.Conv2d(3 * self.patch**2, self.widths[0], 3, padding=1)
        for i, width in enumerate(self.widths):
            self.add_module(f"trunk_{i}_0", ResidualBlock(width))
            if i:
                narrow = nn.Conv2d(self.widths[i - 1], width, 1, bias=False)
                self.add_module(f"narrow_{i - 1}", narrow)
        self.pool = nn.Linear(16 * last, last)
        self.joint = nn.Linear(last + words, last)
        self.output = nn.Linear(last, 1, bias=False)
        self.embedding = _Embedding(16 * last, words, sizes.embed_dim)

    def features(self, images: Tensor) -> Tensor:
        """The 4x4 map as a vector, `[b, 16 c]`."""
        x = self.from_image(space_to_depth(images, self.patch))
        for i in range(len(self.widths)):
            if i:
                x = self.get_submodule(f"narrow_{i - 1}")(down_121(x))
            x = self.get_submodule(f"trunk_{i}_0")(x)
        return _lrelu(x).permute(0, 2, 3, 1).reshape(len(x), -1)

    def logits(self, features: Tensor, sentence: Tensor) -> Tensor:
        """`[b]`."""
        x = torch.cat([_lrelu(self.pool(features)), sentence], -1)
        return self.output(_lrelu(self.joint(x)))[:, 0]


class Captions(NamedTuple):
    """Word vectors `[n, t, words]` with mask and ids: the batch's own, then the negatives."""

    words: Tensor
    mask: Tensor
    ids: Tensor


def info_nce(images: Tensor, texts: Tensor, ids: Tensor) -> Tensor:
    """Symmetric InfoNCE `[]`: `[b, e]` images, `[b + n, e]` texts, what is equal left out."""
    b = len(images)
    left_out = ids[None] == ids[:b, None]
    left_out = left_out & ~torch.eye(b, len(ids), dtype=torch.bool)
    to_text = (images @ texts.T).masked_fill(left_out, -math.inf)
    to_image = (texts[:b] @ images.T).masked_fill(left_out[:, :b], -math.inf)
    own = torch.arange(b)
    return 0.5 * (F.cross_entropy(to_text, own) + F.cross_entropy(to_image, own))


def multiscale_l1(images: Tensor, real: Tensor) -> Tensor:
    """`[b]`: mean absolute difference, averaged over three sizes."""
    difference, found = images - real, []
    for scale in range(3):
        difference = F.avg_pool2d(difference, 2) if scale else difference
        found.append(difference.abs().mean((1, 2, 3)))
    return torch.stack(found).mean(0)


def d_loss(
    d: Discriminator, real: Tensor, fake: Tensor, captions: Captions, gamma: float
) -> Tensor:
    """RpGAN with R1 and R2, and InfoNCE of the real images; `fake` is a constant."""
    b = len(real)
    sentences, _ = d.text_encoder(captions.words, captions.mask)
    images = torch.cat([real, fake]).contiguous(memory_format=torch.channels_last)
    images.requires_grad_(True)
    features = d.features(images)
    logits = d.logits(features, sentences[:b].repeat(2, 1))
    (slopes,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    penalty = 0.5 * gamma * slopes.square().sum((1, 2, 3))
    game = F.softplus(logits[b:] - logits[:b]) + penalty[:b] + penalty[b:]
    texts = d.embedding.of_text(sentences)
    return game.mean() + info_nce(d.embedding.of_image(features[:b]), texts, captions.ids)


def g_loss(
    g: Generator,
    d: Discriminator,
    real: Tensor,
    z: Tensor,
    candidates: Tensor,
    captions: Captions,
    weights: tuple[float, float],
) -> Tensor:
    """RpGAN, InfoNCE of the fakes, and the distance of the nearest candidate; D is fixed.

    Args:
      candidates: `[k, b, z]`, noises of which for each caption the nearest is drawn again.
      weights: of InfoNCE and of the distance.
    """
    b = len(real)
    own = captions.mask[:b]
    sentence, tokens = g.text_encoder(captions.words[:b], own)
    with torch.no_grad():
        k = len(candidates)
        drawn = g.draw(
            candidates.flatten(0, 1),
            sentence.repeat(k, 1),
            tokens.repeat(k, 1, 1),
            own.repeat(k, 1),
        )
        distances = multiscale_l1(drawn, real.repeat(k, 1, 1, 1)).view(k, b)
        nearest = candidates[distances.argmin(0), torch.arange(b)]
        sentences, _ = d.text_encoder(captions.words, captions.mask)
        texts = d.embedding.of_text(sentences)
        real_logits = d.logits(d.features(real), sentences[:b])
    both = g.draw(
        torch.cat([z, nearest]), sentence.repeat(2, 1), tokens.repeat(2, 1, 1), own.repeat(2, 1)
    )
    features = d.features(both[:b])
    game = F.softplus(real_logits - d.logits(features, sentences[:b])).mean()
    nce = info_nce(d.embedding.of_image(features), texts, captions.ids)
    return game + weights[0] * nce + weights[1] * multiscale_l1(both[b:], real).mean()
