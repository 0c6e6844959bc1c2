"""Layers of Orthus' causal backbone, with the published parameter names of Chameleon.

Source: Chameleon, arXiv 2405.09818; Orthus, arXiv 2412.00127 (zhijie-group/Orthus). Queries and keys have a
layer norm with weights for every head, before the rotation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.rotary_grid import rotate_halves
from unified.heads.vision_head_layers import RowStore, by_head

EPS = 1e-5


@dataclass(frozen=True, eq=False)
class Context:
    """What every layer is told: `mask` [B, 1, n, m] bool, `cos` and `sin` [B, 1, n, c], and `stores` of
    earlier keys and values, which new ones are added to (None: none are kept)."""

    mask: Tensor
    cos: Tensor
    sin: Tensor
    stores: list[RowStore] | None = None


class HeadNorm(nn.Module):
    """Layer norm over the channels of each head, with weights and biases [H, c]."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(heads, width))
        self.bias = nn.Parameter(torch.zeros(heads, width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, n, c] -> the same."""
        normed = F.layer_norm(x, x.shape[-1:], eps=EPS)
        return normed * self.weight[:, None] + self.bias[:, None]


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        self.q_norm, self.k_norm = HeadNorm(heads, width // heads), HeadNorm(heads, width // heads)

    def forward(self, x: Tensor, context: Context, layer: int) -> Tensor:
        q, k, v = (by_head(part(x), self.heads) for part in (self.q_proj, self.k_proj, self.v_proj))
        q, k = (
            rotate_halves(norm(part), context.cos, context.sin)
            for norm, part in ((self.q_norm, q), (self.k_norm, k))
        )
        if context.stores is not None:
            k, v = context.stores[layer].append((k, v))
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=context.mask)
        out: Tensor = self.o_proj(found.transpose(1, 2).flatten(2))
        return out


class GatedMLP(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return found


class DecoderLayer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(width, eps=EPS)
        self.self_attn = SelfAttention(width, heads)
        self.post_attention_layernorm = nn.RMSNorm(width, eps=EPS)
        self.mlp = GatedMLP(width, hidden)

    def forward(self, x: Tensor, context: Context, layer: int) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), context, layer)
        x = x + self.mlp(self.post_attention_layernorm(x))
        return x
