"""GigaTok's tokenizer: a convolutional map is read into a sequence of tokens by a transformer, which begins
as pooled cells of the map from coarse to fine, and is turned back into a map by another one.

Semantic regularisation: features of an early layer of the second transformer, projected, are drawn to those
of a frozen teacher (`semantic_loss`), so that the codes themselves carry what the teacher knows. Xiong et
al., arXiv 2504.08736 (SilentView/GigaTok); parameter names are the published ones. Simplified: no
discriminator, no perceptual loss. Tests: tests/unified/checkpoints/test_gigatok.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.image_networks import ImageConfig, ImageDecoder, ImageEncoder
from unified.checkpoints.unit_codebook import UnitCodebook, UnitQuantised
from unified.tokenizers.rotation import rotated

AUXILIARY_STEPS = 15000  # the published `aux_loss_end`
SEMANTIC_WEIGHT = 0.5
Causal = Literal["per-token", "per-level"]


@dataclass(frozen=True, kw_only=True)
class ReaderConfig:
    """A transformer between a map of `side` x `side` and `tokens` tokens (a power of two)."""

    width: int = 32
    layers: int = 2
    heads: int = 2
    tokens: int = 16
    side: int = 8

    def __post_init__(self) -> None:
        if self.tokens < 2 or self.tokens & (self.tokens - 1):
            raise ValueError(f"the number of tokens must be a power of two, got {self.tokens}")


@dataclass(frozen=True, kw_only=True)
class GigaTokConfig:
    """`distill`: the layer of the decoder (from 1) whose output is projected to `teacher` features."""

    image: ImageConfig = field(default_factory=lambda: ImageConfig(attention=False, modulated=True))
    codes: int = 64
    dim: int = 6
    encoder: ReaderConfig = field(default_factory=ReaderConfig)
    decoder: ReaderConfig = field(default_factory=lambda: ReaderConfig(layers=3))
    distill: int = 2
    teacher: int = 20
    losses: tuple[float, float] = (0.25, 0.0)  # weights of commitment and entropy

    def __post_init__(self) -> None:
        if not 1 <= self.distill <= self.decoder.layers:
            raise ValueError(f"distill must lie between 1 and {self.decoder.layers}, got {self.distill}")


class ReaderLayer(nn.Module):
    """Pre-norm: self-attention of queries, cross-attention to a memory that is not normalised,
    feed-forward."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(
        self, x: Tensor, places: Tensor, memory: Tensor, keys: Tensor, blocked: Tensor | None
    ) -> Tensor:
        """x and `places` [B, N, D] and [N, D]; `memory` [B, M, D] with its `keys` (positions added)."""
        h = self.norm1(x)
        q = h + places
        x = x + self.self_attn(q, q, h, need_weights=False, attn_mask=blocked)[0]
        q = self.norm2(x) + places
        x = x + self.multihead_attn(q, keys, memory, need_weights=False)[0]
        out: Tensor = x + self.linear2(F.gelu(self.linear1(self.norm3(x))))
        return out


def pooled(grid: Tensor, tokens: int) -> Tensor:
    """[B, D, H, W] -> [B, tokens, D]: its mean twice, then 2, 4, 8, ... cells, columns doubling first."""
    groups = []
    for number in range(tokens.bit_length()):
        level = max(number - 1, 0)
        cells = F.adaptive_avg_pool2d(grid, (2 ** (level // 2), 2 ** ((level + 1) // 2)))
        groups.append(cells.flatten(2).transpose(1, 2))
    return torch.cat(groups, dim=1)


def blocked(tokens: int, causal: Causal) -> Tensor:
    """[N, N] bool, True: may not be seen. "per-level": the groups of `pooled`, the first two as one."""
    places = torch.arange(tokens)
    if causal == "per-level":
        places = torch.tensor([max(place, 1).bit_length() for place in range(tokens)])
    return places > places[:, None]


class MapReader(nn.Module):
    """A map [B, z, G, G] -> tokens [B, z, 1, N] (the published `s2to1encoder`)."""

    def __init__(self, config: ReaderConfig, latent: int) -> None:
        super().__init__()
        self.tokens = config.tokens
        self.ln_pre = nn.LayerNorm(latent)
        self.encoder_embed = nn.Linear(latent, config.width)
        self.global_proj = nn.Linear(config.width, config.width)
        self.positional_embedding = nn.Parameter(torch.randn(config.side**2, 1, config.width) * 0.02)
        self.latent_token_positional_embedding = nn.Parameter(
            torch.randn(config.tokens, 1, config.width) * 0.02
        )
        self.transformer = nn.ModuleList(
            ReaderLayer(config.width, config.heads) for _ in range(config.layers)
        )
        self.ln_post = nn.LayerNorm(config.width)
        self.conv_out = nn.Conv2d(config.width, latent, 1)

    def queries(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """The embedded map [B, G * G, width] and the pooled queries [B, N, width] before their projection."""
        memory = self.encoder_embed(self.ln_pre(grid.flatten(2).transpose(1, 2)))
        embedded = memory.transpose(1, 2).unflatten(2, grid.shape[2:])
        return memory, pooled(embedded, self.tokens)

    def forward(self, grid: Tensor, causal: Causal | None = None, level: int = 0) -> Tensor:
        """`causal`: tokens see earlier ones alone, and no more are made than `level` says: that many, or
        2^level "per-level"."""
        memory, queries = self.queries(grid)
        x, places = self.global_proj(queries), self.latent_token_positional_embedding[:, 0]
        mask = None
        if causal is not None:
            count = level if causal == "per-token" else 2**level
            mask = blocked(self.tokens, causal)[:count, :count].to(x.device)
            x, places = x[:, :count], places[:count]
        keys = memory + self.positional_embedding[:, 0]
        for layer in self.transformer:
            x = layer(x, places, memory, keys, mask)
        out: Tensor = self.conv_out(self.ln_post(x).transpose(1, 2)[:, :, None])
        return out


class MapWriter(nn.Module):
    """Tokens [B, z, 1, N] -> a map [B, z, G, G] and features of one layer (the published `s1to2decoder`)."""

    def __init__(self, config: ReaderConfig, latent: int, distill: int, teacher: int) -> None:
        super().__init__()
        self.side, self.distill = config.side, distill
        self.ln_pre = nn.LayerNorm(latent)
        self.decoder_embed = nn.Linear(latent, config.width)
        self.positional_embedding = nn.Parameter(torch.randn(config.side**2, 1, config.width) * 0.02)
        self.latent_token_positional_embedding = nn.Parameter(
            torch.randn(config.tokens, 1, config.width) * 0.02
        )
        self.transformer = nn.ModuleList(
            ReaderLayer(config.width, config.heads) for _ in range(config.layers)
        )
        self.ln_post = nn.LayerNorm(config.width)
        self.conv_out = nn.Conv2d(config.width, latent, 3, padding=1)
        wide = 4 * config.width
        self.distill_mlp = nn.Sequential(
            nn.Linear(config.width, wide),
            nn.SiLU(),
            nn.Linear(wide, wide),
            nn.SiLU(),
            nn.Linear(wide, teacher),
        )

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The map, and the projected features [B, G * G, teacher]. Every place begins as token 0."""
        memory = self.decoder_embed(self.ln_pre(tokens.flatten(2).transpose(1, 2)))
        x, places = memory[:, :1].expand(-1, self.side**2, -1), self.positional_embedding[:, 0]
        keys = memory + self.latent_token_positional_embedding[:, 0]
        features = x
        for number, layer in enumerate(self.transformer, start=1):
            x = layer(x, places, memory, keys, None)
            features = x if number == self.distill else features
        grid = self.ln_post(x).transpose(1, 2).unflatten(2, (self.side, self.side))
        return self.conv_out(grid), self.distill_mlp(features)


@dataclass(frozen=True, eq=False)
class Decoded:
    """`images`, the map `spatial` they are made of, and projected `features`."""

    images: Tensor
    spatial: Tensor
    features: Tensor


class GigaTok(nn.Module):
    """Images [B, 3, H, W] of one size <-> ids [B, N]."""

    def __init__(self, config: GigaTokConfig) -> None:
        super().__init__()
        latent = config.image.latent
        beta, ratio = config.losses
        self.encoder, self.decoder = ImageEncoder(config.image), ImageDecoder(config.image)
        self.s2to1encoder = MapReader(config.encoder, latent)
        self.s1to2decoder = MapWriter(config.decoder, latent, config.distill, config.teacher)
        self.quantize = UnitCodebook(config.codes, config.dim, beta=beta, ratio=ratio)
        self.quant_conv = nn.Conv2d(latent, config.dim, 1)
        self.post_quant_conv = nn.Conv2d(config.dim, latent, 1)

    def latent(self, images: Tensor) -> Tensor:
        """[B, d, 1, N], before the quantiser."""
        out: Tensor = self.quant_conv(self.s2to1encoder(self.encoder(images)))
        return out

    def quantise(self, latent: Tensor) -> UnitQuantised:
        """By the rotation trick, in training and evaluation; `output` is [B, N, d]."""
        found: UnitQuantised = self.quantize(latent.flatten(2).transpose(1, 2), rotated)
        return found

    def decode_vectors(self, vectors: Tensor) -> Decoded:
        """vectors [B, N, d]."""
        tokens = self.post_quant_conv(vectors.transpose(1, 2)[:, :, None])
        spatial, features = self.s1to2decoder(tokens)
        return Decoded(self.decoder(spatial), spatial, features)

    def encode(self, images: Tensor) -> Tensor:
        return self.quantise(self.latent(images)).ids

    def decode(self, ids: Tensor) -> Tensor:
        return self.decode_vectors(self.quantize.entries(ids)).images


def semantic_loss(features: Tensor, teacher: Tensor) -> Tensor:
    """-cosine of projected features and a teacher's, both [B, N, F], mean over all."""
    return -F.cosine_similarity(features, teacher, dim=-1).mean()


@dataclass(frozen=True, eq=False)
class Losses:
    """Of a training step on `images`: `auxiliary` terms (reconstruction past the transformers, the map that
    they give back) count up to `AUXILIARY_STEPS` only."""

    reconstruction: Tensor
    direct: Tensor
    feature: Tensor
    quantised: UnitQuantised
    semantic: Tensor

    def total(self, step: int, auxiliary_steps: int = AUXILIARY_STEPS) -> Tensor:
        total = self.reconstruction + self.quantised.loss + SEMANTIC_WEIGHT * self.semantic
        return total + self.direct + self.feature if step < auxiliary_steps else total


def side_of(places: Tensor) -> int:
    """Of a table of positions [G * G, 1, width]."""
    return math.isqrt(len(places))
