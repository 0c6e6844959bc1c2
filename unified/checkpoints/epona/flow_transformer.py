"""The heads of Epona: transformers in the manner of FLUX that predict the velocity of a frame, or of a
trajectory, against the features of one frame.

Double blocks keep weights of their own for features and tokens and attend to both; single blocks treat them
alike. Here time goes from noise (0) to data (1). Source: Zhang et al., arXiv 2506.24113 (Kevin-thu/Epona,
MIT). Parameter names are the published ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.rotary_grid import angles, frequencies, rotate_neighbours
from unified.heads.denoiser import waves
from unified.heads.transformer_layers import (
    FinalLayer,
    Map,
    Modulation,
    bare_layer_norm,
    modulated,
    tanh_gelu,
)
from unified.heads.vision_head_layers import by_head

BASE = 10_000.0
EPS = 1e-6
SCALE = 1000  # of times, in the time embedding


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """`channels` of a token; `condition`: width of the features; `vector`: width of what modulates besides
    time (0: nothing); `axes`: channels of a head for each of three axes; `depth`: double and single
    blocks."""

    channels: int = 4
    condition: int = 32
    vector: int = 0
    width: int = 32
    heads: int = 2
    axes: tuple[int, ...] = (4, 6, 6)
    depth: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if self.width % self.heads or sum(self.axes) != self.width // self.heads:
            raise ValueError(
                f"axes {self.axes} do not share out heads of {self.width} / {self.heads} channels"
            )


class Scale(nn.Module):
    """RMSNorm with the published name of its weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.scale, EPS)


class QueryKeyNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_norm, self.key_norm = Scale(width), Scale(width)

    def forward(self, qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
        """[B, n, 3 D] -> queries, keys and values [B, H, n, c]."""
        q, k, v = (by_head(part, heads) for part in qkv.chunk(3, dim=-1))
        return self.query_norm(q), self.key_norm(k), v


class StreamAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm = QueryKeyNorm(width // heads)


class ModulationLayer(nn.Module):
    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.lin = nn.Linear(width, parts * width)

    def forward(self, vector: Tensor) -> Tensor:
        """[B, D] -> [B, 1, parts * D]."""
        found: Tensor = self.lin(F.silu(vector))[:, None]
        return found


class DoubleBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm = heads, bare_layer_norm(width)
        self.img_mod, self.cond_mod = ModulationLayer(width, 6), ModulationLayer(width, 6)
        self.img_attn, self.cond_attn = StreamAttention(width, heads), StreamAttention(width, heads)
        self.img_mlp, self.cond_mlp = wide(width), wide(width)

    def forward(self, x: Tensor, condition: Tensor, vector: Tensor, turn: Map) -> tuple[Tensor, Tensor]:
        """Tokens x [B, n, D] and condition [B, m, D]."""
        streams = (condition, self.cond_mod, self.cond_attn), (x, self.img_mod, self.img_attn)
        told = [Modulation.of(layer(vector)) for _, layer, _ in streams]
        parts = [
            attention.norm(attention.qkv(modulated(self.norm(rows), own.shift1, own.scale1)), self.heads)
            for (rows, _, attention), own in zip(streams, told, strict=True)
        ]
        both = attended(turn, *(torch.cat(pair, dim=2) for pair in zip(*parts, strict=True)))
        halves = both.split([condition.shape[1], x.shape[1]], dim=1)
        found = []
        for (rows, _, attention), own, half, mlp in zip(
            streams, told, halves, (self.cond_mlp, self.img_mlp), strict=True
        ):
            rows = rows + own.gate1 * attention.proj(half)
            found.append(rows + own.gate2 * mlp(modulated(self.norm(rows), own.shift2, own.scale2)))
        return found[1], found[0]


class SingleBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.width, self.pre_norm = heads, width, bare_layer_norm(width)
        self.modulation = ModulationLayer(width, 3)
        self.linear1, self.linear2 = nn.Linear(width, 7 * width), nn.Linear(5 * width, width)
        self.norm = QueryKeyNorm(width // heads)

    def forward(self, x: Tensor, vector: Tensor, turn: Map) -> Tensor:
        shift, scale, gate = self.modulation(vector).chunk(3, dim=-1)
        qkv, inner = self.linear1(modulated(self.pre_norm(x), shift, scale)).split(
            [3 * self.width, 4 * self.width], dim=-1
        )
        found = attended(turn, *self.norm(qkv, self.heads))
        x = x + gate * self.linear2(torch.cat([found, tanh_gelu(inner)], dim=-1))
        return x


class VectorEmbedding(nn.Module):
    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.in_layer, self.out_layer = nn.Linear(width, outputs), nn.Linear(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out_layer(F.silu(self.in_layer(x)))
        return found


class FlowTransformer(nn.Module):
    """Velocities of tokens that stand at `positions` [N, 3]."""

    def __init__(self, config: FlowConfig, positions: Tensor) -> None:
        super().__init__()
        self.config, self.positions, width = config, positions, config.width
        self.token_in = nn.Linear(config.channels, width)
        self.cond_in = nn.Linear(config.condition, width)
        self.time_in = VectorEmbedding(256, width)
        if config.vector:
            self.vector_in = VectorEmbedding(config.vector, width)
        self.double_blocks = nn.ModuleList(DoubleBlock(width, config.heads) for _ in range(config.depth[0]))
        self.single_blocks = nn.ModuleList(SingleBlock(width, config.heads) for _ in range(config.depth[1]))
        self.final_layer = FinalLayer(width, config.channels)

    def forward(self, noisy: Tensor, times: Tensor, features: Tensor, vector: Tensor | None = None) -> Tensor:
        """noisy [B, N, C], times [B] from 0 (noise) to 1, features [B, m, F], vector [B, V] -> velocities
        [B, N, C]."""
        told = self.time_in(waves(SCALE * times))
        if vector is not None:
            told = told + self.vector_in(vector)
        x, condition = self.token_in(noisy), self.cond_in(features)
        turn = self._turn(condition.shape[1], x.device)
        for block in self.double_blocks:
            x, condition = block(x, condition, told, turn)
        both = torch.cat([condition, x], dim=1)
        for block in self.single_blocks:
            both = block(both, told, turn)
        found: Tensor = self.final_layer(both[:, condition.shape[1] :], told[:, None])
        return found

    def _turn(self, conditions: int, device: torch.device) -> Map:
        rates = [frequencies(width, BASE) for width in self.config.axes]
        places = torch.cat([torch.zeros(conditions, 3, dtype=torch.long), self.positions])
        table = angles(places, rates).to(device)
        return partial(rotate_neighbours, cos=table.cos().float(), sin=table.sin().float())


def attended(turn: Map, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[B, H, n, c] each -> [B, n, D]."""
    return F.scaled_dot_product_attention(turn(q), turn(k), v).transpose(1, 2).flatten(2)


def wide(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
    )


# Flow from noise (0) to data (1) ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Flowed:
    """A training step: velocities `found` [B, N, C], the one-step estimate `value` of the data, and the
    `loss`, mean squared error of the velocity."""

    found: Tensor
    value: Tensor
    loss: Tensor


def flowed(
    head: FlowTransformer,
    values: Tensor,
    noise: Tensor,
    times: Tensor,
    features: Tensor,
    vector: Tensor | None = None,
) -> Flowed:
    """values and noise [B, N, C], which may be rounded to bfloat16, as may the target; times [B, 1, 1]."""
    target = (values - noise).float()
    noisy = times * values.float() + (1 - times) * noise.float()
    found = head(noisy, times.flatten(), features, vector)
    return Flowed(found, noisy + (1 - times) * found, (found - target).square().mean())
