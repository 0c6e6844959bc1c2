"""Continuous latents of the ground: those of the KL-VAE in units of their own spread, and what models of them
share.

Published networks of continuous tokens are told a class; here they are told a caption, by `CaptionEmbedding`
in place of their table of classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from unified.eval.lab.arms import SEED_STRIDE
from unified.eval.lab.experiment import Trial
from unified.eval.lab.ground.ground import Ground
from unified.eval.lab.ground.measures import scores
from unified.eval.lab.ground.scenes import CAPTION, WORDS, caption
from unified.eval.lab.ground.tokenizers import DIM, SCHEDULE, as_pictures
from unified.tasks.scenes.scene import Scene

from unified.decoding.noise import PositionNoise
from unified.orders.masked_schedule import first_masked, training_rate

SIDE = SCHEDULE[-1]
TOKENS, CHANNELS = SIDE * SIDE, DIM // 2
NO_WORDS = len(WORDS)  # the number that stands for a caption's words where there is none
START = 0.02  # spread of first weights of tables that published code begins with


class CaptionEmbedding(nn.Module):
    """Captions [B, 9] -> [B, D]: a table for every place of a word, and a hidden layer."""

    first: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(CAPTION * (NO_WORDS + 1), width)
        self.mlp = nn.Sequential(nn.GELU(), nn.Linear(width, width))
        nn.init.normal_(self.table.weight, std=0.3)
        self.register_buffer("first", torch.arange(CAPTION) * (NO_WORDS + 1), persistent=False)

    def forward(self, captions: Tensor) -> Tensor:
        found: Tensor = self.mlp(self.table(captions + self.first).sum(dim=1))
        return found


@torch.no_grad()
def begin(model: nn.Module) -> None:
    """Small random numbers where a network's learned positions and mask tokens are zeros."""
    for name, weight in model.named_parameters():
        if ("pos_embed" in name or "token" in name or "latent" in name) and not weight.any():
            nn.init.normal_(weight, std=START)


@dataclass(frozen=True)
class Scale:
    """`mean` and `spread` [C] of the latents of training pictures."""

    mean: Tensor
    spread: Tensor

    @staticmethod
    def of(ground: Ground) -> Scale:
        flat = ground.latents().flatten(0, 1)
        return Scale(flat.mean(dim=0), flat.std(dim=0).clamp(min=1e-4))

    def tokens(self, ground: Ground, split: str = "train") -> Tensor:
        """[N, 64, C], each channel of mean 0 and spread 1 over training pictures."""
        return (ground.latents(split) - self.mean) / self.spread

    @torch.no_grad()
    def pictures(self, ground: Ground, tokens: Tensor) -> np.ndarray:
        """Tokens [N, 64, C], row by row -> uint8 [N, 32, 32, 3]."""
        vectors = (tokens * self.spread + self.mean).transpose(1, 2).unflatten(2, (SIDE, SIDE))
        coder = ground.tokenizer("kl_vae")
        return as_pictures(torch.cat([coder.decode_vectors(part) for part in vectors.split(64)]))


Sample = Callable[[Tensor, PositionNoise], Tensor]  # captions [B, 9] and noise -> tokens [B, 64, C]


def drawn(trial: Trial, scenes: Sequence[Scene], sample: Sample, rows: int | None = None) -> Tensor:
    """Tokens [N, 64, C] for the captions of scenes; each has noise of its own, whatever the number of
    rows."""
    rows, found = rows or trial.ground.sizes.rows, []
    for start in range(0, len(scenes), rows):
        part = scenes[start : start + rows]
        seed = trial.seed * SEED_STRIDE + start
        noise = PositionNoise([seed + row for row in range(len(part))])
        found.append(sample(torch.tensor([caption(one) for one in part]), noise))
    return torch.cat(found)


def scored(trial: Trial, scale: Scale, scenes: Sequence[Scene], tokens: Tensor) -> dict[str, float]:
    """What their pictures show."""
    return scores(scenes, scale.pictures(trial.ground, tokens))


def in_blocks(name: str) -> bool:
    """Whether a weight of a published network lies in one of its blocks, whose matrices Muon trains."""
    return ("blocks." in name or "layers." in name) and "adaLN_s" not in name


def masked_batch(rows: int, generator: torch.Generator, dropped: float) -> tuple[Tensor, Tensor]:
    """Of a step of a masked model: which tokens [B, 64] bool are to be predicted, equally many in every row,
    and which captions [B] bool are left out."""
    rate = float(training_rate(torch.rand(1, generator=generator)))
    orders = torch.rand(rows, TOKENS, generator=generator).argsort(dim=1)
    mask = first_masked(orders, min(math.ceil(TOKENS * rate), TOKENS))
    return mask, torch.rand(rows, generator=generator) < dropped


def batch_of(trial: Trial, step: int, count: int) -> tuple[Tensor, torch.Generator]:
    """Numbers of training pictures of a step, and what draws further numbers of it."""
    generator = torch.Generator().manual_seed(1_000_000 * trial.seed + step)
    return torch.randint(len(trial.ground.pictures()), (count,), generator=generator), generator
