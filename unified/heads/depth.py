"""A depth transformer: several codes of one place, coarse to fine, each given those before it.

The codes of a residual quantiser are predicted from one context vector by a few causal layers over depth, fed
the context and then the running sums of the codes' embeddings (RQ-Transformer, arXiv 2203.01941; in this form
the head of ASVR, arXiv 2506.09040). Layers share their attention over depths, but each depth has a
feed-forward network and a classifier of its own. Test: tests/unified/heads/test_depth.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, rms_norm, scaled_dot_product_attention


@dataclass(frozen=True, kw_only=True)
class DepthHeadConfig:
    """`hidden` width of the states that are read; `width`, `heads` and `layers` of the transformer; `depth`:
    codes of a place, each from 0 to `codes` - 1 (published: 2048, 16, 3 and 8)."""

    hidden: int = 64
    width: int = 64
    heads: int = 4
    layers: int = 3
    depth: int = 4
    codes: int = 64

    def __post_init__(self) -> None:
        if min(self.hidden, self.layers, self.depth) < 1 or self.codes < 2:
            raise ValueError(f"sizes of a depth head must be at least 1, and codes 2, got {self}")
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")


class DepthHead(nn.Module):
    """States [P, H] and codes [P, depth] -> logits [P, depth, codes]; those of a depth depend on the codes of
    earlier depths alone."""

    def __init__(self, config: DepthHeadConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.context = nn.ModuleList([nn.Linear(config.hidden, width), nn.Linear(width, width)])
        self.embeddings = nn.ModuleList(nn.Embedding(config.codes, width) for _ in range(config.depth - 1))
        self.enter = nn.Linear(width, width)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.classifiers = nn.ModuleList(nn.Linear(width, config.codes) for _ in range(config.depth))

    def forward(self, states: Tensor, codes: Tensor) -> Tensor:
        """ValueError for codes of another depth."""
        if tuple(codes.shape) != (len(states), self.config.depth):
            want = (len(states), self.config.depth)
            raise ValueError(f"{len(states)} states need codes {want}, got {tuple(codes.shape)}")
        return self._logits(states, codes, self.config.depth)

    def _logits(self, states: Tensor, codes: Tensor, count: int) -> Tensor:
        """Of the first `count` depths, of which the codes of all but the last are read."""
        first, second = self.context
        parts, total = [second(gelu(first(states)))], torch.zeros((), device=states.device)
        for depth in range(count - 1):
            total = total + self.embeddings[depth](codes[:, depth])
            parts.append(self.enter(total))
        x = torch.stack(parts, dim=1)  # [P, count, W]
        for layer in self.layers:
            x = layer(x)
        x = rms_norm(x, x.shape[-1:])
        found = [classify(x[:, depth]) for depth, classify in enumerate(self.classifiers[:count])]  # type: ignore[arg-type]
        return torch.stack(found, dim=1).float()

    @torch.no_grad()
    def likeliest(self, states: Tensor) -> Tensor:
        """[P, depth]: the likeliest code of each depth, given the likeliest ones before it."""
        codes = torch.zeros(len(states), 0, dtype=torch.long, device=states.device)
        for count in range(1, self.config.depth + 1):
            chosen = self._logits(states, codes, count)[:, -1].argmax(dim=-1)
            codes = torch.cat([codes, chosen[:, None]], dim=1)
        return codes


class _Layer(nn.Module):
    """x [P, n, W] -> the same, for n up to the depth."""

    def __init__(self, config: DepthHeadConfig) -> None:
        super().__init__()
        self.heads, width = config.heads, config.width
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.mixers = nn.ModuleList(_mixer(width) for _ in range(config.depth))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(found.transpose(1, 2).flatten(2))
        normed = self.norm2(x)
        return x + torch.stack([self.mixers[n](normed[:, n]) for n in range(x.shape[1])], dim=1)


def _mixer(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))
