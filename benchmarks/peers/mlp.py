"""Peer of flaxgan.models.mlp, unconditional."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (256, 512, 1024)
DROPOUT = 0.3


class Generator(nn.Module):
    """`[b, z]` to `[b, pixels]` in [-1, 1]."""

    def __init__(self, z_dim: int, pixels: int):
        super().__init__()
        sizes = (z_dim, *WIDTHS)
        self.count = len(WIDTHS)
        for i in range(self.count):
            self.add_module(f"dense{i}", nn.Linear(sizes[i], sizes[i + 1]))
        self.to_image = nn.Linear(sizes[-1], pixels)

    def forward(self, z: Tensor) -> Tensor:
        for i in range(self.count):
            z = F.leaky_relu(self.get_submodule(f"dense{i}")(z), 0.2, inplace=True)
        return torch.tanh(self.to_image(z))


class Discriminator(nn.Module):
    """`[b, pixels]` to logits `[b]`; with dropout in training mode."""

    def __init__(self, pixels: int):
        super().__init__()
        sizes = (pixels, *reversed(WIDTHS))
        self.count = len(WIDTHS)
        for i in range(self.count):
            self.add_module(f"hidden_{i}", nn.Linear(sizes[i], sizes[i + 1]))
        self.output = nn.Linear(sizes[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(self.count):
            x = F.leaky_relu(self.get_submodule(f"hidden_{i}")(x), 0.2, inplace=True)
            x = F.dropout(x, DROPOUT, self.training)
        return self.output(x)[:, 0]


def d_loss(d: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
    """Goodfellow et al. 2014; `fake` is a constant."""
    return F.softplus(-d(real)).mean() + F.softplus(d(fake)).mean()


def g_loss(d: Discriminator, fake: Tensor) -> Tensor:
    """The nonsaturating loss."""
    return F.softplus(-d(fake)).mean()
