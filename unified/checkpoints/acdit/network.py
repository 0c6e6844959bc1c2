"""ACDiT: blocks of continuous tokens are denoised one after another by the whole transformer, each against
the clean blocks before it. In training every block appears twice, clean and noisy (skip-causal attention).

Clean tokens are not modulated, so that their keys do not depend on any time and can be cached. Source: Hu
et al., ACDiT: Interpolating Autoregressive Conditional Modeling and Diffusion Transformer, arXiv 2412.07720
(thunlp/ACDiT, MIT). Parameter names are the published ones. The published rotation is kept: it pairs
channel j with j + half of the head across the axes' tables, which is no true rotation. Test:
tests/unified/checkpoints/acdit/test_acdit.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from unified.checkpoints.mar.head import matrix
from unified.checkpoints.rotary_grid import angles, grid_positions, rotate_halves
from unified.checkpoints.state_dict import load_strict
from unified.heads.transformer_layers import (
    Block,
    BlockParts,
    FeedForward,
    FinalLayer,
    Modulation,
    Seen,
    TimeEmbedding,
    count_blocks,
    rms_norm,
    stores_for,
    tanh_gelu,
)
from unified.heads.vision_head_layers import RowStore
from unified.layout.attention import Index, attends
from unified.orders.units import units
from unified.stream.segments import Kind

PARTS = BlockParts(
    norm=rms_norm,
    head_norm=rms_norm,
    feed_forward=partial(FeedForward, activation=tanh_gelu),
    modulated=True,
)


@dataclass(frozen=True, kw_only=True)
class BlockLayout:
    """`count` blocks of `size` tokens: of an image of `spatial` tokens (a square), whose blocks are square
    cells if `square` and otherwise rows of the raster; or of a video of `temporal` frames of so many
    tokens. `split`: shares of a head's channels for each axis (image: 1, 1; video: 2, 3, 3)."""

    count: int = 4
    size: int = 4
    spatial: int = 16
    temporal: int = 1
    square: bool = True
    split: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        side = math.isqrt(self.spatial)
        if side**2 != self.spatial or self.count * self.size != self.spatial * self.temporal:
            raise ValueError(
                f"{self.count} blocks of {self.size} tokens do not make {self.temporal} square frames of "
                f"{self.spatial} tokens"
            )
        if self.split and len(self.split) != len(self.extents):
            raise ValueError(f"{len(self.extents)} axes need as many shares, got {self.split}")

    @property
    def extents(self) -> tuple[int, ...]:
        side = math.isqrt(self.spatial)
        return (side, side) if self.temporal == 1 else (self.temporal, side, side)

    @property
    def shares(self) -> tuple[int, ...]:
        return self.split or ((1, 1) if self.temporal == 1 else (2, 3, 3))

    @property
    def positions(self) -> Tensor:
        """[count * size, axes], in the order of the sequence."""
        side = math.isqrt(self.spatial)
        if self.temporal == 1:
            found = grid_positions(side, side)
            return found[units("cell", side, side, math.isqrt(self.size)).places] if self.square else found
        frames = torch.arange(self.temporal).repeat_interleave(self.spatial)
        return torch.cat([frames[:, None], grid_positions(side, side).repeat(self.temporal, 1)], dim=1)


@dataclass(frozen=True, kw_only=True)
class ACDiTConfig:
    """`channels` of a token; `classes` without the null class; `hidden`: width of the feed-forward.
    Released: width 64 a head, 12, 16, 18, 20 heads with 12, 24, 28, 32 layers."""

    layout: BlockLayout = BlockLayout()
    channels: int = 4
    classes: int = 10
    width: int = 32
    depth: int = 2
    heads: int = 2
    hidden: int = 64


class ACDiT(nn.Module):
    def __init__(self, config: ACDiTConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.x_embedder = nn.Linear(config.channels, width, bias=False)
        self.t_embedder = TimeEmbedding(width)
        self.y_embedder = nn.ModuleDict({"embedding_table": nn.Embedding(config.classes + 1, width)})
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.hidden, PARTS) for _ in range(config.depth)
        )
        self.final_layer = FinalLayer(width, config.channels, rms_norm)

    def stores(self) -> list[RowStore]:
        """Empty keys and values of every layer."""
        return stores_for(self.config.depth, self.config.layout.count * self.config.layout.size)

    def condition(self, labels: Tensor, steps: Tensor) -> Tensor:
        """labels [B] (the number of classes: none), steps [B, T] from 0 to 999 -> [B, T, D]."""
        told: Tensor = self.t_embedder(steps.flatten()).unflatten(0, steps.shape)
        return told + self.y_embedder["embedding_table"](labels)[:, None]

    def forward(self, clean: Tensor, noisy: Tensor, condition: Tensor) -> Tensor:
        """Clean and noisy twins [B, T P, C] of all blocks, condition [B, T, D] -> predicted noise [B, T P,
        C]."""
        return self.predicted(self.hidden(clean, noisy, condition), condition)

    def hidden(self, clean: Tensor, noisy: Tensor, condition: Tensor) -> Tensor:
        """Hidden states [B, 2 T P, D] of the clean blocks and then of their noisy twins, in one pass."""
        layout = self.config.layout
        mask = attends(skip_causal(layout), skip_causal(layout))[0].to(clean.device)
        places = torch.arange(layout.count * layout.size).repeat(2)
        return self._through(torch.cat([clean, noisy], dim=1), condition, Seen(mask=mask), places)

    def step(
        self,
        noisy: Tensor,
        condition: Tensor,
        block: int,
        stores: list[RowStore],
        before: Tensor | None = None,
    ) -> Tensor:
        """Predicted noise [B, P, C] of one noisy block against the clean blocks in `stores`, condition [B,
        1, D]. `before` [B, P, C]: the clean block before it, if the stores lack it; then they have it."""
        size = self.config.layout.size
        places, mask, kept, x = torch.arange(block * size, (block + 1) * size), None, 0, noisy
        if before is not None:
            places, kept = torch.cat([places - size, places]), size
            x = torch.cat([before, noisy], dim=1)
            mask = self._first(block).to(x.device)
        states = self._through(x, condition, Seen(mask=mask, stores=stores, kept=kept), places)
        return self.predicted(states, condition)

    def predicted(self, states: Tensor, condition: Tensor) -> Tensor:
        """Of the noisy ones of hidden states, which come last."""
        told = self._spread(condition)
        found: Tensor = self.final_layer(states[:, -told.shape[1] :], told)
        return found

    def _first(self, block: int) -> Tensor:
        """The mask of the first step of a block: rows are the clean block before and the noisy one, columns
        the clean blocks and the noisy one."""
        layout = self.config.layout
        clean, noisy = skip_causal(layout, 0, block), skip_causal(layout, block, block + 1, noisy=True)
        queries = skip_causal(layout, block - 1, block).cat(noisy)
        return attends(queries, clean.cat(noisy))[0]

    def _spread(self, condition: Tensor) -> Tensor:
        return condition.repeat_interleave(self.config.layout.size, dim=1)

    def _through(self, tokens: Tensor, condition: Tensor, seen: Seen, places: Tensor) -> Tensor:
        """`tokens` [B, n, C]: the last ones, as many as the condition is for, are noisy."""
        cos, sin = (table[places].to(tokens.device) for table in self.rotation())
        seen = Seen(seen.mask, partial(rotate_halves, cos=cos, sin=sin), seen.stores, seen.kept)
        x = self.x_embedder(tokens)
        for layer, block in enumerate(self.blocks):
            told: Any = block.adaLN_modulation(condition)  # type: ignore[operator]
            x = block(x, _noisy_alone(Modulation.of(self._spread(told)), x.shape[1]), seen, layer)
        return x

    def rotation(self) -> tuple[Tensor, Tensor]:
        """cos and sin [T P, c] as published: every axis has a table of its own, twice."""
        layout, width = self.config.layout, self.config.width // self.config.heads
        rates = []
        for share, extent in zip(layout.shares, layout.extents, strict=True):
            count = share * (width // 2 // sum(layout.shares))
            exponents = torch.linspace(0, 1, count, dtype=torch.float64)  # the last one is 1
            rates.append((base(extent) ** -exponents).repeat(2))
        table = angles(layout.positions, rates)
        if table.shape[1] != width:
            raise ValueError(f"heads of {width} channels are not shared out by {layout.shares}")
        return table.cos().float(), table.sin().float()


def base(extent: int) -> float:
    """Of the frequencies of an axis of so many places: its longest wave is about eight times the axis."""
    return float(math.floor(8 * extent / math.pi) // 100 + 1) * 100


def skip_causal(
    layout: BlockLayout, first: int = 0, stop: int | None = None, noisy: bool | None = None
) -> Index:
    """The index of blocks `first` to `stop` for the attention rule: clean blocks (READ), then, if no range
    is given or `noisy`, their noisy twins (WRITE), which are seen by themselves alone."""
    if stop is None:
        return skip_causal(layout, 0, layout.count).cat(skip_causal(layout, 0, layout.count, noisy=True))
    block = torch.arange(first, stop).repeat_interleave(layout.size)[None]
    zero = torch.zeros_like(block)
    if noisy:
        return Index(zero, block + 1, zero + int(Kind.WRITE), 2 * block)
    return Index(zero, zero, zero + int(Kind.READ), 2 * block + 1)


def _noisy_alone(told: Modulation, length: int) -> Modulation:
    """The modulation of noisy tokens, behind neutral ones for the clean tokens of a sequence of `length`."""
    clean = length - told.scale1.shape[1]
    if not clean:
        return told
    zero = torch.zeros_like(told.scale1[:, :1]).expand(-1, clean, -1)
    neutral = Modulation(zero, zero, zero + 1, zero, zero, zero + 1)
    return Modulation(*(torch.cat(pair, dim=1) for pair in zip(neutral, told, strict=True)))


def load(state: Mapping[str, Tensor], layout: BlockLayout) -> ACDiT:
    """The published model. ValueError with a short reason if weights do not fit."""
    width, channels = matrix(state, "x_embedder.weight")
    norm = state.get("blocks.0.attn.q_norm.weight")
    if norm is None:
        raise ValueError("weights do not fit: there is no blocks.0.attn.q_norm.weight")
    config = ACDiTConfig(
        layout=layout,
        channels=channels,
        classes=matrix(state, "y_embedder.embedding_table.weight")[0] - 1,
        width=width,
        depth=count_blocks(state, "blocks"),
        heads=width // len(norm),
        hidden=matrix(state, "blocks.0.mlp.fc1.weight")[0],
    )
    model = ACDiT(config)
    load_strict(model, state)
    return model.eval()
