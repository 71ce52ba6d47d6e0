"""Peer of flaxgan.models.dfgan, with the hinge game, wrong captions and MA-GP."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def widths_of(resolution: int, nf: int) -> list[int]:
    """Channels at resolution, resolution / 2, …, 4."""
    return [nf * min(2**i, 8) for i in range(int(math.log2(resolution)) - 1)]


def _lrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


class Affine(nn.Module):
    """Scale and shift by two MLPs of the condition."""

    def __init__(self, channels: int, condition: int):
        super().__init__()
        for name in ("scale", "shift"):
            self.add_module(f"{name}_hidden", nn.Linear(condition, channels))
            self.add_module(name, nn.Linear(channels, channels))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale = self.scale(F.relu(self.scale_hidden(condition)))[:, :, None, None]
        shift = self.shift(F.relu(self.shift_hidden(condition)))[:, :, None, None]
        return torch.addcmul(shift, scale, x)


class Fusion(nn.Module):
    """Affine, leaky ReLU, twice."""

    def __init__(self, channels: int, condition: int):
        super().__init__()
        self.affine0, self.affine1 = Affine(channels, condition), Affine(channels, condition)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return _lrelu(self.affine1(_lrelu(self.affine0(x, condition)), condition))


class UpBlock(nn.Module):
    """Pointwise work and the shortcut come before upsampling, which is the same function."""

    def __init__(self, inputs: int, width: int, condition: int):
        super().__init__()
        self.fusion0, self.fusion1 = Fusion(inputs, condition), Fusion(width, condition)
        self.conv0 = nn.Conv2d(inputs, width, 3, padding=1)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        if inputs != width:
            self.shortcut = nn.Conv2d(inputs, width, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv0(F.interpolate(self.fusion0(x, condition), scale_factor=2))
        h = self.conv1(self.fusion1(h, condition))
        x = self.shortcut(x) if hasattr(self, "shortcut") else x
        return F.interpolate(x, scale_factor=2) + h


class Generator(nn.Module):
    """`[b, z]` and sentences `[b, s]` to `[b, 3, h, w]`."""

    def __init__(self, resolution: int, nf: int, z_dim: int, sentence: int, output: str):
        super().__init__()
        widths = widths_of(resolution, nf)[::-1]
        self.start, self.count, self.tanh = widths[0], len(widths) - 1, output == "tanh"
        self.from_z = nn.Linear(z_dim, 16 * widths[0])
        for i in range(self.count):
            block = UpBlock(widths[i], widths[i + 1], z_dim + sentence)
            self.add_module(f"block{i}", block)
        self.to_image = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z: Tensor, sentence: Tensor) -> Tensor:
        condition = torch.cat([z, sentence], 1)
        x = self.from_z(z).view(-1, 4, 4, self.start).permute(0, 3, 1, 2)
        for i in range(self.count):
            x = self.get_submodule(f"block{i}")(x, condition)
        x = self.to_image(_lrelu(x))
        return torch.tanh(x) if self.tanh else x


class DownBlock(nn.Module):
    """Shortcut + gamma (conv 4x4 stride 2, conv 3x3)."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.conv0 = nn.Conv2d(inputs, width, 4, 2, 1, bias=False)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(inputs, width, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        h = _lrelu(self.conv1(_lrelu(self.conv0(x))))
        return torch.addcmul(self.shortcut(F.avg_pool2d(x, 2)), self.gamma, h)


class Discriminator(nn.Module):
    """Images `[b, 3, h, w]` and sentences `[b, s]` to logits `[b]`."""

    def __init__(self, resolution: int, nf: int, sentence: int):
        super().__init__()
        widths = widths_of(resolution, nf)
        self.trunk = nn.Sequential()
        self.trunk.add_module("from_image", nn.Conv2d(3, widths[0], 3, padding=1))
        for i in range(len(widths) - 1):
            self.trunk.add_module(f"block{i}", DownBlock(widths[i], widths[i + 1]))
        self.joint = nn.Conv2d(widths[-1] + sentence, 2 * nf, 3, padding=1, bias=False)
        self.output = nn.Conv2d(2 * nf, 1, 4, bias=False)

    def logits(self, features: Tensor, sentence: Tensor) -> Tensor:
        tiled = sentence[:, :, None, None].expand(-1, -1, 4, 4)
        return self.output(_lrelu(self.joint(torch.cat([features, tiled], 1)))).view(-1)

    def forward(self, images: Tensor, sentence: Tensor) -> Tensor:
        return self.logits(self.trunk(images), sentence)


def d_loss(d: Discriminator, real: Tensor, fake: Tensor, sentence: Tensor, wrong: Tensor) -> Tensor:
    """Hinge, wrong captions with weight 1/2, MA-GP (k 2, p 6); `fake` is a constant."""
    real, own = real.detach().requires_grad_(True), sentence.detach().requires_grad_(True)
    features = d.trunk(real)
    real_logits, wrong_logits = d.logits(features, own), d.logits(features, wrong)
    fake_logits = d(fake, sentence)
    by_pixels, by_words = torch.autograd.grad(real_logits.sum(), (real, own), create_graph=True)
    squared = by_pixels.square().sum((1, 2, 3)) + by_words.square().sum(1)
    game = F.relu(1 - real_logits) + 0.5 * (F.relu(1 + fake_logits) + F.relu(1 + wrong_logits))
    return (game + 2.0 * squared**3).mean()


def g_loss(d: Discriminator, fake: Tensor, sentence: Tensor) -> Tensor:
    """Hinge."""
    return -d(fake, sentence).mean()
