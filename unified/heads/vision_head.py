"""The Context-Aware Vision Head: hidden states of a language model -> features of its own vision encoder.

A latent is predicted from the embeddings of all finished images (the prefix, global context) and from the
hidden states that precede the image's own latents (local rows, causal). Zhang et al., "Latent Sketchpad",
arXiv 2510.24514; code hwanyu112/Latent-Sketchpad (MIT), revision 2d67b31, whose names of parameters are kept.

Different from the published code: rows of padding are left out, not masked, and keys and values are held
(`HeadCache`), so a latent costs one row; both are exact. Tests: tests/unified/heads/test_vision_head.py and,
against the published outputs, tests/unified/checkpoints/test_latent_sketchpad.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from unified.finite import check_tree
from unified.heads.vision_head_layers import (
    CausalAttention,
    PrefixCausalAttention,
    RotaryPositions,
    RowStore,
    feed_forward,
)

CONTEXT_DROPOUT = 0.1  # published
LEAST_HEAD_WIDTH = 32


@dataclass(frozen=True, kw_only=True)
class VisionHeadConfig:
    """`text_width` T and `vision_width` V: of the language model and of its vision encoder. An image is
    `tokens` positions of the language model with `merge` vectors of the encoder each. The prefix has room for
    `images` images. `depth`: layers with the prefix, and layers after them. `position_rows`: of the learned
    table, None for as many as are needed."""

    text_width: int = 48
    vision_width: int = 64
    heads: int = 2
    tokens: int = 4
    merge: int = 1
    images: int = 3
    depth: tuple[int, int] = (2, 8)
    position_rows: int | None = None

    def __post_init__(self) -> None:
        check_tree(self)
        object.__setattr__(self, "depth", tuple(self.depth))
        counts = (self.text_width, self.vision_width, self.heads, self.tokens, self.merge, self.images)
        if len(self.depth) != 2 or not all(type(n) is int and n > 0 for n in (*counts, *self.depth)):
            raise ValueError(f"widths and counts of a vision head must be whole numbers from 1, got {self}")
        if self.vision_width % self.heads or self.vision_width // self.heads < LEAST_HEAD_WIDTH:
            raise ValueError(
                f"vision_width {self.vision_width} must be {self.heads} heads of at least {LEAST_HEAD_WIDTH}"
            )
        needed = self.merge * (self.capacity + self.tokens)
        if self.position_rows is not None and self.position_rows < needed:
            raise ValueError(f"position_rows must be at least {needed}, got {self.position_rows}")

    @property
    def capacity(self) -> int:
        """P: rows of the prefix, in positions of the language model."""
        return self.tokens * self.images

    @property
    def rows(self) -> int:
        """Of the learned table of positions."""
        return self.position_rows or self.merge * (self.capacity + self.tokens)


@dataclass
class HeadCache:
    """What the head holds of an image that is being drawn. `layers`: by layer, keys and values, those of the
    prefix first. `masks`: by layer with the prefix, which of its rows are seen [B, m]. `count`: local rows so
    far, in vectors of the encoder."""

    layers: list[RowStore]
    masks: list[Tensor] = field(default_factory=list)
    count: int = 0


class VisionHead(nn.Module):
    """Regression of the features of an image, row by row. In training a share `context_dropout` of the
    prefix's places is dropped in each layer that reads it."""

    def __init__(self, config: VisionHeadConfig, context_dropout: float = CONTEXT_DROPOUT) -> None:
        super().__init__()
        if not 0 <= context_dropout < 1:
            raise ValueError(f"context_dropout must be from 0 to below 1, got {context_dropout}")
        self.config, self.context_dropout = config, context_dropout
        width, vision = config.text_width, config.vision_width
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, vision * config.merge))
        self.perceiver = Perceiver(config)
        self.apply(_initialise)

    def open(self, prefix: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> HeadCache:
        """Begin an image after the finished ones: prefix [B, m, T], the rows of images at its end (padded on
        the left, `mask` [B, m] bool; m may be 0). `generator`: of the context dropout. ValueError for more
        rows than the head has room for."""
        config = self.config
        if prefix.shape[1] > config.capacity:
            images = prefix.shape[1] / config.tokens
            raise ValueError(f"{images:g} finished images, the vision head has room for {config.images}")
        rows = self._vision_rows(prefix)
        mask = mask.bool().repeat_interleave(config.merge, dim=1)
        own = config.merge * config.tokens
        rooms = [rows.shape[1] + own] * config.depth[0] + [own] * config.depth[1]
        cache = HeadCache([RowStore(room) for room in rooms])
        drop = self.context_dropout if self.training else 0.0
        self.perceiver.open(cache, rows, mask, drop, generator)
        return cache

    def extend(self, cache: HeadCache, local: Tensor) -> Tensor:
        """The next k local rows [B, k, T] -> features before the connector's norm [B, k * merge, V]; the
        cache then holds them. ValueError for more rows than an image has."""
        config = self.config
        if cache.count // config.merge + local.shape[1] > config.tokens:
            raise ValueError(f"an image has {config.tokens} latents, got more")
        found: Tensor = self.perceiver(cache, self._vision_rows(local))
        return found

    def forward(
        self, prefix: Tensor, mask: Tensor, local: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """All rows of an image at once: prefix [B, m, T], mask [B, m], local [B, n, T] -> [B, n * merge,
        V]."""
        return self.extend(self.open(prefix, mask, generator), local)

    def _vision_rows(self, rows: Tensor) -> Tensor:
        """[B, m, T] -> [B, m * merge, V]."""
        found: Tensor = self.mlp(rows)
        return found.unflatten(-1, (self.config.merge, -1)).flatten(1, 2)


class Perceiver(nn.Module):
    """Layers that read prefix and local rows, then layers that read local rows alone."""

    def __init__(self, config: VisionHeadConfig) -> None:
        super().__init__()
        width, heads = config.vision_width, config.heads
        self.prefix_places = config.capacity * config.merge  # local rows always begin at this place
        self.pos_emb = nn.Embedding(config.rows, width)
        self.rotary_pos_emb = RotaryPositions(width // heads)
        self.perceive_layers = nn.ModuleList(
            nn.ModuleList([PrefixCausalAttention(width, heads), feed_forward(width)])
            for _ in range(config.depth[0])
        )
        self.layers = nn.ModuleList(
            nn.ModuleList([CausalAttention(width, heads), feed_forward(width)])
            for _ in range(config.depth[1])
        )

    def open(
        self,
        cache: HeadCache,
        rows: Tensor,
        mask: Tensor,
        drop: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        """Put keys and values of prefix rows [B, m, V] into the cache."""
        places = torch.arange(self.prefix_places - rows.shape[1], self.prefix_places, device=rows.device)
        angles, rows = self._placed(rows, places)
        for number, (attention, _) in enumerate(_pairs(self.perceive_layers)):
            cache.layers[number].append(attention.prefix(rows, angles))
            cache.masks.append(mask & self._kept(places, len(rows), drop, generator))

    def forward(self, cache: HeadCache, x: Tensor) -> Tensor:
        """Local rows [B, k, V] after those of the cache -> [B, k, V]."""
        first, count = cache.count, x.shape[1]
        local = torch.arange(first, first + count, device=x.device)
        angles, x = self._placed(x, self.prefix_places + local)
        causal = (torch.arange(first + count, device=x.device) <= local[:, None])[None]  # [1, k, m]
        causal = causal.expand(len(x), -1, -1)
        for number, (attention, wide) in enumerate(_pairs(self.perceive_layers) + _pairs(self.layers)):
            seen = causal
            if number < len(cache.masks):
                prefix = cache.masks[number][:, None].expand(-1, count, -1)
                seen = torch.cat([prefix, causal], dim=2)
            x = x + attention(x, angles, cache.layers[number], seen[:, None])
            x = x + wide(x)
        cache.count = first + count
        return x

    def _placed(self, rows: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Rotary angles [B, m, R], and the rows with the learned embeddings of their places [m]."""
        angles = self.rotary_pos_emb(places)[None].expand(len(rows), -1, -1)
        return angles, rows + self.pos_emb(places)

    def _kept(self, places: Tensor, rows: int, drop: float, generator: torch.Generator | None) -> Tensor:
        """[B, m] bool: int(drop * P) of all P places of the prefix, padding included, are dropped."""
        dropped = int(drop * self.prefix_places)
        kept = torch.ones(rows, self.prefix_places, dtype=torch.bool)
        if dropped:
            order = torch.rand(rows, self.prefix_places, generator=generator).argsort(dim=1)
            kept.scatter_(1, order[:, :dropped], False)
        return kept.to(places.device)[:, places]


def _pairs(layers: Any) -> list[tuple[Any, nn.Module]]:
    """Attention and feed-forward of each layer."""
    return [(pair[0], pair[1]) for pair in layers]


def _initialise(module: nn.Module) -> None:
    """As published: normal of deviation 0.02, biases 0."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
