"""The dense head of Hi-MAR: a diffusion transformer over all tokens of the grid, each told a condition of
its own.

Tokens that are known take part as their own noisy selves, so that the unknown ones see them. Source: Zheng
et al., Hi-MAR, arXiv 2505.20288 (HiDream-ai/himar, without a licence: written from its mathematics).
Parameter names are the published ones; convolutions of one pixel are linear maps here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from unified.heads.diffusion_schedule import DiffusionSchedule, cosine
from unified.heads.transformer_layers import (
    Block,
    BlockParts,
    FeedForward,
    FinalLayer,
    Modulation,
    TimeEmbedding,
    bare_layer_norm,
    count_blocks,
    tanh_gelu,
)

PARTS = BlockParts(
    norm=bare_layer_norm, feed_forward=partial(FeedForward, activation=tanh_gelu), modulated=True
)


class GridDenoiser(nn.Module):
    """Predicts the noise of `tokens` tokens of `channels` from conditions of `condition` numbers; `hidden`:
    width of the feed-forward."""

    def __init__(
        self,
        condition: int,
        channels: int,
        tokens: int,
        width: int = 24,
        depth: int = 1,
        heads: int = 2,
        hidden: int = 48,
    ) -> None:
        super().__init__()
        self.x_embedder = nn.ModuleDict({"proj": nn.Linear(channels, width)})
        self.c_embedder = nn.ModuleDict({"proj": nn.Linear(condition, width)})
        self.t_embedder = TimeEmbedding(width)
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width), requires_grad=False)
        self.c_pos_embed = nn.Parameter(torch.zeros(1, tokens, width), requires_grad=False)  # not used
        self.blocks = nn.ModuleList(Block(width, heads, hidden, PARTS) for _ in range(depth))
        self.final_layer = FinalLayer(width, channels)

    def forward(self, noisy: Tensor, steps: Tensor, hidden: Tensor) -> Tensor:
        """noisy [B, N, C], steps [B] or [1], hidden [B, N, D] -> predicted noise [B, N, C]."""
        told = self.t_embedder(steps)[:, None] + self.c_embedder["proj"](hidden)
        x = self.x_embedder["proj"](noisy) + self.pos_embed
        for block in self.blocks:
            x = block(x, Modulation.of(block.adaLN_modulation(told)))  # type: ignore[operator]
        found: Tensor = self.final_layer(x, told)
        return found


def grid_loss(
    head: GridDenoiser, hidden: Tensor, tokens: Tensor, mask: Tensor, steps: Tensor, noise: Tensor
) -> Tensor:
    """[B]: squared error of the noise at masked tokens, summed, over the number of all values of the grid.
    hidden [B, N, D], tokens and noise [B, N, C], mask [B, N], steps [B] of 1000. All tokens are noised."""
    kept = cosine(1000).kept.to(tokens.device)[steps].float()[:, None, None]
    noisy = kept.sqrt() * tokens + (1 - kept).sqrt() * noise
    error = (noise - head(noisy, steps, hidden)) * mask[..., None]
    return error.square().mean(dim=(1, 2))


def denoise_grid(
    head: GridDenoiser,
    hidden: Tensor,
    tokens: Tensor,
    mask: Tensor,
    normal: Tensor,
    schedule: DiffusionSchedule,
    scale: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    """All tokens [B, N, C] from noise; those not masked [B, N] are held to `tokens` with the noise of the
    start. hidden [B or 2B, N, D], null conditions last, combined by `scale`; normal [B, N, K, C]: row 0 is
    the start, row i, times the temperature, what step i adds. The variance of a step is the larger of the
    usual two."""
    start, rows = normal[:, :, 0], len(tokens)
    log_variances = torch.cat([schedule.posterior_variance[1:2], schedule.betas[1:]]).log().tolist()
    x, known = start, ~mask[..., None]
    table, kept = schedule.table.tolist(), schedule.kept.tolist()
    for index in reversed(range(len(table))):
        ratio, of_value, of_noisy = table[index][1:4]
        x = torch.where(known, kept[index] ** 0.5 * tokens + (1 - kept[index]) ** 0.5 * start, x)
        step = torch.full((1,), int(schedule.steps[index]), device=x.device)
        noise = head(x.repeat(len(hidden) // rows, 1, 1), step, hidden)
        if len(hidden) > rows:
            own, null = noise.chunk(2)
            noise = null + scale * (own - null)
        x = of_value * (table[index][0] * x - ratio * noise) + of_noisy * x
        if index:
            x = x + temperature * math.exp(0.5 * log_variances[index]) * normal[:, :, index]
    return x


def grid_head_for(state: Mapping[str, Tensor], heads: int) -> GridDenoiser:
    """An untrained head of the sizes of published weights, whose convolutions are matrices."""
    width, channels = state["x_embedder.proj.weight"].shape
    return GridDenoiser(
        condition=state["c_embedder.proj.weight"].shape[1],
        channels=channels,
        tokens=state["pos_embed"].shape[1],
        width=width,
        depth=count_blocks(state, "blocks"),
        heads=heads,
        hidden=state["blocks.0.mlp.fc1.weight"].shape[0],
    )
