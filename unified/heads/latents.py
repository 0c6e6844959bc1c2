"""Latents of images in a language model: the connector that feeds them back, their context, their losses.

A vision-language model's connector is a norm and a projection. The normalised features are what a vision
head regresses and what a sketch decoder draws; their projection is the next input of the language model.
Source: see `vision_head`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Latents:
    """`vision`: normalised features [B, k * merge, V]; `embeds`: inputs of the language model [B, k, T]."""

    vision: Tensor
    embeds: Tensor


@dataclass(frozen=True)
class Connector:
    """A model's own connector in its two halves: `norm` of features [..., V], and `project` of `merge`
    normalised ones in a row [..., merge * V] -> [..., T]. `embeds_too`: a regression is of the projected
    latents, too."""

    norm: Map
    project: Map
    merge: int = 1
    embeds_too: bool = False

    def __call__(self, features: Tensor) -> Latents:
        """Features before the norm [B, k * merge, V]."""
        vision = self.norm(features)
        return Latents(vision, self.embeds(vision))

    def embeds(self, vision: Tensor) -> Tensor:
        """Normalised features [B, k * merge, V] -> [B, k, T]."""
        return self.project(vision.unflatten(-2, (-1, self.merge)).flatten(-2))


def gemma_connector(projector: Any) -> Connector:
    """Of a `Gemma3MultiModalProjector` (arXiv 2503.19786). Its projection is a bare parameter, so a sharded
    one (ZeRO-3) must be gathered by the caller."""
    return Connector(projector.mm_soft_emb_norm, lambda v: v @ projector.mm_input_projection_weight)


def gemma_pooled(projector: Any, hidden: Tensor) -> Tensor:
    """Hidden states of the vision tower [B, side * side, V] -> averaged over cells [B, n, V], before the
    norm."""
    side = projector.patches_per_image
    pooled: Tensor = projector.avg_pool(hidden.transpose(1, 2).unflatten(2, (side, side)))
    return pooled.flatten(2).transpose(1, 2)


def qwen_connector(merger: Any) -> Connector:
    """Of a `Qwen2_5_VLPatchMerger` (arXiv 2502.13923)."""
    width = merger.mlp[0].in_features
    merge = width // merger.ln_q.weight.shape[0]
    return Connector(merger.ln_q, merger.mlp, merge, embeds_too=True)


# Context ----------------------------------------------------------------------------------------------------


def prefix_rows(embeds: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The input embeddings [B, L, T] at marked positions [B, L], in their order, padded on the left -> rows
    [B, m, T] and which of them are real [B, m] bool."""
    mask = mask.bool()
    counts = mask.sum(dim=1)
    length = int(counts.max()) if len(counts) else 0
    real = torch.arange(length, device=mask.device) >= length - counts[:, None]
    rows = embeds.new_zeros(len(embeds), length, embeds.shape[-1])
    return rows.masked_scatter(real[..., None], embeds[mask]), real


def local_rows(hidden: Tensor, mask: Tensor) -> Tensor:
    """Hidden states [B, L, T] at the position before each marked one [B, L]: rows [B, n, T]. ValueError
    unless every row has equally many, and none at its start."""
    mask = mask.bool()
    counts = mask.sum(dim=1)
    if mask[:, 0].any() or (counts != counts[0]).any():
        raise ValueError("every row needs one image of the same number of latents, with a position before it")
    before = torch.cat([mask[:, 1:], mask[:, :1]], dim=1)
    return hidden[before].unflatten(0, (len(hidden), -1))


# Losses -----------------------------------------------------------------------------------------------------


def cosine_distance(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean of (1 - cos) / 2 over vectors [..., C], from 0 to 1."""
    return (0.5 * (1 - F.cosine_similarity(predicted.float(), target.float(), dim=-1))).mean()


LATENT_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # vectors [..., C] -> scalar, float32
    "l1": lambda predicted, target: F.l1_loss(predicted.float(), target.float()),
    "mse": lambda predicted, target: F.mse_loss(predicted.float(), target.float()),
    "cosine": cosine_distance,
}


def latent_loss(connector: Connector, predicted: Latents, target: Tensor, kind: str = "l1") -> Tensor:
    """The loss of predicted latents against normalised features of the true image [B, k * merge, V], and,
    where the connector says so, of their projections against those of the target. ValueError for an unknown
    kind."""
    if kind not in LATENT_LOSSES:
        raise ValueError(f"unknown loss {kind!r} of latents: choose one of {', '.join(LATENT_LOSSES)}")
    loss = LATENT_LOSSES[kind]
    total = loss(predicted.vision, target)
    if connector.embeds_too:
        total = total + loss(predicted.embeds, connector.embeds(target))
    return total
