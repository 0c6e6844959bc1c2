"""Transformer layers of the Sketch Decoder's aligner, under the published names.

Those of torchscale (Ma et al., arXiv 2211.13184): normalisation before each part and once more inside
attention and feed-forward (sub-LN, arXiv 2210.06423).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Not causal. `inner`: whether what was found is normalised before the output projection."""

    def __init__(self, width: int, heads: int, inner: bool) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.out_proj = nn.Linear(width, width)
        self.inner_attn_ln = nn.LayerNorm(width) if inner else None

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """x [B, n, E] attends to memory [B, m, E]."""
        projected = self.q_proj(x), self.k_proj(memory), self.v_proj(memory)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in projected)
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out_proj(found if self.inner_attn_ln is None else self.inner_attn_ln(found))


class FeedForward(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.ffn_layernorm = nn.LayerNorm(inner)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.ffn_layernorm(F.gelu(self.fc1(x))))


class Layer(nn.Module):
    """Self-attention, with `cross` attention to a memory after it, and feed-forward, each added."""

    def __init__(self, width: int, heads: int, inner: int, cross: bool) -> None:
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.self_attn = Attention(width, heads, inner=True)
        if cross:
            self.encoder_attn_layer_norm = nn.LayerNorm(width)
            self.encoder_attn = Attention(width, heads, inner=False)
        self.cross = cross
        self.final_layer_norm = nn.LayerNorm(width)
        self.ffn = FeedForward(width, inner)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        normed = self.self_attn_layer_norm(x)
        x = x + self.self_attn(normed, normed)
        if self.cross:
            assert memory is not None
            x = x + self.encoder_attn(self.encoder_attn_layer_norm(x), memory)
        return x + self.ffn(self.final_layer_norm(x))
