"""Selftok's encoder, which reads a latent image by queries in the order of diffusion time, and its decoder, a
diffusion transformer that sees a prefix of the codes at each time.

At time t the decoder is given the noisy image and the codes that are visible there (`schedule.py`), so that
each code must say what the noisy image does not. Tokens made like this are autoregressive by construction.
Parameter names are the published ones (Wang et al., arXiv 2505.07538, selftok-team/SelftokTokenizer).
Simplified: no autoencoder around it, no guidance, one resolution. Tests:
tests/unified/checkpoints/test_selftok.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.selftok.quantiser import Quantiser
from unified.checkpoints.selftok.schedule import STEPS, Schedule, visible
from unified.checkpoints.vision_blocks import (
    FeedForward,
    attend,
    modulated,
    plain_norm,
    sinusoid,
    sinusoid_grid,
)

WAVES = 256  # width of the sinusoid of a time or place
FIRST_PLACE, STRIDE = 1000, 8  # codes stand at 1000, 1008, ... on the axis of time


@dataclass(frozen=True, kw_only=True)
class SelftokConfig:
    """`latent`: channels and side that the tables are for; `patch` of the encoder; `image`, `query`: width,
    heads and (the same for both) `depths[0]` of its streams; `context`: width of what the decoder is given;
    `decoder`: width, heads and side of its table."""

    latent: tuple[int, int] = (4, 8)
    patch: int = 2
    codes: int = 64
    codebook: tuple[int, int] = (48, 6)
    streams: tuple[tuple[int, int], tuple[int, int]] = ((16, 2), (24, 3))
    context: int = 12
    decoder: tuple[int, int, int] = (32, 2, 12)
    depths: tuple[int, int] = (2, 2)


def places(count: int) -> Tensor:
    return FIRST_PLACE + STRIDE * torch.arange(count)


class TimeEmbedder(nn.Module):
    """Times or places [...] -> [..., width]: [cos | sin] through two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(WAVES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, times: Tensor) -> Tensor:
        half = WAVES // 2
        waves = torch.exp(
            -math.log(10000) * torch.arange(half, dtype=torch.float32, device=times.device) / half
        )
        angles = times.float()[..., None] * waves
        values = torch.cat([angles.cos(), angles.sin()], dim=-1)
        out: Tensor = self.mlp(values.to(next(self.mlp.parameters()).dtype))
        return out


def modulation(width: int, chunks: int) -> nn.Sequential:
    return nn.Sequential(nn.SiLU(), nn.Linear(width, chunks * width))


class Cut(nn.Module):
    """A map [B, C, h, w] in patches [B, T, width]."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return out


def cropped(table: Tensor, height: int, width: int) -> Tensor:
    """The middle of a square table of positions [1, S * S, D] -> [1, height * width, D]."""
    side = math.isqrt(table.shape[1])
    if height > side or width > side:
        raise ValueError(f"positions are for at most {side} x {side} patches, got {height} x {width}")
    top, left = (side - height) // 2, (side - width) // 2
    grid = table.view(1, side, side, -1)[:, top : top + height, left : left + width]
    return grid.flatten(1, 2)


# Encoder ----------------------------------------------------------------------------------------------------


class StreamAttention(nn.Module):
    """Self-attention of the image; queries attend to the image and to themselves."""

    def __init__(self, image: tuple[int, int], query: tuple[int, int]) -> None:
        super().__init__()
        (width, self.heads), (wide, self.query_heads) = image, query
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query_linear, self.query_proj = nn.Linear(wide, 3 * wide), nn.Linear(wide, wide)
        self.to_query_kv = nn.Linear(width, 2 * wide)

    def forward(self, image: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Both already normalised."""
        q, k, v = self.qkv(image).chunk(3, dim=-1)
        own = self.proj(attend(q, k, v, self.heads))
        q, k, v = self.query_linear(query).chunk(3, dim=-1)
        keys, values = self.to_query_kv(image).chunk(2, dim=-1)
        seen = attend(q, torch.cat([keys, k], dim=1), torch.cat([values, v], dim=1), self.query_heads)
        return own, self.query_proj(seen)


class StreamBlock(nn.Module):
    """The image never sees the queries; these are modulated by their places."""

    def __init__(self, image: tuple[int, int], query: tuple[int, int]) -> None:
        super().__init__()
        self.attn = StreamAttention(image, query)
        self.mlp = FeedForward(image[0], 4 * image[0], "tanh")
        self.q_mlp = FeedForward(query[0], 4 * query[0], "tanh")
        self.t_embedder, self.adaLN_modulation = TimeEmbedder(query[0]), modulation(query[0], 6)

    def forward(self, image: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        condition = self.t_embedder(places(query.shape[1]).to(query.device))  # [K, D]
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(condition).chunk(6, dim=-1)
        own, seen = self.attn(plain_norm(image), modulated(query, shift1, scale1))
        image = image + own
        image = image + self.mlp(plain_norm(image))
        query = query + gate1 * seen
        return image, query + gate2 * self.q_mlp(modulated(query, shift2, scale2))


class QueryEncoder(nn.Module):
    """A latent [B, C, h, w] -> query vectors [B, K, D]; with its quantiser. Two of its norms are not used."""

    pos_embed: Tensor

    def __init__(self, config: SelftokConfig) -> None:
        super().__init__()
        image, query = config.streams
        self.patch, side = config.patch, 2 * config.latent[1]
        self.x_embedder = Cut(config.latent[0], image[0], config.patch)
        self.register_buffer("pos_embed", sinusoid_grid(side, side, image[0])[None])
        self.query_tokens = nn.Parameter(torch.randn(1, config.codes, query[0]) * 0.02)
        self.blocks = nn.ModuleList(StreamBlock(image, query) for _ in range(config.depths[0]))
        self.quantizer = Quantiser(query[0], config.codes, config.codebook, config.context)
        self.final_layer_norm = nn.LayerNorm(query[0], eps=1e-6)
        self.final_layer_norm2 = nn.LayerNorm(config.codebook[1], eps=1e-6)
        self.final_layer_norm3 = nn.LayerNorm(config.context, eps=1e-6)

    def patches(self, latent: Tensor) -> Tensor:
        height, width = (side // self.patch for side in latent.shape[2:])
        out: Tensor = self.x_embedder(latent) + cropped(self.pos_embed, height, width)
        return out

    def queries(self, latent: Tensor) -> Tensor:
        image, query = self.patches(latent), self.query_tokens.expand(len(latent), -1, -1)
        for block in self.blocks:
            image, query = block(image, query)
        return query

    def encode(self, latent: Tensor) -> Tensor:
        """Ids [B, K]."""
        return self.quantizer.ids(self.quantizer.vectors(self.queries(latent)))

    def tokens(self, ids: Tensor) -> Tensor:
        """What the decoder is given of ids [B, K]: [B, K, context]."""
        out: Tensor = self.final_layer_norm3(self.quantizer.entries(ids))
        return out


# Decoder ----------------------------------------------------------------------------------------------------


class JointAttention(nn.Module):
    """Its attention is computed by `JointBlock`; the last context block gives nothing out."""

    def __init__(self, width: int, out: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        if out:
            self.proj = nn.Linear(width, width)


class JointStream(nn.Module):
    """One side of a joint block. `timed`: modulated by the time alone; else by embedded places of its own."""

    def __init__(self, width: int, *, places_too: bool, last: bool = False) -> None:
        super().__init__()
        self.attn = JointAttention(width, not last)
        self.adaLN_modulation = modulation(width, 2 if last else 6)
        if places_too:
            self.t_embedder = TimeEmbedder(width)
        if not last:
            self.mlp = FeedForward(width, 4 * width, "tanh")

    def queries(self, x: Tensor, condition: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """[q | k | v] of x, and the modulation that is left for `finish`."""
        shift, scale, *rest = self.adaLN_modulation(condition).chunk(6 if hasattr(self, "mlp") else 2, dim=-1)
        return self.attn.qkv(modulated(x, shift, scale)), tuple(rest)

    def finish(self, x: Tensor, seen: Tensor, rest: tuple[Tensor, ...]) -> Tensor:
        gate1, shift2, scale2, gate2 = rest
        x = x + gate1 * self.attn.proj(seen)
        out: Tensor = x + gate2 * self.mlp(modulated(x, shift2, scale2))
        return out


class JointBlock(nn.Module):
    def __init__(self, width: int, heads: int, last: bool) -> None:
        super().__init__()
        self.heads, self.last = heads, last
        self.context_block = JointStream(width, places_too=True, last=last)
        self.x_block = JointStream(width, places_too=False)

    def forward(self, context: Tensor, x: Tensor, time: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """context [B, K, D], x [B, T, D], time [B, 1, D], mask [B, 1, K + T, K + T]: True, may be seen."""
        count = context.shape[1]
        place = time if self.last else self.context_block.t_embedder(places(count).to(x.device))
        of_context, left = self.context_block.queries(context, place)
        of_image, rest = self.x_block.queries(x, time)
        q, k, v = torch.cat([of_context, of_image], dim=1).chunk(3, dim=-1)
        seen = attend(q, k, v, self.heads, mask)
        x = self.x_block.finish(x, seen[:, count:], rest)
        return (context if self.last else self.context_block.finish(context, seen[:, :count], left)), x


class DecoderEnd(nn.Module):
    def __init__(self, width: int, values: int) -> None:
        super().__init__()
        self.adaLN_modulation = modulation(width, 2)
        self.linear = nn.Linear(width, values)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(time).chunk(2, dim=-1)
        out: Tensor = self.linear(modulated(x, shift, scale))
        return out


class LabelEmbedder(nn.Module):
    """Not used: published weights have it."""

    def __init__(self, source: int, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(source, width), nn.SiLU(), nn.Linear(width, width))


class Decoder(nn.Module):
    """A noisy latent, its time and the codes -> the velocity noise - latent."""

    pos_embed: Tensor
    context_pos_embed: Tensor
    PATCH = 2

    def __init__(self, config: SelftokConfig) -> None:
        super().__init__()
        width, heads, side = config.decoder
        channels, depth = config.latent[0], config.depths[1]
        self.x_embedder = Cut(channels, width, self.PATCH)
        self.register_buffer("pos_embed", sinusoid_grid(side, side, width)[None])
        self.register_buffer("context_pos_embed", sinusoid(places(config.codes), width)[None])
        self.t_embedder, self.y_embedder = TimeEmbedder(width), LabelEmbedder(config.context, width)
        self.context_embedder = nn.Linear(config.context, width)
        self.joint_blocks = nn.ModuleList(JointBlock(width, heads, n == depth - 1) for n in range(depth))
        self.final_layer = DecoderEnd(width, self.PATCH**2 * channels)

    def forward(
        self, x: Tensor, times: Tensor, tokens: Tensor, seen: Tensor, context_sees: bool = True
    ) -> Tensor:
        """x [B, C, h, w], times [B] in [0, 1], tokens [B, K, context], `seen` [B, K] bool. `context_sees`:
        codes see the image."""
        height, width = (side // self.PATCH for side in x.shape[2:])
        image = self.x_embedder(x) + cropped(self.pos_embed, height, width)
        context = self.context_embedder(tokens) + self.context_pos_embed
        time = self.t_embedder(STEPS * times)[:, None]
        mask = _joint_mask(seen, height * width, context_sees)
        for block in self.joint_blocks:
            context, image = block(context, image, time, mask)
        cells = self.final_layer(image, time).view(len(x), height, width, self.PATCH, self.PATCH, -1)
        return cells.permute(0, 5, 1, 3, 2, 4).reshape(x.shape)


def _joint_mask(seen: Tensor, cells: int, context_sees: bool) -> Tensor:
    """[B, 1, K + T, K + T]."""
    batch, count = seen.shape
    columns = torch.cat([seen, seen.new_ones(batch, cells)], dim=1)
    mask = columns[:, None].repeat(1, count + cells, 1)
    mask[:, :count, count:] = context_sees
    return mask[:, None]


@torch.no_grad()
def sample(
    decoder: Decoder, noise: Tensor, tokens: Tensor, schedule: Schedule, steps: int, context_sees: bool = True
) -> Tensor:
    """A latent from noise [B, C, h, w] and tokens [B, K, context], in Euler steps of equal length."""
    times = torch.linspace(1, 0, steps + 1)
    x = noise
    for now, after in pairwise(times):
        seen = visible(step_index(now, schedule).expand(len(x)), tokens.shape[1])
        x = x - (now - after) * decoder(x, now.expand(len(x)), tokens, seen, context_sees)
    return x


def step_index(time: Tensor, schedule: Schedule) -> Tensor:
    """The last visible code at a step of sampling, whose time counts in whole thousandths."""
    return schedule.index((STEPS * time).long().float())


class Selftok(nn.Module):
    """Both networks under the published names."""

    def __init__(self, config: SelftokConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.model = QueryEncoder(config), Decoder(config)


def velocity_loss(velocity: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of each sample [B]."""
    return F.mse_loss(velocity, noise - latent, reduction="none").flatten(1).mean(dim=1)
