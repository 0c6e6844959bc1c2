"""xAR: a transformer over units of continuous tokens that predicts the velocity of every unit, each with a
noise level of its own, given the units before it as they are.

Source: Ren et al., Beyond Next-Token: Next-X Prediction for Autoregressive Visual Generation, arXiv
2502.20388 (OliverRensu/xAR, without a licence: written from its mathematics). Parameter names are the
published ones, with `ada_lin` for `adaLN_modulation`. Test: tests/unified/checkpoints/xar/test_xar.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from unified.checkpoints.mar.head import matrix
from unified.checkpoints.rotary_grid import angles, frequencies, grid_positions, rotate_neighbours
from unified.checkpoints.state_dict import load_strict
from unified.heads.flow_matching import noised
from unified.heads.transformer_layers import (
    Block,
    BlockParts,
    GatedFeedForward,
    Modulation,
    Seen,
    TimeEmbedding,
    bare_rms_norm,
    count_blocks,
    rms_norm,
    stores_for,
)
from unified.heads.vision_head_layers import RowStore
from unified.layout.attention import Index, attends
from unified.orders.units import Units, units
from unified.stream.segments import Kind

BASE = 10_000.0
PARTS = BlockParts(norm=bare_rms_norm, feed_forward=GatedFeedForward, modulated=True)


@dataclass(frozen=True, kw_only=True)
class XARConfig:
    """`side`: rows and columns of the latent; `cell`: side of a unit; `classes` without the null class;
    `depth`: blocks of the two halves. Released: 16, 8, 1000; widths 768, 1024, 1280 with depths 8, 16, 20
    twice."""

    channels: int = 4
    side: int = 4
    cell: int = 2
    classes: int = 10
    width: int = 32
    depth: tuple[int, int] = (1, 1)
    heads: int = 2
    hidden: int = 40

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width // self.heads % 4:
            raise ValueError(
                f"the width of a head must be a multiple of 4, got {self.width} for {self.heads} heads"
            )
        units("cell", self.side, self.side, self.cell)


class XAR(nn.Module):
    def __init__(self, config: XARConfig) -> None:
        super().__init__()
        self.config, width, tokens = config, config.width, config.side**2
        self.class_emb = nn.Embedding(config.classes + 1, width)
        self.time_embed = TimeEmbedding(width)
        self.z_proj = nn.Linear(config.channels, width)
        self.encoder_pos_embed_learned = nn.Parameter(torch.zeros(1, tokens, width))
        self.z_proj_ln = rms_norm(width)
        self.encoder_blocks = self._blocks(config.depth[0])
        self.encoder_norm = rms_norm(width)
        self.decoder_embed = nn.Linear(width, width)
        self.decoder_pos_embed_learned = nn.Parameter(torch.zeros(1, tokens, width))
        self.decoder_blocks = self._blocks(config.depth[1])
        self.decoder_norm = rms_norm(width)
        self.pred = nn.Linear(width, config.channels)

    def _blocks(self, depth: int) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList(Block(config.width, config.heads, config.hidden, PARTS) for _ in range(depth))

    @property
    def units(self) -> Units:
        return units("cell", self.config.side, self.config.side, self.config.cell)

    def stores(self) -> list[RowStore]:
        """Empty keys and values of every layer."""
        return stores_for(sum(self.config.depth), self.config.side**2)

    def condition(self, labels: Tensor, times: Tensor) -> Tensor:
        """labels [B] (the number of classes: none), times [B, U] in thousandths, whole -> [B, U, D]."""
        told: Tensor = self.time_embed(times.flatten()).unflatten(0, times.shape)
        return told + self.class_emb(labels)[:, None]

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """All units in one pass: tokens [B, L, C] in the order of units, condition [B, U, D] -> velocities
        [B, L, C]. A unit sees itself and those before it."""
        return self.velocity(tokens, condition, 0, causal(self.units.labels, self.units.labels))

    def velocity(
        self,
        tokens: Tensor,
        condition: Tensor,
        first: int,
        mask: Tensor | None = None,
        stores: list[RowStore] | None = None,
        kept: int = 0,
    ) -> Tensor:
        """Velocities [B, n, C] of the units from `first` on, as many as condition [B, U, D] has, given
        those in `stores`; the keys and values of the first `kept` units of these enter the stores. mask [n,
        m]."""
        size = self.units.size
        rows = slice(first * size, first * size + tokens.shape[1])
        cos, sin = (table[rows].to(tokens.device) for table in self.rotation())
        rotation = partial(rotate_neighbours, cos=cos, sin=sin)
        seen = Seen(mask=mask, rotation=rotation, stores=stores, kept=kept * size)
        x = self.z_proj_ln(self.z_proj(tokens) + self.encoder_pos_embed_learned[:, rows])
        x = self._through(self.encoder_blocks, 0, x, condition, seen)
        x = self.decoder_embed(self.encoder_norm(x)) + self.decoder_pos_embed_learned[:, rows]
        x = self._through(self.decoder_blocks, self.config.depth[0], x, condition, seen)
        found: Tensor = self.pred(self.decoder_norm(x))
        return found

    def _through(self, blocks: nn.ModuleList, layer: int, x: Tensor, condition: Tensor, seen: Seen) -> Tensor:
        for number, block in enumerate(blocks, start=layer):
            told: Tensor = block.adaLN_modulation(condition)  # type: ignore[operator]
            six = told.repeat_interleave(self.units.size, dim=1).chunk(6, dim=-1)
            gate1, gate2, scale1, scale2, shift1, shift2 = six
            x = block(x, Modulation(shift1, scale1, gate1, shift2, scale2, gate2), seen, number)
        return x

    def rotation(self) -> tuple[Tensor, Tensor]:
        """cos and sin [L, c / 2] for the sequence: half of the pairs turn with the row, half with the
        column."""
        side, width = self.config.side, self.config.width // self.config.heads
        rates = frequencies(width // 2, BASE)
        table = angles(grid_positions(side, side)[self.units.places], [rates, rates])
        return table.cos().float(), table.sin().float()


def causal(queries: Tensor, keys: Tensor) -> Tensor:
    """[n, m] bool: whether units `queries` [n] see units `keys` [m]: themselves and earlier ones."""
    index = (_index(labels) for labels in (queries, keys))
    return attends(*index)[0]


def _index(labels: Tensor) -> Index:
    zero = torch.zeros_like(labels)[None]
    return Index(zero, zero, torch.full_like(zero, int(Kind.READ)), labels[None])


def flow_loss(model: XAR, values: Tensor, noise: Tensor, times: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error of the velocity: values and noise [B, U, P, C], times [B, U] in 0 to 1, labels
    [B]."""
    velocity = model(noisy_units(values, noise, times), model.condition(labels, thousandths(times)))
    return (velocity - (noise - values).flatten(1, 2)).square().mean(dim=(1, 2)).mean()


def noisy_units(values: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """Units [B, U, P, C], each with noise of its own time [B, U] -> the sequence [B, U P, C]."""
    return noised(values, noise, times[..., None, None]).flatten(1, 2)


def thousandths(times: Tensor) -> Tensor:
    """What the network is told of times in 0 to 1: whole thousandths, rounded down in float32."""
    return (times.float() * 1000).floor().long()


def load(state: Mapping[str, Tensor], heads: int, count: int = 4) -> XAR:
    """The published model of `count` units. ValueError with a short reason if weights do not fit."""
    found = {name: value for name, value in state.items() if name != "mask" and ".attn.rope." not in name}
    width, channels = matrix(found, "z_proj.weight")
    if "encoder_pos_embed_learned" not in found:
        raise ValueError("weights do not fit: there is no table encoder_pos_embed_learned")
    side = math.isqrt(found["encoder_pos_embed_learned"].shape[1])
    config = XARConfig(
        channels=channels,
        side=side,
        cell=side // math.isqrt(count),
        classes=matrix(found, "class_emb.weight")[0] - 1,
        width=width,
        depth=(count_blocks(found, "encoder_blocks"), count_blocks(found, "decoder_blocks")),
        heads=heads,
        hidden=matrix(found, "encoder_blocks.0.mlp.fc2.weight")[1],
    )
    model = XAR(config)
    load_strict(model, found, lambda name: name.replace(".ada_lin.", ".adaLN_modulation."))
    return model.eval()
