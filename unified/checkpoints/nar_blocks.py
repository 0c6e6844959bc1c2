"""Blocks of the published NAR transformers: those of LlamaGen, whose rotary embedding has two dimensions.

Source: ThisisBillhe/NAR (MIT), NAR-images/autoregressive/models and NAR-videos, derived from LlamaGen and
LARP. Parameter names are the published ones. Different from the published code: keys and values are kept in a
`KVCache`, rotary angles come from the positions of a pass. Tests: tests/unified/checkpoints/test_nar.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.backbone.layer_pass import Pass
from unified.checkpoints.linear import Linear
from unified.layout.attention import Index
from unified.orders.shapes import Shapes
from unified.stream.segments import Kind


@dataclass(frozen=True, kw_only=True)
class Drops:
    """Dropout rates, all acting in training mode only: of embeddings (of the condition too), of what
    attention adds, of what the feed-forward network adds."""

    token: float = 0.0
    residual: float = 0.0
    feed_forward: float = 0.0


@dataclass(frozen=True, kw_only=True)
class NARConfig:
    """`shapes`: one map or the frames of a video, all of one size. `depth`: blocks before the first head;
    `more`: blocks between it and each further one (LlamaGen has one head: none). `classes`: how many, beside
    the null class; with a `caption_width` the condition is `condition_length` vectors of a caption in their
    place. `video`: learned positions in place of rotary ones, and three heads."""

    codes: int = 64
    width: int = 64
    heads: int = 4
    depth: int = 3
    more: tuple[int, ...] = (1,)
    multiple: int = 256
    classes: int = 10
    condition_length: int = 1
    caption_width: int = 0
    shapes: Shapes = ((4, 4),)
    video: bool = False
    norm_eps: float = 1e-5
    rope_base: float = 10000.0
    drops: Drops = field(default_factory=Drops)

    def __post_init__(self) -> None:
        least = {"codes": 2, "width": 1, "heads": 1, "depth": 1, "multiple": 1, "classes": 1}
        for name, number in least.items():
            if getattr(self, name) < number:
                raise ValueError(f"{name} must be at least {number}, got {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")
        if not self.video and self.head_width % 4:
            raise ValueError(
                f"rotary positions need heads of a multiple of 4 channels, got {self.head_width}"
            )
        if not self.caption_width and self.condition_length != 1:
            raise ValueError(f"a class is one condition token, got {self.condition_length}")
        if len(self.more) not in ((2,) if self.video else (0, 1)):
            raise ValueError(f"more must say the blocks before each head but the first, got {self.more}")

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def inner(self) -> int:
        """Width of the feed-forward network: 8/3 of the width, rounded up to a multiple."""
        return -(-int(8 * self.width / 3) // self.multiple) * self.multiple

    @property
    def layers(self) -> int:
        return self.depth + sum(self.more)


class Attention(nn.Module):
    def __init__(self, config: NARConfig) -> None:
        super().__init__()
        self.heads, self.drop = config.heads, config.drops.residual
        self.wqkv = Linear(config.width, 3 * config.width, bias=False)
        self.wo = Linear(config.width, config.width, bias=False)

    def forward(self, x: Tensor, rotary: Tensor | None, run: Pass, layer: int) -> Tensor:
        rows, count, width = x.shape
        q, k, v = self.wqkv(x).view(rows, count, 3, self.heads, -1).unbind(dim=2)  # [R, n, H, c] each
        if rotary is not None:
            q, k = rotated(q, rotary), rotated(k, rotary)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        out = run.attention(layer, q, k, v, q.shape[-1] ** -0.5)
        return F.dropout(self.wo(out.reshape(rows, count, width)), self.drop, self.training)


class FeedForward(nn.Module):
    def __init__(self, config: NARConfig) -> None:
        super().__init__()
        self.w1 = Linear(config.width, config.inner, bias=False)
        self.w3 = Linear(config.width, config.inner, bias=False)
        self.w2 = Linear(config.inner, config.width, bias=False)
        self.drop = config.drops.feed_forward

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.w2(F.silu(self.w1(x)) * self.w3(x)), self.drop, self.training)


class Block(nn.Module):
    """x [R, n, D] -> the same."""

    def __init__(self, config: NARConfig, layer: int) -> None:
        super().__init__()
        self.number = layer
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)
        self.attention_norm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.ffn_norm = nn.RMSNorm(config.width, eps=config.norm_eps)

    def forward(self, x: Tensor, rotary: Tensor | None, run: Pass) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotary, run, self.number)
        return x + self.feed_forward(self.ffn_norm(x))


class ClassEmbedding(nn.Module):
    """Labels [...], of which the last class and all below 0 mean none -> [..., D]."""

    def __init__(self, config: NARConfig) -> None:
        super().__init__()
        self.classes = config.classes
        self.embedding_table = nn.Embedding(config.classes + 1, config.width)

    def forward(self, labels: Tensor) -> Tensor:
        if (labels > self.classes).any():
            raise ValueError(
                f"label {int(labels.max())} is not in 0..{self.classes} ({self.classes}: no class)"
            )
        return self.embedding_table(torch.where(labels < 0, self.classes, labels))


class CaptionEmbedding(nn.Module):
    """Features of a text encoder [..., C] -> [..., D]. `uncond_embedding` [T, C] stands for no caption."""

    def __init__(self, config: NARConfig) -> None:
        super().__init__()
        self.uncond_embedding = nn.Parameter(torch.zeros(config.condition_length, config.caption_width))
        self.cap_proj = Projection(config.caption_width, config.width)

    def forward(self, features: Tensor) -> Tensor:
        return self.cap_proj(features.to(self.uncond_embedding.dtype))


class Projection(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.fc1 = Linear(width, out, bias=False)
        self.fc2 = Linear(out, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


def rotary_table(config: NARConfig, index: Index, positions: Tensor) -> Tensor:
    """[R, n, c / 2, 2] cosines and sines for positions [3, R, n]: half of the channels turn with the row,
    half with the column, counted from the image's own corner. The condition's are 0, as published: its
    queries and keys vanish, so that it is attended to uniformly (which is not the rotation by 0)."""
    half = config.head_width // 2
    exponent = torch.arange(0, half, 2, device=positions.device).float() / half
    places = positions[1:] - positions[0]  # codes of an image share one time, where its corner lies
    angles = places[..., None] * config.rope_base**-exponent  # [2, R, n, c / 4]
    angles = torch.cat(angles.unbind(dim=0), dim=-1)
    written = (index.kind == Kind.WRITE).to(positions.device)[..., None, None]
    return torch.stack([angles.cos(), angles.sin()], dim=-1) * written


def rotated(x: Tensor, table: Tensor) -> Tensor:
    """Pairs of neighbouring channels of x [R, n, H, c] turned by a table [R or 1, n, c / 2, 2]."""
    first, second = x.float().unflatten(-1, (-1, 2)).unbind(dim=-1)
    cos, sin = table[:, :, None].unbind(dim=-1)  # [R, n, 1, c / 2]
    turned = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return turned.flatten(-2).to(x.dtype)
