"""Orthus: a causal transformer on clean sequences of text ids and continuous image patches, with a language
head for ids and a small diffusion head for patches.

A patch is read as a soft mixture of code embeddings and predicted from the hidden state at the position
before it. Source: Kou et al., Orthus: Autoregressive Interleaved Image-Text Generation with
Modality-Specific Heads, arXiv 2412.00127 (zhijie-group/Orthus). Parameter names are the published ones,
except in the head. Test: tests/unified/checkpoints/orthus/test_orthus.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unified.checkpoints.mar.head import denoiser_for, inside, matrix, our_name
from unified.checkpoints.orthus.layers import EPS, Context, DecoderLayer
from unified.checkpoints.rotary_grid import angles, frequencies
from unified.checkpoints.state_dict import load_strict
from unified.heads.denoiser import Denoiser
from unified.heads.diffusion_solvers import scaled_linear_kept, zero_terminal
from unified.heads.transformer_layers import count_blocks, stores_for
from unified.heads.vision_head_layers import RowStore
from unified.layout.attention import PADDING, Index, attends
from unified.readers.soft_codes import soft_embedding
from unified.stream.segments import Kind

BASE = 10_000.0
LATENT_SCALE = 0.1  # of latents in the diffusion head
HEAD = "mlp_head."


@dataclass(frozen=True, kw_only=True)
class OrthusIds:
    """Ids of a vocabulary: the placeholder of a patch, begin and end of an image, the separator that ends
    an answer, and where the rows of codes begin in the table of embeddings. Defaults: as released."""

    image: int = 8711
    begin: int = 8197
    end: int = 8196
    separator: int = 8710
    first_code: int = 4


@dataclass(frozen=True, kw_only=True)
class OrthusConfig:
    """Sizes; `codes` of `channels` values. Released: 4096 wide, 32 layers and heads, 8192 codes of 256
    channels."""

    ids: OrthusIds = OrthusIds()
    vocabulary: int = 65536
    codes: int = 8192
    channels: int = 256
    width: int = 4096
    layers: int = 32
    heads: int = 32
    hidden: int = 11008


class Read(NamedTuple):
    """Of a pass: input `embeds`, and `hidden` states after the last norm, both [B, n, D]."""

    embeds: Tensor
    hidden: Tensor


class Backbone(nn.Module):
    def __init__(self, config: OrthusConfig) -> None:
        super().__init__()
        self.codebook_in = nn.Embedding(config.codes, config.channels)
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(
            DecoderLayer(config.width, config.heads, config.hidden) for _ in range(config.layers)
        )
        self.norm = nn.RMSNorm(config.width, eps=EPS)


class Orthus(nn.Module):
    """`head`: predicts the velocity of a patch."""

    def __init__(self, config: OrthusConfig, head: Denoiser) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        self.lm_head = nn.Linear(config.width, config.vocabulary, bias=False)
        self.mlp_head = head

    def stores(self, room: int) -> list[RowStore]:
        """Empty keys and values of every layer for so many positions."""
        return stores_for(self.config.layers, room)

    def embeds(self, ids: Tensor, latents: Tensor | None = None) -> Tensor:
        """Input embeddings [B, n, D] of ids [B, n]. `latents` [B, L, C]: patches for the placeholders in
        their order, as many in every row that has any; without them a placeholder has its own row of the
        table. ValueError for another number of placeholders."""
        found: Tensor = self.model.embed_tokens(ids)
        if latents is None:
            return found
        place = ids == self.config.ids.image
        counts = place.sum(dim=1)
        if ((counts != latents.shape[1]) & (counts > 0)).any():
            raise ValueError(f"{latents.shape[1]} patches for {counts.tolist()} placeholders in the rows")
        codes = torch.arange(self.config.codes, device=ids.device) + self.config.ids.first_code
        book = self.model.codebook_in(codes - self.config.ids.first_code)
        soft = soft_embedding(latents[counts > 0].flatten(0, 1), book, self.model.embed_tokens(codes))
        return found.masked_scatter(place[..., None], soft.to(found.dtype))

    def forward(self, ids: Tensor, latents: Tensor | None = None, mask: Tensor | None = None) -> Read:
        """ids [B, n], latents as in `embeds`, mask [B, n] bool (false: padding)."""
        mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        return self.read(self.embeds(ids, latents), mask)

    def read(self, embeds: Tensor, mask: Tensor, stores: list[RowStore] | None = None) -> Read:
        """New positions [B, n, D] after those of `stores`, which they are added to; mask [B, m] of all
        positions."""
        count = embeds.shape[1]
        index = causal_index(mask)
        seen = attends(index.map(lambda field: field[:, -count:]), index)
        cos, sin = (table[:, None, -count:] for table in self.rotation(places(mask)))
        context = Context(seen[:, None], cos, sin, stores)
        hidden = embeds
        for number, layer in enumerate(self.model.layers):
            hidden = layer(hidden, context, number)
        return Read(embeds, self.model.norm(hidden))

    def rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin [B, m, c] of positions [B, m]."""
        rates = frequencies(self.config.width // self.config.heads, BASE, positions.device)
        table = angles(positions[..., None], [rates.repeat(2)])
        return table.cos().float(), table.sin().float()


def places(mask: Tensor) -> Tensor:
    """Positions [B, m]: how many real ones stand before; 1 at padding, as published."""
    return (mask.long().cumsum(dim=1) - 1).masked_fill(~mask, 1)


def causal_index(mask: Tensor) -> Index:
    """The index of text [B, m] for the attention rule; padding where the mask is false."""
    sample = torch.zeros_like(mask, dtype=torch.long).masked_fill(~mask, PADDING)
    label = torch.arange(mask.shape[1], device=mask.device).expand_as(sample)
    return Index(sample, torch.zeros_like(sample), torch.full_like(sample, int(Kind.TEXT)), label)


# Training ---------------------------------------------------------------------------------------------------


@lru_cache
def kept_shares() -> Tensor:
    """[1000] float64: the shares of variance of the head's schedule, 0 at the last step."""
    return zero_terminal(scaled_linear_kept())


def before_patches(ids: Tensor, marks: OrthusIds, patches: int, *, every: bool = False) -> Tensor:
    """[B, n] bool: the positions that predict the patches of images, one before each. Of a row's first
    image, or of its second one where it has two; with `every` of all images. ValueError for rows without an
    image, or with different numbers of them."""
    image = ids == marks.image
    before = torch.cat([image[:, 1:], torch.zeros_like(image[:, :1])], dim=1)
    counts = before.sum(dim=1)
    if (counts != counts[0]).any() or not counts[0] or counts[0] % patches:
        raise ValueError(f"rows must have equally many images of {patches} patches, got {counts.tolist()}")
    if every or counts[0] == patches:
        return before
    if counts[0] != 2 * patches:
        raise ValueError(f"a row to edit has two images, got {int(counts[0]) // patches}")
    return before & (before.cumsum(dim=1) > patches)


class PatchLoss(NamedTuple):
    """`noisy` patches and predicted velocities `found` [M, C], and the `loss`."""

    noisy: Tensor
    found: Tensor
    loss: Tensor


def patch_loss(head: Denoiser, hidden: Tensor, patches: Tensor, steps: Tensor, noise: Tensor) -> PatchLoss:
    """Mean squared error of the velocity: hidden [N, D], patches [N, C]; steps [r N] and noise [r N, C] for r
    repetitions of the whole list."""
    repeats = len(steps) // len(hidden)
    values = LATENT_SCALE * patches.repeat(repeats, 1)
    kept = kept_shares()[steps].float()[:, None].to(values.device)
    noisy = kept.sqrt() * values + (1 - kept).sqrt() * noise
    found = head(noisy, steps, hidden.repeat(repeats, 1))
    target = kept.sqrt() * noise - (1 - kept).sqrt() * values
    return PatchLoss(noisy, found, (found - target).square().mean())


def load(state: Mapping[str, Tensor], ids: OrthusIds | None = None) -> Orthus:
    """The published model without its image autoencoder. ValueError with a short reason if weights do not
    fit."""
    codes, channels = matrix(state, "model.codebook_in.weight")
    vocabulary, width = matrix(state, "model.embed_tokens.weight")
    config = OrthusConfig(
        ids=ids or OrthusIds(),
        vocabulary=vocabulary,
        codes=codes,
        channels=channels,
        width=width,
        layers=count_blocks(state, "model.layers"),
        heads=matrix(state, "model.layers.0.self_attn.q_norm.weight")[0],
        hidden=matrix(state, "model.layers.0.mlp.gate_proj.weight")[0],
    )
    model = Orthus(config, denoiser_for(inside(state, HEAD)))
    load_strict(model, state, our_names)
    return model.eval()


def our_names(name: str) -> str:
    """The name of a published weight in `Orthus`."""
    return f"{HEAD}{our_name(name.removeprefix(HEAD))}" if name.startswith(HEAD) else name
