"""Peers of flaxgan.text.transformer and flaxgan.text.bert."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of `[b, t, d]` over the tokens that the mask `[b, t]` keeps."""
    kept = mask[..., None].to(x.dtype)
    return (x * kept).sum(1) / kept.sum(1).clamp_min(1.0)


def attend(qkv: Tensor, heads: int, mask: Tensor) -> Tensor:
    """Self-attention from queries, keys and values in one, `[b, t, 3 d]`, to `[b, t, d]`."""
    b, t, width = qkv.shape
    q, k, v = qkv.view(b, t, 3, heads, width // 3 // heads).permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
    return y.transpose(1, 2).reshape(b, t, width // 3)


class _Attention(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.heads = max(1, dim // 32)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.out(attend(self.qkv(x), self.heads, mask))


class TextTransformer(nn.Module):
    """Word vectors `[b, t, inputs]` to sentences `[b, d]` and tokens `[b, t, d]`; d is `width`."""

    def __init__(self, inputs: int, dim: int, depth: int, max_tokens: int, direct: bool):
        super().__init__()
        self.depth, self.width = depth, 2 * dim if direct else dim
        self.positions = nn.Parameter(0.02 * torch.randn(max_tokens, dim))
        self.norm_in, self.embed = nn.LayerNorm(inputs, eps=1e-6), nn.Linear(inputs, dim)
        for i in range(depth):
            self.add_module(f"norm_a{i}", nn.LayerNorm(dim, eps=1e-6))
            self.add_module(f"norm_b{i}", nn.LayerNorm(dim, eps=1e-6))
            self.add_module(f"attention{i}", _Attention(dim))
            self.add_module(f"up{i}", nn.Linear(dim, 4 * dim))
            self.add_module(f"down{i}", nn.Linear(4 * dim, dim))
        self.norm_out = nn.LayerNorm(dim, eps=1e-6)
        if direct:
            self.direct = nn.Linear(inputs, dim)

    def forward(self, vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        vectors = self.norm_in(vectors)
        x = self.embed(vectors) + self.positions[: vectors.shape[1]]
        for i in range(self.depth):
            part = {name: self.get_submodule(f"{name}{i}") for name in _PARTS}
            x = x + part["attention"](part["norm_a"](x), mask)
            h = F.gelu(part["up"](part["norm_b"](x)), approximate="tanh")
            x = x + part["down"](h)
        x = self.norm_out(x)
        if hasattr(self, "direct"):
            x = torch.cat([x, self.direct(vectors)], -1)
        return masked_mean(x, mask), x


_PARTS = ("norm_a", "attention", "norm_b", "up", "down")


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.attention_norm = nn.LayerNorm(dim, eps=1e-12)
        self.output_norm = nn.LayerNorm(dim, eps=1e-12)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention_norm(x + self.out(attend(self.qkv(x), self.heads, mask)))
        return self.output_norm(x + self.down(F.gelu(self.up(x))))


class Bert(nn.Module):
    """Rows of the word table `[b, t, 384]` to tokens in the context of their caption."""

    def __init__(self, layers: int, dim: int = 384, heads: int = 12, hidden: int = 1536):
        super().__init__()
        self.layers = layers
        self.positions, self.token_type = (
            nn.Parameter(torch.zeros(size)) for size in ((512, dim), (dim,))
        )
        self.embedding_norm = nn.LayerNorm(dim, eps=1e-12)
        for i in range(layers):
            self.add_module(f"block{i}", _Block(dim, heads, hidden))

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        x = self.embedding_norm(words + self.positions[: words.shape[1]] + self.token_type)
        for i in range(self.layers):
            x = self.get_submodule(f"block{i}")(x, mask)
        return x
