"""Parts of vision transformers under the names that published tokenizers give them (those of timm), and
tables of fixed positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Mask = Tensor | None  # bool, True: may be seen; broadcast to [B, heads, queries, keys]


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Mask = None) -> Tensor:
    """Attention of heads that lie next to each other. q [B, T, D], k and v [B, K, D] -> [B, T, D]; scale
    (D / heads)^-0.5."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def causal(length: int) -> Tensor:
    """[T, T] bool: each place sees itself and earlier ones."""
    return torch.ones(length, length, dtype=torch.bool).tril()


class Attention(nn.Module):
    """`qkv` in one matrix with rows [q | k | v]."""

    def __init__(self, width: int, heads: int, *, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Mask = None) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        out: Tensor = self.proj(attend(q, k, v, self.heads, mask))
        return out


class FeedForward(nn.Module):
    """`approximate`: of GELU, "tanh" or "none"."""

    def __init__(self, width: int, hidden: int, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x), approximate=self.approximate))
        return out


class Block(nn.Module):
    """Pre-norm block; its norms have weights (eps 1e-5), its queries, keys and values no bias."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads, bias=False)
        self.mlp = FeedForward(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def plain_norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    """LayerNorm without weights."""
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """The plain norm of x, scaled and shifted (AdaLN)."""
    return plain_norm(x) * (1 + scale) + shift


def sinusoid(positions: Tensor, width: int) -> Tensor:
    """[sin | cos] of positions [N] in `width` / 2 frequencies 10000^(-2i / width) -> [N, width] in float32,
    computed in float64."""
    frequencies = 10000.0 ** (-torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angles = positions.double()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def sinusoid_grid(height: int, width: int, channels: int) -> Tensor:
    """[height * width, channels], row by row: the first half of the channels is of x, the second of y."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    halves = [sinusoid(places.flatten(), channels // 2) for places in (columns, rows)]
    return torch.cat(halves, dim=1)
