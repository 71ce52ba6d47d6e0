"""Adam for two networks, and averages of the generator."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Training:
    """Updates D, then G, then the averages.

    Attributes:
      g, d: the networks.
    """

    def __init__(
        self,
        g: nn.Module,
        d: nn.Module,
        *,
        g_lr: float,
        d_lr: float,
        betas: tuple[float, float],
        averages: int = 1,
    ):
        """`averages`: how many there are of the generator."""
        self.g, self.d = g, d
        for module in (g, d):
            module.to(memory_format=torch.channels_last)
        self._g_params, self._d_params = list(g.parameters()), list(d.parameters())
        self._g_adam = torch.optim.Adam(self._g_params, g_lr, betas, fused=True)
        self._d_adam = torch.optim.Adam(self._d_params, d_lr, betas, fused=True)
        self._averages = [[p.detach().clone() for p in self._g_params] for _ in range(averages)]

    def step(self, d_loss: Callable[[], Tensor], g_loss: Callable[[], Tensor]) -> None:
        """One step; each loss is called when its turn comes."""
        self._update(self._d_adam, d_loss)
        for p in self._d_params:
            p.requires_grad_(False)  # G's loss needs no gradient of D's weights
        self._update(self._g_adam, g_loss)
        for p in self._d_params:
            p.requires_grad_(True)
        with torch.no_grad():
            for average in self._averages:
                torch._foreach_lerp_(average, self._g_params, 0.01)

    def _update(self, adam: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> None:
        adam.zero_grad(set_to_none=True)
        loss().backward()
        adam.step()
